//! IP packets through hosts: sent, received, routed, checked, forwarded, delivered.
//!
//! net/ipv4/ip_input.c, ip_forward.c,
//! net/ipv4/icmp.c `icmp_echo`; net/ipv6/ip6_input.c, ip6_output.c `ip6_forward`, icmp.c.

use std::net::IpAddr;

use crate::model::exchange::{Action, Decision, Place};
use crate::model::id::{Device, IfIndex, NetnsId};
use crate::model::netfilter::Hook;
use crate::model::snapshot::LinkKind;

use super::fib::{self, Flow, Found};
use super::frame::{Branch, Carries, End, Frame, Packet, Payload, Trail};
use super::walk::{NeighbourSource, Walk};

/// Packets that are followed through more namespaces than this are in a circle.
const MOST_HOPS: usize = 72;

/// What the input route look-up says.
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// Delivered here; the route, if it was found in a table.
    Local(Option<usize>),
    /// To be forwarded.
    Forward(Found),
}

/// Where a packet came to.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one value a transmission, and most of them carry the packet")]
pub enum Delivery {
    /// Delivered, perhaps behind blocks.
    Here {
        /// The device it came in by.
        device: Device,
        /// As it was then.
        packet: Packet,
    },
    /// It left what we can see.
    OutOfSight(Device),
    /// Nowhere, whatever is mended.
    Nowhere,
}

