//! Open vSwitch, as far as its port settings and plain flows decide. A flow that says anything but `drop`, `NORMAL`,
//! `FLOOD` or an output port makes the bridge opaque: the frame is then passed on as NORMAL would, with a mark on its way.

use crate::model::exchange::{Action, Decision, Opaque, Place};
use crate::model::id::Device;
use crate::model::ovs::{OvsBridge, OvsPort};

use super::frame::{Branch, Carries, End, Frame, Payload, Trail};
use super::walk::Walk;

/// What a flow table says of a frame.
enum Flow<'a> {
    Normal,
    Drop(Option<&'a str>),
    Output(i32),
    Unclear,
}

impl<'a> Walk<'a> {
    /// The bridge and port that a device is an interface of.
    pub fn ovs_port(&self, device: Device) -> Option<(&'a OvsBridge, &'a OvsPort)> {
        self.snapshot.ovs.iter().find_map(|bridge| {
            let port = bridge.ports.iter().find(|port| {
                port.interfaces.iter().any(|interface| interface.device == Some(device) && interface.kind != "internal")
            })?;
            Some((bridge, port))
        })
    }

    /// The bridge whose local (internal) port a device is.
    pub fn ovs_bridge_of(&self, device: Device) -> Option<&'a OvsBridge> {
        self.snapshot.ovs.iter().find(|bridge| {
            bridge.ports.iter().any(|port| {
                port.interfaces.iter().any(|interface| interface.device == Some(device) && interface.kind == "internal")
            })
        })
    }

    /// A frame comes in by a port.
    pub fn ovs_receive(&mut self, trail: Trail, device: Device, frame: Frame) -> Vec<Branch> {
        let Some((bridge, port)) = self.ovs_port(device) else {
            return vec![Branch { trail, end: End::OutOfSight(device) }];
        };
        self.ovs_switch(trail, bridge, Some((device, port)), frame)
    }

    /// The local port sends.
    pub fn ovs_internal_transmit(&mut self, trail: Trail, device: Device, frame: Frame) -> Vec<Branch> {
        match self.ovs_bridge_of(device) {
            Some(bridge) => self.ovs_local_transmit(trail, bridge, device, frame),
            None => vec![Branch { trail, end: End::OutOfSight(device) }],
        }
    }

    /// As above, for a userspace datapath whose local port is a tap.
    pub fn ovs_local_transmit(
        &mut self,
        trail: Trail,
        bridge: &'a OvsBridge,
        device: Device,
        frame: Frame,
    ) -> Vec<Branch> {
        let port =
            bridge.ports.iter().find(|port| port.interfaces.iter().any(|interface| interface.device == Some(device)));
        self.ovs_switch(trail, bridge, port.map(|port| (device, port)), frame)
    }

    /// A device beside an Open vSwitch bridge that looks as if it should have been one of its ports.
    pub fn ovs_unattached(&mut self, trail: &Trail, device: Device, frame: &Frame) -> Vec<Branch> {
        let mut branches = Vec::new();
        for bridge in self.ovs_bridges_it_could_join(device) {
            let mut guess = trail.clone();
            guess.block(Place::at(device, "netif_receive_skb"), Decision::NotAttached { bridge: ovs_local(bridge) });
            branches.extend(self.ovs_switch(guess, bridge, None, frame.clone()));
        }
        branches
    }

    fn ovs_bridges_it_could_join(&self, device: Device) -> Vec<&'a OvsBridge> {
        let netns = self.netns(device.netns);
        let fits = self
            .link(device)
            .is_some_and(|link| matches!(link.kind, crate::model::snapshot::LinkKind::Veth) && link.master.is_none())
            && !netns.addresses_of(device.ifindex).any(|entry| entry.address.is_ipv4())
            && self.ovs_port(device).is_none()
            && self.snapshot.uppers(device).is_empty();
        if !fits {
            return Vec::new();
        }
        let here = |bridge: &&OvsBridge| {
            bridge
                .ports
                .iter()
                .flat_map(|port| &port.interfaces)
                .any(|interface| interface.device.is_some_and(|other| other.netns == device.netns))
        };
        self.snapshot.ovs.iter().filter(here).collect()
    }

    fn ovs_switch(
        &mut self,
        mut trail: Trail,
        bridge: &'a OvsBridge,
        from: Option<(Device, &'a OvsPort)>,
        frame: Frame,
    ) -> Vec<Branch> {
        let in_port = from.and_then(|(device, port)| {
            port.interfaces
                .iter()
                .find(|interface| interface.device == Some(device))
                .and_then(|interface| interface.ofport)
        });
        let place = |device: Option<Device>| match device {
            Some(device) => Place::at(device, "ovs"),
            None => Place { netns: crate::model::id::NetnsId(0), device: None, function: Some("ovs".to_owned()) },
        };
        let here = from.map(|(device, _)| device).or_else(|| ovs_local(bridge));
        match decide(bridge, in_port, &frame) {
            Flow::Normal => {}
            Flow::Drop(flow) => trail.block(
                place(here),
                Decision::Ovs { bridge: bridge.name.clone(), flow: flow.map(str::to_owned), vlan_port: None },
            ),
            Flow::Unclear => {
                if let Some(device) = here {
                    trail.step(device, Action::Opaque(Opaque::Switch { bridge: bridge.name.clone() }));
                }
            }
            Flow::Output(number) => {
                let target = bridge
                    .ports
                    .iter()
                    .flat_map(|port| &port.interfaces)
                    .find(|interface| interface.ofport == Some(number));
                return match target.and_then(|interface| interface.device) {
                    Some(device) => self.ovs_out(trail, device, frame),
                    None => vec![Branch { trail, end: End::Dead }],
                };
            }
        }
        let vlan = from.map_or(0, |(_, port)| port.tag.unwrap_or(0));
        let vlan = frame.vid().unwrap_or(vlan);
        let mut branches = Vec::new();
        for port in &bridge.ports {
            if from.is_some_and(|(_, own)| own.name == port.name) {
                continue;
            }
            for device in port.interfaces.iter().filter_map(|interface| interface.device).take(1) {
                let mut copy = trail.clone();
                let fits = match port.tag {
                    Some(tag) => tag == vlan,
                    None => port.trunks.is_empty() || port.trunks.contains(&vlan),
                };
                if !fits {
                    copy.block(
                        place(here),
                        Decision::Ovs { bridge: bridge.name.clone(), flow: None, vlan_port: Some(port.name.clone()) },
                    );
                }
                let mut out = frame.clone();
                out.tags.clear();
                if port.tag.is_none() && vlan != 0 {
                    if fits && port.vlan_mode.as_deref() != Some("native-untagged") {
                        out.tags.push((0x8100, vlan));
                    } else {
                        copy.block(
                            place(here),
                            Decision::Ovs {
                                bridge: bridge.name.clone(),
                                flow: None,
                                vlan_port: Some(port.name.clone()),
                            },
                        );
                    }
                }
                branches.extend(self.ovs_out(copy, device, out));
            }
        }
        let netns = self.netns(here.map_or(crate::model::id::NetnsId(0), |device| device.netns));
        for link in &netns.links {
            let device = Device::new(netns.id, link.index);
            if Some(device) != here
                && self.ovs_bridges_it_could_join(device).iter().any(|other| other.name == bridge.name)
            {
                let mut guess = trail.clone();
                guess.block(Place::at(device, "ovs"), Decision::NotAttached { bridge: ovs_local(bridge) });
                branches.extend(self.transmit(guess, device, frame.clone()));
            }
        }
        branches
    }

    /// Out by a port: the local port receives, others transmit.
    fn ovs_out(&mut self, trail: Trail, device: Device, frame: Frame) -> Vec<Branch> {
        if self.ovs_bridge_of(device).is_some() {
            self.receive(trail, device, frame)
        } else {
            self.transmit(trail, device, frame)
        }
    }
}

