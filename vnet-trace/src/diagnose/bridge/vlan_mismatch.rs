//! `vlan-mismatch`: the tag on the frame matches no VLAN device or port on the receiving side.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault, Leg, Role};
use crate::model::snapshot::LinkKind;

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let packet = case.packet_name(fault.role);
    if let Decision::Ovs { bridge, vlan_port: Some(port), .. } = fault.loss.decision.as_ref()? {
        let bridge = case.snapshot().ovs.iter().find(|entry| entry.name == *bridge)?;
        let to = bridge.ports.iter().find(|entry| entry.name == *port)?;
        let from = fault.loss.place.device().and_then(|device| {
            bridge.ports.iter().find(|entry| entry.interfaces.iter().any(|interface| interface.device == Some(device)))
        })?;
        let word = |tag: Option<u16>| tag.map_or_else(|| "no tag".to_owned(), |tag| format!("tag {tag}"));
        let summary = format!(
            "Open vSwitch ports {} ({}) and {} ({}) are on different VLANs, so {packet} does not pass",
            from.name,
            word(from.tag),
            to.name,
            word(to.tag)
        );
        let mut finding = case.finding(fault, "vlan-mismatch", summary);
        for entry in [from, to] {
            finding.evidence.push(case.state(
                fault.loss.place.netns,
                &format!("ovs port {}", entry.name),
                &word(entry.tag),
            ));
        }
        let set = |tag: Option<u16>| match tag {
            Some(tag) => format!("ovs-vsctl set port {port} tag={tag}"),
            None => format!("ovs-vsctl clear port {port} tag"),
        };
        finding.fixes.push(fix(
            &format!("put {port} on the same VLAN as {}", from.name),
            Risk::ChangesPolicy,
            vec![case.cmd(fault.loss.place.netns, &set(from.tag))],
            vec![case.cmd(fault.loss.place.netns, &set(to.tag))],
            "kept in the Open vSwitch database",
        ));
        return Some(finding);
    }
    let Decision::VlanUnknown { vid, expected } = fault.loss.decision.as_ref()? else { return None };
    let device = fault.loss.place.device()?;
    let name = case.place_name(device);
    let known = if expected.is_empty() {
        "none".to_owned()
    } else {
        expected.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
    };
    let tag = vid.map_or_else(|| "no tag".to_owned(), |vid| format!("VLAN tag {vid}"));
    let summary = format!("{packet} arrives at {name} with {tag}, and no VLAN device there takes it (known: {known})");
    let mut finding = case.finding(fault, "vlan-mismatch", summary);
    // On the way back it is the reply that is missed, also where its address resolution is what meets the tag.
    if fault.leg == Leg::Return {
        finding.role = Role::Reply;
    }
    finding.evidence.push(case.state(device.netns, &format!("VLANs on {}", case.name(device)), &known));
    let vid = (*vid)?;
    let dev = case.name(device);
    let upper = case
        .snapshot()
        .uppers(device)
        .into_iter()
        .find(|upper| matches!(case.link(*upper).map(|link| &link.kind), Some(LinkKind::Vlan { .. })));
    // The address has to be on the device that the frames come up by.
    let new = format!("{}.{vid}", if dev.len() > 10 { &dev[..10] } else { &dev });
    let mut commands = vec![case.ip(device.netns, &format!("link add link {dev} name {new} type vlan id {vid}"))];
    let mut undo = vec![case.ip(device.netns, &format!("link del {new}"))];
    let from = upper.unwrap_or(device);
    for entry in case.netns(device.netns).addresses_of(from.ifindex).filter(|entry| entry.scope == 0) {
        let address = format!("{}/{}", entry.address, entry.prefix_len);
        commands.push(case.ip(device.netns, &format!("addr del {address} dev {}", case.name(from))));
        commands.push(case.ip(device.netns, &format!("addr add {address} dev {new}")));
        undo.push(case.ip(device.netns, &format!("addr add {address} dev {}", case.name(from))));
    }
    commands.push(case.ip(device.netns, &format!("link set {new} up")));
    finding.fixes.push(fix(
        &format!("give {dev} a device for VLAN {vid} and move the address there"),
        Risk::ChangesPolicy,
        commands,
        undo,
        "make the VLAN device where the network is configured",
    ));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::{LinkKind, check};
    use crate::diagnose::bench::World;

    /// A cable with a VLAN device at each end.
    fn world(first: u16, second: u16) -> World {
        let vlan = |id| LinkKind::Vlan { id, protocol: 0x8100 };
        World::new()
            .veth("a/veth1", "b/veth2")
            .upper("a/v1", "a/veth1", vlan(first))
            .upper("b/v2", "b/veth2", vlan(second))
            .address("a/v1", "10.0.0.1/24")
            .address("b/v2", "10.0.0.2/24")
            .ask("a", "10.0.0.2")
    }

    #[test]
    fn fires_when_the_tags_differ() {
        let found = world(10, 20).found(check);
        assert_eq!(found.at, "b/veth2");
        assert_eq!(found.commands[0], "ip -n b link add link veth2 name veth2.10 type vlan id 10");
    }

    #[test]
    fn silent_when_the_tags_are_one() {
        assert!(world(10, 10).is_silent(check));
    }
}
