//! Netfilter hooks on the way: asks the evaluator, carries out what it says, and keeps connections.

use crate::model::exchange::{Action, Decision, Leg, NearMiss, Opaque, Place};
use crate::model::id::{Device, MacAddr, NetnsId};
use crate::model::netfilter::{Hook, RuleRef};
use crate::model::snapshot::LinkKind;

use super::fib;
use super::frame::{Carries, Frame, Packet, Payload, Trail};
use super::netfilter::context::{self, Answer, BridgePorts, HookContext, Oracle};
use super::netfilter::outcome::{Change, Outcome, Taken, Would};
use super::netfilter::packet::{self as rules, Conntrack, CtState, Ether, NatBinding, Transport, Tuple};
use super::netfilter::{evaluate, in_ip_header, words};
use super::walk::{Tracked, Walk};

/// Whether a hook let a packet through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on, perhaps behind a block.
    Pass,
    /// A rule took it elsewhere.
    Taken,
}

/// A packet's connection as it entered a namespace.
#[derive(Debug, Clone, PartialEq)]
pub struct Begun {
    tuple: Tuple,
    conntrack: Conntrack,
}

/// Answers the evaluator's questions about the host from a snapshot.
pub struct Host<'a> {
    netns: &'a crate::model::snapshot::Netns,
}

impl<'a> Host<'a> {
    /// The host that a namespace is.
    pub fn new(netns: &'a crate::model::snapshot::Netns) -> Self {
        Self { netns }
    }
}

/// A packet that a rule refused, as it came to the hook: what a fix has to let through.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// Where.
    pub netns: NetnsId,
    /// By which rule or policy.
    pub rule: RuleRef,
    /// At which hook, with which devices.
    pub context: HookContext,
    /// The packet.
    pub packet: rules::Packet,
    /// It was on the way back.
    pub leg: Leg,
    /// It is address resolution.
    pub resolution: bool,
}

impl Oracle for Host<'_> {
    fn address_type(
        &self,
        address: std::net::IpAddr,
        device: Option<&context::Device>,
    ) -> Answer<context::AddressType> {
        use context::AddressType;
        if address.is_multicast() {
            return Answer::Is(AddressType::Multicast);
        }
        if let Some(device) = device {
            let own = self
                .netns
                .link_by_name(&device.name)
                .is_some_and(|link| self.netns.addresses_of(link.index).any(|entry| entry.address == address));
            return Answer::Is(if own { AddressType::Local } else { AddressType::Unicast });
        }
        if fib::is_local(self.netns, address) {
            return Answer::Is(AddressType::Local);
        }
        let broadcast = self
            .netns
            .routes
            .iter()
            .any(|route| route.kind == crate::model::snapshot::RouteKind::Broadcast && route.dst.addr() == address);
        if broadcast {
            return Answer::Is(AddressType::Broadcast);
        }
        match fib::lookup(self.netns, &fib::Flow::to(address)) {
            Ok(_) => Answer::Is(AddressType::Unicast),
            Err(fib::Refusal::Route { route, .. }) => Answer::Is(match self.netns.routes[route].kind {
                crate::model::snapshot::RouteKind::Blackhole => AddressType::Blackhole,
                crate::model::snapshot::RouteKind::Prohibit => AddressType::Prohibit,
                _ => AddressType::Unreachable,
            }),
            Err(_) => Answer::Is(AddressType::Unicast),
        }
    }

    fn route_device(
        &self,
        address: std::net::IpAddr,
        mark: u32,
        device: Option<&context::Device>,
    ) -> Answer<context::Device> {
        let oif = device.and_then(|device| self.netns.link_by_name(&device.name)).map(|link| link.index);
        let flow = fib::Flow { oif, mark, ..fib::Flow::to(address) };
        match fib::lookup(self.netns, &flow) {
            Ok(found) => match found.nexthop.oif.and_then(|oif| self.netns.link(oif)) {
                Some(link) => Answer::Is(context::Device::named(link.index.0, &link.name)),
                None => Answer::None,
            },
            Err(_) => Answer::None,
        }
    }

    fn masquerade_address(&self, device: &context::Device, destination: std::net::IpAddr) -> Answer<std::net::IpAddr> {
        // nf_nat_masquerade_ipv4: inet_select_addr with the next hop of the route.
        let Some(link) = self.netns.link_by_name(&device.name) else { return Answer::Unknown };
        let next = fib::lookup(self.netns, &fib::Flow::to(destination)).ok().and_then(|found| found.nexthop.gateway);
        match fib::select_source(self.netns, Some(link.index), None, next, destination) {
            Some(address) => Answer::Is(address),
            None => Answer::None,
        }
    }

    fn primary_address(&self, device: &context::Device, like: std::net::IpAddr) -> Answer<std::net::IpAddr> {
        let Some(link) = self.netns.link_by_name(&device.name) else { return Answer::Unknown };
        let first = self
            .netns
            .addresses_of(link.index)
            .find(|entry| entry.address.is_ipv4() == like.is_ipv4() && entry.scope == 0);
        first.map_or(Answer::None, |entry| Answer::Is(entry.address))
    }
}

