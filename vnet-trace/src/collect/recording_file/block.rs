//! The blocks of a recording file, one at a time.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zstd::bulk::{Compressor, decompress};
use zstd::zstd_safe::CParameter;

use super::{BlockError, MAGIC, RecordingError, VERSION, compact};
use crate::model::event::Event;
use crate::model::frame::Frame;

/// How much a file may make us keep in memory, in bytes of CBOR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// One block.
    pub block: u64,
    /// All blocks together.
    pub total: u64,
}

impl Default for Limits {
    /// A thousand times what a ping makes.
    fn default() -> Self {
        Self { block: 64 << 20, total: 256 << 20 }
    }
}

/// What a block holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tag([u8; 4]);

impl Tag {
    pub const HEAD: Self = Self(*b"head");
    /// Events as CBOR, as version 1 wrote them.
    pub const EVENTS: Self = Self(*b"evts");
    /// Frames as CBOR.
    pub const FRAMES: Self = Self(*b"frms");
    /// Events in the form of `compact`.
    pub const COMPACT_EVENTS: Self = Self(*b"evt2");
    /// Frames in the form of `compact`.
    pub const COMPACT_FRAMES: Self = Self(*b"frm2");
    /// The beginning of a watch.
    pub const WATCH: Self = Self(*b"wtch");
    /// The network, from here on.
    pub const PICTURE: Self = Self(*b"pict");
    /// All that was seen until then has been written.
    pub const MOMENT: Self = Self(*b"mmnt");
    pub const END: Self = Self(*b"end.");
}

/// The last block.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct End {
    pub events: u64,
    pub frames: u64,
}

/// Speed matters more than the last percent: 3 is zstd's own default.
const LEVEL: i32 = 3;

/// Writes a block of CBOR, and gives its length.
pub(super) fn write(out: &mut (impl Write + ?Sized), tag: Tag, content: &(impl Serialize + ?Sized)) -> io::Result<u64> {
    let mut cbor = Vec::new();
    ciborium::into_writer(content, &mut cbor).map_err(io::Error::other)?;
    write_plain(out, tag, &cbor)
}

/// Writes a block in one go, so that a file ends between two blocks unless the system is out of room, and gives its length.
pub(super) fn write_plain(out: &mut (impl Write + ?Sized), tag: Tag, content: &[u8]) -> io::Result<u64> {
    let mut compressor = Compressor::new(LEVEL)?;
    compressor.set_parameter(CParameter::ChecksumFlag(true))?;
    let too_large = |_| io::Error::other("a block does not fit into 4 GiB");
    let plain = u32::try_from(content.len()).map_err(too_large)?;
    let compressed = compressor.compress(content)?;
    let mut block = Vec::with_capacity(compressed.len() + 12);
    block.extend(tag.0);
    block.extend(u32::try_from(compressed.len()).map_err(too_large)?.to_le_bytes());
    block.extend(plain.to_le_bytes());
    block.extend(compressed);
    out.write_all(&block)?;
    Ok(block.len() as u64)
}

/// Why there is no further block.
pub(super) enum Stop {
    /// The file ends.
    End,
    /// What comes next is no block.
    Damaged(BlockError),
}

/// A block, decompressed.
pub(super) struct Block {
    pub tag: Tag,
    plain: Vec<u8>,
}

impl Block {
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Stop> {
        ciborium::from_reader(self.plain.as_slice())
            .map_err(|error| Stop::Damaged(BlockError::Decode(error.to_string())))
    }

    /// Its events, if that is what it holds.
    pub fn events(&self) -> Result<Option<Vec<Event>>, Stop> {
        match self.tag {
            Tag::EVENTS => self.decode().map(Some),
            Tag::COMPACT_EVENTS => compact::read_events(&self.plain).map(Some).map_err(malformed),
            _ => Ok(None),
        }
    }

    /// Its frames, if that is what it holds.
    pub fn frames(&self) -> Result<Option<Vec<Frame>>, Stop> {
        match self.tag {
            Tag::FRAMES => self.decode().map(Some),
            Tag::COMPACT_FRAMES => compact::read_frames(&self.plain).map(Some).map_err(malformed),
            _ => Ok(None),
        }
    }
}

