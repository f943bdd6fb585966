//! `ipvlan-mode-isolation`: ipvlan: the private or VEPA flag, or an L3 mode without ARP, keeps it away.

use crate::diagnose::case::{Case, NETWORK_CONFIG, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};
use crate::model::snapshot::LinkKind;

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::IpvlanIsolation { child, l3 } = fault.loss.decision.as_ref()? else { return None };
    let name = case.place_name(*child);
    let LinkKind::Ipvlan { flag, .. } = &case.link(*child)?.kind else { return None };
    let summary = if *l3 {
        format!(
            "{name} is an ipvlan in an L3 mode: it has no ARP, so {} is never answered",
            case.packet_name(fault.role)
        )
    } else {
        format!(
            "{name} is an ipvlan with the {} flag: {} may not go to a sibling",
            format!("{flag:?}").to_lowercase(),
            case.packet_name(fault.role)
        )
    };
    let mut finding = case.finding(fault, "ipvlan-mode-isolation", summary);
    let dev = case.name(*child);
    finding.evidence.push(case.state(
        child.netns,
        &format!("ipvlan {dev}"),
        if *l3 { "mode l3" } else { "flag private or vepa" },
    ));
    let (set, undo) = if *l3 { ("mode l2", "mode l3") } else { ("mode l2 bridge", "mode l2 private") };
    finding.fixes.push(fix(
        if *l3 { "use L2 mode, which has ARP" } else { "let the siblings talk (bridge flag)" },
        Risk::ChangesPolicy,
        vec![case.ip(child.netns, &format!("link set {dev} type ipvlan {set}"))],
        vec![case.ip(child.netns, &format!("link set {dev} type ipvlan {undo}"))],
        NETWORK_CONFIG,
    ));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::{LinkKind, check};
    use crate::diagnose::bench::World;
    use crate::model::snapshot::{IpvlanFlag, IpvlanMode};

    /// Two namespaces with an ipvlan each on one device; an ipvlan has the lower device's address.
    fn siblings(flag: IpvlanFlag) -> World {
        let kind = || LinkKind::Ipvlan { mode: IpvlanMode::L2, flag };
        let world = World::new().veth("./up0", "s/port0");
        let mac = world.mac("./up0");
        world
            .upper("a/ip1", "./up0", kind())
            .upper("b/ip2", "./up0", kind())
            .change("a/ip1", |link| link.mac = Some(mac))
            .change("b/ip2", |link| link.mac = Some(mac))
            .address("a/ip1", "10.0.0.1/24")
            .address("b/ip2", "10.0.0.2/24")
            .ask("a", "10.0.0.2")
    }

    #[test]
    fn fires_when_the_siblings_are_private() {
        assert!(siblings(IpvlanFlag::Private).found(check).finding.summary.contains("private flag"));
    }

    #[test]
    fn silent_when_the_siblings_are_bridged() {
        assert!(siblings(IpvlanFlag::Bridge).is_silent(check));
    }
}
