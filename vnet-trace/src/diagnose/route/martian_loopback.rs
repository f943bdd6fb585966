//! `martian-loopback`: a loopback address came in from the wire and route_localnet is off.

use crate::diagnose::case::Case;
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::MartianLoopback { address } = fault.loss.decision.as_ref()? else { return None };
    let device = fault.loss.place.device()?;
    let dev = case.name(device).replace('.', "/");
    let summary = format!(
        "{} refuses {}: {address} is a loopback address, which may not come in from a link",
        case.place_name(device),
        super::no_route::what(case, fault)
    );
    let mut finding = case.finding(fault, "martian-loopback", summary);
    let key = format!("net.ipv4.conf.{dev}.route_localnet");
    finding.evidence.push(case.sysctl_state(device.netns, &key));
    if address.is_ipv4() {
        finding.fixes.push(case.sysctl_fix(
            device.netns,
            &format!("let {} take loopback addresses", case.name(device)),
            Risk::ChangesPolicy,
            &[(key, 1)],
        ));
    }
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    /// b sends what is for it to its own 127.0.0.1.
    fn world() -> World {
        World::cable().iptables(
            "b",
            "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -d 10.0.0.2/32 -j DNAT --to-destination 127.0.0.1\nCOMMIT\n",
        )
    }

    #[test]
    fn fires_when_a_loopback_address_came_from_the_wire() {
        let found = world().found(check);
        assert_eq!(found.at, "b/veth2");
        assert_eq!(found.commands, ["ip netns exec b sysctl -w net.ipv4.conf.veth2.route_localnet=1"]);
    }

    #[test]
    fn silent_when_the_device_takes_loopback_addresses() {
        assert!(world().sysctl("b", "net.ipv4.conf.veth2.route_localnet", 1).is_silent(check));
    }
}
