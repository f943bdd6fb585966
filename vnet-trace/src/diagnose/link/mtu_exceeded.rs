//! `mtu-exceeded`: the packet is larger than the MTU of a device on its way and must not be fragmented.

use crate::diagnose::case::{Case, NETWORK_CONFIG, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Action, Decision, Fault};
use crate::model::id::Device;
use crate::model::snapshot::LinkKind;

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::TooBig { len, mtu, icmp } = fault.loss.decision.as_ref()? else { return None };
    let device = fault.loss.place.device()?;
    let name = case.place_name(device);
    let packet = case.packet_name(fault.role);
    let told = if *icmp { " and tells the sender with an ICMP error" } else { "" };
    let summary = if fault.underlay {
        format!("the tunnel's outer packet is {len} bytes, {name} takes {mtu}, and it must not be fragmented")
    } else {
        format!("{packet} is {len} bytes, {name} takes {mtu}, and it must not be fragmented{told}")
    };
    let mut finding = case.finding(fault, "mtu-exceeded", summary);
    finding.evidence.push(case.state(device.netns, &format!("mtu of {}", case.name(device)), &mtu.to_string()));
    let mut commands = Vec::new();
    let mut undo = Vec::new();
    let mut raised = vec![device];
    raised.extend(case.snapshot().peer(device));
    for later in case.predicted.faults.iter().filter_map(|fault| match fault.loss.decision {
        Some(Decision::TooBig { .. }) => fault.loss.place.device(),
        _ => None,
    }) {
        raised.push(later);
        raised.extend(case.snapshot().peer(later));
    }
    let wanted = raise_to(case, *len);
    let mut done: Vec<Device> = Vec::new();
    for device in raised {
        let Some(link) = case.link(device) else { continue };
        if done.contains(&device) || link.mtu >= wanted {
            continue;
        }
        done.push(device);
        commands.push(case.ip(device.netns, &format!("link set {} mtu {wanted}", link.name)));
        undo.push(case.ip(device.netns, &format!("link set {} mtu {}", link.name, link.mtu)));
    }
    // A tunnel takes what its underlay carries, less its own headers: the underlay first.
    let mut below: Vec<(Device, u32)> = Vec::new();
    for tunnel in done.iter().filter_map(|device| {
        case.link(*device)
            .filter(|link| matches!(link.kind, LinkKind::Vxlan(_) | LinkKind::Geneve { .. } | LinkKind::Tunnel { .. }))
    }) {
        let _ = tunnel;
        for device in underlay(case) {
            below.extend(
                std::iter::once(device)
                    .chain(case.snapshot().peer(device))
                    .map(|device| (device, wanted + MOST_OVERHEAD)),
            );
        }
    }
    for (device, wanted) in below.into_iter().rev() {
        let Some(link) = case
            .link(device)
            .filter(|link| link.mtu < wanted && !link.is_loopback() && !matches!(link.kind, LinkKind::Bridge(_)))
        else {
            continue;
        };
        let command = case.ip(device.netns, &format!("link set {} mtu {wanted}", link.name));
        if !commands.contains(&command) {
            commands.insert(0, command);
            undo.push(case.ip(device.netns, &format!("link set {} mtu {}", link.name, link.mtu)));
        }
    }
    let asker = case.recording.question.netns;
    commands.push(
        case.ip(
            asker,
            if case.recording.question.dst.is_ipv6() { "-6 route flush cache" } else { "route flush cache" },
        ),
    );
    finding.fixes.push(fix(&format!("raise the MTU to {wanted}"), Risk::ChangesPolicy, commands, undo, NETWORK_CONFIG));
    let header = if case.recording.question.dst.is_ipv6() { 48 } else { 28 };
    finding.fixes.push(fix(
        &format!("send smaller packets: ping -s {} fits", mtu.saturating_sub(header)),
        Risk::NeedsChoice,
        Vec::new(),
        Vec::new(),
        "lower the MTU of the sender's device or route, or clamp TCP's MSS on the router",
    ));
    Some(finding)
}

/// Bytes that the usual tunnels add to a packet: VXLAN over IPv6 adds 70.
const MOST_OVERHEAD: u32 = 100;

/// The devices that outer packets of tunnels pass on the way there.
fn underlay(case: &Case<'_>) -> Vec<Device> {
    let mut devices = Vec::new();
    let mut depth = 0_u32;
    for journey in &case.predicted.journeys {
        for step in journey.steps.iter().chain(&journey.beyond) {
            match step.action {
                Action::Encapsulated { .. } => depth += 1,
                Action::Decapsulated => depth = depth.saturating_sub(1),
                Action::Transmitted | Action::Received if depth > 0 => {
                    devices.extend(step.device.map(|ifindex| Device::new(step.netns, ifindex)));
                }
                _ => {}
            }
        }
        depth = 0;
    }
    devices.dedup();
    devices
}

/// The common MTU that takes the packet: 1500, or what it needs.
fn raise_to(case: &Case<'_>, len: u32) -> u32 {
    let _ = case.snapshot().devices().any(|(_, link)| matches!(link.kind, LinkKind::Loopback));
    if len <= 1500 { 1500 } else { len.div_ceil(100) * 100 }
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;
    use crate::model::question::PmtuDiscovery;

    /// A router whose second link takes 1400 bytes, asked with so many bytes of payload.
    fn world(size: u16, pmtu: PmtuDiscovery) -> World {
        World::router().change("r/r2", |link| link.mtu = 1400).question(|question| {
            question.size = size;
            question.pmtu = pmtu;
        })
    }

    #[test]
    fn fires_when_it_is_too_long_and_must_not_be_fragmented() {
        let found = world(1472, PmtuDiscovery::Do).found(check);
        assert_eq!(found.at, "r/r2");
        assert_eq!(found.commands[0], "ip -n r link set r2 mtu 1500");
    }

    #[test]
    fn silent_when_it_just_fits() {
        assert!(world(1372, PmtuDiscovery::Do).is_silent(check));
    }

    #[test]
    fn silent_when_it_may_be_fragmented() {
        assert!(world(1472, PmtuDiscovery::Dont).is_silent(check));
    }
}
