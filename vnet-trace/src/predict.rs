//! What the machine would do with the packets of a question, from its configuration alone. Nothing is sent.
//!
//! Takes a [`Question`] and a [`Snapshot`], gives an [`Exchange`] in the same types as an observed one. The walk goes through
//! the kernel's own decisions in the kernel's own order, host by host and device by device; each module names the functions
//! it follows.
//!
//! **Why it walks on behind a loss.** Where the kernel would end a packet, the walk notes why (a *block*) and goes on as if
//! that were mended. Two things follow. Of the many copies of a flooded frame, only those matter that would have reached the
//! owner of the address; which block lost the packet is seen by looking at what lies behind it, not guessed. And what is
//! found behind the first block is what will bite after it is mended ([`Exchange::faults`]).
//!
//! **What it can't know** is marked on the way as [`crate::model::exchange::Opaque`]: programs, user-space switches, rules
//! that the evaluator does not understand, and everything outside of the snapshot. The walk passes these as if they did
//! nothing; whoever compares with what was observed must look at them first.
//!
//! Read first: [`walk`], then [`host`] (layer 3) and [`link`] (layer 2), then [`neigh`].

pub mod as_seen;
pub mod bridge;
pub mod fib;
pub mod filter;
pub mod frame;
pub mod host;
pub mod link;
pub mod neigh;
pub mod netfilter;
pub mod ovs;
pub mod port;
pub mod routing;
pub mod segment;
pub mod stacked;
pub mod switched_off;
pub mod tunnel;
pub mod walk;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::model::exchange::{
    Decision, Exchange, Fate, Fault, Headers, Journey, Leg, Loss, Place, Role, SourceProblem,
};
use crate::model::id::{Device, IfIndex};
use crate::model::question::{Iface, PmtuDiscovery, Protocol, Question};
use crate::model::snapshot::{LinkKind, Netns, Snapshot};

use fib::Flow;
use frame::{Carries, Packet, Trail};
use host::Delivery;
use walk::Walk;

/// A predicted exchange, with what is needed to mend it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Prediction {
    /// The packets' way.
    pub exchange: Exchange,
    /// Packets that filters refuse, as they come to the hook.
    pub refused: Vec<filter::Refused>,
    /// Frames that Open vSwitch bridges could be asked about, and were not: bridge and frame, as `ofproto/trace` wants them.
    pub switched: Vec<(String, String)>,
}

/// Predicts the exchange that a question begins.
pub fn predict(question: &Question, snapshot: &Snapshot) -> Prediction {
    let mut walk = Walk::new(question, snapshot);
    let mut faults = Vec::new();
    let mut owner = None;
    let mut trail = Trail::default();
    let packet = request(question, snapshot);
    let headers = Headers { src: packet.src_if_known(), ..packet.headers() };
    let delivery = ask(&mut walk, &mut trail, packet);
    finish(&mut walk, &mut faults, Role::Request, &trail, headers, &delivery);
    if let Delivery::Here { device, packet } = delivery {
        owner = Some(device);
        walk.leg = Leg::Return;
        walk.passed.clear();
        let mut trail = Trail::default();
        let reply = reply(&walk, device, &packet);
        let headers = reply.headers();
        let delivery = answer(&mut walk, &mut trail, device, reply);
        let delivery = check_arrival(&walk, &mut trail, delivery);
        finish(&mut walk, &mut faults, Role::Reply, &trail, headers, &delivery);
    }
    Prediction {
        exchange: Exchange { journeys: walk.journeys, faults, owner, near_misses: walk.near_misses },
        refused: walk.refused,
        switched: walk.switched,
    }
}

/// Predicts the way of one packet that comes in by a device and was made elsewhere: the question's, with its source. Nobody
/// waits for an answer.
pub fn passing(question: &Question, snapshot: &Snapshot, device: Device) -> Prediction {
    let mut walk = Walk::new(question, snapshot);
    let mut faults = Vec::new();
    let mut trail = Trail::default();
    let packet = request(question, snapshot);
    let headers = packet.headers();
    trail.step(device, crate::model::exchange::Action::Received);
    let delivery = walk.ip_receive(&mut trail, device, packet);
    finish(&mut walk, &mut faults, Role::Request, &trail, headers, &delivery);
    let owner = match &delivery {
        Delivery::Here { device, .. } => Some(*device),
        _ => None,
    };
    Prediction {
        exchange: Exchange { journeys: walk.journeys, faults, owner, near_misses: walk.near_misses },
        refused: walk.refused,
        switched: walk.switched,
    }
}

