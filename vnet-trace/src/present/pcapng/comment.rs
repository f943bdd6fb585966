//! What is written beside a captured packet: `echo request 1, seen 3 of 8, hop 2 of 3: into ns2 by eth0`.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::model::exchange::{Exchange, Fate, Role};
use crate::model::frame::Direction;
use crate::model::recording::Recording;
use crate::packet::TunnelKind;
use crate::packet::sightings::Sighting;
use crate::present::names::Names;

/// The comments, by the number of the frame.
pub fn of(sightings: &[Sighting], recording: &Recording, observed: &Exchange) -> BTreeMap<usize, String> {
    let names = Names::of(recording);
    let mut packets: BTreeMap<u64, Vec<&Sighting>> = BTreeMap::new();
    for sighting in sightings {
        packets.entry(sighting.number).or_default().push(sighting);
    }
    let mut comments = BTreeMap::new();
    for ways in packets.values() {
        let netns_at: Vec<_> =
            ways.iter().filter_map(|way| Some(recording.frames.get(way.frame)?.device.netns)).collect();
        // A hop is a stretch in one namespace.
        let hop_of = |at: usize| netns_at.iter().take(at + 1).collect::<Vec<_>>().chunk_by(|a, b| a == b).count();
        let hops = hop_of(ways.len());
        for (at, way) in ways.iter().enumerate() {
            let Some(frame) = recording.frames.get(way.frame) else { continue };
            let device = names.device(frame.device.netns, frame.device.ifindex);
            let netns = names.netns(frame.device.netns);
            let place = match (frame.direction, netns) {
                (Direction::In, ".") => format!("in by {device}"),
                (Direction::In, netns) => format!("into {netns} by {device}"),
                (Direction::Out, ".") => format!("out by {device}"),
                (Direction::Out, netns) => format!("out of {netns} by {device}"),
                (Direction::Unknown, ".") => format!("at {device}"),
                (Direction::Unknown, netns) => format!("at {device} in {netns}"),
            };
            let mut text = title(way);
            let (seen, all, hop) = (at + 1, ways.len(), hop_of(at));
            // Writing to a String cannot fail.
            let _ = write!(text, ", seen {seen} of {all}, hop {hop} of {hops}: {place}");
            if at + 1 == ways.len() {
                text.push_str(&ending(way, observed, names));
            }
            comments.insert(way.frame, text);
        }
    }
    comments
}

/// What the packet is.
fn title(way: &Sighting) -> String {
    let inner = way.packet.tunnel().map_or(&way.packet, |tunnel| &tunnel.inner);
    let is_v6 = inner.ip().is_some_and(|ip| ip.src.is_ipv6());
    let mut text = match (way.identity.role, is_v6) {
        (Role::ArpRequest, false) => "ARP request",
        (Role::ArpRequest, true) => "neighbour solicitation",
        (Role::ArpReply, false) => "ARP reply",
        (Role::ArpReply, true) => "neighbour advertisement",
        (Role::Request, _) => "request",
        (Role::Reply, _) => "reply",
        (Role::IcmpError, _) if way.identity.about == Some(Role::Reply) => "ICMP error about reply",
        (Role::IcmpError, _) => "ICMP error about request",
        (Role::Reset, _) => "refusal",
    }
    .to_owned();
    if let Some(seq) = way.identity.seq {
        let _ = write!(text, " {seq}");
    }
    if let Some(part) = inner.ip().and_then(|ip| ip.fragment) {
        let _ = write!(text, " (fragment from byte {})", part.offset);
    }
    if let Some(tunnel) = way.packet.tunnel() {
        let kind = match tunnel.kind {
            TunnelKind::Vxlan => "VXLAN",
            TunnelKind::Geneve => "Geneve",
            TunnelKind::Gre => "GRE",
            TunnelKind::IpInIp => "IP",
        };
        let _ = write!(text, " in {kind}");
        if let Some(vni) = tunnel.vni {
            let _ = write!(text, " {vni}");
        }
    }
    text
}

/// What the reconstruction says about the end of this packet, after its last sighting.
fn ending(way: &Sighting, observed: &Exchange, names: Names<'_>) -> String {
    let journey = observed.journeys.iter().find(|journey| {
        journey.role == way.identity.role && journey.seq == way.identity.seq && way.identity.seq.is_some()
    });
    match journey.map(|journey| &journey.fate) {
        Some(Fate::Delivered { .. }) => "; delivered".to_owned(),
        Some(Fate::Lost(loss)) => format!("; last seen here, lost at {}", names.place(&loss.place)),
        Some(Fate::OutOfSight { .. }) => "; leaves our sight".to_owned(),
        Some(Fate::Cut { .. }) => "; last seen here".to_owned(),
        None => String::new(),
    }
}
