//! `no-route`: no route to the destination, at the sender or at a forwarder.

use crate::diagnose::case::{Case, fix, quote};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault, Leg};
use crate::model::id::NetnsId;
use crate::model::snapshot::Link;
use std::net::IpAddr;

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::NoRoute { dst, dead } = fault.loss.decision.as_ref()? else { return None };
    let netns = fault.loss.place.netns;
    if dead.is_some_and(|dead| case.link(dead).is_some_and(|link| !link.is_up())) {
        return None;
    }
    // The replier's own missing route has a name of its own; a forwarder's on the way back has not.
    if fault.leg == Leg::Return && !fault.underlay && case.predicted.owner.is_some_and(|owner| owner.netns == netns) {
        return None;
    }
    if let Some(finding) = without_network(case, fault, *dst) {
        return Some(finding);
    }
    let summary = format!("{} has no route to {dst}, so {} ends there", case.netns_name(netns), what(case, fault));
    let mut finding = case.finding(fault, "no-route", summary);
    finding.evidence.push(case.state(netns, &format!("route to {dst}"), "none"));
    finding.fixes = add_route(case, netns, *dst);
    Some(finding)
}

/// A container that was started without any network, and still has none.
fn without_network(case: &Case<'_>, fault: &Fault, dst: IpAddr) -> Option<Finding> {
    let space = case.netns(fault.loss.place.netns);
    let container = space.container.as_ref()?;
    let none = container.networks.iter().any(|(name, driver)| name == "none" || driver == "null");
    if !none || !space.links.iter().all(Link::is_loopback) {
        return None;
    }
    let name = &container.name;
    let summary = format!(
        "the container {name} was started with `--network none`: it has no device but lo, and no route to {dst}"
    );
    let mut finding = case.finding(fault, "no-route", summary);
    finding.evidence.push(case.state(space.id, "devices", "lo"));
    finding.evidence.push(case.state(space.id, "network mode", "none"));
    finding.owner = Some(format!("whoever started the container {name} ({} --network none)", container.engine));
    let engine = if container.engine == "podman" { "podman" } else { "docker" };
    finding.fixes.push(fix(
        "give the container a network (here the default one)",
        Risk::ChangesPolicy,
        vec![
            format!("{engine} network disconnect none {}", quote(name)),
            format!("{engine} network connect bridge {}", quote(name)),
        ],
        vec![
            format!("{engine} network disconnect bridge {}", quote(name)),
            format!("{engine} network connect none {}", quote(name)),
        ],
        "start it without `--network none`",
    ));
    Some(finding)
}

/// The packet that is lost, as people call it.
pub fn what(case: &Case<'_>, fault: &Fault) -> String {
    if fault.underlay { "the tunnel's outer packet".to_owned() } else { case.packet_name(fault.role).to_owned() }
}

/// Routes that lead towards an address; if no way is known, what kind of command is needed.
pub fn add_route(case: &Case<'_>, netns: NetnsId, dst: IpAddr) -> Vec<crate::model::diagnosis::Fix> {
    let mut fixes = crate::diagnose::toward::fixes(case, netns, dst, &[]);
    if fixes.is_empty() {
        let length = if dst.is_ipv4() { 32 } else { 128 };
        let family = if dst.is_ipv6() { "-6 " } else { "" };
        fixes.push(fix(
            &format!("add a route to {dst}"),
            Risk::NeedsChoice,
            vec![case.ip(netns, &format!("{family}route add {dst}/{length} via GATEWAY"))],
            Vec::new(),
            crate::diagnose::case::NETWORK_CONFIG,
        ));
    }
    fixes
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;
    use crate::model::snapshot::Container;

    #[test]
    fn fires_when_a_container_was_started_without_a_network() {
        let container = Container {
            engine: "docker".to_owned(),
            name: "web".to_owned(),
            networks: vec![("none".to_owned(), "null".to_owned())],
            ..Container::default()
        };
        let world = World::cable().ask("c", "10.0.0.2").space("c", |space| space.container = Some(container));
        let found = world.found(check);
        assert!(found.finding.summary.contains("`--network none`"), "{}", found.finding.summary);
        assert_eq!(found.commands, ["docker network disconnect none web", "docker network connect bridge web"]);
        assert!(found.finding.owner.is_some());
    }

    #[test]
    fn fires_when_the_asker_has_no_route() {
        let found = World::router().without_routes("a", |route| route.dst.prefix_len() == 0).found(check);
        assert_eq!(found.at, "a");
        assert_eq!(found.commands, ["ip -n a route add 10.0.2.0/24 via 10.0.1.1"]);
    }

    #[test]
    fn silent_when_it_is_the_replier_that_has_none() {
        assert!(World::router().without_routes("b", |route| route.dst.prefix_len() == 0).is_silent(check));
    }

    #[test]
    fn silent_when_the_route_went_with_its_device() {
        assert_eq!(World::router().down("r/r2").first().as_deref(), Some("link-down"));
    }
}
