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
    let live = [
        ("a_datagram_is_followed_through_nat", through_nat as fn(&Path, &str) -> Result<(), Failed>),
        ("a_loss_is_told_with_its_cause", loss_with_cause),
        ("only_what_matches_is_told_and_counting_ends_it", counting),
        ("an_interrupt_ends_it_with_the_summary", interrupt),
        ("the_place_restricts_where_a_packet_must_match", places),
        ("a_pod_is_a_place", pods),
        ("a_loss_makes_it_look_closer", closer),
        ("in_a_storm_what_is_not_seen_is_counted", storm),
        ("what_was_recorded_is_told_again", recorded),
        ("a_kill_costs_the_last_second_at_most", killed),
        ("recordings_rotate_and_are_bounded", rotated),
    ];
    // With whatever probes the machine lets us attach, and with captures alone.
    let mut trials = Vec::new();
    for (tier, setting) in [("probes", ""), ("capture", "export VNET_TRACE_TIER=capture\n")] {
        for (name, test) in live {
            let trial = Trial::test(format!("{tier}::{name}"), move || test(program, setting));
            trials.push(if is_root() { trial } else { trial.with_kind("needs root").with_ignored_flag(true) });
        }
    }
    trials.push(Trial::test("what_libpcap_refuses_is_refused", move || refused(program)));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The devices of a way as `netns/dev`, one for each passage.
fn path(way: &Value) -> Vec<String> {
    let name =
        |step: &Value| format!("{}/{}", step["netns"].as_str().unwrap_or("?"), step["dev"].as_str().unwrap_or("?"));
    way["path"].as_array().map(|steps| steps.iter().map(name).collect()).unwrap_or_default()
}

