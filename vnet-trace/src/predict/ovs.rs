//! Open vSwitch, as far as its port settings and plain flows decide. A flow that says anything but `drop`, `NORMAL`,
//! `FLOOD` or an output port is left to the switch itself: the walk notes its question ([`trace::question`]), and where the
//! answer is there already (`ofproto/trace`, see [`crate::model::ovs::OvsTrace`]) it decides. Else the bridge is opaque: the
//! frame is passed on as NORMAL would, with a mark on its way. Patch ports lead into the bridge at their other end.

use crate::model::exchange::{Action, Decision, Opaque, Place};
use crate::model::id::Device;
use crate::model::ovs::{OvsBridge, OvsPort};

use super::frame::{Branch, Carries, End, Frame, Payload, Trail};
use super::walk::Walk;

pub mod trace;

use trace::Answer;

/// Bridges that a frame comes through by patch ports, at the most.
const MOST_PATCHES: u8 = 8;

/// How a frame comes into a bridge.
#[derive(Clone, Copy)]
struct Entry<'a> {
    /// The device where the fault would be, if there is one.
    here: Option<Device>,
    /// The port it came in by.
    port: Option<&'a OvsPort>,
    /// OpenFlow's number of that port.
    in_port: Option<i32>,
    /// Patch ports passed.
    patches: u8,
}

impl<'a> Entry<'a> {
    fn by(device: Device, port: &'a OvsPort) -> Self {
        let interface = port.interfaces.iter().find(|interface| interface.device == Some(device));
        Self { here: Some(device), port: Some(port), in_port: interface.and_then(|found| found.ofport), patches: 0 }
    }
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
    pub fn ovs_receive(&mut self, trail: Trail, device: Device, frame: &Frame) -> Vec<Branch> {
        let Some((bridge, port)) = self.ovs_port(device) else {
            return vec![Branch { trail, end: End::OutOfSight(device) }];
        };
        self.ovs_switch(trail, bridge, Entry::by(device, port), frame)
    }

    /// The local port sends.
    pub fn ovs_internal_transmit(&mut self, trail: Trail, device: Device, frame: &Frame) -> Vec<Branch> {
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
        frame: &Frame,
    ) -> Vec<Branch> {
        let port =
            bridge.ports.iter().find(|port| port.interfaces.iter().any(|interface| interface.device == Some(device)));
        let unknown = Entry { here: Some(device), port: None, in_port: None, patches: 0 };
        self.ovs_switch(trail, bridge, port.map_or(unknown, |port| Entry::by(device, port)), frame)
    }

