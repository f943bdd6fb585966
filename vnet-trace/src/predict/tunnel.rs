//! Tunnels: VXLAN (drivers/net/vxlan/vxlan_core.c `vxlan_xmit`, `vxlan_rcv`), Geneve, and the plain IP tunnels. The outer
//! packet is an IP packet like any other and walks through the same functions; what blocks it is marked as underlay.

use std::net::IpAddr;

use crate::model::exchange::{Action, Decision, Place, SourceProblem};
use crate::model::id::{Device, IfIndex, MacAddr, NetnsId};
use crate::model::snapshot::{FdbEntry, LinkKind, VxlanInfo};

use super::frame::{Branch, Carries, End, Frame, Packet, Payload, Trail};
use super::walk::Walk;

/// The outer packet of a tunnel over UDP.
pub struct Outer {
    /// Source, if configured.
    pub local: Option<IpAddr>,
    /// Destination.
    pub remote: IpAddr,
    /// UDP destination port.
    pub port: u16,
    /// VNI.
    pub vni: u32,
    /// Device that it is bound to.
    pub lower: Option<IfIndex>,
    /// Don't fragment.
    pub df: bool,
    /// TTL, 0 for the default.
    pub ttl: u8,
}

/// Bytes that VXLAN over IPv4 adds to the inner frame's network-layer length: Ethernet, VXLAN, UDP, IP.
const OVERHEAD_V4: u32 = 14 + 8 + 8 + 20;
/// The same over IPv6.
const OVERHEAD_V6: u32 = 14 + 8 + 8 + 40;

