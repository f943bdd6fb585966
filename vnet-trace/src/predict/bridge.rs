//! Bridges: net/bridge/br_input.c `br_handle_frame`, br_forward.c `br_forward` and `br_flood`, br_vlan.c, br_arp_nd_proxy.c,
//! and br_netfilter as far as it shows bridged packets to the IP hooks.
//!
//! Multicast snooping is taken to flood (without a querier it does); MDB entries and MST are not looked at.

use std::collections::BTreeSet;

use crate::model::exchange::{Action, Decision, FloodKind, Place};
use crate::model::id::{Device, MacAddr};
use crate::model::netfilter::Hook;
use crate::model::snapshot::{BridgeInfo, BridgePort, LinkKind};

use super::filter::Verdict;
use super::frame::{Branch, End, Frame, Payload, Resolution, Trail};
use super::walk::Walk;

/// BR_STATE_FORWARDING.
const FORWARDING: u8 = 3;
/// BR_STATE_LEARNING.
const LEARNING: u8 = 2;

/// The VLAN that a frame belongs to on a bridge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vlan {
    /// The bridge does not filter.
    Unfiltered,
    /// This one.
    Id(u16),
    /// It had none and would have been refused: behind that block, all are tried.
    Any,
}

/// A frame inside a bridge.
struct Inside {
    bridge: Device,
    ingress: Option<Device>,
    vlan: Vlan,
    /// The bridge has answered it itself: ports with neigh_suppress do not get a copy.
    answered: bool,
}