/// The device of a bridge's local port.
fn ovs_local(bridge: &OvsBridge) -> Option<Device> {
    bridge
        .ports
        .iter()
        .flat_map(|port| &port.interfaces)
        .find(|interface| interface.name == bridge.name)
        .and_then(|interface| interface.device)
}

/// The first table, by priority.
fn decide<'a>(bridge: &'a OvsBridge, in_port: Option<i32>, frame: &Frame) -> Flow<'a> {
    let mut flows: Vec<(i64, &'a str)> = bridge
        .flows
        .iter()
        .filter(|flow| flow.contains("actions="))
        .filter(|flow| !flow.contains("table=") || flow.contains("table=0,") || flow.contains("table=0 "))
        .map(|flow| (priority(flow), flow.as_str()))
        .collect();
    flows.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
    for (_, flow) in flows {
        let Some(matches) = flow_matches(flow, in_port, frame) else { return Flow::Unclear };
        if !matches {
            continue;
        }
        let actions = flow.split("actions=").nth(1).unwrap_or("").trim();
        return match actions {
            "drop" => Flow::Drop(Some(flow)),
            "NORMAL" | "FLOOD" | "ALL" => Flow::Normal,
            _ => match actions.strip_prefix("output:").and_then(|port| port.parse().ok()) {
                Some(port) => Flow::Output(port),
                None => Flow::Unclear,
            },
        };
    }
    // No flow matches: a miss is dropped. A bridge without any flow and without fail_mode secure gets NORMAL by itself.
    Flow::Drop(None)
}