impl Walk<'_> {
    /// vxlan_xmit.
    #[expect(clippy::needless_pass_by_value, reason = "all transmit functions take the frame, and most consume it")]
    pub fn vxlan_transmit(&mut self, mut trail: Trail, device: Device, info: &VxlanInfo, frame: Frame) -> Vec<Branch> {
        if let Some(branch) = self.vxlan_proxy(&trail, device, info, &frame) {
            return vec![branch];
        }
        let entries = self.vxlan_fdb(device, frame.dst);
        let remotes: Vec<(IpAddr, u32, u16, Option<IfIndex>)> = entries
            .iter()
            .filter_map(|entry| {
                Some((entry.dst?, entry.vni.unwrap_or(info.vni), entry.port.unwrap_or(info.port), entry.via))
            })
            .chain(info.remote.filter(|_| entries.is_empty()).map(|remote| (remote, info.vni, info.port, None)))
            .collect();
        if remotes.is_empty() {
            trail.block(Place::at(device, "vxlan_xmit"), Decision::VxlanNoRemote { mac: frame.dst });
            // Behind the block: every tunnel end of this VNI and port that is in sight.
            let mut branches = Vec::new();
            for (end, _) in self.vxlan_ends(info.vni, info.port, device) {
                branches.extend(self.receive(trail.clone(), end, frame.clone()));
            }
            if branches.is_empty() {
                branches.push(Branch { trail, end: End::Dead });
            }
            return branches;
        }
        let mut branches = Vec::new();
        for (remote, vni, port, via) in remotes {
            let outer = Outer {
                local: info.local,
                remote,
                port,
                vni,
                lower: via.or(info.link),
                df: info.df == 1 || info.df == 2 && matches!(&frame.payload, Payload::Ip(packet) if packet.df),
                ttl: info.ttl,
            };
            if is_multicast(remote) {
                branches.extend(self.vxlan_group(&trail, device, &outer, &frame));
            } else {
                branches.extend(self.tunnel_out(trail.clone(), device, &outer, frame.clone()));
            }
        }
        branches
    }

    /// vxlan_find_mac, then the all-zero default entries.
    fn vxlan_fdb(&self, device: Device, mac: MacAddr) -> Vec<&FdbEntry> {
        let netns = self.netns(device.netns);
        let with = |mac: MacAddr| -> Vec<&FdbEntry> {
            netns
                .fdb
                .iter()
                .filter(|entry| entry.ifindex == device.ifindex && entry.mac == mac && entry.dst.is_some())
                .collect()
        };
        let exact = if mac.is_group() && mac == MacAddr::BROADCAST { Vec::new() } else { with(mac) };
        if exact.is_empty() { with(MacAddr::default()) } else { exact }
    }

    /// A tunnel with `proxy` answers address resolution from its neighbour table (arp_reduce).
    fn vxlan_proxy(&self, trail: &Trail, device: Device, info: &VxlanInfo, frame: &Frame) -> Option<Branch> {
        let Payload::Resolution(resolution) = &frame.payload else { return None };
        if !info.proxy || resolution.reply {
            return None;
        }
        let entry =
            self.netns(device.netns).neighbours.iter().find(|entry| {
                entry.ifindex == device.ifindex && entry.address == resolution.target && entry.is_valid()
            })?;
        Some(Branch { trail: trail.clone(), end: End::Answered { port: device, lladdr: entry.lladdr? } })
    }

    /// Tunnel devices with this VNI and port other than the sender, with their local address.
    fn vxlan_ends(&self, vni: u32, port: u16, not: Device) -> Vec<(Device, Option<IpAddr>)> {
        self.snapshot
            .devices()
            .filter(|(device, _)| *device != not)
            .filter_map(|(device, link)| match &link.kind {
                LinkKind::Vxlan(info) if info.vni == vni && info.port == port => Some((device, info.local)),
                _ => None,
            })
            .collect()
    }

    /// A multicast remote: every end that joined the group on a device in reach. The underlay's own flood is not walked.
    fn vxlan_group(&mut self, trail: &Trail, device: Device, outer: &Outer, frame: &Frame) -> Vec<Branch> {
        let mut branches = Vec::new();
        for (end, _) in self.vxlan_ends(outer.vni, outer.port, device) {
            let joined = matches!(self.link(end).map(|link| &link.kind), Some(LinkKind::Vxlan(info)) if info.remote == Some(outer.remote));
            if joined {
                let mut copy = trail.clone();
                copy.step(device, Action::Encapsulated { src: outer.local, dst: outer.remote, vni: outer.vni });
                copy.step(end, Action::Decapsulated);
                branches.extend(self.receive(copy, end, frame.clone()));
            }
        }
        if branches.is_empty() {
            branches.push(Branch { trail: trail.clone(), end: End::OutOfSight(device) });
        }
        branches
    }

    /// Sends the outer packet of a UDP tunnel.
    pub fn tunnel_out(&mut self, mut trail: Trail, device: Device, outer: &Outer, frame: Frame) -> Vec<Branch> {
        let overhead = if outer.remote.is_ipv6() { OVERHEAD_V6 } else { OVERHEAD_V4 };
        let packet = Packet {
            src: outer.local.unwrap_or(unspecified(outer.remote)),
            dst: outer.remote,
            ttl: if outer.ttl == 0 { 64 } else { outer.ttl },
            len: frame.length() + overhead,
            df: outer.df,
            adapts: false,
            mark: 0,
            tos: 0,
            carries: Carries::Tunnel { port: outer.port, vni: outer.vni, from: device, inner: Box::new(frame) },
            stale_checksum: None,
            ipsec: false,
            flow: None,
        };
        trail.step(device, Action::Encapsulated { src: outer.local, dst: outer.remote, vni: outer.vni });
        self.underlay(trail, device, packet, outer.lower)
    }

    /// Sends the outer packet of a tunnel without UDP.
    pub fn plain_tunnel_out(
        &mut self,
        mut trail: Trail,
        device: Device,
        kind: &str,
        local: Option<IpAddr>,
        remote: IpAddr,
        frame: Frame,
    ) -> Vec<Branch> {
        let (protocol, overhead) = match kind {
            "ipip" => (4, 20),
            "sit" => (41, 20),
            "ip6tnl" | "ipip6" => (if frame.ethertype() == 0x0800 { 4 } else { 41 }, 40),
            "gretap" | "ip6gretap" => (47, 38),
            _ => (47, 24),
        };
        let packet = Packet {
            src: local.unwrap_or(unspecified(remote)),
            dst: remote,
            ttl: 64,
            len: frame.length() + overhead,
            df: false,
            adapts: false,
            mark: 0,
            tos: 0,
            carries: Carries::Plain { protocol, from: device, inner: Box::new(frame) },
            stale_checksum: None,
            ipsec: false,
            flow: None,
        };
        trail.step(device, Action::Encapsulated { src: local, dst: remote, vni: 0 });
        self.underlay(trail, device, packet, None)
    }

    /// The outer packet walks from the tunnel's namespace on; where it is delivered, the inner frame goes on.
    fn underlay(&mut self, mut trail: Trail, device: Device, packet: Packet, lower: Option<IfIndex>) -> Vec<Branch> {
        trail.depth += 1;
        let visited = std::mem::take(&mut trail.visited);
        let passed = std::mem::take(&mut self.passed);
        let netns = self.netns(device.netns);
        if !packet.src.is_unspecified() && !super::fib::is_local(netns, packet.src) {
            // The output look-up demands that a given source is an own address (ip_route_output_key_hash_rcu).
            trail.block(
                Place::at(device, "ip_route_output_key_hash_rcu"),
                Decision::SourceUnusable { src: packet.src.to_string(), why: SourceProblem::NotOwn },
            );
        }
        let inner = match &packet.carries {
            Carries::Tunnel { port, vni, inner, .. } => Some((*vni, *port, (**inner).clone())),
            _ => None,
        };
        let delivered = self.send_packet(&mut trail, device.netns, packet, lower);
        self.passed = passed;
        trail.visited = visited;
        trail.depth -= 1;
        match delivered {
            super::host::Delivery::Here { device: at, packet } => self.tunnel_in(trail, at, packet),
            super::host::Delivery::OutOfSight(last) => vec![Branch { trail, end: End::OutOfSight(last) }],
            super::host::Delivery::Nowhere => {
                // Behind what stops the outer packet: every tunnel end that it could be meant for.
                let mut branches = Vec::new();
                if let Some((vni, port, inner)) = inner.filter(|_| !trail.blocks.is_empty()) {
                    for (end, _) in self.vxlan_ends(vni, port, device) {
                        let mut copy = trail.clone();
                        copy.step(end, Action::Decapsulated);
                        branches.extend(self.receive(copy, end, inner.clone()));
                    }
                }
                if branches.is_empty() {
                    branches.push(Branch { trail, end: End::Dead });
                }
                branches
            }
        }
    }

    /// The outer packet was delivered in a namespace: who takes the inner frame?
    fn tunnel_in(&mut self, mut trail: Trail, at: Device, packet: Packet) -> Vec<Branch> {
        let (src, dst) = (packet.src, packet.dst);
        match packet.carries {
            Carries::Tunnel { port, vni, from, inner } => {
                let here = self.udp_tunnels(at.netns);
                let listening = here.iter().any(|(_, _, own)| *own == port);
                let mut takers: Vec<Device> =
                    here.iter().filter(|(_, id, own)| *id == vni && *own == port).map(|(device, ..)| *device).collect();
                if takers.is_empty() {
                    trail.depth += 1;
                    if listening {
                        let known = here.iter().filter(|(_, _, own)| *own == port).map(|(_, id, _)| *id).collect();
                        trail.block(Place::at(at, "vxlan_rcv"), Decision::VxlanVni { vni, known });
                    } else {
                        let expected: Vec<u16> = here.iter().map(|(_, _, own)| *own).collect();
                        let function = if dst.is_ipv6() { "__udp6_lib_rcv" } else { "__udp4_lib_rcv" };
                        trail.block(Place::at(at, function), Decision::VxlanPort { port, expected });
                    }
                    trail.depth -= 1;
                    // What mending would do: the tunnel that is there takes it.
                    takers =
                        here.iter().filter(|(_, id, _)| *id == vni || listening).map(|(device, ..)| *device).collect();
                }
                let _ = from;
                let Some(device) = takers.first().copied() else {
                    return vec![Branch { trail, end: End::Dead }];
                };
                if inner.src == self.mac(device) {
                    trail.block(
                        Place::at(device, "vxlan_rcv"),
                        Decision::DuplicateMac { mac: inner.src, owners: vec![from, device] },
                    );
                }
                trail.step(device, Action::Decapsulated);
                self.receive(trail, device, *inner)
            }
            Carries::Plain { inner, .. } => {
                let taker = self.snapshot.devices().find(|(device, link)| {
                    device.netns == at.netns
                        && matches!(&link.kind, LinkKind::Tunnel { local, remote, .. }
                            if local.is_none_or(|local| local == dst) && remote.is_none_or(|remote| remote == src))
                });
                match taker.map(|(device, _)| device) {
                    Some(device) => {
                        trail.step(device, Action::Decapsulated);
                        self.receive(trail, device, *inner)
                    }
                    None => vec![Branch { trail, end: End::Dead }],
                }
            }
            _ => vec![Branch { trail, end: End::Dead }],
        }
    }

    /// UDP tunnel devices of a namespace: device, VNI, port.
    fn udp_tunnels(&self, netns: NetnsId) -> Vec<(Device, u32, u16)> {
        self.netns(netns)
            .links
            .iter()
            .filter_map(|link| match &link.kind {
                LinkKind::Vxlan(info) => Some((Device::new(netns, link.index), info.vni, info.port)),
                LinkKind::Geneve { vni, port, .. } => Some((Device::new(netns, link.index), *vni, *port)),
                _ => None,
            })
            .collect()
    }
}

fn is_multicast(address: IpAddr) -> bool {
    address.is_multicast()
}

fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    }
}
