//! `bridge-no-flood`: flooding of unknown unicast, multicast or broadcast is off on the port that it needed.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault, FloodKind};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::BridgeNoFlood { port, kind } = fault.loss.decision.as_ref()? else { return None };
    let name = case.name(*port);
    let (flag, word) = match kind {
        FloodKind::Broadcast => ("bcast_flood", "broadcasts"),
        FloodKind::Multicast => ("mcast_flood", "multicasts"),
        FloodKind::UnknownUnicast => ("flood", "unicasts to addresses that the bridge does not know"),
    };
    let summary = format!(
        "bridge port {} does not send {word} out ({flag} off), and {} is one",
        case.place_name(*port),
        case.packet_name(fault.role)
    );
    let mut finding = case.finding(fault, "bridge-no-flood", summary);
    finding.evidence.push(case.state(port.netns, &format!("bridge link {name} {flag}"), "off"));
    finding.fixes.push(fix(
        &format!("let {name} flood {word}"),
        Risk::ChangesPolicy,
        vec![case.cmd(port.netns, &format!("bridge link set dev {name} {flag} on"))],
        vec![case.cmd(port.netns, &format!("bridge link set dev {name} {flag} off"))],
        "set the flag where the port is configured",
    ));
    Some(finding)
}