fn through_nat(program: &Path, setting: &str) -> Result<(), Failed> {
    let left = run(program, setting, "watch -j -c 3 udp dst port 53; send 10.0.2.2 53 3; ended")?;
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

fn loss_with_cause(program: &Path, setting: &str) -> Result<(), Failed> {
    let left = run(program, setting, "watch -j --drops -c 2 udp; send 10.0.2.2 99 2; ended")?;
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

fn counting(program: &Path, setting: &str) -> Result<(), Failed> {
    let script = "watch -c 2 'udp and dst port 1234'; send 10.0.2.2 53 2; send 10.0.2.2 1234 5; ended";
    let left = run(program, setting, script)?;
    let out = left.text("out");
    left.check(
        out.lines().count() == 2 && out.lines().all(|line| line.contains(".1234: UDP")),
        "two lines about port 1234",
    )?;
    left.check(out.contains("ns1/veth0 -> r/a -> r/b [10.0.2.1."), "with the way and what NAT made of it")
}

fn interrupt(program: &Path, setting: &str) -> Result<(), Failed> {
    let script = "watch -j --summary udp; send 10.0.2.2 99 3; send 10.0.2.2 53 2; until_true lines '\"type\":\"way\"' 5; kill -INT $W; ended";
    let left = run(program, setting, script)?;
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

fn places(program: &Path, setting: &str) -> Result<(), Failed> {
    // Behind the NAT there is no such source; before it, there is.
    let script = "PLACE=; watch -j -c 1 -N ns2 --duration 20 src host 10.0.2.1 and udp; send 10.0.2.2 53 1; ended";
    let left = run(program, setting, script)?;
    let ways = left.ways()?;
    // Captures know it from before; probes follow it from where it matches.
    let begins = path(&ways[0]).first().cloned().unwrap_or_default();
    left.check(ways.len() == 1 && ["ns1/veth0", "ns2/veth0"].contains(&begins.as_str()), "it is told")?;
    let script = "PLACE=; watch -j -N ns2 --summary src host 10.0.1.2 and udp; send 10.0.2.2 53 3; kill -INT $W; ended";
    let left = run(program, setting, script)?;
    left.check(left.summary()?["packets"] == 0, "in ns2 no packet has that source")?;
    let script = "PLACE=; watch -j -N r -i a --summary udp; send 10.0.2.2 53 3; until_true lines '\"type\":\"way\"' 3; kill -INT $W; ended";
    let left = run(program, setting, script)?;
    left.check(left.summary()?["packets"] == 3, "all pass the device a")?;
    let left = run(program, setting, "PLACE=; watch -i nosuch; ended")?;
    left.check(
        left.text("code").trim() == "2" && left.text("err").contains("devices there: "),
        "there is no such device",
    )
}

fn pods(program: &Path, setting: &str) -> Result<(), Failed> {
    // Names as a CNI plugin gives them, and the state that containerd leaves of two pods, in a /run of the lab's own:
    // shop/web-0 is ns1, shop/db-0 is ns2.
    let script = r#"mkdir run; mount -n -t tmpfs tmpfs run; mkdir run/netns
        mount -n --move /run/netns run/netns; mount -n --move run /run
        pod() {
          touch /run/netns/cni-0f$1; mount -n --bind /run/netns/ns$1 /run/netns/cni-0f$1; umount -n /run/netns/ns$1; rm /run/netns/ns$1
          folder=/run/containerd/io.containerd.runtime.v2.task/k8s.io/$(printf '%064d' $1); mkdir -p $folder
          echo '{"linux": {"namespaces": [{"type": "network", "path": "/run/netns/cni-0f'$1'"}]}, "annotations":
            {"io.kubernetes.cri.sandbox-name": "'$2'", "io.kubernetes.cri.sandbox-namespace": "shop"}}' >$folder/config.json
        }
        pod 1 web-0; pod 2 db-0
        three() { nsenter --net=/run/netns/cni-0f1 bash -c 'for number in 1 2 3; do echo $number >/dev/udp/10.0.2.2/53; done' 2>/dev/null; }
        PLACE='--pod shop/db-0'; watch -j -o x.vtr --summary src host 10.0.1.2 and udp; three; kill -INT $W; ended; mv out db; rm err
        PLACE='-N pod:shop/web-0'; watch -j -o y.vtr --summary src host 10.0.1.2 and udp; three
        until_true lines '"type":"way"' 3; kill -INT $W; ended
        for pod in web-0 db-0; do "$V" watch -j --pod shop/$pod -r y.vtr src host 10.0.1.2 and udp >again.$pod 2>again.err; done
        "$V" watch --pod shop/none >/dev/null 2>none; echo $? >none.code
        "$V" watch --pod shop/none -r y.vtr >/dev/null 2>none.again; echo $? >>none.code"#;
    let left = run(program, setting, script)?;
    left.check(left.summary()?["packets"] == 3, "in web-0 they have that source")?;
    let ways = left.ways()?;
    left.check(ways.iter().all(|way| path(way)[0] == "shop/web-0/veth0"), "it is called by its name")?;
    let behind = left.objects("db")?.pop().ok_or("no summary")?;
    left.check(behind["packets"] == 0, &format!("in db-0 no packet has that source: {behind}"))?;
    left.check(left.objects("again.web-0")?.len() == 3, "the recording knows the pods")?;
    left.check(left.objects("again.db-0")?.is_empty(), "and where a packet must match")?;
    let (none, again) = (left.text("none"), left.text("none.again"));
    left.check(
        none.starts_with("error: there is no pod `shop/none`") && none.contains("known are shop/db-0, shop/web-0"),
        &none,
    )?;
    left.check(
        again.starts_with("error: the recording knows no netns pod:shop/none") && again.contains("shop/web-0"),
        &again,
    )?;
    left.check(left.text("none.code") == "2\n2\n", "both are errors")
}

fn closer(program: &Path, setting: &str) -> Result<(), Failed> {
    let script = r#"ip netns exec ns2 python3 -c "
import socket
taker = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
taker.bind(('10.0.2.2', 53))
print('bound', flush=True)
for number in range(6): taker.recv(100)" >bound & T=$!
        until_true grep -q bound bound
        watch -j --summary udp; send 10.0.2.2 53 3; until_true lines '"type":"way"' 3; kill -INT $W; ended; mv out before; rm err
        watch -j --summary udp; send 10.0.2.2 99 1; until_true lines '"type":"way"' 1
        [ "${VNET_TRACE_TIER-}" = capture ] || until_true grep -q 'a packet was lost: watching with' err
        send 10.0.2.2 53 3; until_true lines '"type":"way"' 4; kill -INT $W; ended; wait $T"#;
    let left = run(program, setting, script)?;
    let queued = |summary: &Value| {
        let probes = summary["sight"]["probes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let queue = probes.iter().find(|probe| probe["probe"] == "net_dev_queue");
        queue.and_then(|probe| probe["seen"].as_u64()).unwrap_or(0)
    };
    let healthy = left.objects("before")?.pop().ok_or("no summary")?;
    left.check(healthy["packets"] == 3 && queued(&healthy) == 0, "nothing was lost, and little was looked at")?;
    let after = left.summary()?;
    left.check(after["packets"] == 4, "all are told")?;
    left.check(setting.contains("capture") || queued(&after) >= 6, "after the loss queues are looked at, too")
}

fn storm(program: &Path, setting: &str) -> Result<(), Failed> {
    let flood = "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nfor i in range(30000): s.sendto(b'x' * 100, ('10.0.2.2', 53))";
    let script =
        format!("watch -q -j --summary udp port 53; ip netns exec ns1 python3 -c \"{flood}\"; kill -INT $W; ended");
    let left = run(program, setting, &script)?;
    let summary = left.summary()?;
    let number = |key: &str| summary["sight"][key].as_u64().unwrap_or(0);
    // Each frame that passed a filter was told or is counted as lost, to the last one.
    left.check(number("sightings") + number("frames_lost") == number("frames"), "nothing is lost unsaid")?;
    let seen = number("frames") + number("events_lost");
    left.check(seen >= 4 * 30_000, "each datagram passes four devices")?;
    // Nobody listens at the port, so every datagram ends in one drop, wherever that is; and the first device sends them all.
    let probes = summary["sight"]["probes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let all = |name: &str| {
        let probe = probes.iter().find(|probe| probe["probe"] == name);
        probe.map(|probe| probe["seen"].as_u64().unwrap_or(0) + probe["lost"].as_u64().unwrap_or(0))
    };
    if let Some(drops) = all("kfree_skb") {
        left.check(drops == 30_000, "a drop for each datagram, seen or counted")?;
        left.check(all("net_dev_start_xmit") >= Some(30_000), "and its transmission")?;
    }
    left.check(setting.contains("capture") == probes.is_empty(), "each probe is counted by itself")?;
    // Ten times the ring buffer's size comes faster than any reader gets the processor; what fits there at least is read.
    left.check(number("frames") >= 15_000, "what has room is read")?;
    // Nobody listens there; what was not seen is not taken for lost.
    let others = summary["losses"].as_array().is_some_and(|all| all.iter().any(|loss| loss["cause"] != "port-closed"));
    left.check(!others, "what was not seen is not taken for lost")
}

fn recorded(program: &Path, setting: &str) -> Result<(), Failed> {
    let script = r#"watch -j -o x.vtr -w x.pcapng -o x.json udp; send 10.0.2.2 53 2; send 10.0.2.2 99 2
        until_true lines '"type":"way"' 4; kill -INT $W; ended
        "$V" watch -j -r x.vtr udp >again; echo $? >again.code
        "$V" watch -j -r x.vtr --drops udp port 99 >drops
        "$V" watch -j -r x.vtr -N r -i b udp >places
        "$V" watch -q -r x.vtr --redact -o y.vtr udp
        "$V" watch -j -r y.vtr >redacted
        "$V" explain x.vtr >story; echo $? >story.code
        "$V" watch -j -r x.pcapng >foreign
        "$V" explain x.pcapng >foreign.story"#;
    let left = run(program, setting, script)?;
    let packets = |name: &str| -> Result<Vec<(Value, Value, Value)>, Failed> {
        let mut all: Vec<_> = left
            .objects(name)?
            .into_iter()
            .map(|way| (way["packet"].clone(), way["path"].clone(), way["cause"]["code"].clone()))
            .collect();
        all.sort_by_key(|(packet, ..)| packet.to_string());
        Ok(all)
    };
    left.check(packets("again")? == packets("out")? && packets("out")?.len() == 4, "the same is told again")?;
    left.check(packets("x.json")? == packets("out")?, "a file has what is printed")?;
    let drops = left.objects("drops")?;
    left.check(
        drops.len() == 2 && drops.iter().all(|way| way["cause"]["code"] == "netfilter-drop"),
        "losses are judged again",
    )?;
    left.check(left.objects("places")?.len() == 2, "two of them pass b")?;
    let redacted = left.objects("redacted")?;
    let told = |ways: &[Value]| {
        let mut all: Vec<String> =
            ways.iter().map(|way| format!("{} {} {}", way["dport"], way["outcome"], way["cause"]["code"])).collect();
        all.sort();
        all
    };
    let asked: Vec<Value> = redacted.into_iter().filter(|way| way["protocol"] == 17).collect();
    left.check(told(&asked) == told(&left.ways()?), &format!("redacted, it is told alike: {asked:#?}"))?;
    let text = left.text("redacted");
    left.check(
        !text.contains("10.0.") && !text.contains("ns1") && !text.contains("veth0"),
        "names and addresses are others",
    )?;
    let story = left.text("story");
    left.check(
        story.contains("Watched by vnet-trace") && story.contains("netfilter-drop") && story.contains("Fix:"),
        &format!("the story tells the losses: {story}"),
    )?;
    left.check(left.text("story.code").trim() == "1" && left.text("again.code").trim() == "0", "exit codes")?;
    let foreign = left.objects("foreign")?;
    left.check(
        foreign.len() == 4
            && foreign.iter().all(|way| path(way).starts_with(&["ns1/veth0".to_owned(), "r/a".to_owned()])),
        "the packets are followed from frames alone",
    )?;
    left.check(left.text("foreign.story").starts_with("A capture of another program"), "it is told as what it is")
}

fn killed(program: &Path, setting: &str) -> Result<(), Failed> {
    let script = r#"watch -j -o x.vtr udp; send 10.0.2.2 53 3; until_true lines '"type":"way"' 3; read -t 1 -u $idle; send 10.0.2.2 54 3; kill -KILL $W; ended
        "$V" watch -j -r x.vtr udp port 53 >again 2>again.err; echo $? >again.code"#;
    let left = run(program, setting, script)?;
    left.check(left.objects("again")?.len() == 3, "what was older than a second is there")?;
    left.check(left.text("again.code").trim() == "2", "that it was cut off is an error")?;
    let said = left.text("again.err");
    left.check(said.contains("the recording was cut off, readable up to byte"), &format!("it says how far: {said}"))
}

fn rotated(program: &Path, setting: &str) -> Result<(), Failed> {
    let script = r#"PLACE=; watch -q -o x.vtr -C 0.02 -W 2 --summary udp port 53
        for round in 1 2 3 4 5 6 7 8; do
            ip netns exec ns1 bash -c 'for i in 1 2 3 4 5 6 7 8; do head -c 900 /dev/urandom >/dev/udp/10.0.2.2/53; done' 2>/dev/null
            read -t 0.3 -u $idle
        done
        kill -INT $W; ended; ls x.vtr* >files
        for file in x.vtr*; do "$V" watch -j -r $file >>again || echo failed; done
        watch -q -o y.vtr --max-size 0.03 udp port 53
        until ! kill -0 $W 2>/dev/null; do
            ip netns exec ns1 bash -c 'for i in 1 2 3 4; do head -c 900 /dev/urandom >/dev/udp/10.0.2.2/53; done' 2>/dev/null
            read -t 0.05 -u $idle
        done
        ended; stat -c %s y.vtr >size"#;
    let left = run(program, setting, script)?;
    left.check(left.text("files") == "x.vtr0\nx.vtr1\n", "two files are left")?;
    left.check(!left.text("script").contains("failed") && left.objects("again")?.len() >= 8, "both can be read")?;
    let size: u64 = left.text("size").trim().parse()?;
    left.check((30_000..150_000).contains(&size), &format!("it ends at its bound: {size}"))?;
    left.check(left.text("code").trim() == "0" && left.text("err").contains("--max-size"), "and says why")
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
