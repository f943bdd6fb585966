//! `watch` in a real network: other people's packets followed through NAT, losses with their causes, how it ends.

#[path = "watch/inside.rs"]
mod inside;

use std::path::Path;
use std::process::{Command, ExitCode};

use inside::run;
use libtest_mimic::{Arguments, Failed, Trial};
use serde_json::Value;
use tests::labs::is_root;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = arguments.test_threads.or(Some(2));
    let program: &'static Path = Box::leak(tests::program().into_boxed_path());
    let trial = |name: &str, test: fn(&Path) -> Result<(), Failed>| Trial::test(name, move || test(program));
    let trials = vec![
        trial("a_datagram_is_followed_through_nat", through_nat),
        trial("a_loss_is_told_with_its_cause", loss_with_cause),
        trial("only_what_matches_is_told_and_counting_ends_it", counting),
        trial("an_interrupt_ends_it_with_the_summary", interrupt),
        trial("the_place_restricts_where_a_packet_must_match", places),
        trial("in_a_storm_what_is_not_seen_is_counted", storm),
    ];
    let mut trials: Vec<Trial> = trials
        .into_iter()
        .map(|trial| if is_root() { trial } else { trial.with_kind("needs root").with_ignored_flag(true) })
        .collect();
    trials.push(trial("what_libpcap_refuses_is_refused", refused));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The devices of a way as `netns/dev`, one for each passage.
fn path(way: &Value) -> Vec<String> {
    let name =
        |step: &Value| format!("{}/{}", step["netns"].as_str().unwrap_or("?"), step["dev"].as_str().unwrap_or("?"));
    way["path"].as_array().map(|steps| steps.iter().map(name).collect()).unwrap_or_default()
}

fn through_nat(program: &Path) -> Result<(), Failed> {
    let left = run(program, "watch -j -c 3 udp dst port 53; send 10.0.2.2 53 3; ended")?;
    let ways = left.ways()?;
    left.check(ways.len() == 3 && left.text("code").trim() == "0", "three datagrams were sent")?;
    for way in &ways {
        left.check(path(way) == ["ns1/veth0", "r/a", "r/b", "ns2/veth0"], "it passes four devices")?;
        let ends: Vec<(&str, &str)> = way["ends"]
            .as_array()
            .map(|all| {
                all.iter()
                    .map(|ends| (ends["src"].as_str().unwrap_or(""), ends["dst"].as_str().unwrap_or("")))
                    .collect()
            })
            .unwrap_or_default();
        left.check(ends == [("10.0.1.2", "10.0.2.2"), ("10.0.2.1", "10.0.2.2")], "its source is rewritten once")?;
        left.check(way["outcome"] == "arrived" || way["outcome"] == "dropped", "it comes to ns2")?;
        left.check(way["place"]["netns"] == "ns2", "it comes to ns2")?;
        left.check(way["latency_us"].as_f64().is_some_and(|latency| latency > 0.0), "that takes time")?;
    }
    Ok(())
}

fn loss_with_cause(program: &Path) -> Result<(), Failed> {
    let left = run(program, "watch -j --drops -c 2 udp; send 10.0.2.2 99 2; ended")?;
    let ways = left.ways()?;
    left.check(ways.len() == 2, "two datagrams are lost")?;
    for way in &ways {
        left.check(way["cause"]["code"] == "netfilter-drop", "the rule drops it")?;
        left.check(way["cause"]["place"]["netns"] == "r", "in r")?;
        left.check(
            way["cause"]["fixes"].as_array().is_some_and(|fixes| !fixes.is_empty()),
            "and there is something to do about it",
        )?;
    }
    Ok(())
}

fn counting(program: &Path) -> Result<(), Failed> {
    let script = "watch -c 2 'udp and dst port 1234'; send 10.0.2.2 53 2; send 10.0.2.2 1234 5; ended";
    let left = run(program, script)?;
    let out = left.text("out");
    left.check(
        out.lines().count() == 2 && out.lines().all(|line| line.contains(".1234: UDP")),
        "two lines about port 1234",
    )?;
    left.check(out.contains("ns1/veth0 -> r/a -> r/b [10.0.2.1."), "with the way and what NAT made of it")
}

fn interrupt(program: &Path) -> Result<(), Failed> {
    let script = "watch -j --summary udp; send 10.0.2.2 99 3; send 10.0.2.2 53 2; until_true lines '\"type\":\"way\"' 5; kill -INT $W; ended";
    let left = run(program, script)?;
    let summary = left.summary()?;
    left.check(left.text("code").trim() == "0", "it ends as it should")?;
    left.check(
        summary["packets"] == 5 && summary["lost"].as_u64() >= Some(3),
        "five packets, three of them lost by the rule",
    )?;
    let loss = &summary["losses"][0];
    left.check(
        loss["cause"] == "netfilter-drop" && loss["packets"] == 3 && loss["place"]["netns"] == "r",
        "the loss is counted",
    )?;
    left.check(
        summary["hops"].as_array().is_some_and(|hops| hops.iter().any(|hop| hop["netns"] == "r")),
        "hops have times",
    )?;
    left.check(summary["timing_ms"]["stopped"].as_f64().is_some_and(|ms| ms < 2000.0), "it stops soon")
}

fn places(program: &Path) -> Result<(), Failed> {
    // Behind the NAT there is no such source; before it, there is.
    let script = "watch -j -c 1 -N ns2 --duration 20 src host 10.0.2.1 and udp; send 10.0.2.2 53 1; ended";
    let left = run(program, script)?;
    let ways = left.ways()?;
    left.check(ways.len() == 1 && path(&ways[0])[0] == "ns1/veth0", "it is told from where it was made")?;
    let script = "watch -j -N ns2 --summary src host 10.0.1.2 and udp; send 10.0.2.2 53 3; kill -INT $W; ended";
    let left = run(program, script)?;
    left.check(left.summary()?["packets"] == 0, "in ns2 no packet has that source")?;
    let script =
        "watch -j -i a --summary udp; send 10.0.2.2 53 3; until_true lines '\"type\":\"way\"' 3; kill -INT $W; ended";
    let left = run(program, script)?;
    left.check(left.summary()?["packets"] == 3, "all pass the device a")?;
    let left = run(program, "watch -i nosuch; ended")?;
    left.check(
        left.text("code").trim() == "2" && left.text("err").contains("devices there: "),
        "there is no such device",
    )
}

fn storm(program: &Path) -> Result<(), Failed> {
    let flood = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nfor i in range(30000): s.sendto(b'x' * 100, ('10.0.2.2', 53))";
    let script =
        format!("watch -q -j --summary udp port 53; ip netns exec ns1 python3 -c \"{flood}\"; kill -INT $W; ended");
    let left = run(program, &script)?;
    let summary = left.summary()?;
    let number = |key: &str| summary["sight"][key].as_u64().unwrap_or(0);
    // Each frame that passed a filter was told or is counted as lost, to the last one.
    left.check(number("sightings") + number("frames_lost") == number("frames"), "nothing is lost unsaid")?;
    left.check(number("frames") >= 4 * 30_000, "each datagram passes four devices")?;
    left.check(summary["lost"] == 0, "what was not seen is not taken for lost")
}

fn refused(program: &Path) -> Result<(), Failed> {
    let done = Command::new(program).args(["watch", "udp", "port", "http", "and", "blah"]).output()?;
    let said = String::from_utf8_lossy(&done.stderr);
    if done.status.code() != Some(2) || !said.starts_with("error: `udp port http and blah` is not a filter expression")
    {
        return Err(format!("{}: {said}", done.status).into());
    }
    Ok(())
}
