//! Watching this machine.

use std::time::{Duration, Instant};

use super::record::Captured;
use super::{Seen, Wanted, Watcher, reach};
use crate::collect::netns::{self, NetnsError};
use crate::collect::pcap::CaptureError;
use crate::collect::pcap::stream::Stream;
use crate::collect::snapshot::{self, Depth, Reach, SnapshotError, Taken};
use crate::collect::{clock, netns::Asked};
use crate::filter::{Expression, FilterError};
use crate::follow::Limits;
use crate::follow::way::Told;
use crate::model::frame::Frame;
use crate::model::id::{Device, Nanos, NetnsId};
use crate::model::question::Protocol;
use crate::model::recording::{Moment, Picture, WatchHead};
use crate::model::sight::{Gap, Sight, Tier};
use crate::model::snapshot::Snapshot;
use crate::rebuild::redact::recording::RedactError;

/// What to watch for, and where.
#[derive(Debug, Clone)]
pub struct Options {
    /// A filter expression in tcpdump's language; empty takes all.
    pub expression: String,
    /// `--netns`, `--container`: where a packet must match; None takes every namespace of the machine.
    pub place: Option<Asked>,
    /// `--dev`: devices at which it must match.
    pub devices: Vec<String>,
    /// Only losses.
    pub drops: bool,
    /// Only packets that took at least so long.
    pub slower_than: Option<Duration>,
    /// Bytes of a captured frame that are kept.
    pub snaplen: Option<u32>,
    /// What bounds memory.
    pub limits: Limits,
    /// Everything is told with other names, addresses and payload.
    pub redact: bool,
}

/// Why nothing can be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The expression is not one.
    #[error("`{expression}` is not a filter expression")]
    Expression {
        /// As typed.
        expression: String,
        /// Why not.
        #[source]
        source: FilterError,
    },
    /// The asked namespace can't be had.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The machine can't be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// No namespace that is watched has such a device.
    #[error("there is no device {name} where is watched")]
    NoDevice {
        /// As typed.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// It cannot be redacted.
    #[error(transparent)]
    Redact(#[from] RedactError),
    /// Nothing can be captured.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// No device could be opened.
    #[error("no device can be listened on")]
    Deaf {
        /// Why.
        gaps: Vec<Gap>,
    },
}

impl WatchError {
    /// What the user can do about it.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Expression { .. } => Some("the language is that of pcap-filter(7)".to_owned()),
            Self::Netns(NetnsError::Container(error)) => Some(error.help().to_owned()),
            Self::Netns(_) => Some(
                "`ip netns list` shows the names; a PID or a path such as /proc/42/ns/net will do as well".to_owned(),
            ),
            Self::Snapshot(_) | Self::Capture(_) => Some("run as root, or see `vnet-trace doctor`".to_owned()),
            Self::Redact(_) => Some("without --redact it can be told as it is".to_owned()),
            Self::NoDevice { known, .. } => Some(format!("devices there: {}", known.join(", "))),
            Self::Deaf { gaps } => gaps.first().map(|gap| format!("{}: {}", gap.what, gap.why)),
        }
    }
}

/// Reads an expression.
pub fn expression(text: &str) -> Result<Option<Expression>, WatchError> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    Expression::compile(text).map(Some).map_err(|source| WatchError::Expression { expression: text.to_owned(), source })
}

/// How old the picture of the network may be when a loss is judged by it.
const FRESH: Duration = Duration::from_secs(2);

/// A watch at work.
pub struct Live {
    /// What follows, tells and judges.
    pub watcher: Watcher,
    looking: Looking,
    frames: Vec<Frame>,
    options: Options,
    /// How long it took until all was listened to.
    pub ready: Duration,
    began: Nanos,
    /// When it was last counted what found no room.
    counted: Instant,
    /// When the picture of the network was last asked for.
    shown: Instant,
    /// The kernel's filter lets through what is asked for, not everything.
    filtered: bool,
}

/// The machine, and the captures on it.
struct Looking {
    taken: Taken,
    stream: Stream,
    sight: Sight,
    looked: Instant,
}

