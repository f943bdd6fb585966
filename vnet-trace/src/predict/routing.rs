//! Routing at a host: the look-ups of packets that leave and of packets that come in, and the checks of their source.
//!
//! net/ipv4/route.c `ip_route_output_key_hash_rcu` and `ip_route_input_slow`, net/ipv4/fib_frontend.c
//! `fib_validate_source`; net/ipv6/route.c, ip6_input.c `ip6_rcv_core`.

use std::net::IpAddr;

use crate::model::exchange::{Action, Decision, Place};
use crate::model::id::{Device, IfIndex};
use crate::model::snapshot::{Netns, RouteKind};

use super::fib::{self, Flow, Found, Refusal};
use super::frame::{Packet, Trail};
use super::host::Input;
use super::walk::Walk;

impl Walk<'_> {
    /// ip_route_output_key_hash_rcu / ip6_route_output: device, next hop, and whether it stays here.
    /// Failures are noted on the trail; None if there is no way on even if they were mended.
    pub fn route_output(
        &mut self,
        trail: &mut Trail,
        netns: &Netns,
        flow: &Flow,
        at: Option<Device>,
    ) -> Option<(Device, IpAddr, bool)> {
        let place = |device: Option<IfIndex>, function: &str| Place {
            netns: netns.id,
            device: at.map(|at| at.ifindex).or(device),
            function: Some(function.to_owned()),
        };
        let function = if flow.dst.is_ipv6() { "ip6_route_output_flags" } else { "ip_route_output_key_hash_rcu" };
        match fib::lookup(netns, flow) {
            Ok(found) => {
                let route = &netns.routes[found.route];
                if matches!(route.kind, RouteKind::Local | RouteKind::Anycast) {
                    let owner = found.nexthop.oif.unwrap_or_default();
                    trail.step_in(
                        netns.id,
                        None,
                        Action::Routed { table: route.table, oif: None, gateway: None, local: true },
                    );
                    return Some((Device::new(netns.id, owner), flow.dst, true));
                }
                let out = Device::new(netns.id, found.nexthop.oif?);
                trail.step_in(
                    netns.id,
                    None,
                    Action::Routed {
                        table: route.table,
                        oif: found.nexthop.oif,
                        gateway: found.nexthop.gateway,
                        local: false,
                    },
                );
                let next = found.nexthop.gateway.unwrap_or(flow.dst);
                Some((out, next, false))
            }
            // Asked for a device without a route by it: the kernel takes the destination to be on the link.
            Err(_) if flow.oif.is_some() && flow.dst.is_ipv4() => {
                let out = Device::new(netns.id, flow.oif?);
                if self.link(out).is_some_and(|link| !link.is_up()) {
                    trail.block(place(flow.oif, function), Decision::DeviceDown);
                }
                trail.step_in(netns.id, None, Action::Routed { table: 0, oif: flow.oif, gateway: None, local: false });
                Some((out, flow.dst, false))
            }
            Err(refusal) => {
                if refusal == Refusal::NoRoute
                    && let Some((device, sysctl)) = self.switched_off_way(netns, flow.dst)
                {
                    trail.block(Place::at(device, function), Decision::Ipv6Disabled { sysctl });
                    return None;
                }
                let decision = self.refusal(netns, flow, &refusal);
                let dead = match &decision {
                    Decision::NoRoute { dead, .. } => *dead,
                    _ => None,
                };
                trail.block(place(None, function), decision.clone());
                if let Some(dead) = dead {
                    // Behind the block: as if the device were up.
                    return Some((dead, gateway_by(netns, flow, dead.ifindex).unwrap_or(flow.dst), false));
                }
                around(netns, flow, &refusal)
            }
        }
    }

    /// A failed look-up as the kernel's decision.
    pub fn refusal(&self, netns: &Netns, flow: &Flow, refusal: &Refusal) -> Decision {
        let custom = |rule: &Option<usize>| rule.filter(|rule| !fib::is_default_rule(&netns.rules[*rule]));
        match refusal {
            Refusal::Rule { rule } => Decision::PolicyRule { rule: *rule, route: None },
            Refusal::Route { route, rule } => match custom(rule) {
                Some(rule) => Decision::PolicyRule { rule, route: Some(*route) },
                None => Decision::RouteKind { kind: netns.routes[*route].kind, route: *route },
            },
            Refusal::NoRoute => {
                let dead = fib::dead_route(netns, flow).map(|dead| Device::new(netns.id, dead));
                Decision::NoRoute { dst: flow.dst, dead }
            }
        }
    }

    /// ip_route_input_slow: what becomes of a packet that came in here, and why the source check or the look-up refuses it.
    /// Both may be given: what it would be, and why it is refused all the same; the first refusal is the one that bites, the
    /// others would bite after it.
    pub fn route_input(
        &self,
        device: Device,
        src: IpAddr,
        dst: IpAddr,
        mark: u32,
        tos: u8,
    ) -> (Option<Input>, Vec<Decision>) {
        let netns = self.netns(device.netns);
        let (IpAddr::V4(source), IpAddr::V4(target)) = (src, dst) else {
            return (None, Vec::new());
        };
        let on_lo = self.link(device).is_some_and(crate::model::snapshot::Link::is_loopback);
        let mut refusals = Vec::new();
        if source.is_multicast() || source.is_broadcast() || (source.octets()[0] == 0 && !source.is_unspecified()) {
            refusals.push(Decision::MartianOther { address: src, source: true });
        } else if target.octets()[0] == 0 {
            refusals.push(Decision::MartianOther { address: dst, source: false });
        } else if !on_lo && !self.conf_or("ipv4", device, "route_localnet") {
            if target.is_loopback() {
                refusals.push(Decision::MartianLoopback { address: dst });
            } else if source.is_loopback() {
                refusals.push(Decision::MartianLoopback { address: src });
            }
        }
        let flow = Flow { src: Some(src), iif: Some(device.ifindex), mark, tos, ..Flow::to(dst) };
        let forwarding =
            self.conf("ipv4", device, "forwarding").or_else(|| netns.sysctl("net.ipv4.ip_forward")) == Some(1);
        let forwarding_sysctl = || {
            if netns.sysctl("net.ipv4.ip_forward") == Some(1) {
                let name = self.link(device).map_or("", |link| link.name.as_str());
                format!("net.ipv4.conf.{}.forwarding", name.replace('.', "/"))
            } else {
                "net.ipv4.ip_forward".to_owned()
            }
        };
        let martian = !refusals.is_empty();
        match fib::lookup(netns, &flow) {
            Err(lost) => {
                if !martian {
                    if !forwarding {
                        refusals.push(Decision::NotForwarding { sysctl: forwarding_sysctl() });
                    }
                    refusals.push(self.refusal(netns, &flow, &lost));
                }
                (without(netns, &flow, &lost).map(Input::Forward), refusals)
            }
            Ok(found) => {
                let route = &netns.routes[found.route];
                match route.kind {
                    RouteKind::Local | RouteKind::Broadcast => {
                        if !martian {
                            refusals.extend(self.validate_source(device, src, dst, None, mark, tos));
                        }
                        (Some(Input::Local(Some(found.route))), refusals)
                    }
                    _ => {
                        if !martian {
                            if !forwarding {
                                refusals.push(Decision::NotForwarding { sysctl: forwarding_sysctl() });
                            }
                            refusals.extend(self.validate_source(device, src, dst, found.nexthop.oif, mark, tos));
                        }
                        (Some(Input::Forward(found)), refusals)
                    }
                }
            }
        }
    }

    /// fib_validate_source and __fib_validate_source.
    fn validate_source(
        &self,
        device: Device,
        src: IpAddr,
        dst: IpAddr,
        oif: Option<IfIndex>,
        mark: u32,
        tos: u8,
    ) -> Option<Decision> {
        let netns = self.netns(device.netns);
        let rpf = self.conf_max("ipv4", device, "rp_filter");
        let accept_local = self.conf_or("ipv4", device, "accept_local");
        let redirects = if self.conf("ipv4", device, "forwarding") == Some(1) {
            netns.conf("ipv4", "all", "send_redirects").unwrap_or(1) != 0
                && self.conf("ipv4", device, "send_redirects").unwrap_or(1) != 0
        } else {
            self.conf_or("ipv4", device, "send_redirects")
        };
        if rpf == 0 && (oif != Some(device.ifindex) || !redirects) {
            if accept_local {
                return None;
            }
            let custom_local = netns.routes.iter().any(|route| {
                route.table == 255
                    && route.kind == RouteKind::Local
                    && route.protocol != 2
                    && route.dst.addr().is_ipv4()
            });
            if !custom_local && !fib::has_custom_rules(netns, false) {
                return netns.owns(src).map(|_| Decision::LocalSource { src });
            }
        }
        let back_mark = if self.conf_or("ipv4", device, "src_valid_mark") { mark } else { 0 };
        let flow = Flow {
            src: Some(dst),
            iif: Some(oif.unwrap_or(self.loopback(device.netns, device).ifindex)),
            mark: back_mark,
            tos,
            ..Flow::to(src)
        };
        // The kernel says `lo` as input interface of the reverse look-up of what is delivered here.
        let flow = if oif.is_none() { Flow { iif: None, oif: None, ..flow } } else { flow };
        let rp = |back: Option<IfIndex>| {
            Some(Decision::RpFilter {
                src,
                sysctl: self.deciding_sysctl("ipv4", device, "rp_filter"),
                mode: rpf.min(2) as u8,
                back,
            })
        };
        let has_address = netns.addresses_of(device.ifindex).any(|entry| entry.address.is_ipv4());
        match fib::lookup(netns, &flow) {
            Err(_) => {
                if rpf > 0 {
                    rp(None)
                } else {
                    None
                }
            }
            Ok(found) => {
                let route = &netns.routes[found.route];
                match route.kind {
                    RouteKind::Unicast => {}
                    RouteKind::Local if accept_local => {}
                    RouteKind::Local => return Some(Decision::LocalSource { src }),
                    _ => return Some(Decision::MartianOther { address: src, source: true }),
                }
                let uses_device = route.nexthops.iter().any(|nexthop| {
                    nexthop.oif == Some(device.ifindex)
                        || fib::vrf_of(netns, nexthop.oif).is_some_and(|(vrf, _)| vrf == device.ifindex)
                });
                let loopback = route.kind == RouteKind::Local
                    && self.link(device).is_some_and(crate::model::snapshot::Link::is_loopback);
                if uses_device || loopback {
                    return None;
                }
                if !has_address {
                    return if rpf > 0 { rp(found.nexthop.oif) } else { None };
                }
                if rpf == 1 {
                    return rp(found.nexthop.oif);
                }
                None
            }
        }
    }

    /// ip6_route_input.
    pub fn route_input_v6(&self, device: Device, packet: &Packet) -> (Option<Input>, Vec<Decision>) {
        let netns = self.netns(device.netns);
        if packet.dst.is_multicast() {
            return (Some(Input::Local(None)), Vec::new());
        }
        let link_local = matches!(packet.dst, IpAddr::V6(address) if address.is_unicast_link_local());
        if link_local {
            let own = netns.addresses_of(device.ifindex).any(|entry| entry.address == packet.dst);
            return (own.then_some(Input::Local(None)), Vec::new());
        }
        let flow = Flow {
            src: Some(packet.src),
            iif: Some(device.ifindex),
            mark: packet.mark,
            tos: packet.tos,
            protocol: packet.protocol(),
            ..Flow::to(packet.dst)
        };
        match fib::lookup(netns, &flow) {
            Ok(found) if matches!(netns.routes[found.route].kind, RouteKind::Local | RouteKind::Anycast) => {
                (Some(Input::Local(Some(found.route))), Vec::new())
            }
            Ok(found) => (Some(Input::Forward(found)), Vec::new()),
            // ip6_pkt_discard and ip6_pkt_prohibit, whether the host forwards or not.
            Err(lost) => {
                let decision = match self.switched_off_way(netns, packet.dst) {
                    Some((_, sysctl)) if lost == Refusal::NoRoute => Decision::Ipv6Disabled { sysctl },
                    _ => self.refusal(netns, &flow, &lost),
                };
                (without(netns, &flow, &lost).map(Input::Forward), vec![decision])
            }
        }
    }

    /// What IPv6 input refuses before anything else (ip6_rcv_core).
    pub fn martian_v6(&self, device: Device, packet: &Packet) -> Option<Decision> {
        let (IpAddr::V6(src), IpAddr::V6(dst)) = (packet.src, packet.dst) else { return None };
        let on_lo = self.link(device).is_some_and(crate::model::snapshot::Link::is_loopback);
        if src.is_multicast() {
            return Some(Decision::MartianOther { address: packet.src, source: true });
        }
        if (src.is_loopback() || dst.is_loopback()) && !on_lo {
            let address = if src.is_loopback() { packet.src } else { packet.dst };
            return Some(Decision::MartianLoopback { address });
        }
        None
    }
}

