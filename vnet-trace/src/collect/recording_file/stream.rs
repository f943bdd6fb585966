//! Recordings of a watch: written while it goes on, and read piece by piece, so that neither takes more memory than a moment's
//! packets do.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use super::block::{self, End, Limits, Reader, Stop, Tag};
use super::{BlockError, CHUNK, MAGIC, Readable, RecordingError, VERSION, compact, open};
use crate::model::event::Event;
use crate::model::frame::Frame;
use crate::model::recording::{Moment, Picture, Recording, WatchHead};

/// Writes a watch, moment by moment.
pub struct Recorder<W> {
    out: W,
    events: Vec<Event>,
    frames: Vec<Frame>,
    written: u64,
    end: End,
}

impl<W: Write> Recorder<W> {
    /// Writes the beginning.
    pub fn begin(mut out: W, head: &WatchHead, picture: &Picture) -> std::io::Result<Self> {
        out.write_all(&MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        let written = block::write(&mut out, Tag::WATCH, head)?;
        let end = End { events: 0, frames: 0 };
        let mut recorder = Self { out, events: Vec::new(), frames: Vec::new(), written, end };
        recorder.picture(picture)?;
        Ok(recorder)
    }

    /// Bytes that were written.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Takes an event. It is in the file with the next moment at the latest.
    pub fn event(&mut self, event: &Event) -> std::io::Result<()> {
        self.events.push(event.clone());
        if self.events.len() >= CHUNK { self.pour() } else { Ok(()) }
    }

    /// Takes a frame.
    pub fn frame(&mut self, frame: &Frame) -> std::io::Result<()> {
        self.frames.push(frame.clone());
        if self.frames.len() >= CHUNK { self.pour() } else { Ok(()) }
    }

    /// The network is another from here on.
    pub fn picture(&mut self, picture: &Picture) -> std::io::Result<()> {
        self.pour()?;
        self.written += block::write(&mut self.out, Tag::PICTURE, picture)?;
        Ok(())
    }

    /// All that was seen until now is in the file after this.
    pub fn moment(&mut self, moment: &Moment) -> std::io::Result<()> {
        if !self.events.is_empty() || !self.frames.is_empty() {
            self.pour()?;
            self.written += block::write(&mut self.out, Tag::MOMENT, moment)?;
        }
        self.out.flush()
    }

    /// Writes the end.
    pub fn end(mut self, moment: &Moment) -> std::io::Result<W> {
        self.pour()?;
        block::write(&mut self.out, Tag::MOMENT, moment)?;
        block::write(&mut self.out, Tag::END, &self.end)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn pour(&mut self) -> std::io::Result<()> {
        if !self.events.is_empty() {
            self.written += block::write_plain(&mut self.out, Tag::COMPACT_EVENTS, &compact::events(&self.events))?;
            self.end.events += self.events.len() as u64;
            self.events.clear();
        }
        if !self.frames.is_empty() {
            self.written += block::write_plain(&mut self.out, Tag::COMPACT_FRAMES, &compact::frames(&self.frames))?;
            self.end.frames += self.frames.len() as u64;
            self.frames.clear();
        }
        Ok(())
    }
}

/// A piece of a recording.
#[derive(Debug)]
pub enum Part {
    /// A question's recording begins: all but its events and frames.
    Question(Box<Recording>),
    /// A watch begins.
    Watch(WatchHead),
    /// The network, from here on.
    Picture(Box<Picture>),
    /// Some events, by time.
    Events(Vec<Event>),
    /// Some frames, by time.
    Frames(Vec<Frame>),
    /// All that was seen until then was read.
    Moment(Moment),
}

/// A recording, read piece by piece.
pub struct Parts<R> {
    reader: Reader<R>,
    readable: Readable,
    done: bool,
}

impl Parts<BufReader<File>> {
    /// Of a file.
    pub fn of_file(path: &Path) -> Result<Self, RecordingError> {
        Self::new(open(path)?)
    }
}

impl<R: Read> Parts<R> {
    /// Reads what is before the pieces.
    pub fn new(input: R) -> Result<Self, RecordingError> {
        // Only one piece is in memory at a time.
        let limits = Limits { total: u64::MAX, ..Limits::default() };
        Ok(Self { reader: Reader::open(input, limits)?, readable: Readable::default(), done: false })
    }

    /// The next piece; None at the end. After an error there is no further piece.
    pub fn next_part(&mut self) -> Result<Option<Part>, RecordingError> {
        while !self.done {
            match self.step() {
                Ok(Some(part)) => {
                    self.accept();
                    return Ok(Some(part));
                }
                Ok(None) => self.accept(),
                Err(stop) => {
                    self.done = true;
                    let readable = self.readable;
                    return Err(match stop {
                        Stop::End => RecordingError::CutOff { readable },
                        Stop::Damaged(source) => RecordingError::Damaged { readable, source },
                    });
                }
            }
        }
        Ok(None)
    }

    fn accept(&mut self) {
        self.reader.accept();
        self.readable.bytes = self.reader.good();
    }

    fn step(&mut self) -> Result<Option<Part>, Stop> {
        let block = self.reader.next()?;
        if let Some(events) = block.events()? {
            self.readable.events += events.len();
            return Ok(Some(Part::Events(events)));
        }
        if let Some(frames) = block.frames()? {
            self.readable.frames += frames.len();
            return Ok(Some(Part::Frames(frames)));
        }
        Ok(match block.tag {
            Tag::HEAD => {
                self.readable.head = true;
                Some(Part::Question(block.decode()?))
            }
            Tag::WATCH => {
                self.readable.head = true;
                Some(Part::Watch(block.decode()?))
            }
            Tag::PICTURE => Some(Part::Picture(block.decode()?)),
            Tag::MOMENT => Some(Part::Moment(block.decode()?)),
            Tag::END => {
                let end: End = block.decode()?;
                let Readable { head, events, frames, .. } = self.readable;
                if !head {
                    return Err(Stop::Damaged(BlockError::NoHead));
                }
                if (end.events, end.frames) != (events as u64, frames as u64) {
                    return Err(Stop::Damaged(BlockError::Count { events: end.events, frames: end.frames }));
                }
                self.done = true;
                None
            }
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests;
