//! The packets of a watch as a pcapng file, written while it goes on: each packet when it has ended, at all places where it was
//! seen, with one `epb_packetid`, and with its way as the comment.
//!
//! What only the probes have seen is written as the frame that it was, as far as they have copied it.

use std::collections::BTreeMap;
use std::io::{self, Write};

use pcap_file::pcapng::blocks::name_resolution::NameResolutionBlock;
use pcap_file::pcapng::{PcapNgBlock, PcapNgWriter};

use super::block::EnhancedPacket;
use super::{Link, as_io, flags, interface, name_records, section};
use crate::follow::way::Told;
use crate::model::event::{Event, EventKind};
use crate::model::frame::{Direction, Frame, LinkLayer};
use crate::model::id::Device;
use crate::model::snapshot::Snapshot;
use crate::present::names::Names;
use crate::present::style::Style;
use crate::present::watch::{Clock, line};

/// A pcapng file in the making.
pub struct Stream<W: Write> {
    writer: PcapNgWriter<W>,
    interfaces: BTreeMap<(Device, Link), u32>,
}

impl<W: Write> Stream<W> {
    /// Writes the beginning.
    pub fn begin(out: W, kernel: &str, tool: &str, snapshot: &Snapshot) -> io::Result<Self> {
        let mut writer = PcapNgWriter::with_section_header(out, section(kernel, tool)).map_err(as_io)?;
        let records = name_records(snapshot);
        if !records.is_empty() {
            let block = NameResolutionBlock { records, options: Vec::new() };
            writer.write_block(&block.into_block()).map_err(as_io)?;
        }
        Ok(Self { writer, interfaces: BTreeMap::new() })
    }

    /// Writes a packet at all places where it was seen.
    pub fn way(&mut self, told: &Told, snapshot: &Snapshot, clock: Clock) -> io::Result<()> {
        let followed = &told.way.followed;
        let text = line(told, snapshot, clock, Style::default());
        let comment = text.split_once(' ').map_or(text.as_str(), |(_, rest)| rest).trim_end();
        let captured: Vec<(Device, Direction)> =
            followed.frames.iter().map(|frame| (frame.device, frame.direction)).collect();
        let probed = followed.events.iter().filter_map(as_frame);
        let probed = probed.filter(|frame| !captured.contains(&(frame.device, frame.direction)));
        let mut frames: Vec<Frame> = followed.frames.iter().cloned().chain(probed).collect();
        frames.sort_by_key(|frame| frame.time);
        for frame in &frames {
            let key = (frame.device, Link::of(frame));
            let count = self.interfaces.len() as u32;
            let known = self.interfaces.get(&key).copied();
            if known.is_none() {
                let block = interface(Names::in_snapshot(snapshot), key.0, key.1);
                self.writer.write_block(&block.into_block()).map_err(as_io)?;
                self.interfaces.insert(key, count);
            }
            let number = known.unwrap_or(count);
            let packet = EnhancedPacket {
                interface: number,
                time: frame.time.0.saturating_add(clock.realtime_offset),
                bytes: &frame.bytes,
                len: frame.len,
                flags: flags(frame),
                packet_id: Some(told.number),
                comment: Some(comment),
            };
            self.writer.write_raw_block(&packet.to_block()).map_err(as_io)?;
        }
        Ok(())
    }

    /// Everything is in the file.
    pub fn end(self) -> io::Result<()> {
        self.writer.into_inner().flush()
    }
}

/// The frame that a probe saw pass a device, if it did and has its bytes.
fn as_frame(event: &Event) -> Option<Frame> {
    let direction = match event.kind {
        EventKind::Xmit => Direction::Out,
        EventKind::Receive => Direction::In,
        _ => return None,
    };
    if event.bytes.is_empty() {
        return None;
    }
    let (bytes, link) = match event.mac {
        Some(mac) => {
            let head = [&mac.dst.0[..], &mac.src.0, &mac.ethertype.to_be_bytes()].concat();
            ([&head[..], &event.bytes].concat(), LinkLayer::Ethernet)
        }
        None if matches!(event.bytes.first().map(|first| first >> 4), Some(4 | 6)) => {
            (event.bytes.to_vec(), LinkLayer::Ip)
        }
        None => return None,
    };
    let len = event.len.max(bytes.len() as u32);
    Some(Frame { time: event.time, device: event.device?, direction, bytes, len, link })
}