impl Packet {
    /// The source, if it was given rather than left to the kernel.
    fn src_if_known(&self) -> Option<IpAddr> {
        (!self.src.is_unspecified()).then_some(self.src)
    }
}

/// The request as the asker's socket makes it.
fn request(question: &Question, snapshot: &Snapshot) -> Packet {
    let ipv6 = question.dst.is_ipv6();
    let netns = snapshot.netns(question.netns);
    let default_ttl = netns
        .and_then(|netns| {
            if ipv6 { netns.sysctl("net.ipv6.conf.default.hop_limit") } else { netns.sysctl("net.ipv4.ip_default_ttl") }
        })
        .and_then(|ttl| u8::try_from(ttl).ok())
        .unwrap_or(64);
    let no_pmtu = !ipv6 && netns.and_then(|netns| netns.sysctl("net.ipv4.ip_no_pmtu_disc")).unwrap_or(0) != 0;
    let (df, adapts) = match question.pmtu {
        PmtuDiscovery::Do | PmtuDiscovery::Probe => (true, false),
        PmtuDiscovery::Dont => (false, true),
        PmtuDiscovery::Default | PmtuDiscovery::Want => (!no_pmtu, true),
    };
    let carries = match question.protocol {
        Protocol::Echo => Carries::EchoRequest(question.icmp_id),
        Protocol::Tcp { port, sport } => Carries::Tcp(sport, port, false),
        Protocol::Udp { port, sport } => Carries::Udp(sport, port),
    };
    let unspecified = if ipv6 { IpAddr::V6(Ipv6Addr::UNSPECIFIED) } else { IpAddr::V4(Ipv4Addr::UNSPECIFIED) };
    Packet {
        src: question.source().unwrap_or(unspecified),
        dst: question.dst,
        ttl: question.ttl.unwrap_or(default_ttl),
        len: match question.protocol {
            Protocol::Tcp { .. } => SYN_LEN + if ipv6 { 40 } else { 20 },
            Protocol::Echo | Protocol::Udp { .. } => u32::from(question.size) + if ipv6 { 48 } else { 28 },
        },
        df,
        adapts,
        mark: question.mark,
        tos: question.tos,
        carries,
        stale_checksum: None,
        ipsec: false,
        flow: None,
    }
}

/// The device that the asker's socket is bound to.
fn bound(question: &Question, netns: &Netns) -> Option<IfIndex> {
    question.device().and_then(|name| netns.link_by_name(name)).map(|link| link.index)
}

/// The asker sends.
fn ask(walk: &mut Walk<'_>, trail: &mut Trail, packet: Packet) -> Delivery {
    let question = walk.question;
    let netns = walk.netns(question.netns);
    if let Some(Iface::Address(source)) = question.iface {
        check_source(walk, trail, netns, source, question.dst);
    }
    let oif = bound(question, netns);
    if let Some(oif) = oif {
        let device = Device::new(netns.id, oif);
        // A route by a device that is down is refused before anything else is looked at (ip_route_output_key_hash_rcu).
        if walk.link(device).is_some_and(|link| !link.is_up()) {
            trail.block(Place::at(device, "ip_route_output_key_hash_rcu"), Decision::DeviceDown);
        }
        if question.dst.is_ipv6()
            && let Some(sysctl) = walk.ipv6_disabled(device)
        {
            trail.block(Place::at(device, "ip6_route_output_flags"), Decision::Ipv6Disabled { sysctl });
        }
    }
    walk.send_packet(trail, question.netns, packet, oif)
}

