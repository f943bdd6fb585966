//! Captures of other programs: pcap and pcapng files, of several interfaces.
//!
//! Gives frames, one by one, and a [`Snapshot`] that knows nothing but the interfaces: their names, in the namespaces that our own
//! pcapng files put before them (`ns1/veth0`). Of captures on `any` (cooked link layers) the interface and the direction come from the
//! frame. What cannot be read ends it; frames of link layers that are not known are left out and counted.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use pcap_file::pcap::PcapReader;
use pcap_file::pcapng::blocks::interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption};
use pcap_file::pcapng::{Block, PcapNgReader};
use pcap_file::{DataLink, PcapError};

use crate::model::frame::{Direction, Frame, LinkLayer};
use crate::model::id::{Device, IfIndex, Nanos, NetnsId};
use crate::model::sight::Gap;
use crate::model::snapshot::{Link, LinkKind, Netns, Snapshot};

/// Why a capture cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ForeignError {
    /// The file cannot be opened or read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It ends in the middle, or is not what it begins as.
    #[error("the capture is readable up to frame {frames} only")]
    Damaged {
        /// Frames that could be read.
        frames: u64,
        /// What is wrong after them.
        #[source]
        source: PcapError,
    },
}

/// Interfaces of a capture at the most.
const MOST_INTERFACES: usize = 4096;

/// A capture, read frame by frame.
pub struct Capture {
    file: Format,
    snapshot: Snapshot,
    devices: BTreeMap<String, Device>,
    /// By number in the section: device, link layer, ticks of a second.
    interfaces: Vec<Interface>,
    frames: u64,
    skipped: u64,
}

enum Format {
    Pcap(Box<PcapReader<BufReader<File>>>),
    Pcapng(Box<PcapNgReader<BufReader<File>>>),
}

#[derive(Clone, Copy)]
struct Interface {
    device: Device,
    link: DataLink,
    /// `if_tsresol`: ticks of a second as a power of ten, or of two with the high bit.
    resolution: u8,
}

/// What an interface that does not say it counts in.
const MICROSECONDS: u8 = 6;

/// What a pcap file's times have become when they are handed over.
const NANOSECONDS: u8 = 9;

impl Capture {
    /// Opens a file; None if it is something else, by its first bytes.
    pub fn open(path: &Path) -> Result<Option<Self>, ForeignError> {
        let failed = |source| ForeignError::Read { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(failed)?;
        let mut magic = [0; 4];
        let Ok(()) = file.read_exact(&mut magic) else { return Ok(None) };
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        let input = BufReader::new(file);
        let damaged = |source| ForeignError::Damaged { frames: 0, source };
        let capture = |file| Self {
            file,
            snapshot: Snapshot::default(),
            devices: BTreeMap::new(),
            interfaces: Vec::new(),
            frames: 0,
            skipped: 0,
        };
        Ok(Some(match magic {
            [0x0a, 0x0d, 0x0d, 0x0a] => capture(Format::Pcapng(Box::new(PcapNgReader::new(input).map_err(damaged)?))),
            [0xd4, 0xc3, 0xb2, 0xa1]
            | [0xa1, 0xb2, 0xc3, 0xd4]
            | [0x4d, 0x3c, 0xb2, 0xa1]
            | [0xa1, 0xb2, 0x3c, 0x4d] => {
                let reader = PcapReader::new(input).map_err(damaged)?;
                let link = reader.header().datalink;
                let mut capture = capture(Format::Pcap(Box::new(reader)));
                let device = capture.device("capture");
                capture.interfaces.push(Interface { device, link, resolution: NANOSECONDS });
                capture
            }
            _ => return Ok(None),
        }))
    }

    /// The interfaces that are known by now.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What could not be told.
    pub fn gaps(&self) -> Vec<Gap> {
        let skipped = self.skipped;
        let gap = |count| Gap {
            what: format!("{count} frames"),
            why: "their link layer is not known here".to_owned(),
            help: String::new(),
        };
        (skipped > 0).then(|| gap(skipped)).into_iter().collect()
    }

    /// The next frame; None at the end.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ForeignError> {
        loop {
            let frame = match &mut self.file {
                Format::Pcap(reader) => match reader.next_packet() {
                    None => return Ok(None),
                    Some(Err(source)) => return Err(ForeignError::Damaged { frames: self.frames, source }),
                    Some(Ok(packet)) => {
                        let time = packet.timestamp.as_nanos() as u64;
                        let bytes = packet.data.into_owned();
                        Some((0, time, bytes, packet.orig_len, Direction::Unknown))
                    }
                },
                Format::Pcapng(reader) => match reader.next_block() {
                    None => return Ok(None),
                    Some(Err(source)) => return Err(ForeignError::Damaged { frames: self.frames, source }),
                    Some(Ok(block)) => match block {
                        Block::SectionHeader(_) => {
                            self.interfaces.clear();
                            None
                        }
                        Block::InterfaceDescription(block) => {
                            let (name, link, resolution) = describe(&block, self.interfaces.len());
                            if self.interfaces.len() < MOST_INTERFACES {
                                let device = self.device(&name);
                                self.interfaces.push(Interface { device, link, resolution });
                            }
                            None
                        }
                        Block::EnhancedPacket(packet) => {
                            let direction = packet.options.iter().find_map(|option| match option {
                                pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketOption::Flags(flags) => {
                                    Some(*flags & 3)
                                }
                                _ => None,
                            });
                            let direction = match direction {
                                Some(1) => Direction::In,
                                Some(2) => Direction::Out,
                                _ => Direction::Unknown,
                            };
                            let time = packet.timestamp.as_nanos() as u64;
                            let interface = packet.interface_id as usize;
                            Some((interface, time, packet.data.into_owned(), packet.original_len, direction))
                        }
                        _ => None,
                    },
                },
            };
            let Some((interface, time, bytes, len, direction)) = frame else { continue };
            self.frames += 1;
            let Some(interface) = self.interfaces.get(interface).copied() else {
                self.skipped += 1;
                continue;
            };
            match self.frame(interface, time, bytes, len, direction) {
                Some(frame) => return Ok(Some(frame)),
                None => self.skipped += 1,
            }
        }
    }

