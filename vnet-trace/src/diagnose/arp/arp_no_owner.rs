//! `arp-no-owner`: the question reached every station, and none owns the address.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};
use crate::model::id::Device;

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::NoOwner { address, gateway: false } = fault.loss.decision.as_ref()? else { return None };
    let device = fault.loss.place.device()?;
    let name = case.place_name(device);
    let elsewhere = case.owner(*address);
    let beyond = elsewhere
        .map_or_else(String::new, |owner| format!(" ({} has it, which is not on this link)", case.place_name(owner)));
    let summary = format!(
        "nobody on the link of {name} owns {address}{beyond}: {} is never answered",
        case.packet_name(fault.role)
    );
    let mut finding = case.finding(fault, "arp-no-owner", summary);
    finding.evidence.push(case.state(device.netns, &format!("owners of {address} on this link"), "none"));
    if let Some(owner) = elsewhere {
        finding.evidence.push(case.state(
            owner.netns,
            &format!("address {address}"),
            &format!("dev {}", case.name(owner)),
        ));
        finding.fixes.extend(crate::diagnose::toward::fixes(case, device.netns, *address, &[]));
    }
    // Somebody at the other end of this link could take the address.
    let length = case.prefix_len(device.netns, device.ifindex, *address);
    if elsewhere.is_none()
        && let Some(station) = station(case, device)
    {
        let dev = case.name(station);
        let dad = if address.is_ipv6() { " nodad" } else { "" };
        finding.fixes.push(fix(
            &format!("check the address; if a station should have it: give it to {}", case.place_name(station)),
            Risk::NeedsChoice,
            vec![case.ip(station.netns, &format!("addr add {address}/{length} dev {dev}{dad}"))],
            vec![case.ip(station.netns, &format!("addr del {address}/{length} dev {dev}"))],
            crate::diagnose::case::NETWORK_CONFIG,
        ));
    }
    if finding.fixes.is_empty() {
        finding.fixes.push(fix(
            "check the address that was asked for, and whether its owner is on this link",
            Risk::NeedsChoice,
            Vec::new(),
            Vec::new(),
            "",
        ));
    }
    Some(finding)
}

/// A station that heard the question.
fn station(case: &Case<'_>, asker: Device) -> Option<Device> {
    case.snapshot()
        .devices()
        .map(|(device, _)| device)
        .filter(|device| *device != asker && device.netns != asker.netns)
        .find(|device| {
            case.netns(device.netns).addresses_of(device.ifindex).any(|entry| {
                case.netns(asker.netns)
                    .addresses_of(asker.ifindex)
                    .any(|own| own.net().is_some_and(|net| net.contains(&entry.address) && own.scope == 0))
            })
        })
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    #[test]
    fn fires_when_nobody_has_the_address() {
        let found = World::cable().ask("a", "10.0.0.7").found(check);
        assert_eq!(found.at, "a/veth1");
        assert_eq!(found.commands, ["ip -n b addr add 10.0.0.7/24 dev veth2"]);
    }

    #[test]
    fn silent_when_somebody_has_it() {
        assert!(World::switch().ask("a", "10.0.0.3").is_silent(check));
    }

    #[test]
    fn silent_when_it_is_a_gateway() {
        let world = World::cable().route("a", "10.7.0.0/16 via 10.0.0.7").ask("a", "10.7.0.1");
        assert_eq!(world.first().as_deref(), Some("gateway-unreachable"));
        assert!(world.is_silent(check));
    }
}
