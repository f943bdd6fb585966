//! `ovs-drop`: an Open vSwitch flow dropped it, or no flow matched.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};
use crate::predict::ovs::trace::{self, Answer};

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
    for trace in entry.iter().flat_map(|entry| &entry.traces) {
        let Answer::Drop { bridge: by, flow: named } = trace::read(&trace.text) else { continue };
        if by == *bridge && (named.is_none() == flow.is_none()) {
            let says = named.unwrap_or_else(|| "no match".to_owned());
            finding.evidence.push(case.state(netns, &format!("ofproto/trace of {}", trace.flow), &says));
            break;
        }
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

#[cfg(test)]
mod tests {
    use super::{Decision, check};
    use crate::diagnose::bench::World;
    use crate::model::exchange::Role;

    /// The switch named `ovs-br` lost it at `./p1`.
    fn world(flow: Option<&str>, vlan_port: Option<&str>) -> World {
        let decision = Decision::Ovs {
            bridge: "ovs-br".to_owned(),
            flow: flow.map(str::to_owned),
            vlan_port: vlan_port.map(str::to_owned),
        };
        World::switch().fault(Role::Request, "./p1", decision)
    }

    #[test]
    fn fires_when_a_flow_drops_it() {
        let found = world(Some("cookie=0x0, n_packets=3, priority=100,icmp actions=drop"), None).found(check);
        assert_eq!(found.commands, ["ovs-ofctl --strict del-flows ovs-br priority=100,icmp"]);
    }

    #[test]
    fn fires_when_no_flow_matches() {
        assert_eq!(world(None, None).found(check).commands, ["ovs-ofctl add-flow ovs-br priority=0,actions=normal"]);
    }

    #[test]
    fn silent_when_the_ports_are_on_different_vlans() {
        assert!(world(None, Some("p2")).is_silent(check));
    }
}