/// bind(2) and __mkroute_output: whether a source that was asked for may be used.
fn check_source(walk: &Walk<'_>, trail: &mut Trail, netns: &Netns, source: IpAddr, dst: IpAddr) {
    let place = |device: Option<IfIndex>, function: &str| Place {
        netns: netns.id,
        device,
        function: Some(function.to_owned()),
    };
    let nonlocal = netns.sysctl("net.ipv4.ip_nonlocal_bind") == Some(1);
    let unusable = |why| Decision::SourceUnusable { src: source.to_string(), why };
    if !fib::is_local(netns, source) && !nonlocal {
        let tentative = netns.owns(source).is_some_and(|entry| entry.is_tentative() || entry.is_dad_failed());
        let why = if tentative { SourceProblem::Tentative } else { SourceProblem::NotOwn };
        trail.block(place(None, "inet_bind"), unusable(why));
        return;
    }
    if source.is_loopback() && !fib::is_local(netns, dst) {
        let found = fib::lookup(netns, &Flow { src: Some(source), ..Flow::to(dst) }).ok();
        let oif = found.and_then(|found| found.nexthop.oif);
        let allowed = oif.is_some_and(|oif| walk.conf_or("ipv4", Device::new(netns.id, oif), "route_localnet"));
        if !allowed || source.is_ipv6() {
            trail.block(place(oif, "__mkroute_output"), unusable(SourceProblem::Loopback));
        }
    }
}

/// Bytes of a SYN with the options that Linux gives it, without the IP header; a SYN-ACK has as many.
const SYN_LEN: u32 = 40;

/// The reply as the owner's kernel makes it (icmp_echo, icmpv6_echo_reply, tcp_make_synack).
fn reply(walk: &Walk<'_>, at: Device, request: &Packet) -> Packet {
    let netns = walk.netns(at.netns);
    let ipv6 = request.dst.is_ipv6();
    let ttl =
        if ipv6 { netns.sysctl("net.ipv6.conf.default.hop_limit") } else { netns.sysctl("net.ipv4.ip_default_ttl") };
    let reflects = netns.sysctl(match (&request.carries, ipv6) {
        (Carries::Tcp(..), _) => "net.ipv4.tcp_fwmark_accept",
        (_, true) => "net.ipv6.fwmark_reflect",
        (_, false) => "net.ipv4.fwmark_reflect",
    }) == Some(1)
        && !matches!(request.carries, Carries::Udp(..));
    Packet {
        src: request.dst,
        dst: request.src,
        ttl: ttl.and_then(|ttl| u8::try_from(ttl).ok()).unwrap_or(64),
        len: request.len,
        df: matches!(request.carries, Carries::Tcp(..)),
        adapts: true,
        mark: if reflects { request.mark } else { 0 },
        tos: request.tos,
        carries: match request.carries {
            Carries::EchoRequest(id) | Carries::EchoReply(id) => Carries::EchoReply(id),
            Carries::Tcp(sport, dport, _) => Carries::Tcp(dport, sport, true),
            Carries::Udp(sport, dport) => Carries::Udp(dport, sport),
            ref other => other.clone(),
        },
        stale_checksum: None,
        ipsec: false,
        flow: None,
    }
}

/// The owner answers.
fn answer(walk: &mut Walk<'_>, trail: &mut Trail, at: Device, reply: Packet) -> Delivery {
    let netns = walk.netns(at.netns);
    trail.step_in(at.netns, None, crate::model::exchange::Action::Sent);
    let link_local = matches!(reply.dst, IpAddr::V6(address) if address.is_unicast_link_local());
    let vrf = fib::vrf_of(netns, Some(at.ifindex)).map(|(vrf, _)| vrf);
    let echo = matches!(reply.carries, Carries::EchoReply(_));
    let (oif, strict) = if reply.dst.is_ipv6() && (echo || link_local) {
        (
            vrf.or(Some(at.ifindex).filter(|_| !walk.link(at).is_some_and(crate::model::snapshot::Link::is_loopback))),
            link_local,
        )
    } else {
        (vrf, true)
    };
    let flow = Flow {
        src: Some(reply.src),
        oif,
        strict,
        mark: reply.mark,
        tos: reply.tos,
        protocol: reply.protocol(),
        ..Flow::to(reply.dst)
    };
    match walk.route_output(trail, netns, &flow, Some(at)) {
        Some((out, next, local)) => walk.send_routed(trail, at.netns, reply, out, next, local),
        None => Delivery::Nowhere,
    }
}