/// The look-up as if the refusing route or rule were gone.
fn without(netns: &Netns, flow: &Flow, refusal: &Refusal) -> Option<Found> {
    let mut mended = netns.clone();
    for _ in 0..8 {
        match fib::lookup(&mended, flow) {
            Ok(found) => return Some(found),
            Err(Refusal::Route { route, rule }) => {
                // Positions must stay: the route is made harmless, not removed.
                let custom = rule.filter(|rule| !fib::is_default_rule(&netns.rules[*rule]));
                if let Some(rule) = custom {
                    mended.rules[rule].action = crate::model::snapshot::RuleAction::Nop;
                }
                mended.routes[route].cached = true;
            }
            Err(Refusal::Rule { rule }) => mended.rules[rule].action = crate::model::snapshot::RuleAction::Nop,
            Err(Refusal::NoRoute) => {
                let _ = refusal;
                let dead = fib::dead_route(&mended, flow)?;
                let mut revived = false;
                for route in &mut mended.routes {
                    for nexthop in &mut route.nexthops {
                        if nexthop.oif == Some(dead) && nexthop.flags & 0x11 != 0 {
                            nexthop.flags &= !0x11;
                            revived = true;
                        }
                    }
                }
                if !revived {
                    // The connected route that comes back with the device: found by its address.
                    let covers = |entry: &&crate::model::snapshot::Address| {
                        entry.ifindex == dead && entry.net().is_some_and(|net| net.contains(&flow.dst))
                    };
                    let net = mended.addresses.iter().find(covers).and_then(crate::model::snapshot::Address::net)?;
                    let template = mended.routes.iter().position(|route| route.table == 254 || route.table == 255)?;
                    let _ = net;
                    return Some(Found {
                        route: template,
                        rule: None,
                        nexthop: crate::model::snapshot::Nexthop { oif: Some(dead), weight: 1, ..Default::default() },
                        ambiguous: false,
                    });
                }
            }
        }
    }
    None
}

/// The route that would be found if the refusing one or the refusing rule were not there.
fn around(netns: &Netns, flow: &Flow, refusal: &Refusal) -> Option<(Device, IpAddr, bool)> {
    let found = without(netns, flow, refusal)?;
    let local = netns.routes[found.route].kind == RouteKind::Local;
    Some((Device::new(netns.id, found.nexthop.oif?), found.nexthop.gateway.unwrap_or(flow.dst), local))
}

/// The gateway of a route to an address by a device.
fn gateway_by(netns: &Netns, flow: &Flow, oif: IfIndex) -> Option<IpAddr> {
    netns
        .routes
        .iter()
        .filter(|route| route.dst.contains(&flow.dst))
        .flat_map(|route| &route.nexthops)
        .find(|nexthop| nexthop.oif == Some(oif))
        .and_then(|nexthop| nexthop.gateway)
}
