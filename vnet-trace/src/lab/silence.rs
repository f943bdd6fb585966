//! Shows that nothing is sent: captures on every device of every namespace of a lab, while the tool foretells.
//!
//! Heard is what an asker would cause: ICMP, ARP, neighbour solicitation, TCP, datagrams to the port that is
//! asked. What a network does by itself is let pass: MLD, router solicitation, duplicate address detection, spanning tree,
//! the tunnels that carry these, and what their other ends say about them (port unreachable).
//!
//! A tunnel that carries such a packet has to ask for its next hop like anybody else. So an ARP request or a neighbour
//! solicitation is the network's own where the namespace was asking for that address before anybody listened, or where
//! something that is no question went into or through a tunnel before it. Nothing is missed by that: a question that goes
//! through a tunnel is heard at the tunnel's device, before it is wrapped.

use std::collections::BTreeSet;
use std::net::IpAddr;

use pcap::{Active, BpfProgram, Capture, Linktype};

use crate::collect::netns::run_in;
use crate::collect::snapshot::{self, Depth, Reach, Request};
use crate::model::id::IfIndex;
use crate::model::snapshot::Netns;
use crate::packet::{IcmpMessage, Net, Packet, Payload, parse_network};

/// The packets that would belong to a question.
const EXPRESSION: &str = "arp or (icmp and icmp[0] != 3) or tcp or (icmp6 and (ip6[40] = 128 or ip6[40] = 129 or (ip6[40] = 135 and not src host ::)))";

/// The header that the device `any` puts before packets: ethertype at 0, ifindex at 4, 20 bytes (LINKTYPE_LINUX_SLL2).
const COOKED: Linktype = Linktype(276);
const COOKED_BYTES: usize = 20;

/// NUD_INCOMPLETE, NUD_DELAY, NUD_PROBE: the kernel asks, or will by itself.
const ASKING: u16 = 0x01 | 0x08 | 0x10;

/// One namespace's ear.
struct Ear {
    netns: String,
    handle: Capture<Active>,
    /// Tunnel devices.
    tunnels: BTreeSet<IfIndex>,
    /// Addresses that were being asked for before.
    asked_for: BTreeSet<IpAddr>,
}

/// Running captures.
pub struct Silence {
    ears: Vec<Ear>,
    deaf: Vec<String>,
    question: Option<BpfProgram>,
}

impl Silence {
    /// Begins to listen in the lab's root and in all its named namespaces; also for datagrams to a port.
    pub fn listen(port: Option<u16>) -> Self {
        let datagrams = port.map(|port| format!(" or udp port {port}")).unwrap_or_default();
        let expression = format!("{EXPRESSION}{datagrams}");
        let mut silence = Self { ears: Vec::new(), deaf: Vec::new(), question: None };
        match Capture::dead(COOKED).and_then(|dead| dead.compile(&expression, true)) {
            Ok(program) => silence.question = Some(program),
            Err(error) => silence.deaf.push(format!("cannot compile {expression}: {error}")),
        }
        let wiring = Request { reach: Reach::Everything, depth: Depth::Wiring, ..Request::default() };
        let taken = match snapshot::take(&wiring) {
            Ok(taken) => taken,
            Err(error) => {
                silence.deaf.push(format!("the network cannot be read: {error}"));
                return silence;
            }
        };
        for netns in taken.snapshot.namespaces.iter().filter(|netns| netns.named || netns.path.is_none()) {
            let opened = taken.handle(netns.id).map(|handle| run_in(handle, open));
            match opened {
                Some(Ok(Ok(handle))) => silence.ears.push(Ear::new(netns, handle)),
                Some(Ok(Err(error))) => silence.deaf.push(format!("cannot listen in {}: {error}", netns.name)),
                Some(Err(error)) => silence.deaf.push(format!("cannot listen in {}: {error}", netns.name)),
                None => silence.deaf.push(format!("cannot listen in {}: it cannot be entered", netns.name)),
            }
        }
        silence
    }

    /// What was heard, one line each; also the reasons for which nothing could be.
    pub fn heard(mut self) -> Vec<String> {
        let mut heard = std::mem::take(&mut self.deaf);
        for ear in &mut self.ears {
            if let Some(question) = &self.question {
                ear.listen(question, &mut heard);
            }
        }
        heard.truncate(8);
        heard
    }
}

impl Ear {
    fn new(netns: &Netns, handle: Capture<Active>) -> Self {
        let tunnels = netns.links.iter().filter(|link| link.is_tunnel()).map(|link| link.index).collect();
        let asking = netns.neighbours.iter().filter(|neighbour| neighbour.state & ASKING != 0);
        let asked_for = asking.map(|neighbour| neighbour.address).collect();
        Self { netns: netns.name.clone(), handle, tunnels, asked_for }
    }

    fn listen(&mut self, question: &BpfProgram, heard: &mut Vec<String>) {
        let mut carries = false;
        while let Ok(frame) = self.handle.next_packet() {
            let Some((ifindex, packet)) = cooked(frame.data) else { continue };
            if !question.filter(frame.data) {
                let wrapped = packet.as_ref().is_some_and(|packet| packet.tunnel().is_some());
                carries |= wrapped || self.tunnels.contains(&ifindex);
                continue;
            }
            let target = packet.as_ref().and_then(neighbour);
            if target.is_some_and(|address| carries || self.asked_for.contains(&address)) {
                continue;
            }
            let bytes: String = frame.data.iter().take(64).map(|byte| format!("{byte:02x}")).collect();
            heard.push(format!("in {}: {bytes}", self.netns));
        }
        match self.handle.stats() {
            Ok(stats) if stats.dropped == 0 => {}
            Ok(stats) => heard.push(format!("in {}: {} packets could not be heard", self.netns, stats.dropped)),
            Err(error) => heard.push(format!("in {}: {error}", self.netns)),
        }
    }
}

/// The device and the packet of a frame of the device `any`. None where it is cut off.
fn cooked(bytes: &[u8]) -> Option<(IfIndex, Option<Packet>)> {
    let (header, payload) = bytes.split_at_checked(COOKED_BYTES)?;
    let ethertype = u16::from_be_bytes(header[0..2].try_into().ok()?);
    let ifindex = u32::from_be_bytes(header[4..8].try_into().ok()?);
    Some((IfIndex(ifindex), parse_network(ethertype, payload).ok()))
}

/// The address that an ARP request, a neighbour solicitation or the answer to one is about.
fn neighbour(packet: &Packet) -> Option<IpAddr> {
    match &packet.net {
        Net::Arp(arp) if arp.operation == 1 => Some(arp.target.into()),
        Net::Arp(arp) => Some(arp.sender.into()),
        Net::Ip(ip) => match &ip.payload {
            Payload::Icmp(icmp) => match &icmp.message {
                IcmpMessage::NeighbourSolicitation { target, .. }
                | IcmpMessage::NeighbourAdvertisement { target, .. } => Some((*target).into()),
                _ => None,
            },
            _ => None,
        },
        Net::Other(_) => None,
    }
}

fn open() -> Result<Capture<Active>, pcap::Error> {
    let inactive = Capture::from_device("any")?.immediate_mode(true).snaplen(192).buffer_size(1 << 20);
    let mut handle = inactive.open()?.setnonblock()?;
    handle.set_datalink(COOKED)?;
    Ok(handle)
}
