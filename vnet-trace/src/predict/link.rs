//! Frames through devices: what `dev_queue_xmit` and `netif_receive_skb` lead to, device kind by device kind.
//!
//! A frame may become many copies. Each ends at a protocol stack, out of sight, or dead; see [`Branch`]. Reasons why
//! a copy would have ended are noted as blocks, and the walk goes on behind them (see [`super`]).

use crate::model::exchange::{Action, ArpRefusal, Decision, Opaque, Place};
use crate::model::id::{Device, IfIndex, MacAddr};
use crate::model::netfilter::Hook;
use crate::model::snapshot::{Link, LinkKind};

use super::filter::Verdict;
use super::frame::{Branch, End, Frame, Payload, Trail};
use super::walk::Walk;

/// Deepest nesting of tunnels that is followed.
const DEEPEST_TUNNEL: u8 = 4;

impl Walk<'_> {
    /// Hands a frame to a device for transmission and gives all copies that come of it.
    pub fn transmit(&mut self, mut trail: Trail, device: Device, mut frame: Frame) -> Vec<Branch> {
        if self.budget == 0 {
            return vec![Branch { trail, end: End::Dead }];
        }
        self.budget -= 1;
        if trail.revisits(device, false, frame.vid()) {
            return Vec::new();
        }
        let Some(link) = self.link(device) else {
            return vec![Branch { trail, end: End::OutOfSight(device) }];
        };
        trail.step(device, Action::Queued);
        if !link.is_up() {
            trail.block(Place::at(device, "__dev_queue_xmit"), Decision::DeviceDown);
        } else if let Some(decision) = self.no_carrier(device) {
            trail.block(Place::at(device, "__dev_queue_xmit"), decision);
        }
        match self.netdev_hook(&mut trail, device, Hook::Egress, &mut frame) {
            Verdict::Pass => {}
            Verdict::Taken => return vec![Branch { trail, end: End::OutOfSight(device) }],
        }
        self.tc(&mut trail, device, false, &frame);
        self.qdisc(&mut trail, device, &frame);
        trail.step(device, Action::Transmitted);
        let mut branches = self.children_deaf_to(&trail, device, &frame);
        branches.extend(self.transmit_by_kind(trail, device, link, frame));
        branches
    }

    /// What the device's own kind makes of a frame (ndo_start_xmit).
    fn transmit_by_kind(&mut self, mut trail: Trail, device: Device, link: &Link, mut frame: Frame) -> Vec<Branch> {
        match &link.kind {
            LinkKind::Veth | LinkKind::Netkit { .. } => match self.snapshot.peer(device) {
                Some(peer) => {
                    // skb_scrub_packet forgets the connection, whichever namespace the peer is in.
                    if let Payload::Ip(packet) = &mut frame.payload {
                        packet.flow = None;
                    }
                    let mtu = self.link(peer).map_or(u32::MAX, |link| link.mtu);
                    // is_skb_forwardable leaves room for one VLAN tag, whether there is one or not.
                    if frame.length() > mtu.saturating_add(4) {
                        trail.block(
                            Place::at(peer, "__dev_forward_skb"),
                            Decision::TooBig { len: frame.length(), mtu, icmp: false },
                        );
                    }
                    self.receive(trail, peer, frame)
                }
                None => vec![Branch { trail, end: End::OutOfSight(device) }],
            },
            LinkKind::Loopback => self.receive(trail, device, frame),
            LinkKind::Bridge(_) => {
                let stopped = (!trail.blocks.is_empty()).then(|| trail.clone());
                let branches = self.bridge_transmit(trail, device, frame);
                match stopped {
                    // A bridge without ports makes no copy; what stopped the frame before stays the reason.
                    Some(trail) if branches.is_empty() => vec![Branch { trail, end: End::Dead }],
                    _ => branches,
                }
            }
            LinkKind::Vlan { id, protocol } => {
                frame.tags.insert(0, (*protocol, *id));
                match self.snapshot.lower(device) {
                    Some(lower) => self.transmit(trail, lower, frame),
                    None => vec![Branch { trail, end: End::OutOfSight(device) }],
                }
            }
            LinkKind::Macvlan(mode) | LinkKind::Macvtap(mode) => self.macvlan_transmit(trail, device, *mode, frame),
            LinkKind::Ipvlan { mode, flag } => self.ipvlan_transmit(trail, device, *mode, *flag, frame),
            LinkKind::Vxlan(info) if trail.depth < DEEPEST_TUNNEL => self.vxlan_transmit(trail, device, info, frame),
            LinkKind::Geneve { vni, remote: Some(remote), port } if trail.depth < DEEPEST_TUNNEL => {
                let outer = super::tunnel::Outer {
                    local: None,
                    remote: *remote,
                    port: *port,
                    vni: *vni,
                    lower: None,
                    df: false,
                    ttl: 0,
                };
                self.tunnel_out(trail, device, &outer, frame)
            }
            LinkKind::Tunnel { kind, local, remote: Some(remote) } if trail.depth < DEEPEST_TUNNEL => {
                self.plain_tunnel_out(trail, device, kind, *local, *remote, frame)
            }
            LinkKind::Bond { active, .. } => {
                let slave = active.map(|active| Device::new(device.netns, active)).or_else(|| self.first_port(device));
                if let Some(slave) = slave {
                    self.transmit(trail, slave, frame)
                } else {
                    trail.block(Place::at(device, "bond_start_xmit"), Decision::NoCarrier { culprit: None });
                    vec![Branch { trail, end: End::Dead }]
                }
            }
            // A VRF device hands packets back to the stack (vrf_xmit); address resolution never runs on it.
            LinkKind::Vrf { .. } => self.receive(trail, device, frame),
            LinkKind::Openvswitch => self.ovs_internal_transmit(trail, device, &frame),
            // dummy, tun, WireGuard, hardware, tunnels without an end: what is sent has left what we can see.
            LinkKind::Tun { .. } => match self.ovs_bridge_of(device) {
                Some(bridge) => self.ovs_local_transmit(trail, bridge, device, &frame),
                None => vec![Branch { trail, end: End::OutOfSight(device) }],
            },
            _ => vec![Branch { trail, end: End::OutOfSight(device) }],
        }
    }

    fn first_port(&self, master: Device) -> Option<Device> {
        let netns = self.netns(master.netns);
        let mut ports = netns.ports(master.ifindex);
        ports.find(|port| port.is_up() && port.carrier).map(|port| Device::new(master.netns, port.index))
    }

    /// Why a device that is up can't transmit: the noop qdisc of a device without carrier drops all.
    pub fn no_carrier(&self, device: Device) -> Option<Decision> {
        let link = self.link(device)?;
        // A stacked device follows its lower device, a moment later (netif_stacked_transfer_operstate runs from linkwatch).
        let stacked = matches!(
            link.kind,
            LinkKind::Vlan { .. } | LinkKind::Macvlan(_) | LinkKind::Macvtap(_) | LinkKind::Ipvlan { .. }
        );
        let lower_dead = stacked
            && self.snapshot.lower(device).is_some_and(|lower| {
                self.link(lower).is_some_and(|link| !link.is_up()) || self.no_carrier(lower).is_some()
            });
        let dead = lower_dead || link.lacks_carrier();
        if !dead || link.is_loopback() {
            return None;
        }
        let culprit = match link.kind {
            LinkKind::Veth | LinkKind::Netkit { .. } => {
                self.snapshot.peer(device).filter(|peer| self.link(*peer).is_some_and(|link| !link.is_up()))
            }
            LinkKind::Bridge(_) => None,
            _ => self.root_of_no_carrier(device),
        };
        Some(Decision::NoCarrier { culprit })
    }

    /// Follows lower devices down to the one whose state is the reason.
    fn root_of_no_carrier(&self, device: Device) -> Option<Device> {
        let mut at = self.snapshot.lower(device)?;
        for _ in 0..8 {
            let link = self.link(at)?;
            if !link.is_up() {
                return Some(at);
            }
            match self.snapshot.lower(at) {
                Some(next) if next != at => at = next,
                _ => return Some(at),
            }
        }
        Some(at)
    }

    /// A frame arrives at a device.
    pub fn receive(&mut self, mut trail: Trail, device: Device, mut frame: Frame) -> Vec<Branch> {
        if self.budget == 0 {
            return vec![Branch { trail, end: End::Dead }];
        }
        self.budget -= 1;
        if trail.revisits(device, true, frame.vid()) {
            return Vec::new();
        }
        let Some(link) = self.link(device) else {
            return vec![Branch { trail, end: End::OutOfSight(device) }];
        };
        if !link.is_up()
            && !trail
                .blocks
                .iter()
                .any(|block| matches!(block.decision, Decision::NoCarrier { culprit } if culprit == Some(device)))
        {
            trail.block(Place::at(device, "__dev_forward_skb"), Decision::DeviceDown);
        }
        // XDP runs before anybody else sees the packet, capture included.
        for program in &link.xdp {
            trail.step(device, Action::Opaque(Opaque::Xdp { id: program.id, name: program.name.clone() }));
        }
        trail.step(device, Action::Received);
        self.tc(&mut trail, device, true, &frame);
        match self.netdev_hook(&mut trail, device, Hook::Ingress, &mut frame) {
            Verdict::Pass => {}
            Verdict::Taken => return vec![Branch { trail, end: End::OutOfSight(device) }],
        }
        if let Some(&(protocol, vid)) = frame.tags.first() {
            if let Some(upper) = self.vlan_upper(device, protocol, vid) {
                let mut inner = frame;
                inner.tags.remove(0);
                return self.receive(trail, upper, inner);
            }
            if link.master.is_none() && vid != 0 {
                return self.unknown_tag(trail, device, vid, frame);
            }
        }
        self.handle(trail, device, frame)
    }

    /// The rx handler of the device, else its protocol stack.
    fn handle(&mut self, trail: Trail, device: Device, frame: Frame) -> Vec<Branch> {
        let Some(link) = self.link(device) else { return Vec::new() };
        if let Some(master) = link.master.map(|index| Device::new(device.netns, index)) {
            match self.link(master).map(|link| &link.kind) {
                Some(LinkKind::Bridge(_)) => return self.bridge_receive(trail, master, device, frame),
                Some(LinkKind::Bond { .. } | LinkKind::Team) => return self.receive(trail, master, frame),
                Some(LinkKind::Openvswitch) => return self.ovs_receive(trail, device, &frame),
                _ => {}
            }
        }
        if self.ovs_port(device).is_some() {
            return self.ovs_receive(trail, device, &frame);
        }
        let children = self.snapshot.uppers(device);
        let kind_of = |device: &Device| self.link(*device).map(|link| &link.kind);
        let macvlans: Vec<Device> = children
            .iter()
            .copied()
            .filter(|child| matches!(kind_of(child), Some(LinkKind::Macvlan(_) | LinkKind::Macvtap(_))))
            .collect();
        if !macvlans.is_empty() {
            return self.macvlan_receive(trail, device, &macvlans, frame);
        }
        let ipvlans: Vec<Device> =
            children.iter().copied().filter(|child| matches!(kind_of(child), Some(LinkKind::Ipvlan { .. }))).collect();
        if !ipvlans.is_empty() {
            return self.ipvlan_receive(trail, device, &ipvlans, frame);
        }
        self.unattached(trail, device, frame)
    }

    /// The frame is for the protocol stack of a device. If the device looks as if it should have been a port of a bridge
    /// (it has no address of its own, and bridges are beside it), the bridge is tried as well, behind a block.
    fn unattached(&mut self, trail: Trail, device: Device, frame: Frame) -> Vec<Branch> {
        let mut branches = Vec::new();
        for bridge in self.bridges_it_could_join(device) {
            let mut guess = trail.clone();
            guess.block(Place::at(device, "__netif_receive_skb_core"), Decision::NotAttached { bridge: Some(bridge) });
            guess.step(device, Action::BridgeForwarded { bridge: bridge.ifindex, flooded: true });
            branches.extend(self.bridge_flood_from(guess, bridge, device, frame.clone()));
        }
        branches.extend(self.ovs_unattached(&trail, device, &frame));
        branches.insert(0, Branch { trail, end: End::Stack { device, frame } });
        branches
    }

    /// Bridges in a device's namespace that it may have been meant to join: it is a veth end or the like without master, without an
    /// address and without anything stacked on it.
    pub fn bridges_it_could_join(&self, device: Device) -> Vec<Device> {
        let netns = self.netns(device.netns);
        let Some(link) = self.link(device) else { return Vec::new() };
        let fits = matches!(
            link.kind,
            LinkKind::Veth
                | LinkKind::Tun { tap: true }
                | LinkKind::Netkit { .. }
                | LinkKind::Vxlan(_)
                | LinkKind::Geneve { .. }
                | LinkKind::Vlan { .. }
        ) && link.master.is_none()
            && !netns.addresses_of(device.ifindex).any(|entry| !is_link_local(entry.address))
            && self.snapshot.uppers(device).is_empty()
            && self.ovs_port(device).is_none();
        if !fits {
            return Vec::new();
        }
        netns
            .links
            .iter()
            .filter(|link| matches!(link.kind, LinkKind::Bridge(_)))
            .map(|link| Device::new(device.netns, link.index))
            .collect()
    }

    /// tc filters and programs at a device.
    fn tc(&mut self, trail: &mut Trail, device: Device, ingress: bool, frame: &Frame) {
        let netns = self.netns(device.netns);
        for (index, filter) in netns.filters.iter().enumerate() {
            if filter.ifindex != device.ifindex || filter.ingress != ingress {
                continue;
            }
            // ETH_P_ALL is 3; 0 where the dump does not say.
            if ![0, 3, frame.ethertype()].contains(&filter.protocol) {
                continue;
            }
            let drops = filter.actions.iter().any(|action| action == "drop" || action == "shot");
            if filter.kind == "matchall" && drops && filter.actions.len() == 1 {
                let function = if ingress { "__netif_receive_skb_core" } else { "__dev_queue_xmit" };
                trail.block(Place::at(device, function), Decision::Tc { filter: Some(index), ingress });
                return;
            }
            if filter.kind == "matchall"
                && filter.actions.iter().all(|action| action == "pass" || action == "ok")
                && filter.program.is_none()
            {
                return;
            }
            trail.step(device, Action::Opaque(Opaque::Tc { filter: index, ingress }));
        }
    }

    /// The root qdisc, as far as its settings say that nothing passes.
    fn qdisc(&mut self, trail: &mut Trail, device: Device, frame: &Frame) {
        let netns = self.netns(device.netns);
        let at_device = netns.qdiscs.iter().enumerate().filter(|(_, qdisc)| qdisc.ifindex == device.ifindex);
        for (index, qdisc) in at_device {
            let option =
                |name: &str| qdisc.options.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
            let number = |name: &str| option(name).and_then(quantity);
            let length = f64::from(frame.length() + 14);
            let drops = match qdisc.kind.as_str() {
                "blackhole" => true,
                "netem" => number("loss").is_some_and(|loss| loss >= 100.0) || number("limit") == Some(0.0),
                "tbf" => {
                    number("burst").is_some_and(|burst| burst > 0.0 && burst < length)
                        || number("limit").is_some_and(|limit| limit < length)
                }
                "pfifo" | "bfifo" => number("limit") == Some(0.0),
                _ => false,
            };
            if drops {
                trail.block(Place::at(device, "__dev_queue_xmit"), Decision::Qdisc { qdisc: Some(index) });
                return;
            }
            let may_drop = match qdisc.kind.as_str() {
                "netem" => number("loss").is_some_and(|loss| loss > 0.0),
                "noqueue" | "fq_codel" | "pfifo_fast" | "mq" | "fq" | "clsact" | "ingress" | "pfifo" | "bfifo" => false,
                _ => true,
            };
            if may_drop {
                trail.step(device, Action::Opaque(Opaque::Qdisc { qdisc: index }));
            }
        }
    }

    /// The VLAN device for a tag on a device.
    fn vlan_upper(&self, lower: Device, protocol: u16, vid: u16) -> Option<Device> {
        self.snapshot
            .uppers(lower)
            .into_iter()
            .find(|upper| self.link(*upper).is_some_and(|link| link.kind == LinkKind::Vlan { id: vid, protocol }))
    }

    /// A tag that no VLAN device on this device takes: the packet becomes PACKET_OTHERHOST and dies in ARP or IP
    /// (`__netif_receive_skb_core`, since long before 4.18). Behind the block, every VLAN device and the device itself are tried.
    fn unknown_tag(&mut self, mut trail: Trail, device: Device, vid: u16, mut frame: Frame) -> Vec<Branch> {
        let vlans: Vec<(Device, u16)> = self
            .snapshot
            .uppers(device)
            .into_iter()
            .filter_map(|upper| match self.link(upper)?.kind {
                LinkKind::Vlan { id, .. } => Some((upper, id)),
                _ => None,
            })
            .collect();
        let expected = vlans.iter().map(|(_, id)| *id).collect();
        let function = match frame.payload {
            Payload::Resolution(_) => "arp_rcv",
            Payload::Ip(_) => "ip_rcv_core",
        };
        trail.block(Place::at(device, function), Decision::VlanUnknown { vid: Some(vid), expected });
        frame.tags.remove(0);
        let mut branches = Vec::new();
        for (upper, _) in vlans {
            branches.extend(self.receive(trail.clone(), upper, frame.clone()));
        }
        branches.extend(self.handle(trail, device, frame));
        branches
    }

    /// Whether the stack of a device takes a frame for this address, at the end of this way. A frame that came up through a
    /// bridge or a VLAN device is for us as well if it was for the device that it came in by (eth_type_trans there decides,
    /// br_handle_frame and vlan_do_receive only add their own address).
    pub fn takes(&self, trail: &Trail, device: Device, dst: MacAddr) -> bool {
        match self.link(device).map(|link| (link.mac, &link.kind)) {
            Some((_, LinkKind::Loopback | LinkKind::Vrf { .. })) | None => true,
            Some((Some(own), _)) if dst == own || dst.is_group() || own.is_zero() => true,
            Some((Some(_), LinkKind::Bridge(_) | LinkKind::Vlan { .. })) => {
                let upwards = trail.steps.iter().rev().take_while(|step| step.action != Action::Transmitted);
                let came = upwards.filter(|step| step.action == Action::Received).last();
                came.and_then(|step| Some(Device::new(step.netns, step.device?)))
                    .is_some_and(|port| port != device && self.mac(port) == dst)
            }
            Some((Some(_), _)) => false,
            Some((None, _)) => true,
        }
    }

    /// How ARP filters of a namespace decide about this frame.
    pub fn arp_rules(&mut self, device: Device, frame: &Frame, hook: Hook) -> Option<ArpRefusal> {
        self.arp_hook(device, frame, hook).map(ArpRefusal::Rule)
    }

    /// The device's own link-layer address.
    pub fn mac(&self, device: Device) -> MacAddr {
        self.link(device).and_then(|link| link.mac).unwrap_or_default()
    }

    /// Name and namespace of a device, for places that need its index only.
    pub fn ifindex(&self, device: Device) -> Option<IfIndex> {
        self.link(device).map(|link| link.index)
    }
}

fn is_link_local(address: std::net::IpAddr) -> bool {
    match address {
        std::net::IpAddr::V4(address) => address.is_link_local(),
        std::net::IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// A quantity in tc's words: `100%`, `90b`, `16Kb`, `1000p`.
fn quantity(text: &str) -> Option<f64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit() && c != '.');
    let unit = text[digits.len()..].to_ascii_lowercase();
    let factor = match unit.chars().next() {
        Some('k') => 1024.0,
        Some('m') => 1024.0 * 1024.0,
        _ => 1.0,
    };
    digits.parse::<f64>().ok().map(|number| number * factor)
}