fn priority(flow: &str) -> i64 {
    flow.split("priority=")
        .nth(1)
        .and_then(|rest| rest.split([',', ' ']).next())
        .and_then(|text| text.parse().ok())
        .unwrap_or(32768)
}

/// Whether a flow's match takes a frame; None if a word of it is not known here.
fn flow_matches(flow: &str, in_port: Option<i32>, frame: &Frame) -> Option<bool> {
    let head = flow.split("actions=").next().unwrap_or("");
    let mut all = true;
    for word in head.split([',', ' ']).map(str::trim).filter(|word| !word.is_empty()) {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let arp = matches!(frame.payload, Payload::Resolution(_)) && frame.ethertype() == 0x0806;
        let ipv4 = frame.ethertype() == 0x0800;
        let ipv6 = frame.ethertype() == 0x86dd;
        let protocol = match &frame.payload {
            Payload::Ip(packet) => packet.protocol(),
            Payload::Resolution(_) if ipv6 => 58,
            Payload::Resolution(_) => 0,
        };
        let address = |source: bool| match &frame.payload {
            Payload::Ip(packet) => Some(if source { packet.src } else { packet.dst }),
            Payload::Resolution(resolution) => {
                if source {
                    resolution.sender
                } else {
                    Some(resolution.target)
                }
            }
        };
        let within = |source: bool| -> Option<bool> {
            let net: ipnet::IpNet =
                value.parse().or_else(|_| value.parse::<std::net::IpAddr>().map(ipnet::IpNet::from)).ok()?;
            Some(address(source).is_some_and(|address| net.contains(&address)))
        };
        let fits = match key {
            "cookie" | "duration" | "table" | "n_packets" | "n_bytes" | "idle_age" | "hard_age" | "priority"
            | "idle_timeout" | "hard_timeout" | "send_flow_rem" | "reset_counts" => true,
            "ip" => ipv4,
            "ipv6" => ipv6,
            "arp" => arp,
            "icmp" => ipv4 && protocol == 1,
            "icmp6" => ipv6 && protocol == 58,
            "tcp" => ipv4 && protocol == 6,
            "udp" => ipv4 && protocol == 17,
            "in_port" => match (in_port, value.parse::<i32>().ok()) {
                (Some(port), Some(wanted)) => port == wanted,
                // Named ports are printed with quotes; the number is then not there to compare.
                _ => return None,
            },
            "dl_src" => value.parse() == Ok(frame.src),
            "dl_dst" => value.parse() == Ok(frame.dst),
            "nw_src" | "arp_spa" | "ipv6_src" => within(true)?,
            "nw_dst" | "arp_tpa" | "ipv6_dst" => within(false)?,
            "nw_proto" => value.parse::<u8>().ok()? == protocol,
            "icmp_type" => match &frame.payload {
                Payload::Ip(packet) => {
                    let kind = match packet.carries {
                        Carries::EchoRequest(_) => {
                            if ipv4 {
                                8
                            } else {
                                128
                            }
                        }
                        Carries::EchoReply(_) => {
                            if ipv4 {
                                0
                            } else {
                                129
                            }
                        }
                        _ => 255,
                    };
                    value.parse::<u8>().ok()? == kind
                }
                Payload::Resolution(_) => false,
            },
            "dl_type" => u16::from_str_radix(value.trim_start_matches("0x"), 16).ok()? == frame.ethertype(),
            "dl_vlan" => value.parse::<u16>().ok() == frame.vid(),
            _ => return None,
        };
        all &= fits;
        if !all {
            return Some(false);
        }
    }
    Some(all)
}
