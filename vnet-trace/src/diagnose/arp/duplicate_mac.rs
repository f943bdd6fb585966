//! `duplicate-mac`: two stations, or a station and the bridge or tunnel device itself, have one link-layer address.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::DuplicateMac { mac, owners } = fault.loss.decision.as_ref()? else { return None };
    let names: Vec<String> = owners.iter().map(|owner| case.place_name(*owner)).collect();
    let summary = format!(
        "{} have one link-layer address, {mac}: {} goes to the wrong one",
        names.join(" and "),
        case.packet_name(fault.role)
    );
    let mut finding = case.finding(fault, "duplicate-mac", summary);
    for owner in owners {
        finding.evidence.push(case.state(owner.netns, &format!("address of {}", case.name(*owner)), &mac.to_string()));
    }
    if let Some(owner) = owners.last() {
        let dev = case.name(*owner);
        // The locally administered twin of the address is free as far as this snapshot knows.
        let mut fresh = mac.0;
        fresh[0] = (fresh[0] | 0x02) & 0xfe;
        loop {
            fresh[5] = fresh[5].wrapping_add(1);
            let taken = case.snapshot().devices().any(|(_, link)| link.mac.is_some_and(|other| other.0 == fresh));
            if !taken {
                break;
            }
        }
        let fresh = crate::model::id::MacAddr(fresh);
        let mut commands = vec![case.ip(owner.netns, &format!("link set {dev} address {fresh}"))];
        for entry in case.netns(owner.netns).addresses_of(owner.ifindex).filter(|entry| entry.scope == 0) {
            commands.extend(case.forget(*owner, entry.address));
        }
        finding.fixes.push(fix(
            &format!("give {dev} an address of its own"),
            Risk::Safe,
            commands,
            vec![case.ip(owner.netns, &format!("link set {dev} address {mac}"))],
            crate::diagnose::case::NETWORK_CONFIG,
        ));
    }
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::{Decision, check};
    use crate::diagnose::bench::World;
    use crate::model::exchange::Role;

    #[test]
    fn fires_when_two_stations_have_one_mac() {
        let world = World::switch();
        let mac = world.mac("b/eth0");
        let owners = vec![world.device("b/eth0"), world.device("c/eth0")];
        let found = world.fault(Role::Request, "b/eth0", Decision::DuplicateMac { mac, owners }).found(check);
        assert!(found.commands[0].starts_with("ip -n c link set eth0 address "), "{:?}", found.commands);
    }

    #[test]
    fn silent_when_the_frame_is_for_a_stranger() {
        let world = World::switch();
        let decision = Decision::OtherHost { frame: crate::diagnose::bench::STRANGER, own: None };
        assert!(world.fault(Role::Request, "b/eth0", decision).is_silent(check));
    }
}