    /// A device beside an Open vSwitch bridge that looks as if it should have been one of its ports.
    pub fn ovs_unattached(&mut self, trail: &Trail, device: Device, frame: &Frame) -> Vec<Branch> {
        let mut branches = Vec::new();
        for bridge in self.ovs_bridges_it_could_join(device) {
            let mut guess = trail.clone();
            guess.block(Place::at(device, "netif_receive_skb"), Decision::NotAttached { bridge: ovs_local(bridge) });
            let nowhere = Entry { here: None, port: None, in_port: None, patches: 0 };
            branches.extend(self.ovs_switch(guess, bridge, nowhere, frame));
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

    fn ovs_switch(&mut self, mut trail: Trail, bridge: &'a OvsBridge, from: Entry<'a>, frame: &Frame) -> Vec<Branch> {
        let here = from.here.or_else(|| ovs_local(bridge));
        match self.ovs_decide(bridge, from.in_port, frame) {
            Answer::Normal => {}
            Answer::Drop { bridge, flow } => trail.block(at(here), Decision::Ovs { bridge, flow, vlan_port: None }),
            Answer::Unclear => {
                if let Some(device) = here {
                    trail.step(device, Action::Opaque(Opaque::Switch { bridge: bridge.name.clone() }));
                }
            }
            Answer::Output(ports) => {
                let targets = bridge.ports.iter().filter(|port| {
                    let numbers = port.interfaces.iter().filter_map(|interface| interface.ofport);
                    numbers.into_iter().any(|number| ports.contains(&number))
                });
                let mut branches = Vec::new();
                for port in targets {
                    branches.extend(self.ovs_out_by(trail.clone(), port, from, frame.clone()));
                }
                if branches.is_empty() {
                    branches.push(Branch { trail, end: End::Dead });
                }
                return branches;
            }
        }
        let vlan = from.port.map_or(0, |port| port.tag.unwrap_or(0));
        let vlan = frame.vid().unwrap_or(vlan);
        let mut branches = Vec::new();
        for port in &bridge.ports {
            if from.port.is_some_and(|own| own.name == port.name) {
                continue;
            }
            let mut copy = trail.clone();
            let refuses =
                || Decision::Ovs { bridge: bridge.name.clone(), flow: None, vlan_port: Some(port.name.clone()) };
            let fits = match port.tag {
                Some(tag) => tag == vlan,
                None => port.trunks.is_empty() || port.trunks.contains(&vlan),
            };
            if !fits {
                copy.block(at(here), refuses());
            }
            let mut out = frame.clone();
            out.tags.clear();
            if port.tag.is_none() && vlan != 0 {
                if fits && port.vlan_mode.as_deref() != Some("native-untagged") {
                    out.tags.push((0x8100, vlan));
                } else {
                    copy.block(at(here), refuses());
                }
            }
            branches.extend(self.ovs_out_by(copy, port, from, out));
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

    /// What the flows say, or the switch itself where they are not plain or could not be read.
    fn ovs_decide(&mut self, bridge: &OvsBridge, in_port: Option<i32>, frame: &Frame) -> Answer {
        let question = in_port.and_then(|in_port| trace::question(in_port, frame));
        let told = question.as_ref().and_then(|asked| bridge.traces.iter().find(|trace| trace.flow == *asked));
        let plain = if bridge.flows_unread { Answer::Unclear } else { decide(bridge, in_port, frame) };
        if let Some(asked) = question.filter(|_| told.is_none()) {
            let asked = (bridge.name.clone(), asked);
            if !self.switched.contains(&asked) {
                self.switched.push(asked);
            }
        }
        match (plain, told) {
            (Answer::Unclear, Some(told)) => trace::read(&told.text),
            (plain, _) => plain,
        }
    }

    /// Out by a port: through a patch into the next bridge, else by its device.
    fn ovs_out_by(&mut self, trail: Trail, port: &'a OvsPort, from: Entry<'a>, frame: Frame) -> Vec<Branch> {
        let Some((bridge, other, in_port)) = self.ovs_patched(port).filter(|_| from.patches < MOST_PATCHES) else {
            let device = port.interfaces.iter().find_map(|interface| interface.device);
            return device.map(|device| self.ovs_out(trail, device, frame)).unwrap_or_default();
        };
        let entry = Entry { here: from.here, port: Some(other), in_port, patches: from.patches + 1 };
        self.ovs_switch(trail, bridge, entry, &frame)
    }

    /// The bridge at the other end of a patch port, and the port there.
    fn ovs_patched(&self, port: &OvsPort) -> Option<(&'a OvsBridge, &'a OvsPort, Option<i32>)> {
        let interface = port.interfaces.iter().find(|interface| interface.kind == "patch")?;
        let peer = interface.options.iter().find(|(key, _)| key == "peer").map(|(_, peer)| peer)?;
        self.snapshot.ovs.iter().find_map(|bridge| {
            bridge.ports.iter().find_map(|port| {
                let other = port.interfaces.iter().find(|interface| interface.name == *peer)?;
                Some((bridge, port, other.ofport))
            })
        })
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

fn at(device: Option<Device>) -> Place {
    match device {
        Some(device) => Place::at(device, "ovs"),
        None => Place { netns: crate::model::id::NetnsId(0), device: None, function: Some("ovs".to_owned()) },
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
fn decide(bridge: &OvsBridge, in_port: Option<i32>, frame: &Frame) -> Answer {
    let mut flows: Vec<(i64, &str)> = bridge
        .flows
        .iter()
        .filter(|flow| flow.contains("actions="))
        .filter(|flow| !flow.contains("table=") || flow.contains("table=0,") || flow.contains("table=0 "))
        .map(|flow| (priority(flow), flow.as_str()))
        .collect();
    flows.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
    for (_, flow) in flows {
        let Some(matches) = flow_matches(flow, in_port, frame) else { return Answer::Unclear };
        if !matches {
            continue;
        }
        let actions = flow.split("actions=").nth(1).unwrap_or("").trim();
        return match actions {
            "drop" => Answer::Drop { bridge: bridge.name.clone(), flow: Some(flow.to_owned()) },
            "NORMAL" | "FLOOD" | "ALL" => Answer::Normal,
            _ => match actions.strip_prefix("output:").and_then(|port| port.parse().ok()) {
                Some(port) => Answer::Output(vec![port]),
                None => Answer::Unclear,
            },
        };
    }
    // No flow matches: a miss is dropped. A bridge without any flow and without fail_mode secure gets NORMAL by itself.
    Answer::Drop { bridge: bridge.name.clone(), flow: None }
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