impl Looking {
    /// Looks again, if the last time was long ago. New devices are listened on from then on.
    fn again(&mut self, wanted: &Wanted) -> Option<Seen> {
        if self.looked.elapsed() < FRESH {
            return None;
        }
        self.looked = Instant::now();
        let snapshot = self.taken.again().ok()?;
        self.taken.snapshot = snapshot.clone();
        let (targets, _) = reach::targets(&self.taken, &wanted.devices);
        self.stream.add(&targets);
        self.sight.captured = self.stream.devices().to_vec();
        self.sight.frames_lost = self.stream.lost();
        self.sight.gaps.extend(self.stream.gaps());
        Some(Seen { snapshot, sight: self.sight.clone() })
    }
}

/// How a watch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Frames that passed the kernel's filters.
    pub received: u64,
    /// Frames that found no room.
    pub frames_lost: u64,
    /// Devices where that happened.
    pub lossy: Vec<Device>,
    /// Events that found no room.
    pub events_lost: u64,
    /// How long it took to stop.
    pub stopped_in: Duration,
    /// What could not be seen.
    pub gaps: Vec<Gap>,
}

impl Live {
    /// Looks at the machine and begins to listen.
    pub fn start(options: Options) -> Result<Self, WatchError> {
        let begun = Instant::now();
        let expression = expression(&options.expression)?;
        let place = options.place.as_ref().map(netns::Asked::located).transpose()?;
        let taken = snapshot::take(&request(place))?;
        let netns: Vec<NetnsId> = options.place.iter().map(|_| taken.asked).collect();
        let devices = named(&taken.snapshot, &netns, &options.devices)?;
        let filter = reach::filter(expression.as_ref().map(Expression::text), &taken.snapshot);
        let (targets, left_out) = reach::targets(&taken, &devices);
        let (stream, mut gaps) = Stream::start(&targets, &filter, options.snaplen);
        if stream.devices().is_empty() && !targets.is_empty() {
            return Err(WatchError::Deaf { gaps });
        }
        if left_out > 0 {
            gaps.push(Gap {
                what: format!("frames on {left_out} devices"),
                why: format!("at most {} devices are listened on", reach::MOST_CAPTURED),
                help: "name those that matter with --dev or --netns".to_owned(),
            });
        }
        let sight = Sight { tier: Tier::Capture, captured: stream.devices().to_vec(), gaps, ..Sight::default() };
        let wanted = Wanted {
            expression,
            netns,
            devices,
            drops: options.drops,
            slower_than: options.slower_than.map(|least| Nanos(least.as_nanos() as u64)),
        };
        let seen = Seen { snapshot: taken.snapshot.clone(), sight: sight.clone() };
        let watcher = if options.redact {
            Watcher::redacted(wanted, seen, options.limits)?
        } else {
            Watcher::new(wanted, seen, options.limits)
        };
        let looked = Instant::now();
        Ok(Self {
            watcher,
            looking: Looking { taken, stream, sight, looked },
            shown: looked,
            filtered: !filter.is_empty(),
            frames: Vec::new(),
            options,
            ready: begun.elapsed(),
            began: clock::monotonic(),
            counted: Instant::now(),
        })
    }

    /// When it began, and what to add to its times to get nanoseconds since 1970.
    pub fn began(&self) -> (Nanos, u64) {
        (self.began, self.looking.stream.realtime_offset())
    }

    /// Takes what there is, or waits for it, at most so long. A signal ends the wait. Each frame is shown before it is followed.
    pub fn round(&mut self, at_most: Duration, mut show: impl FnMut(&Frame, bool)) -> Result<(), WatchError> {
        let at_most = u16::try_from(at_most.as_millis()).unwrap_or(u16::MAX);
        self.looking.stream.take(at_most, &mut self.frames)?;
        // Before any packet is ended that may have been seen had there been room.
        if self.counted.elapsed() >= COUNT {
            self.counted = Instant::now();
            let lost = self.looking.stream.lost();
            self.watcher.lose(clock::monotonic(), lost, 0);
        }
        for frame in self.frames.drain(..) {
            self.watcher.frame(frame, &mut show);
        }
        // What was captured up to now may still be in a buffer.
        self.watcher.tick(Nanos(clock::monotonic().0.saturating_sub(BEHIND.0)));
        Ok(())
    }

    /// What has ended and is to be told, one by one.
    pub fn tell(&mut self) -> Option<Told> {
        let Self { watcher, looking, .. } = self;
        watcher.tell(&mut |wanted| looking.again(wanted))
    }

