//! `wrong-source-address`: the sender picked a source address to which the other side cannot reply.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Fault, Leg};
use crate::predict::fib;

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    if fault.leg != Leg::Return || fault.underlay || case.recording.question.source().is_some() {
        return None;
    }
    let dst = super::unanswerable(fault)?;
    let asker = case.recording.question.netns;
    let netns = case.netns(asker);
    netns.owns(dst)?;
    // Which device the request left by, and whether the source belongs to it.
    let found = fib::lookup(netns, &fib::Flow::to(case.recording.question.dst)).ok()?;
    let route = &netns.routes[found.route];
    let oif = found.nexthop.oif?;
    let own = netns.addresses_of(oif).any(|entry| entry.address == dst);
    if own {
        return None;
    }
    let link = netns.link(oif)?;
    let better = netns
        .addresses_of(oif)
        .find(|entry| entry.scope == 0 && entry.address != dst && entry.address.is_ipv4() == dst.is_ipv4())
        .map(|entry| entry.address);
    let owner = case.predicted.owner?;
    let why = match route.prefsrc {
        Some(_) => format!("the route {} says src {dst}", route.dst),
        None => format!("{} has no address of its own", link.name),
    };
    let summary = format!(
        "{} sends from {dst}, because {why}; {} can't answer to it",
        case.netns_name(asker),
        case.netns_name(owner.netns)
    );
    let mut finding = case.finding(fault, "wrong-source-address", summary);
    finding.evidence.push(case.state(asker, &format!("route to {}", case.recording.question.dst), &why));
    finding.evidence.push(case.state(fault.loss.place.netns, &format!("route to {dst}"), "none that leads back"));
    let via = found.nexthop.gateway.map_or_else(|| format!("dev {}", link.name), |gateway| format!("via {gateway}"));
    let family = if dst.is_ipv6() { "-6 " } else { "" };
    if let Some(better) = better {
        finding.fixes.push(fix(
            &format!("send from {better}, which the other side can answer"),
            Risk::Safe,
            vec![case.ip(asker, &format!("{family}route replace {} {via} src {better}", route.dst))],
            vec![case.ip(asker, &format!("{family}route replace {} {via} src {dst}", route.dst))],
            crate::diagnose::case::NETWORK_CONFIG,
        ));
    } else if let Some(entry) = case
        .netns(owner.netns)
        .addresses_of(owner.ifindex)
        .find(|entry| entry.scope == 0 && entry.net().is_some_and(|net| net.contains(&case.recording.question.dst)))
    {
        // An address of the network that the other side is in.
        if let Some(free) = free_address(case, entry) {
            finding.fixes.push(fix(
                &format!("give {} an address of the network it talks to", link.name),
                Risk::ChangesPolicy,
                vec![
                    case.ip(asker, &format!("addr add {free}/{} dev {}", entry.prefix_len, link.name)),
                    case.ip(asker, &format!("{family}route replace {} {via} src {free}", route.dst)),
                ],
                vec![case.ip(asker, &format!("addr del {free}/{} dev {}", entry.prefix_len, link.name))],
                crate::diagnose::case::NETWORK_CONFIG,
            ));
        }
    }
    Some(finding)
}

/// An address of a network that nobody in sight has.
fn free_address(case: &Case<'_>, entry: &crate::model::snapshot::Address) -> Option<std::net::IpAddr> {
    let net = entry.net()?;
    net.hosts().take(4096).find(|address| case.owner(*address).is_none() && case.recording.question.dst != *address)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    /// The route to b says that a sends from an address on its lo.
    fn world() -> World {
        World::cable().address("a/lo", "192.168.9.1/32").route("a", "10.0.0.2 dev veth1 src 192.168.9.1")
    }

    #[test]
    fn fires_when_the_other_side_cannot_answer_the_source() {
        let found = world().found(check);
        assert!(found.at.starts_with('b'), "{}", found.at);
        assert!(found.commands[0].ends_with("src 10.0.0.1"), "{:?}", found.commands);
    }

    #[test]
    fn silent_when_the_other_side_has_a_route_to_it() {
        assert!(world().route("b", "192.168.9.1 via 10.0.0.1").is_silent(check));
    }

    #[test]
    fn silent_when_the_source_is_of_the_link() {
        assert!(World::router().without_routes("b", |route| route.dst.prefix_len() == 0).is_silent(check));
    }
}
