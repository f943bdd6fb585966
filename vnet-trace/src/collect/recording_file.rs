//! A [`Recording`] as a file (`.vtr`): written whole or not at all, readable by later versions, and readable as far as it
//! goes when it was cut off or damaged.
//!
//! # The format, version 2
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | magic: `89 'v' 't' 'r' 0d 0a 1a 0a`, which a transfer as text destroys visibly |
//! | 4 | format version, little endian |
//! | … | blocks, until the end block |
//!
//! A block is a tag of 4 letters, the length of what follows and its length when decompressed (4 bytes each, little
//! endian), and a zstd frame with a checksum, which holds CBOR, unless said otherwise:
//!
//! | tag | holds |
//! | --- | --- |
//! | `head` | the recording of a question without events and frames; a later one replaces an earlier one |
//! | `evt2` | some events, in order, in the form of [`compact`] |
//! | `frm2` | some frames, in order, in the form of [`compact`] |
//! | `evts`, `frms` | the same as CBOR: version 1, which is read as well |
//! | `wtch` | the beginning of a watch, in the place of `head` |
//! | `pict` | the network and what could be seen of it, from here on |
//! | `mmnt` | a moment of a watch: all that was seen until then has been written |
//! | `end.` | how many events and frames there were |
//!
//! A question is recorded in one piece, when all is known ([`save`]). A watch is written while it goes on ([`stream`]), a few
//! blocks and a moment several times a second, so that what ends it at once, or the whole machine, costs the last of these.
//!
//! Blocks with other tags are skipped, and so are fields that are not known: a later version may add both. Structures are
//! CBOR maps with the names of the fields, so a field may also come later, with a default. The version
//! number changes only when an older reader would misread what it knows.
//!
//! # Hostile files
//!
//! Lengths are limits, not orders: nothing is allocated because a number in the file says so, a block may not grow beyond
//! its declared length, and the sum of all is bounded ([`Limits`]). CBOR's nesting is bounded by its reader.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::model::recording::Recording;

mod block;
mod compact;
pub mod stream;

pub use block::Limits;

use block::{End, Reader, Tag};

/// The first bytes of every recording.
const MAGIC: [u8; 8] = *b"\x89vtr\r\n\x1a\n";

/// The format that is written, and the newest that is understood.
const VERSION: u32 = 2;

/// Events or frames of one block.
const CHUNK: usize = 1024;

/// Bytes of memory that an event or a frame takes beyond its own bytes, about.
const ITEM: u64 = 160;

/// How much of a damaged recording could be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Readable {
    /// Bytes of the file that made sense.
    pub bytes: u64,
    /// The part with question, configuration and outcome was there.
    pub head: bool,
    /// Events.
    pub events: usize,
    /// Frames.
    pub frames: usize,
}

impl std::fmt::Display for Readable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "readable up to byte {}: ", self.bytes)?;
        match self {
            Self { head: false, .. } => f.write_str("not even the question"),
            Self { events, frames, .. } => write!(f, "the question, {events} events and {frames} frames"),
        }
    }
}

/// Why a recording cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// The file cannot be opened or read.
    #[error("cannot read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is something else.
    #[error("not a recording of vnet-trace{}", looks_like.map(|what| format!(": it looks like {what}")).unwrap_or_default())]
    Foreign {
        /// What the first bytes look like.
        looks_like: Option<&'static str>,
    },
    /// It was written by a later version.
    #[error("the recording has format {found}, this program reads up to {known}")]
    Newer {
        /// In the file.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// It ends too early.
    #[error("the recording was cut off, {readable}")]
    CutOff {
        /// What could be read.
        readable: Readable,
    },
    /// A block cannot be what it says.
    #[error("the recording is damaged, {readable}")]
    Damaged {
        /// What could be read.
        readable: Readable,
        /// What is wrong with the next block.
        #[source]
        source: BlockError,
    },
}

