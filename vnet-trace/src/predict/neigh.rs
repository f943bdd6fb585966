//! Address resolution: ARP (net/ipv4/arp.c `arp_process`) and neighbour discovery (net/ipv6/ndisc.c), asked and answered.

use std::net::{IpAddr, Ipv6Addr};

use crate::model::exchange::{Action, ArpRefusal, Decision, Fate, Headers, Journey, Loss, Place, Role};
use crate::model::id::{Device, MacAddr};
use crate::model::netfilter::Hook;
use crate::model::snapshot::{IpvlanMode, LinkKind};

use super::fib;
use super::frame::{Branch, End, Frame, Payload, Resolution, Trail};
use super::host::Input;
use super::walk::{NeighbourSource, Walk};

/// What came of asking.
struct Asked {
    /// The way of the request, with what blocked it.
    request: Trail,
    /// Who answers, with which link-layer address; None: nobody.
    answer: Option<(Device, MacAddr, NeighbourSource)>,
    /// Other owners that would answer as well.
    others: Vec<Device>,
    /// The frame left what we can see unhindered, so that somebody outside may have been meant.
    outside: Option<Device>,
    /// Some copy ended where even mending what stops it does not tell where it would have gone.
    cut: bool,
}

impl Walk<'_> {
    /// The link-layer address of a next hop on a device: known, or asked for. None if it can't be had even if all that
    /// is in the way were mended. What is in the way goes to the trail of the waiting packet.
    pub fn resolve(
        &mut self,
        trail: &mut Trail,
        device: Device,
        next: IpAddr,
        source: IpAddr,
        gateway: bool,
    ) -> Option<MacAddr> {
        let link = self.link(device)?;
        if self.needs_no_address(device) {
            return Some(link.mac.unwrap_or_default());
        }
        if next.is_multicast() {
            return Some(multicast_mac(next));
        }
        if let Some((lladdr, known)) = self.neighbour(device, next) {
            trail.step(device, Action::NeighbourKnown { address: next, lladdr: Some(lladdr) });
            let _ = known;
            return Some(lladdr);
        }
        if link.is_noarp() {
            // neigh_connected_output with the device's own address: arp_constructor sets NUD_NOARP.
            let own = link.mac.unwrap_or_default();
            self.neighbours.insert((device, next), (own, NeighbourSource::NoArp));
            trail.step(device, Action::NeighbourKnown { address: next, lladdr: Some(own) });
            return Some(own);
        }
        trail.step(device, Action::NeighbourAsked { address: next });
        self.ask(trail, device, next, source, gateway)
    }

    /// Whether a device sends without link-layer addresses.
    fn needs_no_address(&self, device: Device) -> bool {
        self.link(device).is_some_and(|link| {
            link.is_loopback()
                || link.mac.is_none()
                || matches!(link.kind, LinkKind::Tun { tap: false } | LinkKind::Vrf { .. } | LinkKind::Wireguard)
                || matches!(&link.kind, LinkKind::Tunnel { kind, .. } if !kind.ends_with("tap"))
                || matches!(&link.kind, LinkKind::Netkit { mode, .. } if mode == "l3")
        })
    }

    /// A usable entry: learned in this exchange, or in the snapshot.
    pub fn neighbour(&self, device: Device, address: IpAddr) -> Option<(MacAddr, NeighbourSource)> {
        let entry = self
            .netns(device.netns)
            .neighbours
            .iter()
            .find(|entry| entry.ifindex == device.ifindex && entry.address == address && !entry.is_proxy());
        if let Some(entry) = entry.filter(|entry| entry.is_permanent()) {
            return Some((entry.lladdr?, NeighbourSource::Entry));
        }
        if let Some(learned) = self.neighbours.get(&(device, address)) {
            return Some(*learned);
        }
        let entry = entry.filter(|entry| entry.is_valid())?;
        let source = if entry.is_noarp() { NeighbourSource::NoArp } else { NeighbourSource::Entry };
        Some((entry.lladdr?, source))
    }

    /// The link-layer address behind a next hop as far as anybody knows: entry, or the owner's own.
    pub fn mac_of(&self, device: Device, address: IpAddr) -> Option<MacAddr> {
        self.neighbour(device, address).map(|(lladdr, _)| lladdr).or_else(|| self.owners_mac(address))
    }

    /// The link-layer address of the device that has an address.
    pub fn owners_mac(&self, address: IpAddr) -> Option<MacAddr> {
        self.snapshot.namespaces.iter().find_map(|netns| {
            let entry = netns.addresses.iter().find(|entry| entry.address == address)?;
            netns.link(entry.ifindex)?.mac
        })
    }

    fn ask(
        &mut self,
        trail: &mut Trail,
        device: Device,
        next: IpAddr,
        source: IpAddr,
        gateway: bool,
    ) -> Option<MacAddr> {
        let own = self.mac(device);
        let sender = self.resolution_source(device, next, source);
        let request = Resolution { reply: false, sender, sender_mac: own, target: next };
        let asked = self.ask_around(trail, device, &request);
        let headers = Headers {
            src: sender,
            dst: Some(next),
            mac_src: Some(own),
            mac_dst: Some(question_mac(next)),
            len: 0,
            ttl: None,
            id: None,
            port: None,
        };
        let underlay = trail.depth > 0;
        let Some((owner, lladdr, known)) = asked.answer else {
            for block in &asked.request.blocks {
                trail.block_as(Role::ArpRequest, block.place.clone(), block.decision.clone());
                if let Some(last) = trail.blocks.last_mut() {
                    last.underlay |= block.underlay;
                }
            }
            let loss = self.nobody(&asked, device, next, gateway);
            let known = asked.request.blocks.is_empty() || !asked.cut;
            if let Some(decision) = loss.decision.clone().filter(|_| known) {
                trail.block_as(Role::ArpRequest, loss.place.clone(), decision);
            }
            if !underlay {
                let first = asked.request.blocks.first().map_or(loss, super::frame::Block::loss);
                self.record(Role::ArpRequest, headers, asked.request, Some(first));
            }
            return None;
        };
        for block in &asked.request.blocks {
            trail.block_as(Role::ArpRequest, block.place.clone(), block.decision.clone());
            if let Some(last) = trail.blocks.last_mut() {
                last.underlay |= block.underlay;
            }
        }
        if !asked.others.is_empty() && asked.request.blocks.is_empty() && !underlay {
            self.neighbours.insert((device, next), (lladdr, known));
        }
        let first = asked.request.blocks.first().map(super::frame::Block::loss);
        if !underlay {
            self.record(Role::ArpRequest, headers, asked.request, first);
        }
        let NeighbourSource::Bridge(_) = known else {
            // arp_process and ndisc_recv_ns learn the asker from its question.
            if let Some(sender) = sender {
                let on = owner;
                if self
                    .neighbour(on, sender)
                    .is_none_or(|(_, source)| source != NeighbourSource::Entry || !self.is_fixed(on, sender))
                {
                    self.neighbours.insert((on, sender), (own, NeighbourSource::Learned));
                }
            }
            self.answer(trail, owner, lladdr, device, next, sender);
            self.neighbours.insert((device, next), (lladdr, known));
            return Some(lladdr);
        };
        self.neighbours.insert((device, next), (lladdr, known));
        Some(lladdr)
    }

    fn is_fixed(&self, device: Device, address: IpAddr) -> bool {
        self.netns(device.netns)
            .neighbours
            .iter()
            .any(|entry| entry.ifindex == device.ifindex && entry.address == address && entry.is_permanent())
    }

    /// arp_solicit with arp_announce 0, ndisc_solicit: which sender address the question carries.
    fn resolution_source(&self, device: Device, next: IpAddr, source: IpAddr) -> Option<IpAddr> {
        let netns = self.netns(device.netns);
        let on_device = |address: IpAddr| netns.addresses_of(device.ifindex).any(|entry| entry.address == address);
        if next.is_ipv6() {
            if on_device(source) {
                return Some(source);
            }
            return netns
                .addresses_of(device.ifindex)
                .find(|entry| {
                    matches!(entry.address, IpAddr::V6(address) if address.is_unicast_link_local())
                        && !entry.is_tentative()
                })
                .map(|entry| entry.address);
        }
        let announce = self.conf_max("ipv4", device, "arp_announce");
        let same_net = |address: IpAddr| {
            netns
                .addresses_of(device.ifindex)
                .any(|entry| entry.address == address && entry.net().is_some_and(|net| net.contains(&next)))
        };
        if !source.is_unspecified()
            && fib::is_local(netns, source)
            && (announce == 0 || announce == 1 && same_net(source))
        {
            return Some(source);
        }
        fib::select_source(netns, Some(device.ifindex), None, None, next)
    }

    /// Sends the question and looks at every place that it reaches.
    fn ask_around(&mut self, waiting: &Trail, device: Device, request: &Resolution) -> Asked {
        let frame = Frame {
            dst: question_mac(request.target),
            src: request.sender_mac,
            tags: Vec::new(),
            payload: Payload::Resolution(request.clone()),
        };
        let mut trail = Trail { depth: waiting.depth, ..Trail::default() };
        if let Some(rule) = self.resolution_rules(&mut trail, device, &frame, Hook::Output) {
            trail.block(Place::at(device, "arp_xmit"), rule);
        }
        let branches = self.transmit(trail, device, frame);
        let mut answers: Vec<(Trail, Device, MacAddr, NeighbourSource)> = Vec::new();
        let mut outside = None;
        let mut silent: Vec<Trail> = Vec::new();
        let mut cut = false;
        for Branch { trail, end } in branches {
            match end {
                End::Stack { device: at, frame } => {
                    let mut way = trail;
                    if let Some(lladdr) = self.hear_question(&mut way, at, &frame) {
                        answers.push((way, at, lladdr, NeighbourSource::Learned));
                    } else {
                        silent.push(way);
                    }
                }
                End::Answered { port, lladdr } => answers.push((trail, port, lladdr, NeighbourSource::Bridge(port))),
                End::OutOfSight(last) => {
                    if trail.blocks.is_empty() {
                        outside = Some(last);
                    }
                    silent.push(trail);
                }
                End::Dead => {
                    cut = true;
                    silent.push(trail);
                }
            }
        }
        // The least hindered answer; of equals the one whose hindrance comes first on the way.
        // What is only guessed to be meant comes after what is there.
        let guessed =
            |way: &Trail| way.blocks.iter().any(|block| matches!(block.decision, Decision::NotAttached { .. }));
        answers
            .sort_by_key(|(way, ..)| (way.blocks.len(), guessed(way), way.blocks.first().map_or(0, |block| block.at)));
        let others = answers
            .iter()
            .skip(1)
            .filter(|(way, _, lladdr, _)| {
                way.blocks.is_empty() && Some(*lladdr) != answers.first().map(|(_, _, first, _)| *first)
            })
            .map(|(_, at, ..)| *at)
            .collect();
        if let Some((request, owner, lladdr, known)) = answers.into_iter().next() {
            Asked { request, answer: Some((owner, lladdr, known)), others, outside, cut }
        } else {
            silent.sort_by_key(|way| (way.blocks.len(), std::cmp::Reverse(way.steps.len())));
            Asked { request: silent.into_iter().next().unwrap_or_default(), answer: None, others, outside, cut }
        }
    }

    /// Nobody answers, whatever is mended: why.
    fn nobody(&self, asked: &Asked, device: Device, next: IpAddr, gateway: bool) -> Loss {
        let netns = self.netns(device.netns);
        let loss = |place: Place, decision: Decision| Loss { place, decision: Some(decision), certain: true };
        if let Some(entry) = netns.owns(next).filter(|_| fib::local_route(netns, next).is_none()) {
            let owner = Device::new(device.netns, entry.ifindex);
            return loss(
                Place::at(device, "ip_route_output_flow"),
                Decision::LocalRouteMissing { address: next, device: owner },
            );
        }
        if let Some(last) = asked.outside
            && !gateway
        {
            return loss(Place::at(last, "net_dev_start_xmit"), Decision::RemoteSilent);
        }
        if let Some((station, sysctl)) = self.switched_off_owner(device, next) {
            return loss(Place::at(station, "ip6_rcv_core"), Decision::Ipv6Disabled { sysctl });
        }
        let function = if next.is_ipv6() { "ndisc_solicit" } else { "arp_solicit" };
        loss(Place::at(device, function), Decision::NoOwner { address: next, gateway })
    }

    /// The answer goes back to the asker.
    fn answer(
        &mut self,
        trail: &mut Trail,
        owner: Device,
        lladdr: MacAddr,
        asker: Device,
        address: IpAddr,
        to: Option<IpAddr>,
    ) {
        let target_mac = self.mac(asker);
        let dst = match to.and_then(|to| self.neighbour(owner, to)) {
            // IPv6 advertises to the address that the neighbour table has; ARP answers the sender's.
            Some((mac, _)) if address.is_ipv6() => mac,
            _ => target_mac,
        };
        let reply =
            Resolution { reply: true, sender: Some(address), sender_mac: lladdr, target: to.unwrap_or(address) };
        let frame = Frame { dst, src: lladdr, tags: Vec::new(), payload: Payload::Resolution(reply) };
        let headers = Headers {
            src: Some(address),
            dst: to,
            mac_src: Some(lladdr),
            mac_dst: Some(dst),
            len: 0,
            ttl: None,
            id: None,
            port: None,
        };
        let mut start = Trail { depth: trail.depth, ..Trail::default() };
        if let Some(rule) = self.resolution_rules(&mut start, owner, &frame, Hook::Output) {
            start.block(Place::at(owner, "arp_xmit"), rule);
        }
        let branches = self.transmit(start, owner, frame);
        let mut best: Option<Trail> = None;
        for Branch { trail: mut way, end } in branches {
            let End::Stack { device: at, frame } = end else {
                continue;
            };
            if at.netns != asker.netns {
                continue;
            }
            if at != asker {
                // neigh_lookup is by device: an answer that comes up by another one finds no entry.
                let bridge = self.link(asker).and_then(|link| link.master).map(|index| Device::new(asker.netns, index));
                if bridge == Some(at) {
                    way.block(Place::at(at, "arp_process"), Decision::AddressOnPort { port: asker, bridge: at });
                } else {
                    continue;
                }
            }
            if !self.takes(&way, at, frame.dst) {
                way.block(
                    Place::at(at, "arp_rcv"),
                    Decision::OtherHost { frame: frame.dst, own: self.link(at).and_then(|link| link.mac) },
                );
            }
            if let Some(rule) = self.resolution_rules(&mut way, at, &frame, Hook::Input) {
                way.block(Place::at(at, "arp_process"), rule);
            }
            if best.as_ref().is_none_or(|best| way.blocks.len() < best.blocks.len()) {
                best = Some(way);
            }
        }
        let underlay = trail.depth > 0;
        let Some(way) = best else { return };
        for block in &way.blocks {
            // What stops the outer packet of a tunnel may be a question of the underlay's own.
            trail.block_as(block.role.unwrap_or(Role::ArpReply), block.place.clone(), block.decision.clone());
            if let Some(last) = trail.blocks.last_mut() {
                last.underlay |= block.underlay;
            }
        }
        let first = way.blocks.first().map(super::frame::Block::loss);
        if !underlay {
            self.record(Role::ArpReply, headers, way, first);
        }
    }

    /// A question arrives at a protocol stack: does it answer, and with which address?
    fn hear_question(&mut self, trail: &mut Trail, device: Device, frame: &Frame) -> Option<MacAddr> {
        let Payload::Resolution(request) = &frame.payload else { return None };
        let netns = self.netns(device.netns);
        let target = request.target;
        let owned = netns.owns(target).is_some() || fib::is_local(netns, target);
        let proxy = self.proxies(device, request);
        if !owned && !proxy {
            return None;
        }
        let link = self.link(device)?;
        let own = link.mac?;
        if !self.takes(trail, device, frame.dst) {
            trail.block(Place::at(device, "arp_rcv"), Decision::OtherHost { frame: frame.dst, own: Some(own) });
        }
        if target.is_ipv6() {
            return self.hear_solicitation(trail, device, frame, request, own);
        }
        if link.is_noarp() {
            let decision = match link.kind {
                LinkKind::Ipvlan { mode: IpvlanMode::L3 | IpvlanMode::L3s, .. } => {
                    Decision::IpvlanIsolation { child: device, l3: true }
                }
                _ => Decision::ArpDisabled { device },
            };
            trail.block(Place::at(device, "arp_rcv"), decision);
        }
        if let Some(rule) = self.resolution_rules(trail, device, frame, Hook::Input) {
            trail.block(Place::at(device, "arp_rcv"), rule);
        }
        let sender = request.sender.unwrap_or(target);
        if request.sender.is_none() {
            return Some(own);
        }
        let (input, refusals) = self.route_input(device, sender, target, 0, 0);
        let refusal = refusals.into_iter().next();
        match input {
            Some(Input::Local(_)) => {
                if let Some(decision) = refusal {
                    let decision = self.address_on_port(device, decision);
                    trail.block(Place::at(device, "fib_validate_source"), decision);
                }
                if let Some(refusal) = self.arp_ignored(device, sender, target) {
                    trail.block(Place::at(device, "arp_process"), Decision::ArpIgnored { by: refusal });
                }
                Some(own)
            }
            Some(_) if proxy => {
                if let Some(decision) = refusal {
                    trail.block(Place::at(device, "fib_validate_source"), decision);
                }
                Some(own)
            }
            _ if owned => {
                // Configured, but the local table lacks it.
                let entry = netns.owns(target)?;
                let owner = Device::new(device.netns, entry.ifindex);
                if self.link(owner).is_some_and(crate::model::snapshot::Link::is_up) {
                    let decision = Decision::LocalRouteMissing { address: target, device: owner };
                    trail.block(Place::at(device, "arp_process"), decision);
                } else if owner != device {
                    // It went away with its device, and comes back with it.
                    trail.block(Place::at(owner, "arp_process"), Decision::DeviceDown);
                }
                Some(own)
            }
            _ => None,
        }
    }

    /// When an address sits on a port of the bridge that heard the question, that is the reason for a refused source.
    fn address_on_port(&self, device: Device, decision: Decision) -> Decision {
        let Decision::RpFilter { back: Some(back), .. } = &decision else { return decision };
        let port = Device::new(device.netns, *back);
        match self.link(port).and_then(|link| link.master) {
            Some(master) if master == device.ifindex => Decision::AddressOnPort { port, bridge: device },
            _ => decision,
        }
    }

    /// Proxy ARP (arp_fwd_proxy, pneigh) and proxy NDP entries.
    fn proxies(&self, device: Device, request: &Resolution) -> bool {
        let netns = self.netns(device.netns);
        let entry = netns
            .neighbours
            .iter()
            .any(|entry| entry.is_proxy() && entry.address == request.target && entry.ifindex == device.ifindex);
        if request.target.is_ipv6() {
            return entry && self.conf_or("ipv6", device, "proxy_ndp");
        }
        let forwards = self.conf("ipv4", device, "forwarding") == Some(1);
        if !forwards {
            return false;
        }
        if entry {
            return true;
        }
        if !self.conf_or("ipv4", device, "proxy_arp") {
            return false;
        }
        let flow = fib::Flow { iif: Some(device.ifindex), src: request.sender, ..fib::Flow::to(request.target) };
        fib::lookup(netns, &flow)
            .is_ok_and(|found| found.nexthop.oif.is_some() && found.nexthop.oif != Some(device.ifindex))
    }

    /// arp_ignore and arp_filter.
    fn arp_ignored(&self, device: Device, sender: IpAddr, target: IpAddr) -> Option<ArpRefusal> {
        let netns = self.netns(device.netns);
        let value = self.conf_max("ipv4", device, "arp_ignore");
        let on_device: Vec<_> = netns.addresses_of(device.ifindex).filter(|entry| entry.address == target).collect();
        let ignored = match value {
            0 => false,
            1 => on_device.is_empty(),
            2 => !on_device.iter().any(|entry| entry.net().is_some_and(|net| net.contains(&sender))),
            3 => {
                // Only addresses of a wider scope than link answer.
                !netns.addresses.iter().any(|entry| entry.address == target && entry.scope < 253)
            }
            8 => true,
            _ => false,
        };
        if ignored {
            return Some(ArpRefusal::Ignore { sysctl: self.deciding_sysctl("ipv4", device, "arp_ignore"), value });
        }
        if self.conf_or("ipv4", device, "arp_filter") {
            let flow = fib::Flow { src: Some(target), ..fib::Flow::to(sender) };
            let back = fib::lookup(netns, &flow).ok().and_then(|found| found.nexthop.oif);
            if back != Some(device.ifindex) {
                return Some(ArpRefusal::Filter { sysctl: self.deciding_sysctl("ipv4", device, "arp_filter"), back });
            }
        }
        None
    }

    /// ndisc_recv_ns.
    fn hear_solicitation(
        &mut self,
        trail: &mut Trail,
        device: Device,
        frame: &Frame,
        request: &Resolution,
        own: MacAddr,
    ) -> Option<MacAddr> {
        let netns = self.netns(device.netns);
        let target = request.target;
        if let Some(sysctl) = self.ipv6_disabled(device) {
            trail.block(Place::at(device, "ip6_rcv_core"), Decision::Ipv6Disabled { sysctl });
        }
        self.input_hooks_for_resolution(trail, device, frame);
        // IPv6 has the strong model here: ipv6_get_ifaddr(net, target, dev, 1).
        let on_device = netns.addresses_of(device.ifindex).find(|entry| entry.address == target);
        match on_device {
            Some(entry) if entry.is_dad_failed() || entry.is_tentative() => {
                let failed = entry.is_dad_failed();
                trail.block(Place::at(device, "ndisc_recv_ns"), Decision::DadFailed { address: target, failed });
                Some(own)
            }
            Some(_) => Some(own),
            None if self.proxies(device, request) => Some(own),
            None => {
                // The host has the address, but on another device: a solicitation here is not for it.
                None
            }
        }
    }

    /// Whether IPv6 is switched off at a device, and by which sysctl.
    pub fn ipv6_disabled(&self, device: Device) -> Option<String> {
        let name = &self.link(device)?.name;
        (self.conf("ipv6", device, "disable_ipv6") == Some(1))
            .then(|| format!("net.ipv6.conf.{}.disable_ipv6", name.replace('.', "/")))
    }

    /// Rules that judge ARP at a host, or IPv6 rules that judge a solicitation or advertisement as it leaves.
    fn resolution_rules(&mut self, trail: &mut Trail, device: Device, frame: &Frame, hook: Hook) -> Option<Decision> {
        let Payload::Resolution(resolution) = &frame.payload else { return None };
        if resolution.target.is_ipv6() {
            if hook == Hook::Output {
                self.output_hooks_for_resolution(trail, device, frame);
            } else if resolution.reply {
                self.input_hooks_for_resolution(trail, device, frame);
            }
            return None;
        }
        self.arp_rules(device, frame, hook).map(|by| Decision::ArpIgnored { by })
    }

    /// Notes the journey of a question or answer.
    fn record(&mut self, role: Role, headers: Headers, trail: Trail, loss: Option<Loss>) {
        let at = trail.blocks.first().map_or(trail.steps.len(), |block| block.at);
        let end = trail.steps.last().map(|step| (step.netns, step.device));
        let fate = match (loss, end) {
            (Some(loss), _) => Fate::Lost(loss),
            (None, Some((netns, device))) => Fate::Delivered { netns, device },
            (None, None) => return,
        };
        let mut steps = trail.steps;
        let beyond = if matches!(fate, Fate::Lost(_)) { steps.split_off(at) } else { Vec::new() };
        self.journeys.push(Journey {
            role,
            leg: self.leg,
            seq: None,
            headers,
            steps,
            copies: Vec::new(),
            fate,
            beyond,
        });
    }
}

/// Where a question is sent: broadcast, or the solicited-node group (RFC 4291 section 2.7.1, RFC 2464 section 7).
pub fn question_mac(target: IpAddr) -> MacAddr {
    match target {
        IpAddr::V4(_) => MacAddr::BROADCAST,
        IpAddr::V6(address) => {
            let last = address.octets();
            MacAddr([0x33, 0x33, 0xff, last[13], last[14], last[15]])
        }
    }
}

/// The group's link-layer address (RFC 1112 section 6.4, RFC 2464 section 7).
fn multicast_mac(address: IpAddr) -> MacAddr {
    match address {
        IpAddr::V4(address) => {
            let [_, b, c, d] = address.octets();
            MacAddr([0x01, 0x00, 0x5e, b & 0x7f, c, d])
        }
        IpAddr::V6(address) => group_mac(address),
    }
}

fn group_mac(address: Ipv6Addr) -> MacAddr {
    let last = address.octets();
    MacAddr([0x33, 0x33, last[12], last[13], last[14], last[15]])
}
