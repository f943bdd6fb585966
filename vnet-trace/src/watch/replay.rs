//! Watching again what was recorded, or what another program captured.
//!
//! A recording is read piece by piece. What was seen up to a moment is put in order and followed; a piece that cannot be read ends
//! it, and what was readable has been told by then. A foreign capture ([`foreign`]) knows frames and interfaces only: the packets'
//! ways are told as far as these go, and no loss can be judged, because nothing is known of the network.

use std::path::Path;

use super::live::{self, WatchError};
use super::record::Captured;
use super::{Matched, Seen, Wanted, Watcher};
use crate::collect::foreign::{self, ForeignError};
use crate::collect::netns::Asked;
use crate::collect::recording_file::RecordingError;
use crate::collect::recording_file::stream::{Part, Parts};
use crate::filter::Expression;
use crate::follow::Limits;
use crate::follow::way::Told;
use crate::model::event::Event;
use crate::model::frame::Frame;
use crate::model::id::{Nanos, NetnsId};
use crate::model::recording::{Picture, Recording, WatchHead};
use crate::model::sight::{Gap, Sight};
use crate::model::snapshot::Snapshot;

/// What to tell of a recording.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A filter expression; None takes all.
    pub expression: Option<Expression>,
    /// The namespace in which a packet must match.
    pub netns: Option<Asked>,
    /// Devices at which it must match.
    pub devices: Vec<String>,
    /// Only losses.
    pub drops: bool,
    /// Only packets that took at least so long.
    pub slower_than: Option<Nanos>,
    /// Everything is told with other names, addresses and payload.
    pub redact: bool,
}

