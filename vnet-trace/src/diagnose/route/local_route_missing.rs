//! `local-route-missing`: the address is configured, but its entry in the local table is gone.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::LocalRouteMissing { address, device } = fault.loss.decision.as_ref()? else { return None };
    let dev = case.name(*device);
    let summary = format!(
        "{address} is on {}, but its local route is gone: {} asks the network for its own address",
        case.place_name(*device),
        case.netns_name(device.netns)
    );
    let mut finding = case.finding(fault, "local-route-missing", summary);
    finding.evidence.push(case.state(device.netns, &format!("address {address}"), &format!("dev {dev}")));
    finding.evidence.push(case.state(device.netns, &format!("route local {address} table local"), "none"));
    let (add, del) = if address.is_ipv4() {
        (
            format!("route add local {address} dev {dev} table local proto kernel scope host src {address}"),
            format!("route del local {address} dev {dev} table local"),
        )
    } else {
        (
            format!("-6 route add local {address} dev {dev} table local proto kernel"),
            format!("-6 route del local {address} dev {dev} table local"),
        )
    };
    finding.fixes.push(fix(
        "put the local route back",
        Risk::Safe,
        vec![case.ip(device.netns, &add)],
        vec![case.ip(device.netns, &del)],
        "adding the address anew makes it too; find out who removed it",
    ));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    #[test]
    fn fires_when_the_local_table_lacks_the_address() {
        let own = "10.0.0.2/32".parse().ok();
        let found = World::cable().without_routes("b", |route| Some(route.dst) == own).found(check);
        assert_eq!(found.at, "b/veth2");
        assert!(found.commands[0].starts_with("ip -n b route add local 10.0.0.2 dev veth2"), "{:?}", found.commands);
    }

    #[test]
    fn silent_when_the_address_is_gone_as_well() {
        let own = "10.0.0.2/32".parse().ok();
        let world = World::cable()
            .without_routes("b", |route| Some(route.dst) == own)
            .space("b", |netns| netns.addresses.retain(|entry| entry.prefix_len != 24));
        assert_eq!(world.first().as_deref(), Some("arp-no-owner"));
        assert!(world.is_silent(check));
    }
}
