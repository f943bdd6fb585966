//! `qdisc-drop`: a queueing discipline dropped it.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::Qdisc { qdisc } = fault.loss.decision.as_ref()? else { return None };
    let device = fault.loss.place.device()?;
    let name = case.place_name(device);
    let entry = qdisc.and_then(|index| case.netns(device.netns).qdiscs.get(index));
    let kind = entry.map_or("queueing discipline", |qdisc| qdisc.kind.as_str());
    let settings = entry.map_or_else(String::new, |qdisc| {
        qdisc.options.iter().map(|(key, value)| format!(" {key} {value}")).collect::<String>()
    });
    let summary = format!(
        "the {kind} qdisc of {name} drops {}{}",
        case.packet_name(fault.role),
        if settings.is_empty() { String::new() } else { format!(" ({kind}{settings})") }
    );
    let mut finding = case.finding(fault, "qdisc-drop", summary);
    finding.evidence.push(case.state(
        device.netns,
        &format!("qdisc of {}", case.name(device)),
        &format!("{kind}{settings}"),
    ));
    let dev = case.name(device);
    let handle = entry.filter(|qdisc| qdisc.parent != 0xffff_ffff);
    let at = match handle {
        Some(qdisc) => format!("parent {:x}:{:x}", qdisc.parent >> 16, qdisc.parent & 0xffff),
        None => "root".to_owned(),
    };
    finding.fixes.push(fix(
        &format!("remove the {kind} qdisc from {dev}"),
        Risk::ChangesPolicy,
        vec![case.cmd(device.netns, &format!("tc qdisc del dev {dev} {at}"))],
        vec![case.cmd(device.netns, &format!("tc qdisc add dev {dev} {at} {kind}{settings}"))],
        "remove it where it is configured",
    ));
    Some(finding)
}