/// Why a file cannot be watched again.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It is no recording, or a damaged one: what could be read has been told.
    #[error(transparent)]
    Recording(#[from] RecordingError),
    /// It is no capture, or a damaged one: what could be read has been told.
    #[error(transparent)]
    Foreign(#[from] ForeignError),
    /// What is asked for is not in it.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// The recording knows no namespace of that name.
    #[error("the recording knows no netns {name}")]
    NoNetns {
        /// As typed.
        name: String,
        /// What it knows.
        known: Vec<String>,
    },
}

/// Whether a file is of traffic, rather than of a question; None if it is neither.
pub fn is_traffic(path: &Path) -> Option<bool> {
    if let Ok(Some(_)) | Err(ForeignError::Damaged { .. }) = foreign::Capture::open(path) {
        return Some(true);
    }
    match Parts::of_file(path).ok()?.next_part().ok()?? {
        Part::Watch(_) => Some(true),
        Part::Question(_) => Some(false),
        _ => None,
    }
}

/// Frames of a foreign capture that are put in order together.
const WINDOW: usize = 65_536;

/// Whoever is told of a recording again.
pub trait Audience {
    /// The beginning of it: what is known of the network, and which frames belong to a recording of what is told.
    fn begins(&mut self, head: &WatchHead, picture: &Picture, captured: Captured) -> bool {
        let _ = (head, picture, captured);
        true
    }

    /// A frame, before it is followed.
    fn frame(&mut self, frame: &Frame, asked: bool) {
        let _ = (frame, asked);
    }

    /// An event, before it is followed.
    fn event(&mut self, event: &Event, asked: bool) {
        let _ = (event, asked);
    }

    /// The network is another.
    fn picture(&mut self, picture: &Picture) {
        let _ = picture;
    }

    /// A packet has ended: whether more are wanted.
    fn told(&mut self, replay: &mut Replay, told: Told) -> bool;
}

/// What is read of a file.
pub struct Replay {
    options: Options,
    limits: Limits,
    watcher: Option<Watcher>,
    events: Vec<Event>,
    frames: Vec<Frame>,
    gaps: Vec<Gap>,
    /// What is known of the recording.
    pub head: WatchHead,
    /// It is one of a watch.
    pub is_watch: bool,
    stopped: bool,
    /// When the recording began and what to add to its times to get nanoseconds since 1970.
    pub began: Nanos,
    /// See [`Replay::began`].
    pub realtime_offset: u64,
    /// The time of the last thing that was read.
    pub last: Nanos,
}

impl Replay {
    /// Nothing has been read yet.
    pub fn new(options: Options) -> Self {
        Self {
            options,
            limits: Limits::default(),
            watcher: None,
            events: Vec::new(),
            frames: Vec::new(),
            gaps: Vec::new(),
            head: WatchHead {
                tool: "another program".to_owned(),
                kernel: String::new(),
                expression: String::new(),
                began: Nanos(0),
                realtime_offset_ns: 0,
            },
            is_watch: false,
            stopped: false,
            began: Nanos(0),
            realtime_offset: 0,
            last: Nanos(0),
        }
    }

    /// Reads a file. Each way is handed over as soon as it has ended. What was readable has been handed over when an error is
    /// given.
    pub fn read(&mut self, path: &Path, audience: &mut dyn Audience) -> Result<(), ReplayError> {
        let done = match foreign::Capture::open(path) {
            Ok(Some(capture)) => self.foreign(capture, audience),
            Ok(None) => self.recorded(path, audience),
            Err(error) => Err(error.into()),
        };
        self.feed(audience);
        if let Some(watcher) = &mut self.watcher {
            watcher.close();
        }
        self.tell(audience);
        done
    }

    /// What could not be told of a foreign capture.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// What follows and tells; None if not even the network could be read.
    pub fn watcher(&mut self) -> Option<&mut Watcher> {
        self.watcher.as_mut()
    }

    fn recorded(&mut self, path: &Path, audience: &mut dyn Audience) -> Result<(), ReplayError> {
        let mut parts = Parts::of_file(path)?;
        // A question's recording is in order of kind, not of time; it is small, and put in order when all of it is there.
        let mut question = false;
        while let Some(part) = parts.next_part()? {
            match part {
                Part::Question(recording) => {
                    question = true;
                    let Recording { before, sight, timing, ping, tool, kernel, .. } = *recording;
                    let expression = String::new();
                    let (began, realtime_offset_ns) = (ping.started, timing.realtime_offset_ns);
                    self.begin(WatchHead { tool, kernel, expression, began, realtime_offset_ns });
                    self.is_watch = false;
                    self.picture(Picture { snapshot: before, sight }, audience)?;
                }
                Part::Watch(head) => self.begin(head),
                Part::Picture(picture) => {
                    self.feed(audience);
                    self.picture(*picture, audience)?;
                }
                Part::Events(events) => self.events.extend(events),
                Part::Frames(frames) => self.frames.extend(frames),
                Part::Moment(moment) => {
                    if let Some(watcher) = &mut self.watcher {
                        watcher.lose(moment.time, moment.frames_lost, moment.events_lost);
                    }
                    self.feed(audience);
                    self.last = self.last.max(moment.time);
                }
            }
            if !question && !self.tell(audience) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn foreign(&mut self, mut capture: foreign::Capture, audience: &mut dyn Audience) -> Result<(), ReplayError> {
        let mut done = Ok(());
        let mut known = 0;
        loop {
            match capture.next_frame() {
                Ok(Some(frame)) => self.frames.push(frame),
                Ok(None) => break,
                Err(error) => {
                    done = Err(error.into());
                    break;
                }
            }
            // An interface may be announced anywhere before its first frame.
            let devices = capture.snapshot().devices().count();
            if devices != known {
                known = devices;
                self.picture(Picture { snapshot: capture.snapshot().clone(), sight: Sight::default() }, audience)?;
            }
            if self.frames.len() >= WINDOW {
                self.frames.sort_by_key(|frame| frame.time);
                let late = self.frames.split_off(WINDOW / 2);
                self.feed(audience);
                self.frames = late;
                if !self.tell(audience) {
                    return Ok(());
                }
            }
        }
        self.gaps = capture.gaps();
        if self.began == Nanos(0) {
            self.began = self.frames.iter().map(|frame| frame.time).min().unwrap_or_default();
        }
        if self.watcher.is_none() {
            self.picture(Picture { snapshot: capture.snapshot().clone(), sight: Sight::default() }, audience)?;
        }
        done
    }

    fn begin(&mut self, head: WatchHead) {
        (self.began, self.realtime_offset) = (head.began, head.realtime_offset_ns);
        self.is_watch = true;
        self.head = head;
    }

    /// The network, from here on.
    fn picture(&mut self, picture: Picture, audience: &mut dyn Audience) -> Result<(), ReplayError> {
        let Picture { snapshot, sight } = picture;
        let seen = Seen { snapshot, sight };
        if let Some(watcher) = &mut self.watcher {
            watcher.renew(seen);
            audience.picture(&shown(watcher));
            return Ok(());
        }
        let wanted = self.wanted(&seen.snapshot)?;
        let everything = wanted.expression.is_none() && wanted.netns.is_empty() && wanted.devices.is_empty();
        let watcher = if self.options.redact {
            Watcher::redacted(wanted, seen, self.limits).map_err(WatchError::from)?
        } else {
            Watcher::new(wanted, seen, self.limits)
        };
        let head = watcher.redaction().map_or_else(|| self.head.clone(), |redaction| redaction.head(self.head.clone()));
        let captured = if everything { Captured::AsAsked } else { Captured::More };
        self.stopped = !audience.begins(&head, &shown(&watcher), captured);
        self.watcher = Some(watcher);
        Ok(())
    }

    fn wanted(&self, snapshot: &Snapshot) -> Result<Wanted, ReplayError> {
        let Options { expression, netns, devices, drops, slower_than, .. } = &self.options;
        let netns: Vec<NetnsId> = match netns {
            None => Vec::new(),
            Some(asked) => {
                let found = asked.among(&snapshot.namespaces).ok_or_else(|| {
                    let known = snapshot.namespaces.iter().map(|netns| netns.name.clone()).collect();
                    ReplayError::NoNetns { name: asked.to_string(), known }
                })?;
                vec![found.id]
            }
        };
        let devices = live::named(snapshot, &netns, devices)?;
        let (expression, drops, slower_than) = (expression.clone(), *drops, *slower_than);
        Ok(Wanted { expression, netns, devices, inner: false, drops, slower_than })
    }

    /// Follows what was read, in the order of time.
    fn feed(&mut self, audience: &mut dyn Audience) {
        let Some(watcher) = &mut self.watcher else { return };
        self.events.sort_by_key(|event| event.time);
        self.frames.sort_by_key(|frame| frame.time);
        let last = self.events.last().map(|event| event.time).max(self.frames.last().map(|frame| frame.time));
        self.last = self.last.max(last.unwrap_or_default());
        let mut frames = self.frames.drain(..).peekable();
        for event in self.events.drain(..) {
            while let Some(frame) = frames.next_if(|frame| frame.time < event.time) {
                watcher.frame(frame, |frame, asked| audience.frame(frame, asked));
            }
            watcher.event(event, Matched::NotYet, |event, asked| audience.event(event, asked));
        }
        for frame in frames {
            watcher.frame(frame, |frame, asked| audience.frame(frame, asked));
        }
    }

    /// Hands over what has ended: whether more is wanted.
    fn tell(&mut self, audience: &mut dyn Audience) -> bool {
        while !self.stopped
            && let Some(told) = self.watcher.as_mut().and_then(|watcher| watcher.tell(&mut |_| None))
        {
            self.stopped = !audience.told(self, told);
        }
        !self.stopped
    }
}

/// The network as it is told.
fn shown(watcher: &Watcher) -> Picture {
    Picture { snapshot: watcher.ground().snapshot().clone(), sight: watcher.ground().sight().clone() }
}