/// Whether the reply came to the asker's own socket.
fn check_arrival(walk: &Walk<'_>, trail: &mut Trail, delivery: Delivery) -> Delivery {
    let Delivery::Here { device, packet } = &delivery else { return delivery };
    let question = walk.question;
    if device.netns != question.netns {
        let owners = walk
            .snapshot
            .namespaces
            .iter()
            .filter_map(|netns| netns.owns(packet.dst).map(|entry| Device::new(netns.id, entry.ifindex)))
            .collect();
        trail.block(Place::at(*device, "icmp_rcv"), Decision::DuplicateAddress { address: packet.dst, owners });
        return delivery;
    }
    let netns = walk.netns(question.netns);
    // A connected socket takes answers from the other end only.
    if let (Some(asked), Some((port, _))) = (question.port(), packet.ports())
        && (packet.src, port) != (question.dst, asked)
    {
        let decision = Decision::ForeignReply { src: packet.src, port };
        trail.block(Place::at(*device, socket_lookup(question)), decision);
    }
    let Some(bound) = bound(question, netns) else { return delivery };
    let bound_is_vrf = netns.link(bound).is_some_and(|link| matches!(link.kind, LinkKind::Vrf { .. }));
    let over_lo = walk.link(*device).is_some_and(crate::model::snapshot::Link::is_loopback);
    // The kernel tells the socket the device of the address for what runs over lo (rt_iif, since 4.9); IPv6 says lo.
    let came = if over_lo && packet.dst.is_ipv4() {
        netns.owns(packet.dst).map_or(device.ifindex, |entry| entry.ifindex)
    } else {
        device.ifindex
    };
    let same_vrf = fib::vrf_of(netns, Some(came)).map(|(vrf, _)| vrf) == Some(bound);
    let scoped = question.zone.is_some() && question.iface.is_none();
    if came != bound && !(bound_is_vrf && same_vrf) && !scoped {
        trail.block(
            Place::at(*device, socket_lookup(question)),
            Decision::SocketBound { bound: Device::new(netns.id, bound), came: Some(*device) },
        );
    }
    delivery
}

/// The function that looks for the asker's socket.
fn socket_lookup(question: &Question) -> &'static str {
    match (question.protocol, question.dst.is_ipv6()) {
        (Protocol::Echo, true) => "raw6_local_deliver",
        (Protocol::Echo, false) => "raw_local_deliver",
        (Protocol::Tcp { .. }, true) => "tcp_v6_rcv",
        (Protocol::Tcp { .. }, false) => "tcp_v4_rcv",
        (Protocol::Udp { .. }, true) => "__udp6_lib_rcv",
        (Protocol::Udp { .. }, false) => "__udp4_lib_rcv",
    }
}

/// Notes a leg's journey and its faults.
fn finish(
    walk: &mut Walk<'_>,
    faults: &mut Vec<Fault>,
    role: Role,
    trail: &Trail,
    headers: Headers,
    delivery: &Delivery,
) {
    let leg = walk.leg;
    for block in &trail.blocks {
        faults.push(Fault {
            role: block.role.unwrap_or(role),
            leg,
            loss: block.loss(),
            underlay: block.underlay,
            headers: headers.clone(),
        });
    }
    let (steps, fate) = match (trail.blocks.first(), delivery) {
        (Some(block), _) => {
            let own = block.role.is_none_or(|other| other == role);
            let loss = if own {
                block.loss()
            } else {
                // It waits for an answer that does not come.
                let place = trail.steps[..block.at].last().map_or_else(
                    || block.place.clone(),
                    |step| Place {
                        netns: step.netns,
                        device: step.device,
                        function: Some("neigh_resolve_output".to_owned()),
                    },
                );
                Loss { place, decision: None, certain: true }
            };
            (trail.steps[..block.at].to_vec(), Fate::Lost(loss))
        }
        (None, Delivery::Here { device, .. }) => {
            (trail.steps.clone(), Fate::Delivered { netns: device.netns, device: Some(device.ifindex) })
        }
        (None, Delivery::OutOfSight(last)) => (trail.steps.clone(), Fate::OutOfSight { last: *last }),
        (None, Delivery::Nowhere) => {
            let end = trail.steps.last();
            let netns = end.map_or(walk.question.netns, |step| step.netns);
            (trail.steps.clone(), Fate::Cut { netns, device: end.and_then(|step| step.device) })
        }
    };
    let beyond = match trail.blocks.first() {
        Some(block) if block.role.is_none_or(|other| other == role) => trail.steps[block.at..].to_vec(),
        _ => Vec::new(),
    };
    walk.journeys.push(Journey { role, leg, seq: None, headers, steps, copies: Vec::new(), fate, beyond });
}
