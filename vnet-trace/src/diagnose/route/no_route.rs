//! `no-route`: no route to the destination, at the sender or at a forwarder.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault, Leg};
use crate::model::id::NetnsId;
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
    let summary = format!("{} has no route to {dst}, so {} ends there", case.netns_name(netns), what(case, fault));
    let mut finding = case.finding(fault, "no-route", summary);
    finding.evidence.push(case.state(netns, &format!("route to {dst}"), "none"));
    finding.fixes = add_route(case, netns, *dst);
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