/// What is wrong with a block.
#[derive(Debug, thiserror::Error)]
pub enum BlockError {
    /// It is larger than anything that we write.
    #[error("a block of {len} bytes, {limit} are allowed")]
    TooLarge {
        /// Declared length.
        len: u64,
        /// What is left of the limit.
        limit: u64,
    },
    /// The compression or its checksum is wrong.
    #[error("a block does not decompress")]
    Decompress(#[source] io::Error),
    /// It is not the CBOR that it should be.
    #[error("a block cannot be understood: {0}")]
    Decode(String),
    /// The counts at the end differ from what was there.
    #[error("the end says {events} events and {frames} frames")]
    Count {
        /// Events that there should be.
        events: u64,
        /// Frames that there should be.
        frames: u64,
    },
    /// It is other people's traffic, which has no question.
    #[error("it is the recording of a watch")]
    Watch,
    /// There was an end without a beginning.
    #[error("the question and the configuration are missing")]
    NoHead,
    /// Reading failed.
    #[error("the file cannot be read")]
    Read(#[source] io::Error),
}

/// Writes a recording.
pub fn write(recording: &Recording, out: &mut (impl Write + ?Sized)) -> io::Result<()> {
    out.write_all(&MAGIC)?;
    out.write_all(&VERSION.to_le_bytes())?;
    block::write(out, Tag::HEAD, &head(recording))?;
    for events in recording.events.chunks(CHUNK) {
        block::write_plain(out, Tag::COMPACT_EVENTS, &compact::events(events))?;
    }
    for frames in recording.frames.chunks(CHUNK) {
        block::write_plain(out, Tag::COMPACT_FRAMES, &compact::frames(frames))?;
    }
    let end = End { events: recording.events.len() as u64, frames: recording.frames.len() as u64 };
    block::write(out, Tag::END, &end)?;
    Ok(())
}

/// The recording without what may be large.
fn head(recording: &Recording) -> Recording {
    Recording {
        tool: recording.tool.clone(),
        kernel: recording.kernel.clone(),
        question: recording.question.clone(),
        before: recording.before.clone(),
        after: recording.after.clone(),
        events: Vec::new(),
        frames: Vec::new(),
        ping: recording.ping.clone(),
        answers: recording.answers.clone(),
        sight: recording.sight.clone(),
        timing: recording.timing,
    }
}

/// Reads a recording.
pub fn read(input: impl Read) -> Result<Recording, RecordingError> {
    match salvage(input, Limits::default()) {
        (Some(recording), None) => Ok(recording),
        (_, Some(error)) => Err(error),
        (None, None) => Err(RecordingError::CutOff { readable: Readable::default() }),
    }
}

/// Reads what there is: a damaged recording gives both, what could be read and what is wrong.
pub fn salvage(input: impl Read, limits: Limits) -> (Option<Recording>, Option<RecordingError>) {
    let mut reader = match Reader::open(input, limits) {
        Ok(reader) => reader,
        Err(error) => return (None, Some(error)),
    };
    let mut recording: Option<Recording> = None;
    let (mut events, mut frames) = (Vec::new(), Vec::new());
    let error = loop {
        let step = reader.next().and_then(|block| {
            let more = (block.events()?, block.frames()?);
            reader.charge(ITEM * more.0.as_ref().map_or(0, Vec::len) as u64);
            reader.charge(ITEM * more.1.as_ref().map_or(0, Vec::len) as u64);
            events.extend(more.0.into_iter().flatten());
            frames.extend(more.1.into_iter().flatten());
            match block.tag {
                Tag::HEAD => recording = Some(block.decode()?),
                Tag::WATCH => return Err(block::Stop::Damaged(BlockError::Watch)),
                Tag::END => {
                    let end: End = block.decode()?;
                    if recording.is_none() {
                        return Err(block::Stop::Damaged(BlockError::NoHead));
                    }
                    return if (end.events, end.frames) == (events.len() as u64, frames.len() as u64) {
                        Ok(true)
                    } else {
                        Err(block::Stop::Damaged(BlockError::Count { events: end.events, frames: end.frames }))
                    };
                }
                _ => {}
            }
            Ok(false)
        });
        let readable =
            || Readable { bytes: reader.good(), head: recording.is_some(), events: events.len(), frames: frames.len() };
        match step {
            Ok(true) => break None,
            Ok(false) => reader.accept(),
            Err(block::Stop::End) => break Some(RecordingError::CutOff { readable: readable() }),
            Err(block::Stop::Damaged(source)) => break Some(RecordingError::Damaged { readable: readable(), source }),
        }
    };
    (recording.map(|head| Recording { events, frames, ..head }), error)
}

/// Reads a file.
pub fn load(path: &Path) -> Result<Recording, RecordingError> {
    read(open(path)?)
}

/// Reads a file as far as it goes.
pub fn load_what_is_there(path: &Path) -> (Option<Recording>, Option<RecordingError>) {
    match open(path) {
        Ok(file) => salvage(file, Limits::default()),
        Err(error) => (None, Some(error)),
    }
}

fn open(path: &Path) -> Result<BufReader<File>, RecordingError> {
    let failed = |source| RecordingError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    Ok(BufReader::new(file))
}

/// Who may read a file that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// As the umask says: the user named the file.
    Umask,
    /// Nobody else: a recording tells the network's configuration.
    Private,
}

/// Writes a file, whole or not at all: readers see the old one or the new one.
pub fn save(recording: &Recording, path: &Path, access: Access) -> Result<(), RecordingError> {
    replace(path, access, |out| write(recording, out))
        .map_err(|source| RecordingError::Write { path: path.to_owned(), source })
}

/// Writes a file by way of another one that is then renamed. What is no regular file (a pipe, /dev/stdout) is written in place.
pub fn replace(path: &Path, access: Access, content: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    if path.metadata().is_ok_and(|found| !found.is_file()) {
        let mut out = BufWriter::new(OpenOptions::new().write(true).open(path)?);
        content(&mut out)?;
        return out.flush();
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mode = match access {
        Access::Umask => 0o666,
        Access::Private => 0o600,
    };
    let prefix = path.file_name().unwrap_or(OsStr::new("recording"));
    let file = tempfile::Builder::new()
        .prefix(prefix)
        .suffix(".new")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(folder)?;
    let mut out = BufWriter::new(file);
    content(&mut out)?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

#[cfg(test)]
mod tests;