fn malformed(compact::Malformed(what): compact::Malformed) -> Stop {
    Stop::Damaged(BlockError::Decode(what.to_owned()))
}

/// Reads one block after the other.
pub(super) struct Reader<R> {
    input: R,
    limits: Limits,
    /// Bytes of CBOR that may still come.
    left: u64,
    /// Bytes read.
    at: u64,
    /// Bytes up to the end of the last block that was accepted.
    good: u64,
}

impl<R: Read> Reader<R> {
    /// Reads what is before the blocks.
    pub fn open(mut input: R, limits: Limits) -> Result<Self, RecordingError> {
        let mut start = Vec::new();
        let read = input.by_ref().take(12).read_to_end(&mut start);
        let foreign = RecordingError::Foreign { looks_like: looks_like(&start) };
        let (Ok(_), Some(magic)) = (read, start.first_chunk::<8>()) else { return Err(foreign) };
        if *magic != MAGIC {
            return Err(foreign);
        }
        let Some(version) = start.get(8..).and_then(|rest| rest.first_chunk()) else {
            return Err(RecordingError::CutOff { readable: super::Readable { bytes: 8, ..Default::default() } });
        };
        let found = u32::from_le_bytes(*version);
        if found > VERSION {
            return Err(RecordingError::Newer { found, known: VERSION });
        }
        Ok(Self { input, limits, left: limits.total, at: 12, good: 12 })
    }

    /// So much more memory is used than the blocks are large.
    pub fn charge(&mut self, bytes: u64) {
        self.left = self.left.saturating_sub(bytes);
    }

    /// Bytes up to the end of the last good block.
    pub fn good(&self) -> u64 {
        self.good
    }

    /// The block just read made sense.
    pub fn accept(&mut self) {
        self.good = self.at;
    }

    pub fn next(&mut self) -> Result<Block, Stop> {
        let header = self.bytes(12)?;
        let (Some(tag), Some(packed), Some(plain)) = (word(&header, 0), word(&header, 4), word(&header, 8)) else {
            return Err(Stop::End);
        };
        let (packed, plain) = (u64::from(u32::from_le_bytes(packed)), u64::from(u32::from_le_bytes(plain)));
        let limit = self.limits.block.min(self.left);
        if let Some(len) = [packed, plain].into_iter().find(|len| *len > limit) {
            return Err(Stop::Damaged(BlockError::TooLarge { len, limit }));
        }
        let compressed = self.bytes(packed)?;
        let content =
            decompress(&compressed, plain as usize).map_err(|error| Stop::Damaged(BlockError::Decompress(error)))?;
        self.left -= plain;
        Ok(Block { tag: Tag(tag), plain: content })
    }

    /// So many bytes. Memory grows with what is really there.
    fn bytes(&mut self, count: u64) -> Result<Vec<u8>, Stop> {
        let mut bytes = Vec::new();
        let read = self.input.by_ref().take(count).read_to_end(&mut bytes);
        self.at += bytes.len() as u64;
        match read {
            Err(error) => Err(Stop::Damaged(BlockError::Read(error))),
            Ok(len) if (len as u64) < count => Err(Stop::End),
            Ok(_) => Ok(bytes),
        }
    }
}

fn word(bytes: &[u8], at: usize) -> Option<[u8; 4]> {
    bytes.get(at..)?.first_chunk().copied()
}

/// What people try to open.
fn looks_like(start: &[u8]) -> Option<&'static str> {
    Some(match start {
        [] => "an empty file",
        [0x0a, 0x0d, 0x0d, 0x0a, ..] => "a pcapng capture",
        [0xd4, 0xc3, 0xb2, 0xa1, ..] | [0xa1, 0xb2, 0xc3, 0xd4, ..] => "a pcap capture",
        [0x4d, 0x3c, 0xb2, 0xa1, ..] | [0xa1, 0xb2, 0x3c, 0x4d, ..] => "a pcap capture with nanoseconds",
        [0x1f, 0x8b, ..] => "a gzip file",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "a zstd file",
        [b'{' | b'[', ..] => "JSON",
        _ if b"\x89vtr".starts_with(start.get(..4).unwrap_or(start)) => {
            "a recording that was copied as text or cut off"
        }
        _ => return None,
    })
}
