//! `tc-drop`: a tc filter or action dropped it.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::Tc { filter, ingress } = fault.loss.decision.as_ref()? else { return None };
    let device = fault.loss.place.device()?;
    let dev = case.name(device);
    let way = if *ingress { "ingress" } else { "egress" };
    let entry = filter.and_then(|index| case.netns(device.netns).filters.get(index));
    let what = entry.map_or_else(
        || "filter".to_owned(),
        |filter| match (&filter.name, filter.program) {
            (Some(name), Some(id)) => format!("{} filter (program {name}, id {id})", filter.kind),
            (Some(name), None) => format!("{} filter {name}", filter.kind),
            (None, Some(id)) => format!("{} filter (program id {id})", filter.kind),
            (None, None) => format!("{} filter", filter.kind),
        },
    );
    let summary = format!("a tc {what} on {way} of {} drops {}", case.place_name(device), case.packet_name(fault.role));
    let mut finding = case.finding(fault, "tc-drop", summary);
    if let Some(filter) = entry {
        finding.evidence.push(case.state(
            device.netns,
            &format!("tc filter on {dev} {way}"),
            &format!("pref {} {} {}", filter.priority, filter.kind, filter.actions.join(" ")),
        ));
        let hook = match filter.parent & 0xffff {
            0xfff2 => "ingress".to_owned(),
            0xfff3 => "egress".to_owned(),
            _ => format!("parent {:x}:{:x}", filter.parent >> 16, filter.parent & 0xffff),
        };
        let command = if filter.kind == "tcx" {
            let id = filter.program.unwrap_or(0);
            format!("bpftool net detach tcx_{way} dev {dev} # program id {id}")
        } else {
            format!("tc filter del dev {dev} {hook} pref {}", filter.priority)
        };
        finding.fixes.push(fix(
            &format!("remove that filter from {dev}"),
            if filter.kind == "tcx" { Risk::NeedsChoice } else { Risk::ChangesPolicy },
            vec![case.cmd(device.netns, &command)],
            Vec::new(),
            "whoever loaded the filter will load it again: change it there",
        ));
    }
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;
    use crate::model::exchange::{Decision, Role};
    use crate::model::id::IfIndex;
    use crate::model::snapshot::TcFilter;

    /// A filter that drops, at the ingress of the owner's device.
    fn world() -> World {
        World::cable().space("b", |netns| {
            netns.filters.push(TcFilter {
                ifindex: IfIndex(2),
                ingress: true,
                kind: "matchall".to_owned(),
                priority: 1,
                parent: 0xffff_fff2,
                actions: vec!["drop".to_owned()],
                ..TcFilter::default()
            });
        })
    }

    #[test]
    fn fires_when_a_filter_dropped_it() {
        let decision = Decision::Tc { filter: Some(0), ingress: true };
        let found = world().fault(Role::ArpRequest, "b/veth2", decision).found(check);
        assert_eq!(found.at, "b/veth2");
        assert_eq!(found.commands, ["ip netns exec b tc filter del dev veth2 ingress pref 1"]);
    }

    #[test]
    fn silent_when_a_queueing_discipline_dropped_it() {
        let qdisc = Decision::Qdisc { qdisc: None };
        assert!(world().fault(Role::ArpRequest, "b/veth2", qdisc).is_silent(check));
    }
}
