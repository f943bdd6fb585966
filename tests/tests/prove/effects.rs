//! What a fix changes besides: the flows that the proof lists are exactly those that pings find changed.

use std::collections::BTreeSet;
use std::path::Path;

use libtest_mimic::{Failed, Trial};
use serde_json::Value;
use vnet_trace::ask;
use vnet_trace::collect::recording_file;
use vnet_trace::model::diagnosis::Fix;
use vnet_trace::model::proof::{AttemptResult, ProofOutcome};
use vnet_trace::prove;

/// All tests.
pub fn trials(program: &'static Path) -> Vec<Trial> {
    vec![
        Trial::test("the_flows_that_a_fix_changes_are_those_that_pings_find_changed", move || effects(program)),
        Trial::test("when_the_first_fix_does_not_help_the_next_is_tried", move || next_fix(program)),
    ]
}

/// Three hosts at a router that does not forward, and one host beside the first.
const LAB: &str = r#"
id = "effects"
title = "A router that does not forward"
story = "Two of three subnets, and a neighbour who needs no router."
setup = """
ip netns add r
ip netns exec r sysctl -qw net.ipv4.ip_forward=0
for n in a b c d; do ip netns add $n; ip -n $n link set lo up; done
ip -n r link add br0 type bridge
ip -n r link set br0 up
ip -n r addr add 10.0.1.1/24 dev br0
i=0
for n in a d; do
  i=$((i + 1))
  ip link add eth0 netns $n type veth peer name r$n netns r
  ip -n r link set r$n master br0 up
  ip -n $n addr add 10.0.1.1$i/24 dev eth0
  ip -n $n link set eth0 up
  ip -n $n route add default via 10.0.1.1
done
i=1
for n in b c; do
  i=$((i + 1))
  ip link add eth0 netns $n type veth peer name r$n netns r
  ip -n r addr add 10.0.$i.1/24 dev r$n
  ip -n r link set r$n up
  ip -n $n addr add 10.0.$i.2/24 dev eth0
  ip -n $n link set eth0 up
  ip -n $n route add default via 10.0.$i.1
done
"""
fix = "ip netns exec r sysctl -qw net.ipv4.ip_forward=1"
[probe]
netns = "a"
dst = "10.0.2.2"
[expect]
verdict = "lost"
cause = "forwarding-disabled"
"#;

const ADDRESSES: &[(&str, &str)] = &[
    ("r", "10.0.1.1"),
    ("r", "10.0.2.1"),
    ("r", "10.0.3.1"),
    ("a", "10.0.1.11"),
    ("d", "10.0.1.12"),
    ("b", "10.0.2.2"),
    ("c", "10.0.3.2"),
];

fn effects(program: &Path) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let at = folder.path().display();
    let lab = folder.path().join("effects.toml");
    std::fs::write(&lab, LAB)?;
    let mut pings = String::new();
    for (netns, from) in ADDRESSES {
        for (_, to) in ADDRESSES.iter().filter(|(_, to)| to != from) {
            pings.push_str(&format!(
                "ip netns exec {netns} ping -q -n -c 1 -W 2 -I {from} {to} >/dev/null 2>&1 && echo {from} {to} >> \"$1\" &\n"
            ));
        }
    }
    // The answer comes first: pings leave neighbours behind.
    let script = format!(
        "pings() {{\ntouch \"$1\"\n{pings}\nwait\n}}\n{} \"$@\" --prove > {at}/answer.json; code=$?\npings {at}/before\n\
         ip netns exec r sysctl -qw net.ipv4.ip_forward=1\npings {at}/after\ncat {at}/answer.json; exit $code",
        program.display()
    );
    super::run_with(program, folder.path(), &script, &lab)?;
    let read = |name: &str| -> std::io::Result<BTreeSet<String>> {
        Ok(std::fs::read_to_string(folder.path().join(name))?.lines().map(str::to_owned).collect())
    };
    let (before, after) = (read("before")?, read("after")?);
    let answer: Value = serde_json::from_slice(&std::fs::read(folder.path().join("answer.json"))?)?;
    let proof = &answer["proof"];
    let said = |verdict: &str| -> BTreeSet<String> {
        let effects = proof["effects"].as_array().into_iter().flatten().filter(|effect| effect["after"] == verdict);
        effects
            .filter_map(|effect| Some(format!("{} {}", effect["from"]["address"].as_str()?, effect["to"].as_str()?)))
            .collect()
    };
    let mut found: BTreeSet<String> = after.difference(&before).cloned().collect();
    // What was asked is no other flow.
    found.retain(|flow| flow != "10.0.1.11 10.0.2.2");
    let lost: BTreeSet<String> = before.difference(&after).cloned().collect();
    let commands = answer["primary"]["fixes"][0]["commands"].to_string();
    if found.len() < 5 || said("delivered") != found || said("lost") != lost {
        return Err(format!("{commands}: found {found:?} and lost {lost:?}, said {:#}", proof["effects"]).into());
    }
    Ok(())
}

/// Two fixes are put before the tool's own: one that does nothing, and one that is not confined to the network.
fn next_fix(program: &Path) -> Result<(), Failed> {
    let mut answer = ask::judge(recording_file::load(&super::recording(program)?)?);
    let primary = answer.diagnosis.primary.as_mut().ok_or("no cause")?;
    let own = primary.fixes.first().cloned().ok_or("no fix")?;
    let with =
        |title: &str, command: &str| Fix { title: title.to_owned(), commands: vec![command.to_owned()], ..own.clone() };
    primary.fixes.splice(0..0, [with("useless", "ip link set lo up"), with("hostile", "ip link set lo up; reboot")]);
    prove::add(&mut answer, program);

    let proof = answer.proof.ok_or("no proof")?;
    let results: Vec<(&str, bool)> = proof
        .attempts
        .iter()
        .map(|tried| (tried.title.as_str(), matches!(tried.result, AttemptResult::Answered)))
        .collect();
    let refused = proof
        .attempts
        .iter()
        .any(|tried| matches!(&tried.result, AttemptResult::Refused { why } if why.contains("reboot")));
    let first = answer.diagnosis.primary.and_then(|primary| primary.fixes.into_iter().next());
    let is_first = first.is_some_and(|fix| fix.title == own.title);
    if results != [("useless", false), ("hostile", false), (own.title.as_str(), true)]
        || !refused
        || !is_first
        || proof.outcome != (ProofOutcome::Proven { fix: 0 })
    {
        return Err(format!("{results:?}, refused {refused}, first {is_first}, {:?}", proof.outcome).into());
    }
    Ok(())
}