impl Walk<'_> {
    fn rule_device(&self, device: Device) -> context::Device {
        let Some(link) = self.link(device) else { return context::Device::default() };
        let bridge = link
            .master
            .and_then(|master| self.netns(device.netns).link(master))
            .filter(|master| matches!(master.kind, LinkKind::Bridge(_)))
            .map(|master| master.name.clone());
        context::Device {
            ifindex: link.index.0,
            name: link.name.clone(),
            kind: kind_word(&link.kind).map(str::to_owned),
            device_type: Some(match link.kind {
                LinkKind::Loopback => 772,
                LinkKind::Tun { tap: false } => 65534,
                _ => 1,
            }),
            group: Some(link.group),
            bridge,
        }
    }

    /// The connection of a packet that enters a namespace.
    pub fn begin_conntrack(&self, netns: NetnsId, packet: &Packet) -> Begun {
        if let Some((at, begun)) = packet.flow.as_deref()
            && *at == netns
        {
            return begun.clone();
        }
        let bare = rule_packet(packet, Conntrack::default(), None);
        let tuple = bare.tuple();
        let conntrack = match self.answered(netns, tuple) {
            Some(tracked) => Conntrack {
                state: Some(CtState::Established).filter(|_| !tracked.zoned),
                mark: tracked.mark,
                reply: Some(true),
                dnat: Some(tracked.dnat),
                snat: Some(tracked.snat),
                original: Some(tracked.binding.original),
                destination_settled: true,
                source_settled: true,
                zoned: tracked.zoned,
            },
            // An answer whose question never passed here fits no connection (icmp_new, tcp_new).
            None if packet.is_reply() => Conntrack {
                state: Some(CtState::Invalid),
                mark: Some(0),
                reply: Some(false),
                dnat: Some(false),
                snat: Some(false),
                original: None,
                destination_settled: true,
                source_settled: true,
                zoned: false,
            },
            None => Conntrack {
                state: Some(CtState::New),
                mark: Some(0),
                reply: Some(false),
                dnat: Some(false),
                snat: Some(false),
                original: Some(tuple),
                destination_settled: false,
                source_settled: false,
                zoned: false,
            },
        };
        Begun { tuple, conntrack }
    }

    /// One hook of the IP layer.
    #[expect(
        clippy::too_many_arguments,
        reason = "hook, place and packet are given by the caller's layer, and differ in each"
    )]
    pub fn ip_hook(
        &mut self,
        trail: &mut Trail,
        netns: NetnsId,
        hook: Hook,
        input: Option<Device>,
        output: Option<Device>,
        packet: &mut Packet,
        begun: &mut Begun,
    ) {
        let context = HookContext::ip(
            hook,
            input.map(|device| self.rule_device(device)),
            output.map(|device| self.rule_device(device)),
        );
        let at = match hook {
            Hook::Prerouting | Hook::Input => input,
            Hook::Forward => input.or(output),
            _ => output,
        };
        let place_device = match hook {
            Hook::Forward => output.or(input),
            // Before the packet has a device there is none to name.
            _ => at,
        };
        self.ask_rules(trail, netns, &context, place_device, packet, begun, None, false);
    }

    /// Asks the rules and carries their answer out on the packet.
    #[expect(
        clippy::too_many_arguments,
        reason = "hook, place and packet are given by the caller's layer, and differ in each"
    )]
    fn ask_rules(
        &mut self,
        trail: &mut Trail,
        netns: NetnsId,
        context: &HookContext,
        at: Option<Device>,
        packet: &mut Packet,
        begun: &mut Begun,
        ether: Option<Ether>,
        bridged: bool,
    ) -> Verdict {
        let space = self.netns(netns);
        if space.netfilter.is_empty() {
            return Verdict::Pass;
        }
        let mut judged = rule_packet(packet, begun.conntrack.clone(), ether);
        let asked = judged.clone();
        let evaluation = evaluate(&space.netfilter, context, &mut judged, &Host { netns: space });
        begun.conntrack = judged.conntrack.clone();
        packet.flow = Some(Box::new((netns, begun.clone())));
        let hook = context.hook;
        let place = Place {
            netns,
            device: at.map(|device| device.ifindex),
            function: Some(format!("{} {}", layer_word(context.layer), hook.word())),
        };
        for miss in &evaluation.near_misses {
            if matches!(miss.would, Would::Nat(_)) {
                self.near_misses.push(NearMiss {
                    netns,
                    hook,
                    rule: miss.rule.clone(),
                    output: context.output.as_ref().map(|device| crate::model::id::IfIndex(device.ifindex)),
                    leg: self.leg,
                    failed: miss
                        .failed
                        .iter()
                        .map(|failed| {
                            (
                                words::condition(&failed.condition),
                                words::actual(&failed.condition, failed.actual.as_ref()),
                            )
                        })
                        .collect(),
                });
            }
        }
        let mut decided: Vec<RuleRef> = Vec::new();
        let mut verdict = Verdict::Pass;
        match &evaluation.outcome {
            Outcome::Accept => {}
            Outcome::Drop { loss, or_earlier } => {
                trail.block(
                    place,
                    Decision::Netfilter {
                        hook,
                        rule: loss.at.clone(),
                        invalid: loss.conntrack_invalid,
                        reject: loss.reject.is_some(),
                        bridged,
                        certain: or_earlier.is_empty(),
                    },
                );
                self.refused.push(Refused {
                    netns,
                    rule: loss.at.clone(),
                    context: context.clone(),
                    packet: asked,
                    leg: self.leg,
                    resolution: false,
                });
                return Verdict::Pass;
            }
            Outcome::Taken { by, how } => {
                decided.push(by.clone());
                match how {
                    Taken::Queued { .. } => {
                        trail.step_in(
                            netns,
                            at.map(|device| device.ifindex),
                            Action::Opaque(Opaque::Rule { hook, rules: decided.clone() }),
                        );
                    }
                    Taken::ArpAnswered | Taken::Forwarded => verdict = Verdict::Taken,
                }
            }
            Outcome::Undecided { candidates, because } => {
                decided.extend(candidates.iter().map(|loss| loss.at.clone()));
                decided.extend(because.iter().map(|doubt| doubt.at.clone()));
                trail.step_in(
                    netns,
                    at.map(|device| device.ifindex),
                    Action::Opaque(Opaque::Rule { hook, rules: decided.clone() }),
                );
            }
        }
        // Rules that write into the packet: whether they mend the checksum can't be read from the rule set.
        let writers: Vec<RuleRef> = evaluation
            .trace
            .iter()
            .map(|passed| &passed.rule)
            .filter(|rule| rule.text.contains(" set "))
            .cloned()
            .collect();
        if !writers.is_empty() {
            trail.step_in(netns, at.map(|device| device.ifindex), Action::Hook { hook, rules: writers });
        }
        let (before, ports) = ((packet.src, packet.dst), packet.ports());
        for effect in &evaluation.effects {
            match &effect.change {
                Change::Field { field, stale_checksum: true, .. } if effect.certain => {
                    let layer = if in_ip_header(field) { "ip" } else { "icmp" };
                    packet.stale_checksum = Some((netns, effect.rule.clone(), layer));
                }
                _ => {}
            }
        }
        packet.src = judged.source;
        packet.dst = judged.destination;
        packet.mark = judged.mark.unwrap_or(packet.mark);
        if let Some(ttl) = judged.hop_limit {
            packet.ttl = ttl;
        }
        if let Some(ports) = judged.ports() {
            packet.set_ports(ports);
        }
        let after = (packet.src, packet.dst);
        if (before, ports) != (after, packet.ports()) {
            let rule = evaluation
                .effects
                .iter()
                .find(|effect| matches!(effect.change, Change::Nat { .. } | Change::Field { .. }))
                .map(|effect| effect.rule.clone());
            let ports = ports.zip(packet.ports());
            let action = Action::Rewritten { from: before, to: after, ports, rule };
            trail.step_in(netns, at.map(|device| device.ifindex), action);
        }
        verdict
    }

    /// A connection is confirmed as its first packet leaves the namespace or is delivered there.
    pub fn confirm(&mut self, netns: NetnsId, packet: &Packet, begun: &Begun) {
        if begun.conntrack.state != Some(CtState::New) {
            return;
        }
        let tuple = rule_packet(packet, Conntrack::default(), None).tuple();
        let binding = NatBinding::new(begun.tuple, tuple);
        if self.tracked.iter().any(|tracked| tracked.netns == netns && tracked.binding == binding) {
            return;
        }
        let snat = begun.tuple.source != tuple.source;
        let dnat = begun.tuple.destination != tuple.destination;
        self.tracked.push(Tracked { netns, binding, snat, dnat, mark: None, zoned: begun.conntrack.zoned });
    }

    /// An answer's destination is rewritten back before it is routed.
    pub fn translate_destination(&mut self, trail: &mut Trail, device: Device, packet: &mut Packet) {
        let tuple = rule_packet(packet, Conntrack::default(), None).tuple();
        let Some(tracked) = self.answered(device.netns, tuple) else { return };
        let Some(after) = tracked.binding.destination_first(tuple) else { return };
        let (from, before) = ((packet.src, packet.dst), packet.ports());
        packet.dst = after.destination;
        packet.set_ports((after.source_port, after.destination_port));
        told(trail, device, packet, from, before);
    }

    /// An answer's source is rewritten back before it is delivered or leaves.
    pub fn translate_source(&mut self, trail: &mut Trail, device: Device, packet: &mut Packet) {
        let Some((netns, begun)) = packet.flow.as_deref() else { return };
        let conntrack = &begun.conntrack;
        if *netns != device.netns || conntrack.reply != Some(true) || conntrack.dnat != Some(true) {
            return;
        }
        let Some(original) = conntrack.original else { return };
        let (from, before) = ((packet.src, packet.dst), packet.ports());
        packet.src = original.destination;
        if let Some((_, to)) = before {
            packet.set_ports((original.destination_port, to));
        }
        told(trail, device, packet, from, before);
    }

    /// netdev chains at a device's ingress or egress.
    pub fn netdev_hook(&mut self, trail: &mut Trail, device: Device, hook: Hook, frame: &mut Frame) -> Verdict {
        let own = self.rule_device(device);
        let context = if hook == Hook::Ingress { HookContext::ingress(own) } else { HookContext::egress(own) };
        self.frame_hook(trail, device.netns, &context, Some(device), frame, false)
    }

    /// Chains of family bridge, and the IP hooks that br_netfilter calls.
    pub fn bridge_hook(
        &mut self,
        trail: &mut Trail,
        hook: Hook,
        bridge: Device,
        input: Option<Device>,
        output: Option<Device>,
        frame: &mut Frame,
    ) -> Verdict {
        let context = HookContext::bridge(
            hook,
            input.map(|device| self.rule_device(device)),
            output.map(|device| self.rule_device(device)),
        );
        let at = match hook {
            Hook::Prerouting | Hook::Input => input.or(Some(bridge)),
            _ => output,
        };
        if self.frame_hook(trail, bridge.netns, &context, at, frame, false) == Verdict::Taken {
            return Verdict::Taken;
        }
        let ports = || BridgePorts {
            input: input.and_then(|device| self.link(device)).map(|link| link.name.clone()),
            output: output.and_then(|device| self.link(device)).map(|link| link.name.clone()),
        };
        let ipv6 = frame.ethertype() == 0x86dd;
        let is_ip = matches!(frame.payload, Payload::Ip(_)) || ipv6;
        if !is_ip || !self.bridge_calls_ip(bridge, ipv6) || hook == Hook::Input || input.is_none() {
            return Verdict::Pass;
        }
        let context = HookContext::bridged_ip(hook, &self.rule_device(bridge), ports());
        self.frame_hook(trail, bridge.netns, &context, at, frame, true)
    }

    /// A hook that sees whole frames.
    fn frame_hook(
        &mut self,
        trail: &mut Trail,
        netns: NetnsId,
        context: &HookContext,
        at: Option<Device>,
        frame: &mut Frame,
        bridged: bool,
    ) -> Verdict {
        if self.netns(netns).netfilter.is_empty() {
            return Verdict::Pass;
        }
        let ether = Ether { source: frame.src.0, destination: frame.dst.0, vlan: frame.vid() };
        match &mut frame.payload {
            Payload::Ip(packet) => {
                let mut begun = self.begin_conntrack(netns, packet);
                let result = self.ask_rules(trail, netns, context, at, packet, &mut begun, Some(ether), bridged);
                if bridged && context.hook == Hook::Postrouting {
                    self.confirm(netns, packet, &begun);
                }
                result
            }
            Payload::Resolution(_) => {
                let Some(mut judged) = resolution_packet(frame, ether) else { return Verdict::Pass };
                let space = self.netns(netns);
                let asked = judged.clone();
                let evaluation = evaluate(&space.netfilter, context, &mut judged, &Host { netns: space });
                let place = Place {
                    netns,
                    device: at.map(|device| device.ifindex),
                    function: Some(format!("{} {}", layer_word(context.layer), context.hook.word())),
                };
                match evaluation.outcome {
                    Outcome::Accept => Verdict::Pass,
                    Outcome::Drop { loss, or_earlier } => {
                        self.refused.push(Refused {
                            netns,
                            rule: loss.at.clone(),
                            context: context.clone(),
                            packet: asked,
                            leg: self.leg,
                            resolution: true,
                        });
                        trail.block(
                            place,
                            Decision::Netfilter {
                                hook: context.hook,
                                rule: loss.at,
                                invalid: loss.conntrack_invalid,
                                reject: loss.reject.is_some(),
                                bridged,
                                certain: or_earlier.is_empty(),
                            },
                        );
                        Verdict::Pass
                    }
                    Outcome::Taken { how: Taken::Queued { .. }, by } => {
                        trail.step_in(
                            netns,
                            at.map(|device| device.ifindex),
                            Action::Opaque(Opaque::Rule { hook: context.hook, rules: vec![by] }),
                        );
                        Verdict::Pass
                    }
                    Outcome::Taken { .. } => Verdict::Taken,
                    Outcome::Undecided { candidates, because } => {
                        let rules = candidates
                            .into_iter()
                            .map(|loss| loss.at)
                            .chain(because.into_iter().map(|doubt| doubt.at))
                            .collect();
                        trail.step_in(
                            netns,
                            at.map(|device| device.ifindex),
                            Action::Opaque(Opaque::Rule { hook: context.hook, rules }),
                        );
                        Verdict::Pass
                    }
                }
            }
        }
    }

    /// Rules of the arp family for what a host receives or sends.
    pub fn arp_hook(&mut self, device: Device, frame: &Frame, hook: Hook) -> Option<RuleRef> {
        let space = self.netns(device.netns);
        if space.netfilter.is_empty() {
            return None;
        }
        let ether = Ether { source: frame.src.0, destination: frame.dst.0, vlan: None };
        let mut judged = resolution_packet(frame, ether)?;
        let own = self.rule_device(device);
        let context = match hook {
            Hook::Output => HookContext::arp(hook, None, Some(own)),
            _ => HookContext::arp(hook, Some(own), None),
        };
        let asked = judged.clone();
        let evaluation = evaluate(&space.netfilter, &context, &mut judged, &Host { netns: space });
        let rule = evaluation.loss().map(|loss| loss.at.clone())?;
        self.refused.push(Refused {
            netns: device.netns,
            rule: rule.clone(),
            context,
            packet: asked,
            leg: self.leg,
            resolution: true,
        });
        Some(rule)
    }

    /// IPv6 rules see neighbour discovery like any other packet: on its way in.
    pub fn input_hooks_for_resolution(&mut self, trail: &mut Trail, device: Device, frame: &Frame) {
        for hook in [Hook::Prerouting, Hook::Input] {
            let context = HookContext::ip(hook, Some(self.rule_device(device)), None);
            let mut copy = frame.clone();
            self.frame_hook(trail, device.netns, &context, Some(device), &mut copy, false);
        }
    }

    /// And on its way out.
    pub fn output_hooks_for_resolution(&mut self, trail: &mut Trail, device: Device, frame: &Frame) {
        for hook in [Hook::Output, Hook::Postrouting] {
            let context = HookContext::ip(hook, None, Some(self.rule_device(device)));
            let mut copy = frame.clone();
            self.frame_hook(trail, device.netns, &context, Some(device), &mut copy, false);
        }
    }
}

