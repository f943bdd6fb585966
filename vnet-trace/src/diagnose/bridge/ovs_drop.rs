//! `ovs-drop`: an Open vSwitch flow dropped it, or no flow matched.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::Ovs { bridge, flow, vlan_port: None } = fault.loss.decision.as_ref()? else { return None };
    let netns = fault.loss.place.netns;
    let packet = case.packet_name(fault.role);
    let (summary, repair) = match flow {
        Some(flow) => {
            let (matches, _) = spec(flow);
            (
                format!("a flow of Open vSwitch bridge {bridge} drops {packet}: {}", flow.trim()),
                fix(
                    "remove that flow",
                    Risk::ChangesPolicy,
                    vec![case.cmd(netns, &format!("ovs-ofctl --strict del-flows {bridge} {matches}"))],
                    vec![case.cmd(netns, &format!("ovs-ofctl add-flow {bridge} {matches},actions=drop"))],
                    "flows come from a controller or a script: change it there",
                ),
            )
        }
        None => (
            format!("no flow of Open vSwitch bridge {bridge} matches {packet}, so it is dropped"),
            fix(
                "add a flow that switches like an ordinary bridge",
                Risk::ChangesPolicy,
                vec![case.cmd(netns, &format!("ovs-ofctl add-flow {bridge} priority=0,actions=normal"))],
                vec![case.cmd(netns, &format!("ovs-ofctl --strict del-flows {bridge} priority=0"))],
                "with fail_mode secure only a controller or a script brings flows: set it there",
            ),
        ),
    };
    let mut finding = case.finding(fault, "ovs-drop", summary);
    let entry = case.snapshot().ovs.iter().find(|entry| entry.name == *bridge);
    if let Some(entry) = entry {
        let mode = entry.fail_mode.as_deref().unwrap_or("standalone");
        finding.evidence.push(case.state(netns, &format!("fail_mode of {bridge}"), mode));
        finding.evidence.push(case.state(
            netns,
            &format!("flows of {bridge}"),
            &flow.clone().unwrap_or_else(|| format!("{}, none matches", entry.flows.len())),
        ));
    }
    finding.fixes.push(repair);
    Some(finding)
}

/// A flow as ovs-ofctl prints it, without its statistics: what --strict wants, and its actions.
fn spec(flow: &str) -> (String, String) {
    let (head, actions) = flow.split_once("actions=").unwrap_or((flow, ""));
    let noise = ["cookie", "duration", "n_packets", "n_bytes", "idle_age", "hard_age", "idle_timeout", "hard_timeout"];
    let words: Vec<&str> = head
        .split([',', ' '])
        .map(str::trim)
        .filter(|word| !word.is_empty() && !noise.iter().any(|noise| word.starts_with(noise)))
        .collect();
    (words.join(","), actions.trim().to_owned())
}
