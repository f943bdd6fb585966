//! `vxlan-port-mismatch`: the two ends of the tunnel use different UDP ports.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};
use crate::model::id::NetnsId;
use crate::model::snapshot::{Link, LinkKind};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::VxlanPort { port, expected } = fault.loss.decision.as_ref()? else { return None };
    let device = fault.loss.place.device()?;
    let listed = expected.iter().map(u16::to_string).collect::<Vec<_>>().join(", ");
    let summary = if expected.is_empty() {
        format!(
            "the outer packet arrives in {} on UDP port {port}, and no tunnel is there",
            case.netns_name(device.netns)
        )
    } else {
        format!(
            "the outer packet arrives in {} on UDP port {port}, and the tunnel there listens on {listed}",
            case.netns_name(device.netns)
        )
    };
    let mut finding = case.finding(fault, "vxlan-port-mismatch", summary);
    finding.evidence.push(case.state(
        device.netns,
        "UDP ports of tunnels",
        if listed.is_empty() { "none" } else { &listed },
    ));
    let far = case
        .netns(device.netns)
        .links
        .iter()
        .find(|link| matches!(&link.kind, LinkKind::Vxlan(info) if expected.contains(&info.port)));
    if let Some(link) = far {
        finding.fixes.push(remake(case, device.netns, link, None, Some(*port)));
    }
    Some(finding)
}

/// Makes a VXLAN device again with another VNI or port: neither can be changed on a device that exists.
pub fn remake(
    case: &Case<'_>,
    netns: NetnsId,
    link: &Link,
    vni: Option<u32>,
    port: Option<u16>,
) -> crate::model::diagnosis::Fix {
    let LinkKind::Vxlan(info) = &link.kind else { return fix("", Risk::NeedsChoice, Vec::new(), Vec::new(), "") };
    let space = case.netns(netns);
    let name = &link.name;
    let make = |vni: u32, port: u16| {
        let mut words = format!("link add {name} type vxlan id {vni} dstport {port}");
        if let Some(remote) = info.remote {
            words.push_str(&format!(" {} {remote}", if remote.is_multicast() { "group" } else { "remote" }));
        }
        if let Some(local) = info.local {
            words.push_str(&format!(" local {local}"));
        }
        if let Some(lower) = info.link.and_then(|index| space.link(index)) {
            words.push_str(&format!(" dev {}", lower.name));
        }
        if !info.learning {
            words.push_str(" nolearning");
        }
        words
    };
    let rebuild = |vni: u32, port: u16| {
        let mut commands = vec![case.ip(netns, &format!("link del {name}")), case.ip(netns, &make(vni, port))];
        if let Some(master) = link.master.and_then(|index| space.link(index)) {
            commands.push(case.ip(netns, &format!("link set {name} master {}", master.name)));
        }
        for entry in space.addresses_of(link.index).filter(|entry| entry.scope == 0) {
            commands.push(case.ip(netns, &format!("addr add {}/{} dev {name}", entry.address, entry.prefix_len)));
        }
        commands.push(case.ip(netns, &format!("link set {name} up")));
        for entry in space.fdb.iter().filter(|entry| entry.ifindex == link.index) {
            if let Some(dst) = entry.dst.filter(|dst| Some(*dst) != info.remote) {
                commands.push(case.cmd(netns, &format!("bridge fdb append {} dev {name} dst {dst}", entry.mac)));
            }
        }
        commands
    };
    let what = match (vni, port) {
        (Some(vni), _) => format!("VNI {vni}"),
        (_, Some(port)) => format!("UDP port {port}"),
        _ => "the same settings".to_owned(),
    };
    fix(
        &format!("make {name} again with {what}"),
        Risk::ChangesPolicy,
        rebuild(vni.unwrap_or(info.vni), port.unwrap_or(info.port)),
        rebuild(info.vni, info.port),
        "change it where the tunnel is configured",
    )
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    #[test]
    fn fires_when_the_ports_differ() {
        let found = World::tunnel((42, Some("192.0.2.2"), 8472), (42, Some("192.0.2.1"), 4789)).found(check);
        assert_eq!(found.at, "b/eth0");
        assert_eq!(found.commands[1], "ip -n b link add vx0 type vxlan id 42 dstport 8472 remote 192.0.2.1");
    }

    #[test]
    fn silent_when_the_vnis_differ() {
        let world = World::tunnel((42, Some("192.0.2.2"), 4789), (43, Some("192.0.2.1"), 4789));
        assert!(world.is_silent(check));
    }
}