impl Walk<'_> {
    fn bridge_info(&self, bridge: Device) -> BridgeInfo {
        match self.link(bridge).map(|link| &link.kind) {
            Some(LinkKind::Bridge(info)) => info.clone(),
            _ => BridgeInfo::default(),
        }
    }

    fn port(&self, port: Device) -> BridgePort {
        self.link(port).and_then(|link| link.bridge_port.clone()).unwrap_or_default()
    }

    fn ports_of(&self, bridge: Device) -> Vec<Device> {
        self.netns(bridge.netns).ports(bridge.ifindex).map(|link| Device::new(bridge.netns, link.index)).collect()
    }

    /// br_handle_frame: a frame comes in by a port.
    pub fn bridge_receive(&mut self, mut trail: Trail, bridge: Device, port: Device, mut frame: Frame) -> Vec<Branch> {
        let settings = self.port(port);
        let info = self.bridge_info(bridge);
        let up = self.link(bridge).is_some_and(crate::model::snapshot::Link::is_up);
        if !up {
            trail.block(Place::at(bridge, "br_handle_frame"), Decision::DeviceDown);
        } else if settings.state != FORWARDING && self.link(port).is_some_and(|link| link.is_up() && link.carrier) {
            // A port without carrier is disabled by the bridge itself, and enabled with it.
            let function = if settings.state == LEARNING { "br_handle_frame_finish" } else { "br_handle_frame" };
            trail
                .block(Place::at(port, function), Decision::BridgeState { port, state: settings.state, ingress: true });
        }
        if self.bridge_hook(&mut trail, Hook::Prerouting, bridge, Some(port), None, &mut frame) == Verdict::Taken {
            return vec![Branch { trail, end: End::Dead }];
        }
        let vlan = self.ingress_vlan(&mut trail, &info, port, &mut frame);
        if settings.locked && !self.knows_source(bridge, port, vlan, frame.src) {
            let decision = Decision::BridgeLocked { port, source: frame.src, vlan: vlan.id() };
            trail.block(Place::at(port, "br_handle_frame_finish"), decision);
        }
        if settings.learning && trail.blocks.is_empty() {
            let key = match vlan {
                Vlan::Id(vid) => Some(vid),
                _ => None,
            };
            self.learned.insert((bridge, key, frame.src), port);
        }
        let inside = Inside { bridge, ingress: Some(port), vlan, answered: false };
        self.bridge_forward_or_flood(trail, inside, frame)
    }

    /// br_dev_xmit: the bridge's own namespace sends through the bridge device.
    pub fn bridge_transmit(&mut self, mut trail: Trail, bridge: Device, mut frame: Frame) -> Vec<Branch> {
        let info = self.bridge_info(bridge);
        let vlan = self.ingress_vlan(&mut trail, &info, bridge, &mut frame);
        let inside = Inside { bridge, ingress: None, vlan, answered: false };
        let mut branches = self.bridge_forward_or_flood(trail.clone(), inside, frame.clone());
        // Ports that could be meant to be there: for an unanswered question only.
        for link in &self.netns(bridge.netns).links {
            let device = Device::new(bridge.netns, link.index);
            if self.bridges_it_could_join(device).contains(&bridge) {
                let mut guess = trail.clone();
                guess.block(Place::at(device, "br_flood"), Decision::NotAttached { bridge: Some(bridge) });
                branches.extend(self.transmit(guess, device, frame.clone()));
            }
        }
        branches
    }

    /// A frame from a device that is not attached, as if it were.
    pub fn bridge_flood_from(&mut self, trail: Trail, bridge: Device, _port: Device, frame: Frame) -> Vec<Branch> {
        let info = self.bridge_info(bridge);
        let vlan = if info.vlan_filtering { Vlan::Any } else { Vlan::Unfiltered };
        let inside = Inside { bridge, ingress: None, vlan, answered: false };
        let mut branches = self.bridge_forward_or_flood(trail.clone(), inside, frame.clone());
        branches.extend(self.bridge_up(trail, bridge, Vlan::Any, frame));
        branches
    }

    /// br_allowed_ingress.
    fn ingress_vlan(&self, trail: &mut Trail, info: &BridgeInfo, port: Device, frame: &mut Frame) -> Vlan {
        if !info.vlan_filtering {
            return Vlan::Unfiltered;
        }
        let netns = self.netns(port.netns);
        let of_port = |vid: u16| netns.bridge_vlans.iter().any(|vlan| vlan.ifindex == port.ifindex && vlan.vid == vid);
        let place = Place::at(port, "br_allowed_ingress");
        match frame.tags.first().copied() {
            Some((protocol, vid)) if protocol == info.vlan_protocol && vid != 0 => {
                frame.tags.remove(0);
                if !of_port(vid) {
                    trail.block(place, Decision::BridgeVlan { port, vid: Some(vid), ingress: true });
                }
                Vlan::Id(vid)
            }
            _ => {
                let pvid = netns.bridge_vlans.iter().find(|vlan| vlan.ifindex == port.ifindex && vlan.pvid);
                if let Some(vlan) = pvid {
                    Vlan::Id(vlan.vid)
                } else {
                    trail.block(place, Decision::BridgeVlan { port, vid: None, ingress: true });
                    Vlan::Any
                }
            }
        }
    }

    /// The look-up of a locked port (BR_PORT_LOCKED, since 5.18): an entry on this very port that is not the bridge's own.
    fn knows_source(&self, bridge: Device, port: Device, vlan: Vlan, source: MacAddr) -> bool {
        self.netns(bridge.netns).fdb.iter().any(|entry| {
            entry.master == Some(bridge.ifindex)
                && entry.mac == source
                && entry.ifindex == port.ifindex
                && !entry.is_local()
                && (entry.vlan == vlan.id() || vlan == Vlan::Any)
        })
    }

    /// br_handle_frame_finish after the checks: answer in the owner's stead, forward, flood, pass up.
    fn bridge_forward_or_flood(&mut self, trail: Trail, mut inside: Inside, mut frame: Frame) -> Vec<Branch> {
        let mut branches = Vec::new();
        if let Some(branch) = self.suppress(&trail, &mut inside, &frame) {
            branches.push(branch);
        }
        if let Some(redirected) = self.bridged_dnat(&trail, &inside, &mut frame) {
            return redirected;
        }
        if frame.dst.is_group() {
            let kind = if frame.dst == MacAddr::BROADCAST { FloodKind::Broadcast } else { FloodKind::Multicast };
            branches.extend(self.flood(&trail, &inside, &frame, kind));
            if inside.ingress.is_some() {
                branches.extend(self.bridge_up(trail, inside.bridge, inside.vlan, frame));
            }
            return branches;
        }
        match self.fdb(&inside, frame.dst) {
            Some((entry_port, true, fixed)) => {
                // A local entry: the bridge takes it.
                let owner = self.owner_of(&inside, frame.dst, None);
                let mut up = trail.clone();
                if let Some((owner, station)) = owner {
                    let decision = if fixed {
                        Decision::BridgeFdb {
                            to: entry_port,
                            local: true,
                            mac: frame.dst,
                            vlan: inside.vlan.id(),
                            owner: Some(owner),
                            fixed,
                        }
                    } else {
                        Decision::DuplicateMac { mac: frame.dst, owners: vec![entry_port, station] }
                    };
                    up.block(Place::at(inside.bridge, "br_handle_frame_finish"), decision);
                    let kind = FloodKind::UnknownUnicast;
                    branches.extend(self.flood(&up, &inside, &frame, kind));
                }
                if inside.ingress.is_some() {
                    branches.extend(self.bridge_up(trail, inside.bridge, inside.vlan, frame));
                }
            }
            Some((port, false, fixed)) => {
                let owner = self.owner_of(&inside, frame.dst, Some(port));
                branches.extend(self.forward_to(trail.clone(), &inside, port, frame.clone(), None));
                if let Some((owner, station)) = owner {
                    let mut guess = trail;
                    let decision = match self.station_behind(port, frame.dst).filter(|_| !fixed) {
                        // The bridge has learned the other one: there are two of them.
                        Some(twin) => Decision::DuplicateMac { mac: frame.dst, owners: vec![twin, station] },
                        None => Decision::BridgeFdb {
                            to: port,
                            local: false,
                            mac: frame.dst,
                            vlan: inside.vlan.id(),
                            owner: Some(owner),
                            fixed,
                        },
                    };
                    guess.block(Place::at(port, "br_forward"), decision);
                    branches.extend(self.flood(&guess, &inside, &frame, FloodKind::UnknownUnicast));
                }
            }
            None => {
                branches.extend(self.flood(&trail, &inside, &frame, FloodKind::UnknownUnicast));
            }
        }
        branches
    }

    /// The forwarding database: (port, local, set by hand).
    fn fdb(&self, inside: &Inside, mac: MacAddr) -> Option<(Device, bool, bool)> {
        let bridge = inside.bridge;
        let netns = self.netns(bridge.netns);
        if self.mac(bridge) == mac {
            return Some((bridge, true, false));
        }
        let vlan = inside.vlan.id();
        let fits = |entry: &&crate::model::snapshot::FdbEntry| {
            entry.mac == mac
                && (entry.master == Some(bridge.ifindex) || entry.master.is_none() && entry.ifindex == bridge.ifindex)
                && (entry.vlan == vlan
                    || vlan.is_none() && entry.vlan.is_none()
                    || entry.vlan.is_none() && inside.vlan == Vlan::Any)
        };
        let entry = netns.fdb.iter().filter(fits).max_by_key(|entry| (entry.is_local(), entry.is_static()));
        let own_port = |port: Device| {
            self.link(port).is_some_and(|link| link.master == Some(bridge.ifindex) && link.mac == Some(mac))
        };
        if let Some(entry) = entry {
            let port = Device::new(bridge.netns, entry.ifindex);
            // Every port's own address is a local entry by itself; one that is no port's own was set by hand.
            let fixed = if entry.is_local() { !own_port(port) } else { entry.is_static() || entry.flags & 0x50 != 0 };
            // br_fdb_update moves every entry but a sticky one (NTF_STICKY) to the port by which the address is seen.
            let stays = entry.flags & 0x40 != 0 || !self.learned.contains_key(&(bridge, vlan, mac));
            if fixed && stays || entry.is_local() {
                return Some((port, entry.is_local(), fixed));
            }
            let learned = self.learned.get(&(bridge, vlan, mac)).copied().unwrap_or(port);
            return Some((learned, false, false));
        }
        self.learned.get(&(bridge, vlan, mac)).map(|port| (*port, false, false))
    }

    /// The port behind which a device with this address really is, and that device, if it is not behind the port given.
    fn owner_of(&self, inside: &Inside, mac: MacAddr, not: Option<Device>) -> Option<(Device, Device)> {
        let ports = self.ports_of(inside.bridge).into_iter().filter(|port| Some(*port) != not);
        ports.into_iter().find_map(|port| self.station_behind(port, mac).map(|station| (port, station)))
    }

    /// The station with this address behind a port.
    fn station_behind(&self, port: Device, mac: MacAddr) -> Option<Device> {
        let bridge = Device::new(port.netns, self.link(port)?.master?);
        let there = super::segment::behind(self.snapshot, bridge, port);
        there
            .into_iter()
            .find(|device| self.link(*device).is_some_and(|link| link.master.is_none() && link.mac == Some(mac)))
    }

    /// br_flood: every port that may have it; behind blocks, those that may not.
    fn flood(&mut self, trail: &Trail, inside: &Inside, frame: &Frame, kind: FloodKind) -> Vec<Branch> {
        let mut branches = Vec::new();
        for port in self.ports_of(inside.bridge) {
            branches.extend(self.forward_to(trail.clone(), inside, port, frame.clone(), Some(kind)));
        }
        for link in &self.netns(inside.bridge.netns).links {
            let device = Device::new(inside.bridge.netns, link.index);
            if inside.ingress.is_some()
                && Some(device) != inside.ingress
                && self.bridges_it_could_join(device).contains(&inside.bridge)
            {
                let mut guess = trail.clone();
                guess.block(Place::at(device, "br_flood"), Decision::NotAttached { bridge: Some(inside.bridge) });
                branches.extend(self.transmit(guess, device, frame.clone()));
            }
        }
        branches
    }

    /// should_deliver and what follows: one copy out of one port.
    fn forward_to(
        &mut self,
        mut trail: Trail,
        inside: &Inside,
        port: Device,
        mut frame: Frame,
        flood: Option<FloodKind>,
    ) -> Vec<Branch> {
        let settings = self.port(port);
        let function = if flood.is_some() { "br_flood" } else { "br_forward" };
        let place = || Place::at(port, function);
        if let Some(ingress) = inside.ingress {
            if ingress == port && !settings.hairpin {
                // Normal for a flood: only a packet that needs it tells whether it matters.
                trail.block(place(), Decision::BridgeHairpin { port });
            }
            let from = self.port(ingress);
            if from.isolated && settings.isolated && ingress != port {
                trail.block(place(), Decision::BridgeIsolated { from: ingress, to: port });
            }
        }
        if settings.state != FORWARDING && self.link(port).is_some_and(|link| link.is_up() && link.carrier) {
            trail.block(place(), Decision::BridgeState { port, state: settings.state, ingress: false });
        }
        match flood {
            Some(kind @ FloodKind::UnknownUnicast) if !settings.flood => {
                trail.block(place(), Decision::BridgeNoFlood { port, kind });
            }
            Some(kind @ FloodKind::Multicast) if !settings.mcast_flood => {
                trail.block(place(), Decision::BridgeNoFlood { port, kind });
            }
            Some(kind @ FloodKind::Broadcast) if !settings.bcast_flood => {
                trail.block(place(), Decision::BridgeNoFlood { port, kind });
            }
            _ => {}
        }
        if inside.answered && settings.neigh_suppress {
            return Vec::new();
        }
        let untagged = match inside.vlan {
            Vlan::Unfiltered | Vlan::Any => true,
            Vlan::Id(vid) => {
                let entry = self
                    .netns(port.netns)
                    .bridge_vlans
                    .iter()
                    .find(|vlan| vlan.ifindex == port.ifindex && vlan.vid == vid);
                if entry.is_none() {
                    trail.block(place(), Decision::BridgeVlan { port, vid: Some(vid), ingress: false });
                }
                entry.is_none_or(|entry| entry.untagged)
            }
        };
        for hook in [Hook::Forward, Hook::Postrouting] {
            if inside.ingress.is_none() && hook == Hook::Forward {
                continue;
            }
            if self.bridge_hook(&mut trail, hook, inside.bridge, inside.ingress, Some(port), &mut frame)
                == Verdict::Taken
            {
                return vec![Branch { trail, end: End::Dead }];
            }
        }
        if let (false, Vlan::Id(vid)) = (untagged, inside.vlan) {
            frame.tags.insert(0, (self.bridge_info(inside.bridge).vlan_protocol.max(0x8100), vid));
        }
        let mtu = self.link(port).map_or(u32::MAX, |link| link.mtu);
        // br_dev_queue_push_xmit: is_skb_forwardable leaves room for one VLAN tag.
        if frame.length() > mtu.saturating_add(4) {
            trail.block(
                Place::at(port, "br_dev_queue_push_xmit"),
                Decision::TooBig { len: frame.length(), mtu, icmp: false },
            );
        }
        trail.step(port, Action::BridgeForwarded { bridge: inside.bridge.ifindex, flooded: flood.is_some() });
        self.transmit(trail, port, frame)
    }

    /// br_pass_frame_up: the bridge's own namespace gets it on the bridge device.
    fn bridge_up(&mut self, mut trail: Trail, bridge: Device, vlan: Vlan, mut frame: Frame) -> Vec<Branch> {
        if let Vlan::Id(vid) = vlan {
            let netns = self.netns(bridge.netns);
            let entry = netns.bridge_vlans.iter().find(|vlan| vlan.ifindex == bridge.ifindex && vlan.vid == vid);
            match entry {
                None => trail.block(
                    Place::at(bridge, "br_pass_frame_up"),
                    Decision::BridgeVlan { port: bridge, vid: Some(vid), ingress: false },
                ),
                Some(entry) if !entry.untagged => {
                    frame.tags.insert(0, (self.bridge_info(bridge).vlan_protocol.max(0x8100), vid));
                }
                Some(_) => {}
            }
        }
        if self.bridge_hook(&mut trail, Hook::Input, bridge, None, None, &mut frame) == Verdict::Taken {
            return vec![Branch { trail, end: End::Dead }];
        }
        trail.step(bridge, Action::BridgeLocal { bridge: bridge.ifindex });
        self.receive(trail, bridge, frame)
    }

    /// br_do_proxy_suppress_arp and br_do_suppress_nd.
    fn suppress(&self, trail: &Trail, inside: &mut Inside, frame: &Frame) -> Option<Branch> {
        let Payload::Resolution(Resolution { reply: false, target, .. }) = frame.payload else { return None };
        let ports = self.ports_of(inside.bridge);
        let suppressing: BTreeSet<Device> =
            ports.iter().copied().filter(|port| self.port(*port).neigh_suppress).collect();
        let proxying = ports.iter().any(|port| self.port(*port).proxyarp || self.port(*port).proxyarp_wifi);
        if suppressing.is_empty() && !proxying {
            return None;
        }
        if inside.ingress.is_some_and(|port| suppressing.contains(&port)) {
            return None;
        }
        let netns = self.netns(inside.bridge.netns);
        let entry = netns
            .neighbours
            .iter()
            .find(|entry| entry.ifindex == inside.bridge.ifindex && entry.address == target && entry.is_valid())?;
        let lladdr = entry.lladdr?;
        let (port, local, _) = self.fdb(inside, lladdr)?;
        if !suppressing.is_empty() {
            inside.answered = true;
        }
        let settings = self.port(port);
        let ingress_proxies = inside.ingress.is_some_and(|ingress| self.port(ingress).proxyarp);
        let replies = !local && (suppressing.contains(&port) || settings.proxyarp_wifi) || ingress_proxies;
        replies.then(|| Branch { trail: trail.clone(), end: End::Answered { port, lladdr } })
    }

    /// br_nf_pre_routing_finish: a bridged packet whose destination was rewritten in PREROUTING, and whose new destination
    /// is behind this very bridge, is bridged there at once and not routed.
    fn bridged_dnat(&mut self, trail: &Trail, inside: &Inside, frame: &mut Frame) -> Option<Vec<Branch>> {
        let ingress = inside.ingress?;
        let Payload::Ip(packet) = &frame.payload else { return None };
        if frame.dst != self.mac(inside.bridge) || !self.bridge_calls_ip(inside.bridge, packet.dst.is_ipv6()) {
            return None;
        }
        let rewritten = matches!(trail.steps.last().map(|step| &step.action), Some(Action::Rewritten { from, to, .. }) if from.1 != to.1);
        if !rewritten {
            return None;
        }
        let dst = packet.dst;
        let netns = self.netns(inside.bridge.netns);
        let flow = super::fib::Flow {
            src: Some(packet.src),
            iif: Some(inside.bridge.ifindex),
            mark: packet.mark,
            ..super::fib::Flow::to(dst)
        };
        let found = super::fib::lookup(netns, &flow).ok()?;
        if found.nexthop.oif != Some(inside.bridge.ifindex)
            || netns.routes[found.route].kind != crate::model::snapshot::RouteKind::Unicast
        {
            return None;
        }
        let next = found.nexthop.gateway.unwrap_or(dst);
        let mac = self.mac_of(inside.bridge, next)?;
        frame.dst = mac;
        let (port, local, _) = self.fdb(inside, mac).or_else(|| self.port_of_mac(inside, mac))?;
        if local {
            return None;
        }
        let _ = ingress;
        Some(self.forward_to(trail.clone(), inside, port, frame.clone(), None))
    }

    fn port_of_mac(&self, inside: &Inside, mac: MacAddr) -> Option<(Device, bool, bool)> {
        let port = self
            .ports_of(inside.bridge)
            .into_iter()
            .find(|port| self.snapshot.peer(*port).is_some_and(|peer| self.mac(peer) == mac))?;
        Some((port, false, false))
    }

    /// Whether br_netfilter shows this bridge's IP packets to the IP hooks.
    pub fn bridge_calls_ip(&self, bridge: Device, ipv6: bool) -> bool {
        let netns = self.netns(bridge.netns);
        let info = self.bridge_info(bridge);
        if ipv6 {
            netns.sysctl("net.bridge.bridge-nf-call-ip6tables") == Some(1) || info.nf_call_ip6tables
        } else {
            netns.sysctl("net.bridge.bridge-nf-call-iptables") == Some(1) || info.nf_call_iptables
        }
    }
}

impl Vlan {
    fn id(self) -> Option<u16> {
        match self {
            Vlan::Id(vid) => Some(vid),
            Vlan::Unfiltered | Vlan::Any => None,
        }
    }
}
