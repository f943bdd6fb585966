//! `ipv6-disabled`: IPv6 is disabled on the device or in the namespace.

use std::net::IpAddr;

use crate::diagnose::case::Case;
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};
use crate::model::id::Device;
use crate::predict::segment;

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::Ipv6Disabled { sysctl } = fault.loss.decision.as_ref()? else { return None };
    let netns = fault.loss.place.netns;
    // The setting names the device, which need not be the one by which the packet came.
    let device = sysctl
        .strip_prefix("net.ipv6.conf.")
        .and_then(|rest| rest.strip_suffix(".disable_ipv6"))
        .and_then(|name| case.netns(netns).link_by_name(&name.replace('/', ".")))
        .map(|link| Device::new(netns, link.index));
    let name = device.map_or_else(|| case.at(&fault.loss.place), |device| case.place_name(device));
    let summary = format!("IPv6 is disabled on {name} ({sysctl} = 1), so {} ends there", case.packet_name(fault.role));
    let mut finding = case.finding(fault, "ipv6-disabled", summary);
    finding.evidence.push(case.sysctl_state(netns, sysctl));
    let mut repair = case.sysctl_fix(netns, "enable IPv6 there", Risk::ChangesPolicy, &[(sysctl.clone(), 0)]);
    // Disabling took the addresses and routes away, and enabling does not bring them back.
    if let Some(device) = device.filter(|device| !has_address(case, *device)) {
        "enable IPv6 there, and give it again the addresses and routes that went away with it"
            .clone_into(&mut repair.title);
        repair.risk = Risk::NeedsChoice;
        if let Some((address, length)) = lost_address(case, device) {
            let dev = case.name(device);
            repair.commands.push(case.ip(netns, &format!("addr add {address}/{length} dev {dev} nodad")));
            // A router's address is all that is needed: its routes to its own links come with them.
            if address != case.recording.question.dst {
                repair.risk = Risk::ChangesPolicy;
            }
        }
    }
    finding.fixes.push(repair);
    Some(finding)
}

/// Whether a device has an address that others can reach.
fn has_address(case: &Case<'_>, device: Device) -> bool {
    case.netns(device.netns).addresses_of(device.ifindex).any(|entry| entry.address.is_ipv6() && entry.scope == 0)
}

/// The address that a device probably had: one that is asked for or that its neighbours route by, that lies in their network,
/// and that nobody has.
fn lost_address(case: &Case<'_>, device: Device) -> Option<(IpAddr, u8)> {
    let mut wanted = vec![case.recording.question.dst];
    let stations = segment::stations(case.snapshot(), device);
    for station in &stations {
        let hops = case.netns(station.netns).routes.iter().flat_map(|route| &route.nexthops);
        wanted.extend(hops.filter(|hop| hop.oif == Some(station.ifindex)).filter_map(|hop| hop.gateway));
    }
    let nets: Vec<ipnet::IpNet> = stations
        .iter()
        .flat_map(|station| case.netns(station.netns).addresses_of(station.ifindex))
        .filter(|entry| entry.scope == 0)
        .filter_map(crate::model::snapshot::Address::net)
        .collect();
    wanted.into_iter().filter(|address| address.is_ipv6() && case.owner(*address).is_none()).find_map(|address| {
        let net = nets.iter().find(|net| net.contains(&address))?;
        Some((address, net.prefix_len()))
    })
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    const KEY: &str = "net.ipv6.conf.veth2.disable_ipv6";

    #[test]
    fn fires_when_ipv6_is_off_at_the_owner() {
        let found = World::cable6().sysctl("b", KEY, 1).found(check);
        assert_eq!(found.at, "b/veth2");
        assert_eq!(found.commands, [format!("ip netns exec b sysctl -w {KEY}=0")]);
    }

    #[test]
    fn silent_when_the_question_is_ipv4() {
        assert!(World::cable().sysctl("b", KEY, 1).is_silent(check));
    }

    #[test]
    fn silent_when_another_device_has_it_off() {
        assert!(World::cable6().sysctl("b", "net.ipv6.conf.lo.disable_ipv6", 1).is_silent(check));
    }
}
