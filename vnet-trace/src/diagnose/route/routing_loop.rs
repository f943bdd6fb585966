//! `routing-loop`: its TTL or hop limit ran out because nodes send it in a circle.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};
use crate::predict::fib;

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::TtlExpired { circle } = fault.loss.decision.as_ref()? else { return None };
    if circle.is_empty() {
        return None;
    }
    let dst = fault.headers.dst?;
    let names: Vec<String> = circle.iter().map(|netns| case.netns_name(*netns)).collect();
    let summary = format!(
        "{} send {} for {dst} in a circle until its TTL runs out",
        names.join(" and "),
        case.packet_name(fault.role)
    );
    let mut finding = case.finding(fault, "routing-loop", summary);
    for netns in circle {
        let space = case.netns(*netns);
        let Ok(found) = fib::lookup(space, &fib::Flow::to(dst)) else { continue };
        let route = &space.routes[found.route];
        let via = found.nexthop.gateway.map_or_else(String::new, |gateway| format!(" via {gateway}"));
        finding.evidence.push(case.state(*netns, &format!("route to {dst}"), &format!("{}{via}", route.dst)));
    }
    // The node whose route is the least specific one is most likely the one that should have known better: it should
    // have the destination's network itself.
    let owner = case.owner(dst);
    let near = owner.and_then(|owner| case.snapshot().peer(owner)).filter(|near| circle.contains(&near.netns));
    if let (Some(near), Some(owner)) = (near, owner) {
        let dev = case.name(near);
        let entry = case.netns(owner.netns).owns(dst)?;
        let wanted = case
            .netns(owner.netns)
            .routes
            .iter()
            .filter(|route| route.dst.prefix_len() == 0)
            .find_map(|route| route.nexthops.first()?.gateway);
        let fits = |gateway: &std::net::IpAddr| {
            entry.net().is_some_and(|net| net.contains(gateway)) && gateway.is_ipv4() == dst.is_ipv4()
        };
        if let Some(gateway) = wanted.filter(fits) {
            finding.fixes.push(fix(
                &format!(
                    "give {} the address {gateway}/{} that its neighbours expect there",
                    case.place_name(near),
                    entry.prefix_len
                ),
                Risk::Safe,
                vec![case.ip(near.netns, &format!("addr add {gateway}/{} dev {dev}", entry.prefix_len))],
                vec![case.ip(near.netns, &format!("addr del {gateway}/{} dev {dev}", entry.prefix_len))],
                crate::diagnose::case::NETWORK_CONFIG,
            ));
        }
        let family = if dst.is_ipv6() { "-6 " } else { "" };
        if let Some(net) = entry.net() {
            finding.fixes.push(fix(
                &format!("let {} reach {net} by {dev}", case.netns_name(near.netns)),
                Risk::Safe,
                vec![case.ip(near.netns, &format!("{family}route add {net} dev {dev}"))],
                vec![case.ip(near.netns, &format!("{family}route del {net} dev {dev}"))],
                crate::diagnose::case::NETWORK_CONFIG,
            ));
        }
    }
    // Whoever of them can reach the owner by somebody outside of the circle should send it there.
    for netns in circle {
        finding.fixes.extend(crate::diagnose::toward::fixes(case, *netns, dst, circle));
    }
    if finding.fixes.is_empty() {
        let last = circle.last().copied()?;
        let length = if dst.is_ipv4() { 32 } else { 128 };
        finding.fixes.push(fix(
            &format!("decide which of them should have {dst}, and route it there"),
            Risk::NeedsChoice,
            vec![case.ip(last, &format!("route replace {dst}/{length} via GATEWAY"))],
            Vec::new(),
            crate::diagnose::case::NETWORK_CONFIG,
        ));
    }
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    /// a asks r for 10.9.9.9; r sends it to x, and x where?
    fn world(of_x: &str) -> World {
        World::new()
            .veth("a/eth0", "r/lan")
            .veth("r/wan", "x/wan")
            .address("a/eth0", "10.0.1.2/24")
            .address("r/lan", "10.0.1.1/24")
            .address("r/wan", "10.0.9.1/24")
            .address("x/wan", "10.0.9.2/24")
            .route("a", "default via 10.0.1.1")
            .route("r", "default via 10.0.9.2")
            .route("x", of_x)
            .forwarding("r", 1)
            .forwarding("x", 1)
            .ask("a", "10.9.9.9")
    }

    #[test]
    fn fires_when_two_routers_send_it_to_each_other() {
        let found = world("default via 10.0.9.1").found(check);
        assert!(found.finding.summary.contains("in a circle"), "{}", found.finding.summary);
    }

    #[test]
    fn silent_when_the_second_has_no_way_back() {
        assert!(world("blackhole 10.9.0.0/16").is_silent(check));
    }

    #[test]
    fn silent_when_the_ttl_is_just_too_small() {
        let world = World::router().question(|question| question.ttl = Some(1));
        assert_eq!(world.first().as_deref(), Some("ttl-expired"));
        assert!(world.is_silent(check));
    }
}