/// Notes what a connection rewrote, if it did.
fn told(
    trail: &mut Trail,
    device: Device,
    packet: &Packet,
    from: (std::net::IpAddr, std::net::IpAddr),
    before: Option<(u16, u16)>,
) {
    let (to, after) = ((packet.src, packet.dst), packet.ports());
    if (from, before) != (to, after) {
        trail.step(device, Action::Rewritten { from, to, ports: before.zip(after), rule: None });
    }
}

/// A packet as the rules see it.
fn rule_packet(packet: &Packet, conntrack: Conntrack, ether: Option<Ether>) -> rules::Packet {
    let ipv6 = packet.dst.is_ipv6();
    let transport = match &packet.carries {
        Carries::EchoRequest(id) if ipv6 => Transport::Icmp6 { kind: 128, code: 0, id: Some(*id), sequence: None },
        Carries::EchoRequest(id) => Transport::Icmp { kind: 8, code: 0, id: Some(*id), sequence: None },
        Carries::EchoReply(id) if ipv6 => Transport::Icmp6 { kind: 129, code: 0, id: Some(*id), sequence: None },
        Carries::EchoReply(id) => Transport::Icmp { kind: 0, code: 0, id: Some(*id), sequence: None },
        Carries::Tcp(source, destination, answer) => {
            Transport::Tcp { source: *source, destination: *destination, flags: if *answer { 0x12 } else { 0x02 } }
        }
        Carries::Udp(source, destination) => Transport::Udp { source: *source, destination: *destination },
        Carries::Tunnel { port, .. } => Transport::Udp { source: 0, destination: *port },
        Carries::Plain { protocol, .. } => Transport::Other(*protocol),
    };
    let mut judged = rules::Packet::new(packet.src, packet.dst, transport);
    judged.ether = ether;
    judged.hop_limit = Some(packet.ttl);
    judged.length = Some(packet.len);
    judged.dscp = Some(packet.tos >> 2);
    judged.dont_fragment = Some(packet.df);
    judged.mark = Some(packet.mark);
    judged.cast = Some(rules::Cast::Host);
    judged.socket_user = Some(0);
    judged.conntrack = conntrack;
    judged
}

