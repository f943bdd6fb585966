//! The files that a watch writes. One that cannot be written any more is given up with a warning, and the watch goes on.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::cli::output::Unwritable;
use crate::cli::{Failure, terminal};
use crate::follow::way::Told;
use crate::model::event::Event;
use crate::model::frame::Frame;
use crate::model::recording::{Moment, Picture, WatchHead};
use crate::model::snapshot::Snapshot;
use crate::present::pcapng::stream::Stream;
use crate::present::watch::{self as words, Clock};
use crate::watch::live::Shown;
use crate::watch::record::{Bounds, Captured, Room, Tape};

/// A file to write, with the form that its ending asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    path: PathBuf,
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Recording,
    Pcapng,
    Json,
}

/// Reads the argument of `-o` and `-w`.
pub fn target(text: &str) -> Result<Target, String> {
    let path = PathBuf::from(text);
    let form = match path.extension().and_then(|ending| ending.to_str()) {
        Some("pcapng") => Form::Pcapng,
        Some("json") => Form::Json,
        Some("pcap" | "cap") => return Err("pcap holds one interface only; .pcapng holds all of them".to_owned()),
        Some("html" | "svg") => return Err("a watch is written as .vtr, .pcapng or .json".to_owned()),
        _ => Form::Recording,
    };
    Ok(Target { path, form })
}

enum Sink {
    Recording(Box<Tape>),
    Pcapng(Stream<BufWriter<File>>),
    Json(BufWriter<File>),
}

/// What a file begins with.
#[derive(Clone, Copy)]
pub struct Beginning<'a> {
    /// Which frames belong to it.
    pub captured: Captured,
    /// Who writes it, and of what.
    pub head: &'a WatchHead,
    /// The network.
    pub picture: &'a Picture,
}

/// The files of one watch.
pub struct Sinks {
    all: Vec<(PathBuf, Option<Sink>)>,
    clock: Clock,
}

impl Sinks {
    /// Opens the files.
    pub fn open(targets: &[Target], bounds: Bounds, beginning: Beginning<'_>, clock: Clock) -> Result<Self, Failure> {
        let mut sinks = Self { all: Vec::new(), clock };
        for Target { path, form } in targets {
            let failed = |source| Failure::new(Unwritable::at(path, source), None);
            let sink = match form {
                Form::Recording => {
                    let Beginning { captured, head, picture } = beginning;
                    let tape = Tape::begin(path, bounds, captured, head.clone(), picture.clone());
                    Sink::Recording(Box::new(tape.map_err(failed)?))
                }
                form if bounds.file.is_some() => {
                    return Err(Failure::with_help(
                        format!("{} cannot be rotated", path.display()),
                        format!("-C is for recordings, not for {form:?}").to_lowercase(),
                    ));
                }
                form => packets(path, *form, &beginning)?,
            };
            sinks.all.push((path.clone(), Some(sink)));
        }
        Ok(sinks)
    }

    /// Something was seen.
    pub fn sighting(&mut self, shown: Shown<'_>, asked: bool) {
        match shown {
            Shown::Frame(frame) => self.frame(frame, asked),
            Shown::Event(event) => self.event(event, asked),
        }
    }

    /// A frame was captured.
    pub fn frame(&mut self, frame: &Frame, asked: bool) {
        self.each(|sink, _| match sink {
            Sink::Recording(tape) => tape.frame(frame, asked),
            _ => Ok(()),
        });
    }

    /// A probe has seen something.
    pub fn event(&mut self, event: &Event, asked: bool) {
        self.each(|sink, _| match sink {
            Sink::Recording(tape) => tape.event(event, asked),
            _ => Ok(()),
        });
    }

    /// The network is another.
    pub fn picture(&mut self, picture: &Picture) {
        self.each(|sink, _| match sink {
            Sink::Recording(tape) => tape.picture(picture),
            _ => Ok(()),
        });
    }

    /// A packet has ended.
    pub fn way(&mut self, told: &Told, snapshot: &Snapshot) {
        self.each(|sink, clock| match sink {
            Sink::Recording(_) => Ok(()),
            Sink::Pcapng(stream) => stream.way(told, snapshot, clock),
            Sink::Json(out) => writeln!(out, "{}", words::json::way(told, snapshot, clock)),
        });
    }

    /// Brings what was seen to the files, if it is time. Tells whether there is room for more.
    pub fn moment(&mut self, moment: Moment) -> bool {
        let mut room = true;
        self.each(|sink, _| match sink {
            Sink::Recording(tape) => tape.moment(moment).map(|left| room &= left == Room::Enough),
            _ => Ok(()),
        });
        room
    }

    /// Writes what is left.
    pub fn close(self, moment: Moment) -> Result<(), Failure> {
        for (path, sink) in self.all {
            let closed = match sink {
                Some(Sink::Recording(tape)) => tape.end(moment),
                Some(Sink::Pcapng(stream)) => stream.end(),
                Some(Sink::Json(mut out)) => out.flush(),
                None => Ok(()),
            };
            closed.map_err(|source| Failure::new(Unwritable::at(&path, source), None))?;
        }
        Ok(())
    }

    fn each(&mut self, mut write: impl FnMut(&mut Sink, Clock) -> std::io::Result<()>) {
        let clock = self.clock;
        for (path, sink) in &mut self.all {
            let Some(open) = sink else { continue };
            if let Err(source) = write(open, clock) {
                terminal::warn(&Failure::new(Unwritable::at(path, source), None));
                *sink = None;
            }
        }
    }
}

fn packets(path: &Path, form: Form, beginning: &Beginning<'_>) -> Result<Sink, Failure> {
    let failed = |source| Failure::new(Unwritable::at(path, source), None);
    let out = BufWriter::new(File::create(path).map_err(failed)?);
    let Beginning { head, picture, .. } = beginning;
    Ok(match form {
        Form::Pcapng => Sink::Pcapng(Stream::begin(out, &head.kernel, &head.tool, &picture.snapshot).map_err(failed)?),
        Form::Recording | Form::Json => Sink::Json(out),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_decides_the_form() {
        let form = |text: &str| target(text).map(|target| target.form);
        assert_eq!(
            (form("a.vtr"), form("a"), form("a.vtr3")),
            (Ok(Form::Recording), Ok(Form::Recording), Ok(Form::Recording))
        );
        assert_eq!((form("a.pcapng"), form("a.json")), (Ok(Form::Pcapng), Ok(Form::Json)));
        assert!(form("a.pcap").is_err());
    }
}
