//! `socket-bound-elsewhere`: it arrived, but the waiting socket is bound to another device or address.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Fix, Risk};
use crate::model::exchange::{Decision, Fault};
use crate::model::id::Device;

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::SocketBound { bound, came } = fault.loss.decision.as_ref()? else { return None };
    let by = came.map_or_else(|| "another device".to_owned(), |came| case.name(came));
    let summary = format!(
        "the reply arrives by {by}, but the asker's socket is bound to {} and does not take it",
        case.name(*bound)
    );
    let mut finding = case.finding(fault, "socket-bound-elsewhere", summary);
    finding.evidence.push(case.state(bound.netns, "socket bound to", &case.name(*bound)));
    finding.evidence.push(case.state(bound.netns, "reply came by", &by));
    finding.fixes.extend(repair(case, *bound, *came));
    finding.fixes.push(fix(
        "ask without -I DEV: an unbound socket takes replies from everywhere",
        Risk::NeedsChoice,
        Vec::new(),
        Vec::new(),
        "",
    ));
    Some(finding)
}

/// What brings the reply to the bound device: the replier's route, or the place of the source address.
fn repair(case: &Case<'_>, bound: Device, came: Option<Device>) -> Option<Fix> {
    let dst = case.reply_dst()?;
    let owner = case.predicted.owner?;
    let over_lo = came.is_some_and(|came| case.link(came).is_some_and(crate::model::snapshot::Link::is_loopback));
    if over_lo {
        // The address that was used as source sits elsewhere: on the bound device the socket would take the reply.
        let netns = case.netns(bound.netns);
        let entry = netns.owns(dst)?;
        if entry.ifindex == bound.ifindex || dst.is_ipv6() {
            return far_end(case, bound);
        }
        let (from, to) = (netns.link(entry.ifindex)?.name.clone(), case.name(bound));
        let address = format!("{}/{}", entry.address, entry.prefix_len);
        let mut commands = vec![
            case.ip(bound.netns, &format!("addr del {address} dev {from}")),
            case.ip(bound.netns, &format!("addr add {address} dev {to}")),
        ];
        // Routes that name the address as source go away with it.
        for route in
            netns.routes.iter().filter(|route| route.prefsrc == Some(dst) && route.table == 254 && route.protocol != 2)
        {
            let Some(hop) = route.nexthops.first() else { continue };
            let via = hop.gateway.map_or_else(String::new, |gateway| format!("via {gateway} "));
            let dev =
                hop.oif.and_then(|oif| netns.link(oif)).map_or_else(String::new, |link| format!("dev {} ", link.name));
            commands.push(case.ip(bound.netns, &format!("route replace {} {via}{dev}src {dst}", route.dst)));
        }
        return Some(fix(
            &format!("move {dst} to {to}: the kernel then gives the reply to sockets bound there"),
            Risk::ChangesPolicy,
            commands,
            vec![
                case.ip(bound.netns, &format!("addr del {address} dev {to}")),
                case.ip(bound.netns, &format!("addr add {address} dev {from}")),
            ],
            crate::diagnose::case::NETWORK_CONFIG,
        ));
    }
    // The replier sends it by another device: a route of its own there does it.
    let space = case.netns(owner.netns);
    let flow = crate::predict::fib::Flow::to(dst);
    let found = crate::predict::fib::lookup(space, &flow).ok()?;
    let route = &space.routes[found.route];
    let family = if dst.is_ipv6() { "-6 " } else { "" };
    let via = found.nexthop.gateway.map_or_else(String::new, |gateway| format!(" via {gateway}"));
    let specific = route.dst.prefix_len() > 0 && found.nexthop.oif != Some(owner.ifindex);
    specific.then(|| {
        fix(
            &format!("remove the replier's route {}, which sends the reply by another device", route.dst),
            Risk::ChangesPolicy,
            vec![case.ip(owner.netns, &format!("{family}route del {}{via}", route.dst))],
            vec![case.ip(owner.netns, &format!("{family}route add {}{via}", route.dst))],
            crate::diagnose::case::NETWORK_CONFIG,
        )
    })
}

/// IPv6 has no way to give a reply over lo to a bound socket: the far end has to be a host of its own.
fn far_end(case: &Case<'_>, bound: Device) -> Option<Fix> {
    let peer = case.snapshot().peer(bound).filter(|peer| peer.netns == bound.netns)?;
    let dev = case.name(peer);
    let mut commands =
        vec![case.ip(bound.netns, "netns add far"), case.ip(bound.netns, &format!("link set {dev} netns far"))];
    for entry in case.netns(peer.netns).addresses_of(peer.ifindex).filter(|entry| entry.scope == 0) {
        let dad = if entry.address.is_ipv6() { " nodad" } else { "" };
        commands.push(
            case.cmd(bound.netns, &format!("ip -n far addr add {}/{} dev {dev}{dad}", entry.address, entry.prefix_len)),
        );
    }
    commands.push(case.cmd(bound.netns, &format!("ip -n far link set {dev} up")));
    Some(fix(
        &format!("give the other end, {dev}, a namespace of its own"),
        Risk::ChangesPolicy,
        commands,
        vec![case.ip(bound.netns, "netns del far")],
        crate::diagnose::case::NETWORK_CONFIG,
    ))
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;
    use crate::model::question::Iface;

    #[test]
    fn fires_when_the_reply_comes_by_another_device_than_the_sockets() {
        let world = World::two_cables().question(|question| question.iface = Some(Iface::Device("a1".to_owned())));
        assert_eq!(world.found(check).at, "a/a2");
    }

    #[test]
    fn silent_when_the_socket_is_not_bound() {
        assert!(World::two_cables().is_silent(check));
    }

    #[test]
    fn silent_when_the_reply_comes_by_the_bound_device() {
        let world = World::cable().question(|question| question.iface = Some(Iface::Device("veth1".to_owned())));
        assert!(world.is_silent(check));
    }
}