/// A question or answer as the rules see it.
fn resolution_packet(frame: &Frame, ether: Ether) -> Option<rules::Packet> {
    let Payload::Resolution(resolution) = &frame.payload else { return None };
    let unspecified = if resolution.target.is_ipv6() {
        std::net::IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)
    } else {
        std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)
    };
    let sender = resolution.sender.unwrap_or(unspecified);
    let mut packet = if let std::net::IpAddr::V6(target) = resolution.target {
        let kind = if resolution.reply { 136 } else { 135 };
        let dst = if resolution.reply {
            resolution.target
        } else {
            let last = target.octets();
            std::net::IpAddr::V6(std::net::Ipv6Addr::new(
                0xff02,
                0,
                0,
                0,
                0,
                1,
                0xff00 | u16::from(last[13]),
                u16::from_be_bytes([last[14], last[15]]),
            ))
        };
        let mut packet = rules::Packet::new(sender, dst, Transport::Icmp6 { kind, code: 0, id: None, sequence: None });
        packet.hop_limit = Some(255);
        // Neighbour discovery is never tracked (nf_conntrack_icmpv6_init_net, icmpv6_error).
        packet.conntrack.state = Some(CtState::Untracked);
        packet
    } else {
        let operation = if resolution.reply { 2 } else { 1 };
        let target = if resolution.reply { frame.dst.0 } else { [0; 6] };
        rules::Packet::new(
            sender,
            resolution.target,
            Transport::Arp { operation, sender: resolution.sender_mac.0, target },
        )
    };
    packet.ether = Some(ether);
    packet.cast = Some(if frame.dst == MacAddr::BROADCAST {
        rules::Cast::Broadcast
    } else if frame.dst.is_group() {
        rules::Cast::Multicast
    } else {
        rules::Cast::Host
    });
    Some(packet)
}

fn layer_word(layer: context::Layer) -> &'static str {
    match layer {
        context::Layer::Ip => "ip",
        context::Layer::Bridge => "bridge",
        context::Layer::Arp => "arp",
        context::Layer::Netdev => "netdev",
    }
}

fn kind_word(kind: &LinkKind) -> Option<&str> {
    Some(match kind {
        LinkKind::Veth => "veth",
        LinkKind::Bridge(_) => "bridge",
        LinkKind::Vlan { .. } => "vlan",
        LinkKind::Macvlan(_) => "macvlan",
        LinkKind::Ipvlan { .. } => "ipvlan",
        LinkKind::Vxlan(_) => "vxlan",
        LinkKind::Vrf { .. } => "vrf",
        LinkKind::Dummy => "dummy",
        LinkKind::Tun { .. } => "tun",
        LinkKind::Wireguard => "wireguard",
        _ => return None,
    })
}
