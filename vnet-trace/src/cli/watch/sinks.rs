//! The files that a watch writes. One that cannot be written any more is given up with a warning, and the watch goes on.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::cli::output::Unwritable;
use crate::cli::{Failure, terminal};
use crate::follow::way::Told;
use crate::model::frame::Frame;
use crate::model::recording::{Moment, Picture};
use crate::model::snapshot::Snapshot;
use crate::present::pcapng::stream::Stream;
use crate::present::watch::{self as words, Clock};
use crate::watch::live::{Live, TOOL};
use crate::watch::record::{Bounds, Room, Tape};

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

/// The files of one watch.
pub struct Sinks {
    all: Vec<(PathBuf, Option<Sink>)>,
    clock: Clock,
}

impl Sinks {
    /// Opens the files of a live watch.
    pub fn open(targets: &[Target], bounds: Bounds, live: &Live, clock: Clock) -> Result<Self, Failure> {
        let mut sinks = Self { all: Vec::new(), clock };
        for Target { path, form } in targets {
            let failed = |source| Failure::new(Unwritable::at(path, source), None);
            let sink = match form {
                Form::Recording => {
                    let tape = Tape::begin(path, bounds, live.captured(), live.head(), live.picture());
                    Sink::Recording(Box::new(tape.map_err(failed)?))
                }
                form if bounds.file.is_some() => {
                    return Err(Failure::with_help(
                        format!("{} cannot be rotated", path.display()),
                        format!("-C is for recordings, not for {form:?}").to_lowercase(),
                    ));
                }
                form => packets(path, *form, live.watcher.ground().snapshot())?,
            };
            sinks.all.push((path.clone(), Some(sink)));
        }
        Ok(sinks)
    }

    /// Opens the files of a watch that is told again, which has no recording to write.
    pub fn of_packets(targets: &[Target], snapshot: &Snapshot, clock: Clock) -> Result<Self, Failure> {
        let mut sinks = Self { all: Vec::new(), clock };
        for Target { path, form } in targets {
            if *form == Form::Recording {
                return Err(Failure::with_help(
                    format!("{} would be a recording of a recording", path.display()),
                    "with -r, write .pcapng or .json",
                ));
            }
            sinks.all.push((path.clone(), Some(packets(path, *form, snapshot)?)));
        }
        Ok(sinks)
    }

    /// A frame was captured.
    pub fn frame(&mut self, frame: &Frame, asked: bool) {
        self.each(|sink, _| match sink {
            Sink::Recording(tape) => tape.frame(frame, asked),
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

    /// The same where nothing is recorded.
    pub fn close_packets(self) -> Result<(), Failure> {
        self.close(Moment { time: crate::model::id::Nanos(0), frames_lost: 0, events_lost: 0 })
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

fn packets(path: &Path, form: Form, snapshot: &Snapshot) -> Result<Sink, Failure> {
    let failed = |source| Failure::new(Unwritable::at(path, source), None);
    let out = BufWriter::new(File::create(path).map_err(failed)?);
    Ok(match form {
        Form::Pcapng => {
            let kernel = nix::sys::utsname::uname()
                .map(|name| name.release().to_string_lossy().into_owned())
                .unwrap_or_default();
            Sink::Pcapng(Stream::begin(out, &kernel, TOOL, snapshot).map_err(failed)?)
        }
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
