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

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;
    use crate::model::exchange::{Decision, Role};
    use crate::model::id::IfIndex;
    use crate::model::snapshot::Qdisc;

    /// A netem that loses everything, at the root of the asker's device.
    fn world() -> World {
        World::cable().space("a", |netns| {
            netns.qdiscs.push(Qdisc {
                ifindex: IfIndex(2),
                kind: "netem".to_owned(),
                parent: 0xffff_ffff,
                options: vec![("loss".to_owned(), "100%".to_owned())],
                ..Qdisc::default()
            });
        })
    }

    #[test]
    fn fires_when_the_queueing_discipline_dropped_it() {
        let found = world().fault(Role::Request, "a/veth1", Decision::Qdisc { qdisc: Some(0) }).found(check);
        assert_eq!(found.at, "a/veth1");
        assert_eq!(found.commands, ["ip netns exec a tc qdisc del dev veth1 root"]);
        assert!(found.finding.summary.contains("netem loss 100%"), "{}", found.finding.summary);
    }

    #[test]
    fn silent_when_a_tc_filter_dropped_it() {
        let filter = Decision::Tc { filter: None, ingress: false };
        assert!(world().fault(Role::Request, "a/veth1", filter).is_silent(check));
    }
}