    fn frame(
        &mut self,
        interface: Interface,
        time: u64,
        mut bytes: Vec<u8>,
        len: u32,
        direction: Direction,
    ) -> Option<Frame> {
        let Interface { mut device, link, resolution } = interface;
        let mut direction = direction;
        let time = nanoseconds(time, resolution);
        let word = |bytes: &[u8], at: usize| bytes.get(at..)?.first_chunk().map(|word| u16::from_be_bytes(*word));
        let (layer, header) = match link {
            DataLink::ETHERNET => (LinkLayer::Ethernet, 0),
            DataLink::RAW | DataLink::IPV4 | DataLink::IPV6 | DataLink::Unknown(12 | 14) => (LinkLayer::Ip, 0),
            DataLink::NULL | DataLink::LOOP => (LinkLayer::Ip, 4),
            DataLink::LINUX_SLL => {
                direction = of_packet_type(word(&bytes, 0)? as u8);
                (LinkLayer::Ip, 16)
            }
            DataLink::LINUX_SLL2 => {
                let ifindex = u32::from_be_bytes(*bytes.get(4..)?.first_chunk()?);
                direction = of_packet_type(*bytes.get(10)?);
                device = self.device(&format!("if{ifindex}"));
                (LinkLayer::Ip, 20)
            }
            _ => return None,
        };
        bytes = bytes.split_off(header.min(bytes.len()));
        let len = len.saturating_sub(header as u32);
        Some(Frame { time: Nanos(time), device, direction, bytes, len, link: layer })
    }

    /// The device of this name, `NETNS/NAME` or `NAME`.
    fn device(&mut self, name: &str) -> Device {
        if let Some(device) = self.devices.get(name) {
            return *device;
        }
        let (space, own) = name.split_once('/').unwrap_or((".", name));
        let namespaces = &mut self.snapshot.namespaces;
        let at = namespaces.iter().position(|netns| netns.name == space).unwrap_or_else(|| {
            let id = NetnsId(namespaces.len() as u32);
            namespaces.push(Netns { id, name: space.to_owned(), ..Netns::default() });
            namespaces.len() - 1
        });
        let netns = &mut namespaces[at];
        let index = IfIndex(netns.links.len() as u32 + 1);
        let kind = LinkKind::Physical;
        netns.links.push(Link { index, name: own.to_owned(), kind, ..Link::default() });
        let device = Device::new(netns.id, index);
        if self.devices.len() < MOST_INTERFACES {
            self.devices.insert(name.to_owned(), device);
        }
        device
    }
}

/// Of a cooked link layer: what the kernel calls `pkt_type`. 4 is outgoing.
fn of_packet_type(kind: u8) -> Direction {
    if kind == 4 { Direction::Out } else { Direction::In }
}

/// Ticks as nanoseconds.
fn nanoseconds(ticks: u64, resolution: u8) -> u64 {
    let ticks = u128::from(ticks);
    let power = u32::from(resolution & 0x7f);
    let nanoseconds = match resolution {
        0..=9 => ticks.saturating_mul(10u128.pow(9 - power)),
        10..=38 => ticks / 10u128.pow(power - 9),
        0x80..=0xbf => ticks.saturating_mul(1_000_000_000) >> power,
        _ => 0,
    };
    u64::try_from(nanoseconds).unwrap_or(u64::MAX)
}

fn describe(block: &InterfaceDescriptionBlock<'_>, number: usize) -> (String, DataLink, u8) {
    let name = block.options.iter().find_map(|option| match option {
        InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
        _ => None,
    });
    let resolution = block.options.iter().find_map(|option| match option {
        InterfaceDescriptionOption::IfTsResol(resolution) => Some(*resolution),
        _ => None,
    });
    let name = name.unwrap_or_else(|| format!("interface{number}"));
    (name, block.linktype, resolution.unwrap_or(MICROSECONDS))
}

#[cfg(test)]
mod tests;