    /// A newer picture of the network, if one was taken since the last call.
    pub fn renewed(&mut self) -> Option<Picture> {
        let looked = self.looking.looked;
        let is_new = looked > self.shown;
        self.shown = looked;
        is_new.then(|| self.picture())
    }

    /// The network and what can be seen of it now.
    pub fn picture(&self) -> Picture {
        let ground = self.watcher.ground();
        Picture { snapshot: ground.snapshot().clone(), sight: ground.sight().clone() }
    }

    /// The beginning of a recording.
    pub fn head(&self) -> WatchHead {
        let head = WatchHead {
            tool: TOOL.to_owned(),
            kernel: nix::sys::utsname::uname()
                .map(|name| name.release().to_string_lossy().into_owned())
                .unwrap_or_default(),
            expression: self.options.expression.clone(),
            began: self.began,
            realtime_offset_ns: self.looking.stream.realtime_offset(),
        };
        self.watcher.redaction().map_or_else(|| head.clone(), |redaction| redaction.head(head.clone()))
    }

    /// Which of the captured frames belong to a recording.
    pub fn captured(&self) -> Captured {
        let wanted = self.watcher.wanted();
        let anywhere = wanted.netns.is_empty() && wanted.devices.is_empty();
        if anywhere && (self.filtered || wanted.expression.is_none()) { Captured::AsAsked } else { Captured::More }
    }

    /// Now, with what was lost until now.
    pub fn moment(&self) -> Moment {
        let sight = self.watcher.ground().sight();
        Moment { time: clock::monotonic(), frames_lost: sight.frames_lost, events_lost: sight.events_lost }
    }

    /// Stops listening. What was still in the buffers is followed to its end.
    pub fn stop(mut self, mut show: impl FnMut(&Frame, bool)) -> (Watcher, Ended) {
        let begun = Instant::now();
        let captured = self.looking.stream.stop();
        for frame in captured.frames {
            self.watcher.frame(frame, &mut show);
        }
        self.watcher.lose(clock::monotonic(), captured.lost, 0);
        self.watcher.close();
        let mut gaps = self.watcher.ground().sight().gaps.clone();
        gaps.extend(captured.gaps);
        let ended = Ended {
            received: captured.received,
            frames_lost: captured.lost,
            lossy: captured.lossy,
            events_lost: self.watcher.ground().sight().events_lost,
            stopped_in: begun.elapsed(),
            gaps,
        };
        (self.watcher, ended)
    }

    /// How many devices are listened on.
    pub fn devices(&self) -> usize {
        self.looking.stream.devices().len()
    }

    /// What was asked for.
    pub fn options(&self) -> &Options {
        &self.options
    }
}

/// What a recording says about who wrote it.
pub const TOOL: &str = concat!("vnet-trace ", env!("CARGO_PKG_VERSION"));

/// How often what found no room is counted: more often than packets end that are not seen any more.
const COUNT: Duration = Duration::from_millis(100);

/// How far the clock that ends packets runs behind: frames come that late at the most, unless the machine is overloaded.
const BEHIND: Nanos = Nanos(20_000_000);

fn request(place: Option<Asked>) -> snapshot::Request {
    let reach = if place.is_some() { Reach::Connected } else { Reach::Everything };
    snapshot::Request {
        asked: place.unwrap_or_default(),
        reach,
        addresses: Vec::new(),
        protocol: Protocol::Udp { port: 0, sport: 0 },
        depth: Depth::Full,
    }
}

/// The devices of these names, in the namespaces that are asked for.
pub(super) fn named(snapshot: &Snapshot, netns: &[NetnsId], names: &[String]) -> Result<Vec<Device>, WatchError> {
    let there = || snapshot.devices().filter(|(device, _)| netns.is_empty() || netns.contains(&device.netns));
    let mut devices = Vec::new();
    for name in names {
        let found: Vec<Device> = there().filter(|(_, link)| link.name == *name).map(|(device, _)| device).collect();
        if found.is_empty() {
            let mut known: Vec<String> = there().map(|(_, link)| link.name.clone()).collect();
            known.sort();
            known.dedup();
            return Err(WatchError::NoDevice { name: name.clone(), known });
        }
        devices.extend(found);
    }
    Ok(devices)
}