impl Walk<'_> {
    /// A host sends a packet: route, source, filters, and then all the way to where it is delivered.
    pub fn send_packet(
        &mut self,
        trail: &mut Trail,
        netns: NetnsId,
        mut packet: Packet,
        oif: Option<IfIndex>,
    ) -> Delivery {
        trail.step_in(netns, None, Action::Sent);
        let space = self.netns(netns);
        let unspecified = packet.src.is_unspecified();
        let flow = Flow {
            src: (!unspecified).then_some(packet.src),
            oif,
            mark: packet.mark,
            tos: packet.tos,
            protocol: packet.protocol(),
            ..Flow::to(packet.dst)
        };
        let Some((out, next, local)) = self.route_output(trail, space, &flow, None) else {
            return Delivery::Nowhere;
        };
        if unspecified {
            let found = fib::lookup(space, &flow).ok();
            let route = found.as_ref().map(|found| &space.routes[found.route]);
            let gateway = found.as_ref().and_then(|found| found.nexthop.gateway);
            match fib::select_source(space, Some(out.ifindex), route, gateway, packet.dst) {
                Some(source) => packet.src = source,
                None => return Delivery::Nowhere,
            }
        }
        self.send_routed(trail, netns, packet, out, next, local)
    }

    /// As [`Walk::send_packet`] for a packet whose route is known.
    pub fn send_routed(
        &mut self,
        trail: &mut Trail,
        netns: NetnsId,
        mut packet: Packet,
        out: Device,
        next: IpAddr,
        local: bool,
    ) -> Delivery {
        let before = (packet.dst, packet.mark);
        let mut begun = self.begin_conntrack(netns, &packet);
        self.ip_hook(trail, netns, Hook::Output, None, Some(out), &mut packet, &mut begun);
        let (mut out, mut next, mut local) = (out, next, local);
        if (packet.dst, packet.mark) != before {
            // ip_route_me_harder: a rewritten destination or mark is routed again.
            let flow = Flow {
                src: Some(packet.src),
                mark: packet.mark,
                tos: packet.tos,
                protocol: packet.protocol(),
                ..Flow::to(packet.dst)
            };
            match self.route_output(trail, self.netns(netns), &flow, None) {
                Some(again) => (out, next, local) = again,
                None => return Delivery::Nowhere,
            }
        }
        self.ipsec(trail, netns, "out", &packet, out);
        self.cgroup(trail, netns);
        let mtu = self.path_mtu(out, packet.dst);
        if packet.len > mtu && !local {
            if packet.df && !packet.adapts {
                trail.block(
                    Place::at(out, if packet.dst.is_ipv6() { "ip6_append_data" } else { "ip_append_data" }),
                    Decision::TooBig { len: packet.len, mtu, icmp: false },
                );
            } else {
                packet.len = packet.len.min(mtu);
                packet.df = false;
            }
        }
        self.leave(trail, netns, packet, out, next, local, &mut begun)
    }

    /// POSTROUTING, address resolution, transmission, and on at the other side.
    #[expect(
        clippy::too_many_arguments,
        reason = "what the route look-up gave is three values, and a type for them would be used twice"
    )]
    fn leave(
        &mut self,
        trail: &mut Trail,
        netns: NetnsId,
        mut packet: Packet,
        out: Device,
        next: IpAddr,
        local: bool,
        begun: &mut super::filter::Begun,
    ) -> Delivery {
        self.ip_hook(trail, netns, Hook::Postrouting, None, Some(out), &mut packet, begun);
        self.confirm(netns, &packet, begun);
        self.translate_source(trail, out, &mut packet);
        if local {
            let lo = self.loopback(netns, out);
            if self.link(lo).is_some_and(|link| !link.is_up()) {
                trail.block(Place::at(lo, "__dev_queue_xmit"), Decision::DeviceDown);
            }
            trail.step(lo, Action::Transmitted);
            trail.step(lo, Action::Received);
            return self.deliver_local(trail, lo, packet, Some(begun));
        }
        let gateway = next != packet.dst;
        let Some(mac) = self.resolve(trail, out, next, packet.src, gateway) else {
            return Delivery::Nowhere;
        };
        let frame = Frame { dst: mac, src: self.mac(out), tags: Vec::new(), payload: Payload::Ip(packet) };
        let known = self.neighbour(out, next).map(|(_, source)| source);
        self.over_the_link(trail, out, next, frame, known)
    }

    /// One transmission: the frame goes out, and the copy that matters goes on.
    fn over_the_link(
        &mut self,
        trail: &mut Trail,
        out: Device,
        next: IpAddr,
        frame: Frame,
        known: Option<NeighbourSource>,
    ) -> Delivery {
        let dst_mac = frame.dst;
        let start = Trail { visited: Vec::new(), ..trail.clone() };
        let before = trail.blocks.len();
        let branches = self.transmit(start, out, frame.clone());
        // With ARP off the frame carries the sender's own address, and a bridge on the way does not send it on at all: then
        // the way is that of a frame with the address that ARP would have found.
        let returns = |branch: &Branch| {
            branch.trail.blocks[before..].iter().any(|block| matches!(block.decision, Decision::BridgeHairpin { .. }))
        };
        if known == Some(NeighbourSource::NoArp)
            && branches.iter().any(returns)
            && let Some(lladdr) = self.owners_mac(next).filter(|lladdr| *lladdr != dst_mac)
        {
            trail.block(Place::at(out, "neigh_connected_output"), Decision::ArpDisabled { device: out });
            return self.over_the_link(
                trail,
                out,
                next,
                Frame { dst: lladdr, ..frame },
                Some(NeighbourSource::Learned),
            );
        }
        let mut best: Option<(u8, usize, usize, Trail, Device, Frame)> = None;
        let mut away = None;
        let mut stopped: Option<Trail> = None;
        for Branch { trail: mut way, end } in branches {
            match end {
                End::Stack { device, frame } => {
                    let accepted = self.takes(&way, device, frame.dst);
                    let owner = self.netns(device.netns).owns(next).is_some();
                    if !accepted {
                        let own = self.link(device).and_then(|link| link.mac);
                        let decision = match known {
                            Some(NeighbourSource::NoArp) => Decision::ArpDisabled { device: out },
                            Some(NeighbourSource::Bridge(port)) => {
                                Decision::BridgeSuppressed { port, lladdr: dst_mac, address: next }
                            }
                            _ => Decision::OtherHost { frame: dst_mac, own },
                        };
                        let function = if matches!(&frame.payload, Payload::Ip(packet) if packet.dst.is_ipv6()) {
                            "ip6_rcv_core"
                        } else {
                            "ip_rcv_core"
                        };
                        way.block(Place::at(device, function), decision);
                    }
                    let blocks = way.blocks.len() - before;
                    // An accepted copy without blocks is what happens, the owner's own first; unless it is a wrong station
                    // that takes it and can't send it on. Else the way to the owner of the next hop counts, and of those
                    // the one with the fewest blocks, earliest first.
                    let class = match (accepted && blocks == 0, owner) {
                        (true, true) => 0,
                        (true, false) if self.meant_for_another(out, device, next, &frame).is_none() => 1,
                        (true, false) => 3,
                        (false, true) => 2,
                        (false, false) => 4,
                    };
                    let first = way.blocks.get(before).map_or(0, |block| block.at);
                    if best.as_ref().is_none_or(|best| (class, blocks, first) < (best.0, best.1, best.2)) {
                        best = Some((class, blocks, first, way, device, frame));
                    }
                }
                End::OutOfSight(last) => {
                    if way.blocks.len() == before {
                        away = Some((way, last));
                    } else if stopped.is_none() {
                        stopped = Some(way);
                    }
                }
                End::Answered { .. } => {}
                End::Dead => {
                    if stopped.as_ref().is_none_or(|stopped| way.blocks.len() < stopped.blocks.len()) {
                        stopped = Some(way);
                    }
                }
            }
        }
        if let Some((class, _, _, way, device, frame)) = best
            && (class < 4 || away.is_none())
        {
            let visited = std::mem::take(&mut trail.visited);
            *trail = way;
            trail.visited = visited;
            let meant = if class == 3 { self.meant_for_another(out, device, next, &frame) } else { None };
            let device = match meant {
                Some(owner) => {
                    let decision = if self.mac(owner) == dst_mac {
                        Decision::DuplicateMac { mac: dst_mac, owners: vec![device, owner] }
                    } else {
                        Decision::OtherHost { frame: dst_mac, own: None }
                    };
                    trail.block(Place::at(device, "ip_error"), decision);
                    owner
                }
                None => device,
            };
            let Payload::Ip(packet) = frame.payload else { return Delivery::Nowhere };
            return self.ip_receive(trail, device, packet);
        }
        if let Some((way, last)) = away {
            let visited = std::mem::take(&mut trail.visited);
            *trail = way;
            trail.visited = visited;
            return Delivery::OutOfSight(last);
        }
        if let Some(way) = stopped {
            let visited = std::mem::take(&mut trail.visited);
            *trail = way;
            trail.visited = visited;
        }
        Delivery::Nowhere
    }

    /// A station took the frame by its address, but neither is the packet for it nor does it send it on, while somebody
    /// else on the link has the next hop's address: that one.
    fn meant_for_another(&self, out: Device, taker: Device, next: IpAddr, frame: &Frame) -> Option<Device> {
        let Payload::Ip(packet) = &frame.payload else { return None };
        let space = self.netns(taker.netns);
        if next.is_multicast()
            || space.owns(packet.dst).is_some()
            || space.owns(next).is_some()
            || fib::is_local(space, packet.dst)
        {
            return None;
        }
        let forwarding = if next.is_ipv6() {
            space.sysctl("net.ipv6.conf.all.forwarding")
        } else {
            self.conf("ipv4", taker, "forwarding").or_else(|| space.sysctl("net.ipv4.ip_forward"))
        };
        if forwarding == Some(1)
            && fib::lookup(space, &Flow { iif: Some(taker.ifindex), ..Flow::to(packet.dst) }).is_ok()
        {
            return None;
        }
        super::segment::stations(self.snapshot, out).into_iter().find(|station| {
            station.netns != taker.netns
                && self.netns(station.netns).addresses_of(station.ifindex).any(|entry| entry.address == next)
        })
    }

    /// ip_rcv and ip6_rcv: a packet is handed to the stack of a device.
    pub fn ip_receive(&mut self, trail: &mut Trail, device: Device, mut packet: Packet) -> Delivery {
        let netns = device.netns;
        if self.passed.len() > MOST_HOPS {
            return Delivery::Nowhere;
        }
        let ipv6 = packet.dst.is_ipv6();
        if ipv6 && let Some(sysctl) = self.ipv6_disabled(device) {
            trail.block(Place::at(device, "ip6_rcv_core"), Decision::Ipv6Disabled { sysctl });
        }
        if let Some((origin, rule, layer)) = packet.stale_checksum.clone().filter(|(_, _, layer)| *layer == "ip") {
            trail.block(
                Place::at(device, "ip_rcv_core"),
                Decision::Checksum { layer: layer.to_owned(), rule: Some(rule), netns: Some(origin) },
            );
            packet.stale_checksum = None;
        }
        if ipv6 && let Some(decision) = self.martian_v6(device, &packet) {
            trail.block(Place::at(device, "ip6_rcv_core"), decision);
        }
        // The mark stays with the packet only inside one namespace (skb_scrub_packet on veth).
        packet.mark = 0;
        let mut begun = self.begin_conntrack(netns, &packet);
        // What br_netfilter has shown to the IP hooks is not shown again.
        let shown = self.shown_by_bridge(device, ipv6);
        if !shown {
            self.ip_hook(trail, netns, Hook::Prerouting, Some(device), None, &mut packet, &mut begun);
        }
        self.translate_destination(trail, device, &mut packet);
        let (input, refusals) = if ipv6 {
            self.route_input_v6(device, &packet)
        } else {
            self.route_input(device, packet.src, packet.dst, packet.mark, packet.tos)
        };
        // An own address without its entry in the local table is taken for somebody else's.
        let space = self.netns(netns);
        let forgotten = space.owns(packet.dst).filter(|_| fib::local_route(space, packet.dst).is_none());
        if let Some(entry) = forgotten {
            let owner = Device::new(netns, entry.ifindex);
            let decision = Decision::LocalRouteMissing { address: packet.dst, device: owner };
            if !trail.blocks.iter().any(|block| block.decision == decision) {
                trail.block(Place::at(device, "ip_route_input_slow"), decision);
            }
            return self.deliver_local(trail, device, packet, Some(&mut begun));
        }
        if refusals.is_empty() {
            trail.step(device, Action::SourceChecked);
        }
        for decision in refusals {
            let function = match decision {
                Decision::RpFilter { .. } | Decision::LocalSource { .. } => "fib_validate_source",
                Decision::NoRoute { .. }
                | Decision::RouteKind { .. }
                | Decision::PolicyRule { .. }
                | Decision::NotForwarding { .. }
                    if !ipv6 =>
                {
                    "ip_error"
                }
                _ if ipv6 => "ip6_pkt_drop",
                _ => "ip_route_input_slow",
            };
            trail.block(Place::at(device, function), decision);
        }
        match input {
            Some(Input::Local(_)) => self.deliver_local(trail, device, packet, Some(&mut begun)),
            Some(Input::Forward(found)) => self.forward(trail, device, packet, &found, &mut begun),
            None => Delivery::Nowhere,
        }
    }

    /// ip_forward and ip6_forward.
    fn forward(
        &mut self,
        trail: &mut Trail,
        device: Device,
        mut packet: Packet,
        found: &Found,
        begun: &mut super::filter::Begun,
    ) -> Delivery {
        let netns = device.netns;
        let space = self.netns(netns);
        let ipv6 = packet.dst.is_ipv6();
        let Some(out) = found.nexthop.oif.map(|oif| Device::new(netns, oif)) else { return Delivery::Nowhere };
        let next = found.nexthop.gateway.unwrap_or(packet.dst);
        if ipv6
            && space.sysctl("net.ipv6.conf.all.forwarding") != Some(1)
            && self.conf("ipv6", device, "force_forwarding") != Some(1)
        {
            trail.block(
                Place::at(device, "ip6_forward"),
                Decision::NotForwarding { sysctl: "net.ipv6.conf.all.forwarding".to_owned() },
            );
        }
        if let Some(decision) = self.circle(device, &packet) {
            let place = match &decision {
                Decision::TtlExpired { circle } if !circle.is_empty() => self.where_ttl_ends(device, packet.ttl),
                _ => device,
            };
            trail.block(Place::at(place, if ipv6 { "ip6_forward" } else { "ip_forward" }), decision);
            return Delivery::Nowhere;
        }
        self.passed.push(device);
        if packet.ttl <= 1 {
            trail.block(
                Place::at(device, if ipv6 { "ip6_forward" } else { "ip_forward" }),
                Decision::TtlExpired { circle: Vec::new() },
            );
            packet.ttl = 64;
        }
        self.ipsec(trail, netns, "fwd", &packet, device);
        let mtu = self.path_mtu(out, packet.dst);
        if packet.len > mtu && (packet.df || ipv6) && !packet.adapts {
            trail.block(
                Place::at(out, if ipv6 { "ip6_forward" } else { "ip_forward" }),
                Decision::TooBig { len: packet.len, mtu, icmp: true },
            );
        }
        if packet.len > mtu {
            packet.len = mtu;
        }
        trail.step(
            device,
            Action::Routed {
                table: space.routes[found.route].table,
                oif: found.nexthop.oif,
                gateway: found.nexthop.gateway,
                local: false,
            },
        );
        self.ip_hook(trail, netns, Hook::Forward, Some(device), Some(out), &mut packet, begun);
        packet.ttl = packet.ttl.saturating_sub(1);
        trail.step(out, Action::Forwarded);
        self.leave_forwarded(trail, netns, packet, out, next, begun)
    }

    fn leave_forwarded(
        &mut self,
        trail: &mut Trail,
        netns: NetnsId,
        packet: Packet,
        out: Device,
        next: IpAddr,
        begun: &mut super::filter::Begun,
    ) -> Delivery {
        if self.link(out).is_some_and(|link| !link.is_up()) {
            trail.block(Place::at(out, "ip_finish_output2"), Decision::DeviceDown);
        }
        self.leave(trail, netns, packet, out, next, false, begun)
    }

    /// A packet that passes the same device of the same namespace again is in a circle.
    fn circle(&self, device: Device, packet: &Packet) -> Option<Decision> {
        let first = self.passed.iter().position(|passed| *passed == device)?;
        let _ = packet;
        let mut circle: Vec<NetnsId> = Vec::new();
        for passed in &self.passed[first..] {
            if circle.last() != Some(&passed.netns) {
                circle.push(passed.netns);
            }
        }
        Some(Decision::TtlExpired { circle })
    }

    /// The device of the circle at which the TTL runs out, if the packet comes to `device` the second time with this TTL.
    fn where_ttl_ends(&self, device: Device, ttl: u8) -> Device {
        let Some(first) = self.passed.iter().position(|passed| *passed == device) else { return device };
        let circle = &self.passed[first..];
        circle[usize::from(ttl.saturating_sub(1)) % circle.len()]
    }

    /// ip_local_deliver, ip6_input: the packet is for this host.
    fn deliver_local(
        &mut self,
        trail: &mut Trail,
        device: Device,
        mut packet: Packet,
        begun: Option<&mut super::filter::Begun>,
    ) -> Delivery {
        let netns = device.netns;
        trail.step(device, Action::Routed { table: 255, oif: None, gateway: None, local: true });
        if let Some(begun) = begun {
            self.ip_hook(trail, netns, Hook::Input, Some(device), None, &mut packet, begun);
            self.confirm(netns, &packet, begun);
        }
        self.translate_source(trail, device, &mut packet);
        self.ipsec(trail, netns, "in", &packet, device);
        if let Some((origin, rule, layer)) = packet.stale_checksum.clone() {
            trail.block(
                Place::at(device, if packet.dst.is_ipv6() { "icmpv6_rcv" } else { "icmp_rcv" }),
                Decision::Checksum { layer: layer.to_owned(), rule: Some(rule), netns: Some(origin) },
            );
            packet.stale_checksum = None;
        }
        if matches!(packet.carries, Carries::EchoRequest(_)) {
            let space = self.netns(netns);
            let sysctl =
                if packet.dst.is_ipv6() { "net.ipv6.icmp.echo_ignore_all" } else { "net.ipv4.icmp_echo_ignore_all" };
            if space.sysctl(sysctl).is_some_and(|value| value != 0) {
                let function = if packet.dst.is_ipv6() { "icmpv6_rcv" } else { "icmp_echo" };
                trail.block(Place::at(device, function), Decision::EchoIgnored { sysctl: sysctl.to_owned() });
            }
        }
        self.check_port(trail, device, &packet);
        trail.step(device, Action::Delivered);
        Delivery::Here { device, packet }
    }

    /// The loopback device, or the VRF of a device, that local traffic runs over.
    pub fn loopback(&self, netns: NetnsId, by: Device) -> Device {
        let space = self.netns(netns);
        if let Some((vrf, _)) = fib::vrf_of(space, Some(by.ifindex)) {
            return Device::new(netns, vrf);
        }
        let lo = space.links.iter().find(|link| link.is_loopback()).map_or(IfIndex(1), |link| link.index);
        Device::new(netns, lo)
    }

    /// The MTU towards a destination: the route's, a learned one, else the device's.
    fn path_mtu(&self, out: Device, dst: IpAddr) -> u32 {
        let netns = self.netns(out.netns);
        let device = self.link(out).map_or(u32::MAX, |link| link.mtu);
        let routed = netns
            .routes
            .iter()
            .filter(|route| route.dst.contains(&dst) && route.mtu.is_some())
            .max_by_key(|route| route.dst.prefix_len())
            .and_then(|route| route.mtu);
        routed.map_or(device, |mtu| mtu.min(device))
    }

    /// An ipvlan in an L3 mode routes in its lower device's namespace.
    pub fn route_and_resolve(&mut self, trail: &mut Trail, netns: NetnsId, packet: Packet) -> Option<(Device, Frame)> {
        let flow = Flow { src: Some(packet.src), ..Flow::to(packet.dst) };
        let (out, next, _) = self.route_output(trail, self.netns(netns), &flow, None)?;
        let mac = self.resolve(trail, out, next, packet.src, next != packet.dst)?;
        Some((out, Frame { dst: mac, src: self.mac(out), tags: Vec::new(), payload: Payload::Ip(packet) }))
    }

    /// IPsec policies: one that asks for what the packet does not have, or that blocks.
    fn ipsec(&mut self, trail: &mut Trail, netns: NetnsId, dir: &str, packet: &Packet, device: Device) {
        let space = self.netns(netns);
        if packet.ipsec || self.conf_or("ipv4", device, "disable_policy") && dir != "out" {
            return;
        }
        let fits = |policy: &&(usize, &crate::model::snapshot::XfrmPolicy)| {
            policy.1.dir == dir
                && policy.1.src.contains(&packet.src)
                && policy.1.dst.contains(&packet.dst)
                && (policy.1.protocol == 0 || policy.1.protocol == packet.protocol())
                && policy.1.ifindex.is_none_or(|index| index == device.ifindex || index.0 == 0)
        };
        let policies: Vec<(usize, &crate::model::snapshot::XfrmPolicy)> =
            space.xfrm_policies.iter().enumerate().collect();
        let Some((index, policy)) = policies.iter().filter(fits).min_by_key(|(_, policy)| policy.priority) else {
            return;
        };
        let demanded = policy.templates.iter().any(|template| !template.optional);
        let lost = policy.block || demanded && (dir != "out" || space.xfrm_states == 0);
        if lost {
            let function = match dir {
                "out" => "xfrm_lookup",
                "fwd" => "xfrm4_policy_check",
                _ => "xfrm4_policy_check",
            };
            let place = if dir == "out" {
                Place { netns, device: None, function: Some(function.to_owned()) }
            } else {
                Place::at(device, function)
            };
            trail.block(place, Decision::Ipsec { policy: *index });
        }
    }

    /// cgroup programs of the asker see what it sends.
    fn cgroup(&mut self, trail: &mut Trail, netns: NetnsId) {
        if netns != self.question.netns || trail.depth > 0 {
            return;
        }
        for (index, program) in self.snapshot.cgroup_programs.iter().enumerate() {
            let egress = program.attach.contains("egress") && self.leg == crate::model::exchange::Leg::Forward;
            if egress {
                trail.step_in(netns, None, Action::Opaque(crate::model::exchange::Opaque::Cgroup { program: index }));
            }
        }
    }

    /// Whether br_netfilter has run the IP layer's PREROUTING for what came up by this bridge.
    fn shown_by_bridge(&self, device: Device, ipv6: bool) -> bool {
        matches!(self.link(device).map(|link| &link.kind), Some(LinkKind::Bridge(_)))
            && self.bridge_calls_ip(device, ipv6)
    }
}
