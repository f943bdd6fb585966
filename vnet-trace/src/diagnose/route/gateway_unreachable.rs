//! `gateway-unreachable`: the next hop of the route does not answer address resolution.

use std::net::IpAddr;

use crate::diagnose::case::{Case, NETWORK_CONFIG, fix};
use crate::diagnose::toward;
use crate::model::diagnosis::{Finding, Fix, Risk};
use crate::model::exchange::{Decision, Fault};
use crate::model::id::Device;
use crate::model::snapshot::{Address, Route};
use crate::predict::fib;

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::NoOwner { address, gateway: true } = fault.loss.decision.as_ref()? else { return None };
    let address = *address;
    let device = fault.loss.place.device()?;
    let netns = case.netns(device.netns);
    let summary = format!(
        "the next hop {address} of {} does not answer on {}: nobody there has it",
        case.netns_name(device.netns),
        case.name(device)
    );
    let mut finding = case.finding(fault, "gateway-unreachable", summary);
    let dst = fault.headers.dst.unwrap_or(case.recording.question.dst);
    let by_it = |route: &Route| {
        route.dst.contains(&dst)
            && route.nexthops.iter().any(|hop| hop.gateway == Some(address) && hop.oif == Some(device.ifindex))
    };
    let flow = fib::Flow { src: fault.headers.src, ..fib::Flow::to(dst) };
    let found = fib::lookup(netns, &flow).ok().map(|found| &netns.routes[found.route]);
    let route = found.filter(|route| by_it(route)).or_else(|| netns.routes.iter().find(|route| by_it(route)));
    if let Some(route) = route {
        let table = if route.table == 254 { String::new() } else { format!(" table {}", route.table) };
        finding.evidence.push(case.state(
            device.netns,
            &format!("route {}{table}", route.dst),
            &format!("via {address} dev {}", case.name(device)),
        ));
        finding.fixes.extend(send_by(case, device, route, address, dst));
    }
    finding.fixes.extend(make_one(case, device, address, dst));
    if finding.fixes.is_empty() {
        finding.fixes.push(fix(
            "give the next hop that address, or route by one that exists",
            Risk::NeedsChoice,
            Vec::new(),
            Vec::new(),
            NETWORK_CONFIG,
        ));
    }
    Some(finding)
}

/// The same route by next hops that exist: every one of its next hops that nobody has is replaced by a router of its link.
fn send_by(case: &Case<'_>, device: Device, route: &Route, old: IpAddr, dst: IpAddr) -> Option<Fix> {
    let ways = toward::toward(case, device.netns, dst, &[]);
    let router = |dev: Device| ways.iter().filter(|way| way.dev == dev && !way.mute).find_map(|way| way.gateway);
    let new = router(device)?;
    let mut mended = route.clone();
    for hop in &mut mended.nexthops {
        let nobody = hop.gateway.is_some_and(|gateway| gateway == old || case.owner(gateway).is_none());
        if let Some(better) = hop.oif.filter(|_| nobody).and_then(|oif| router(Device::new(device.netns, oif))) {
            hop.gateway = Some(better);
        }
    }
    let family = if new.is_ipv6() { "-6 " } else { "" };
    let replace = |route: &Route| {
        case.ip(device.netns, &format!("{family}route replace {}", toward::text(case, device.netns, route)))
    };
    Some(fix(
        &format!("send by {new}, which forwards and knows the way"),
        Risk::ChangesPolicy,
        vec![replace(&mended)],
        vec![replace(route)],
        NETWORK_CONFIG,
    ))
}

/// A router on the link that knows the way, and lacks only the address: by proxy ARP where nobody is meant to have it, else
/// as an address of its own.
fn make_one(case: &Case<'_>, device: Device, address: IpAddr, dst: IpAddr) -> Vec<Fix> {
    let nets: Vec<_> = case.netns(device.netns).addresses_of(device.ifindex).filter_map(Address::net).collect();
    let net = nets.iter().find(|net| net.contains(&address));
    let mut fixes = Vec::new();
    for router in toward::routers(case, device, dst) {
        let (space, dev) = (case.netns(router.netns), case.name(router));
        let conf = |key: &str| space.conf("ipv4", &dev, key) == Some(1) || space.conf("ipv4", "all", key) == Some(1);
        let elsewhere = fib::lookup(space, &fib::Flow::to(address))
            .is_ok_and(|found| found.nexthop.oif.is_some_and(|oif| oif != router.ifindex));
        if address.is_ipv4() && net.is_none() && elsewhere && !conf("proxy_arp") {
            let key = format!("net.ipv4.conf.{}.proxy_arp", dev.replace('.', "/"));
            fixes.push(case.sysctl_fix(
                router.netns,
                &format!("let {} answer for {address} by proxy ARP", case.place_name(router)),
                Risk::ChangesPolicy,
                &[(key, 1)],
            ));
        }
        let host = if address.is_ipv4() { 32 } else { 128 };
        let length = net.map_or(host, ipnet::IpNet::prefix_len);
        let dad = if address.is_ipv6() { " nodad" } else { "" };
        fixes.push(fix(
            &format!("give {} the address {address}", case.place_name(router)),
            Risk::ChangesPolicy,
            vec![case.ip(router.netns, &format!("addr add {address}/{length} dev {dev}{dad}"))],
            vec![case.ip(router.netns, &format!("addr del {address}/{length} dev {dev}"))],
            NETWORK_CONFIG,
        ));
    }
    fixes
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    #[test]
    fn fires_when_nobody_is_the_next_hop() {
        let found = World::router()
            .without_routes("a", |route| route.dst.prefix_len() == 0)
            .route("a", "default via 10.0.1.254")
            .found(check);
        assert_eq!(found.at, "a/eth0");
        assert!(found.commands[0].contains("via 10.0.1.1"), "{:?}", found.commands);
    }

    #[test]
    fn silent_when_the_destination_itself_is_missing() {
        assert!(World::cable().ask("a", "10.0.0.7").is_silent(check));
    }
}
