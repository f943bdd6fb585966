//! The captured packets as one pcapng file (draft-ietf-opsawg-pcapng), for Wireshark and its relatives.
//!
//! There is an interface for every captured device, called as people call it: `ns1/veth0`, or `veth0` in the
//! unnamed namespace. Every packet carries a comment that says what it is and where on its way it was seen, its direction,
//! and an `epb_packetid`, which is the same wherever the same packet was seen (see [`sightings`]), so that
//! `frame.packet_id` follows one packet through all namespaces. Names of namespaces and containers stand for their
//! addresses in a name resolution block.
//!
//! Times are those of the wall clock; a recording that does not know it counts from the start of the machine.
//!
//! Wireshark's analysis of TCP takes a packet that it sees again for a retransmission: for such files
//! `-o tcp.analyze_sequence_numbers:false` helps.
//!
//! Reading captures of others is the business of another file, with [`sightings`] as its beginning.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::IpAddr;

use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::pcapng::blocks::name_resolution::{Ipv4Record, Ipv6Record, NameResolutionBlock, Record};
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::pcapng::{PcapNgBlock, PcapNgWriter};
use pcap_file::{DataLink, Endianness, PcapError};

use super::names::Names;
use crate::model::exchange::Exchange;
use crate::model::frame::{Direction, Frame, LinkLayer};
use crate::model::id::{Device, MacAddr};
use crate::model::recording::Recording;
use crate::model::snapshot::{LinkKind, Snapshot};
use crate::packet::identity::Key;
use crate::packet::sightings::sightings;

mod block;
mod comment;
pub mod stream;

use block::EnhancedPacket;

/// `if_tsresol`: units of 10 to the power of -9 seconds.
const NANOSECONDS: u8 = 9;

/// Bytes of a frame that captures keep at most. Only a hint to readers.
const SNAPLEN: u32 = 262_144;

/// Writes the frames of a recording. The exchange, as it was seen, says how the packets ended.
pub fn write(recording: &Recording, observed: &Exchange, out: impl Write) -> io::Result<()> {
    let names = Names::of(recording);
    let interfaces = interfaces(recording);
    let section = section(&recording.kernel, &recording.tool);
    let mut writer = PcapNgWriter::with_section_header(out, section).map_err(as_io)?;
    for (device, link) in interfaces.keys() {
        writer.write_block(&interface(names, *device, *link).into_block()).map_err(as_io)?;
    }
    let records = name_records(&recording.before);
    if !records.is_empty() {
        let block = NameResolutionBlock { records, options: Vec::new() };
        writer.write_block(&block.into_block()).map_err(as_io)?;
    }
    let sightings = sightings(&recording.frames, Key::of(&recording.question, &recording.before));
    let comments = comment::of(&sightings, recording, observed);
    let numbers: BTreeMap<_, _> = sightings.iter().map(|sighting| (sighting.frame, sighting.number)).collect();
    for (at, frame) in recording.frames.iter().enumerate() {
        let packet = EnhancedPacket {
            interface: interfaces.get(&(frame.device, Link::of(frame))).copied().unwrap_or_default(),
            time: frame.time.0.saturating_add(recording.timing.realtime_offset_ns),
            bytes: &frame.bytes,
            len: frame.len,
            flags: flags(frame),
            packet_id: numbers.get(&at).copied(),
            comment: comments.get(&at).map(String::as_str),
        };
        writer.write_raw_block(&packet.to_block()).map_err(as_io)?;
    }
    writer.into_inner().flush()
}

fn section(kernel: &str, tool: &str) -> SectionHeaderBlock<'static> {
    SectionHeaderBlock {
        endianness: Endianness::Little,
        options: vec![
            SectionHeaderOption::OS(Cow::Owned(format!("Linux {kernel}"))),
            SectionHeaderOption::UserApplication(Cow::Owned(tool.to_owned())),
        ],
        ..SectionHeaderBlock::default()
    }
}

fn interface(names: Names<'_>, device: Device, link: Link) -> InterfaceDescriptionBlock<'static> {
    InterfaceDescriptionBlock {
        linktype: match link {
            Link::Ethernet => DataLink::ETHERNET,
            Link::Ip => DataLink::RAW,
        },
        snaplen: SNAPLEN,
        options: vec![
            InterfaceDescriptionOption::IfName(Cow::Owned(names.qualified(device))),
            InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
        ],
    }
}

/// [`LinkLayer`], as a part of a key: an interface of a file has one link layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Link {
    Ethernet,
    Ip,
}

impl Link {
    fn of(frame: &Frame) -> Self {
        match frame.link {
            LinkLayer::Ethernet => Self::Ethernet,
            LinkLayer::Ip => Self::Ip,
        }
    }
}

/// The number in the file of every device that was captured, with or without frames.
fn interfaces(recording: &Recording) -> BTreeMap<(Device, Link), u32> {
    let mut all: BTreeMap<_, u32> = recording.frames.iter().map(|frame| ((frame.device, Link::of(frame)), 0)).collect();
    for device in recording.captured() {
        if all.keys().any(|(other, _)| other == device) {
            continue;
        }
        let kind = recording.before.link(*device).map(|link| &link.kind);
        let link = match kind {
            Some(LinkKind::Tun { tap: false } | LinkKind::Wireguard) => Link::Ip,
            _ => Link::Ethernet,
        };
        all.insert((*device, link), 0);
    }
    for (number, slot) in all.values_mut().enumerate() {
        *slot = number as u32;
    }
    all
}

/// `epb_flags`: bits 0 and 1 are the direction, 2 to 4 the kind of destination.
fn flags(frame: &Frame) -> u32 {
    let direction = match frame.direction {
        Direction::In => 0b01,
        Direction::Out => 0b10,
        Direction::Unknown => 0,
    };
    let destination = match (frame.link, frame.bytes.first_chunk()) {
        (LinkLayer::Ethernet, Some(mac)) if MacAddr(*mac) == MacAddr::BROADCAST => 0b011,
        (LinkLayer::Ethernet, Some(mac)) if MacAddr(*mac).is_group() => 0b010,
        (LinkLayer::Ethernet, Some(_)) => 0b001,
        _ => 0,
    };
    direction | destination << 2
}

/// Names for the addresses that only one namespace has.
fn name_records(snapshot: &Snapshot) -> Vec<Record<'static>> {
    let mut owners: BTreeMap<IpAddr, Vec<&str>> = BTreeMap::new();
    for netns in &snapshot.namespaces {
        let name = netns.container.as_ref().map_or(netns.name.as_str(), |container| container.name.as_str());
        for address in &netns.addresses {
            let owners = owners.entry(address.address).or_default();
            if !owners.contains(&name) {
                owners.push(name);
            }
        }
    }
    owners
        .into_iter()
        .filter_map(|(address, owners)| match (address, owners.as_slice()) {
            (_, ["." | "", ..]) => None,
            (IpAddr::V4(address), [name]) => Some(Record::Ipv4(Ipv4Record {
                ip_addr: Cow::Owned(address.octets().to_vec()),
                names: vec![Cow::Owned((*name).to_owned())],
            })),
            (IpAddr::V6(address), [name]) => Some(Record::Ipv6(Ipv6Record {
                ip_addr: Cow::Owned(address.octets().to_vec()),
                names: vec![Cow::Owned((*name).to_owned())],
            })),
            _ => None,
        })
        .collect()
}

fn as_io(error: PcapError) -> io::Error {
    match error {
        PcapError::IoError(error) => error,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests;
