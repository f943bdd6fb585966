//! Watching this machine.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::eyes::{self, Eyes};
use super::record::Captured;
use super::{Matched, Seen, Wanted, Watcher, reach};
use crate::collect::kernel::{Begin, DeviceRef};
use crate::collect::netns::find::candidates;
use crate::collect::netns::{self, Handle, NetnsError};
use crate::collect::pcap::CaptureError;
use crate::collect::pcap::stream::Stream;
use crate::collect::snapshot::{self, Depth, Reach, SnapshotError, Taken};
use crate::collect::{clock, netns::Asked};
use crate::filter::{Expression, FilterError};
use crate::follow::Limits;
use crate::follow::way::Told;
use crate::model::event::Event;
use crate::model::frame::Frame;
use crate::model::id::{Device, Nanos, NetnsId};
use crate::model::question::Protocol;
use crate::model::recording::{Moment, Picture, WatchHead};
use crate::model::sight::{Gap, ProbeCount, Sight, Tier};
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
    /// Bytes of a packet that are kept.
    pub snaplen: Option<u32>,
    /// Packets inside tunnels are matched as well.
    pub inner: bool,
    /// Hidden `--tier`: the best tier that may be used, for tests.
    pub tier: Option<Tier>,
    /// Which probes are attached before a packet was lost.
    pub begin: Begin,
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

/// How often new namespaces are looked for.
const LOOK: Duration = Duration::from_secs(1);

/// A watch at work.
pub struct Live {
    /// What follows, tells and judges.
    pub watcher: Watcher,
    looking: Looking,
    events: Vec<Event>,
    frames: Vec<Frame>,
    /// What had to be told before the namespaces got other numbers.
    pending: VecDeque<Told>,
    options: Options,
    /// How long it took until all was listened to.
    pub ready: Duration,
    began: Nanos,
    /// How often it was asked for what is to be told.
    told: usize,
    /// When it was last counted what found no room.
    counted: Instant,
    /// When the picture of the network was last asked for.
    shown: Instant,
    /// Probes were attached since the picture was last asked for.
    sees_more: bool,
    /// Probes were attached, and nobody has been told.
    news: bool,
    /// When it was last looked for new namespaces.
    scanned: Instant,
    /// The kernel lets through what is asked for, not everything.
    filtered: bool,
}

/// The machine, and what looks at it.
struct Looking {
    taken: Taken,
    place: Option<Asked>,
    eyes: Eyes,
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
        self.taken.snapshot = self.taken.again().ok()?;
        Some(self.seen(wanted))
    }

    /// What can be seen now.
    fn seen(&mut self, wanted: &Wanted) -> Seen {
        if let Eyes::Captures(stream) = &mut self.eyes {
            let (targets, _) = reach::targets(&self.taken, &wanted.devices);
            stream.add(&targets);
            self.sight.captured = stream.devices().to_vec();
        }
        (self.sight.frames_lost, self.sight.events_lost) = self.eyes.lost();
        self.sight.gaps.extend(self.eyes.gaps());
        Seen { snapshot: self.taken.snapshot.clone(), sight: self.sight.clone() }
    }

    /// Whether there are namespaces that are not in the snapshot.
    fn is_outdated(&self) -> bool {
        let own: Vec<_> = Handle::own().into_iter().collect();
        let known = &self.taken.snapshot;
        let (found, _) = candidates(&own);
        found.iter().any(|candidate| known.netns_by_inode(candidate.handle.inode()).is_none())
    }
}

/// How a watch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Frames and events that the kernel let through.
    pub received: u64,
    /// Frames that found no room.
    pub frames_lost: u64,
    /// Events that found no room.
    pub events_lost: u64,
    /// How long it took to stop.
    pub stopped_in: Duration,
    /// Events by probe.
    pub probes: Vec<ProbeCount>,
    /// What could not be seen.
    pub gaps: Vec<Gap>,
}

/// What is shown before it is followed.
#[derive(Debug, Clone, Copy)]
pub enum Shown<'a> {
    /// A captured frame.
    Frame(&'a Frame),
    /// What a probe saw.
    Event(&'a Event),
}

impl Live {
    /// Looks at the machine and begins to listen.
    pub fn start(options: Options) -> Result<Self, WatchError> {
        let begun = Instant::now();
        let expression = expression(&options.expression)?;
        let place = options.place.as_ref().map(netns::Asked::located).transpose()?;
        let inodes = match &place {
            Some(place) => Some(vec![place.open()?.inode() as u32]),
            None => None,
        };
        // Loading the probes takes about as long as reading the machine, and neither needs the other, unless devices are named.
        let attach = |devices: Vec<DeviceRef>| {
            eyes::attach(&eyes::Asked {
                tier: options.tier,
                expression: expression.as_ref(),
                netns: inodes.clone(),
                devices,
                inner: options.inner,
                snaplen: options.snaplen,
                begin: options.begin,
            })
        };
        let early = options.devices.is_empty();
        let (taken, probes) = std::thread::scope(|scope| {
            let loading = early.then(|| scope.spawn(|| attach(Vec::new())));
            let taken = snapshot::take(&request(place.clone()));
            (taken, loading.map(std::thread::ScopedJoinHandle::join))
        });
        let taken = taken?;
        let netns: Vec<NetnsId> = options.place.iter().map(|_| taken.asked).collect();
        let devices = named(&taken.snapshot, &netns, &options.devices)?;
        let probes = match probes {
            Some(Ok(probes)) => probes,
            Some(Err(_)) => Err(Gap {
                what: "the kernel's probes".to_owned(),
                why: "the thread that loads them broke off".to_owned(),
                help: String::new(),
            }),
            None => attach(devices.iter().filter_map(|device| reference(&taken.snapshot, *device)).collect()),
        };
        let mut gaps = Vec::new();
        let (eyes, filtered) = match probes {
            Ok(probes) => (Eyes::of_probes(probes, &taken.snapshot), true),
            Err(gap) => {
                gaps.push(gap);
                let filter = reach::filter(expression.as_ref().map(Expression::text), &taken.snapshot);
                (captures(&taken, &devices, &filter, options.snaplen, &mut gaps)?, !filter.is_empty())
            }
        };
        let sight = Sight { gaps, ..eyes.sight() };
        let wanted = Wanted {
            expression,
            netns,
            devices,
            inner: options.inner,
            drops: options.drops,
            slower_than: options.slower_than.map(|least| Nanos(least.as_nanos() as u64)),
        };
        let seen = Seen { snapshot: taken.snapshot.clone(), sight: sight.clone() };
        let watcher = if options.redact {
            Watcher::redacted(wanted, seen, options.limits)?
        } else {
            Watcher::new(wanted, seen, options.limits)
        };
        let now = Instant::now();
        Ok(Self {
            watcher,
            looking: Looking { taken, place, eyes, sight, looked: now },
            events: Vec::new(),
            frames: Vec::new(),
            pending: VecDeque::new(),
            options,
            ready: begun.elapsed(),
            began: clock::monotonic(),
            told: 0,
            counted: now,
            shown: now,
            sees_more: false,
            news: false,
            scanned: now,
            filtered,
        })
    }

    /// When it began, and what to add to its times to get nanoseconds since 1970.
    pub fn began(&self) -> (Nanos, u64) {
        (self.began, self.looking.eyes.realtime_offset())
    }

    /// Takes what there is, or waits for it, at most so long. A signal ends the wait. Each sighting is shown before it is
    /// followed, with whether it is of what is asked for.
    pub fn round(&mut self, at_most: Duration, show: &mut dyn FnMut(Shown<'_>, bool)) -> Result<(), WatchError> {
        self.looking.eyes.take(at_most, &mut self.events, &mut self.frames)?;
        // Before any packet is ended that may have been seen had there been room.
        if self.counted.elapsed() >= COUNT {
            self.counted = Instant::now();
            let (frames, events) = self.looking.eyes.lost();
            self.watcher.lose(clock::monotonic(), frames, events);
        }
        if self.scanned.elapsed() >= LOOK {
            self.scanned = Instant::now();
            if self.looking.eyes.met_strangers() || self.looking.place.is_none() && self.looking.is_outdated() {
                self.rescan();
            }
        }
        if self.looking.eyes.got_rest() {
            self.see_more();
        }
        for frame in self.frames.drain(..) {
            self.watcher.frame(frame, |frame, asked| show(Shown::Frame(frame), asked));
        }
        for (index, event) in self.events.drain(..).enumerate() {
            if index.is_multiple_of(SLICE) {
                self.looking.eyes.keep_up();
            }
            self.watcher.event(event, Matched::ByProbe, |event, asked| show(Shown::Event(event), asked));
        }
        // What was seen since may still be in a buffer, and a packet must not end before that.
        self.watcher.tick(Nanos(self.looking.eyes.until().0.saturating_sub(BEHIND.0)));
        Ok(())
    }

    /// More probes are attached than before.
    fn see_more(&mut self) {
        let Sight { tier, probes, .. } = self.looking.eyes.sight();
        let sight = &mut self.looking.sight;
        (sight.tier, sight.probes) = (tier, probes);
        let seen = self.looking.seen(self.watcher.wanted());
        self.watcher.renew(seen);
        (self.sees_more, self.news) = (true, true);
    }

    /// Whether more can be seen than when this was last asked, because a packet was lost.
    pub fn looks_closer(&mut self) -> bool {
        std::mem::take(&mut self.news)
    }

    /// Looks at all of the machine again: there are other namespaces than before.
    fn rescan(&mut self) {
        let Ok(taken) = snapshot::take(&request(self.looking.place.clone())) else { return };
        let before = &self.looking.taken.snapshot;
        let numbers: HashMap<NetnsId, NetnsId> = before
            .namespaces
            .iter()
            .filter_map(|netns| Some((netns.id, taken.snapshot.netns_by_inode(netns.inode)?.id)))
            .collect();
        let renamed = |device: Device| Some(Device::new(*numbers.get(&device.netns)?, device.ifindex));
        if before.namespaces.iter().any(|netns| numbers.get(&netns.id) != Some(&netns.id)) {
            // What is followed has the old numbers: it is told with them.
            self.watcher.close();
            while let Some(told) = self.watcher.tell(&mut |_| None) {
                self.pending.push_back(told);
            }
            let wanted = self.watcher.wanted_mut();
            wanted.netns = wanted.netns.iter().filter_map(|netns| numbers.get(netns).copied()).collect();
            wanted.devices = wanted.devices.iter().filter_map(|device| renamed(*device)).collect();
            for event in &mut self.events {
                event.device = event.device.and_then(renamed);
                event.netns = event.netns.and_then(|netns| numbers.get(&netns).copied());
            }
            self.frames.retain_mut(|frame| {
                let device = renamed(frame.device);
                frame.device = device.unwrap_or(frame.device);
                device.is_some()
            });
        }
        self.looking.eyes.know(&taken.snapshot, &renamed);
        self.looking.taken = taken;
        self.looking.looked = Instant::now();
        let seen = self.looking.seen(self.watcher.wanted());
        self.watcher.renew(seen);
    }

    /// What has ended and is to be told, one by one.
    pub fn tell(&mut self) -> Option<Told> {
        let Self { watcher, looking, pending, told, .. } = self;
        *told += 1;
        if told.is_multiple_of(SLICE) {
            looking.eyes.keep_up();
        }
        let told = pending.pop_front().or_else(|| watcher.tell(&mut |wanted| looking.again(wanted)));
        if told.as_ref().is_some_and(|told| told.verdict.is_some()) {
            looking.eyes.look_closer();
        }
        told
    }

    /// A newer picture of the network, if one was taken since the last call.
    pub fn renewed(&mut self) -> Option<Picture> {
        let looked = self.looking.looked;
        let is_new = looked > self.shown || std::mem::take(&mut self.sees_more);
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
            realtime_offset_ns: self.looking.eyes.realtime_offset(),
        };
        self.watcher.redaction().map_or_else(|| head.clone(), |redaction| redaction.head(head.clone()))
    }

    /// Which of the sightings belong to a recording.
    pub fn captured(&self) -> Captured {
        let wanted = self.watcher.wanted();
        let anywhere = wanted.netns.is_empty() && wanted.devices.is_empty();
        match self.looking.eyes {
            Eyes::Probes(_) => Captured::AsAsked,
            Eyes::Captures(_) if anywhere && (self.filtered || wanted.expression.is_none()) => Captured::AsAsked,
            Eyes::Captures(_) => Captured::More,
        }
    }

    /// Now, with what was lost until now.
    pub fn moment(&self) -> Moment {
        let sight = self.watcher.ground().sight();
        Moment { time: clock::monotonic(), frames_lost: sight.frames_lost, events_lost: sight.events_lost }
    }

    /// What is looked with, for people.
    pub fn eyes(&self) -> String {
        self.looking.eyes.count()
    }

    /// Stops looking. What was still in the buffers is followed to its end.
    pub fn stop(mut self, show: &mut dyn FnMut(Shown<'_>, bool)) -> (Watcher, VecDeque<Told>, Ended) {
        let begun = Instant::now();
        let last = self.looking.eyes.stop();
        for frame in self.frames.drain(..).chain(last.frames) {
            self.watcher.frame(frame, |frame, asked| show(Shown::Frame(frame), asked));
        }
        for event in self.events.drain(..).chain(last.events) {
            self.watcher.event(event, Matched::ByProbe, |event, asked| show(Shown::Event(event), asked));
        }
        self.watcher.lose(clock::monotonic(), last.frames_lost, last.events_lost);
        self.watcher.close();
        let mut gaps = self.watcher.ground().sight().gaps.clone();
        gaps.extend(last.gaps);
        let ended = Ended {
            received: last.received,
            frames_lost: last.frames_lost,
            events_lost: last.events_lost,
            probes: last.probes,
            stopped_in: begun.elapsed(),
            gaps,
        };
        (self.watcher, self.pending, ended)
    }
}

/// Captures on all devices.
fn captures(
    taken: &Taken,
    devices: &[Device],
    filter: &str,
    snaplen: Option<u32>,
    gaps: &mut Vec<Gap>,
) -> Result<Eyes, WatchError> {
    let (targets, left_out) = reach::targets(taken, devices);
    let (stream, unopened) = Stream::start(&targets, filter, snaplen);
    if stream.devices().is_empty() && !targets.is_empty() {
        return Err(WatchError::Deaf { gaps: unopened });
    }
    gaps.extend(unopened);
    if left_out > 0 {
        gaps.push(Gap {
            what: format!("frames on {left_out} devices"),
            why: format!("at most {} devices are listened on", reach::MOST_CAPTURED),
            help: "name those that matter with --dev or --netns".to_owned(),
        });
    }
    Ok(Eyes::Captures(Box::new(stream)))
}

/// A device as the probes know it.
fn reference(snapshot: &Snapshot, device: Device) -> Option<DeviceRef> {
    let netns = snapshot.netns(device.netns)?;
    Some(DeviceRef { netns: Some(netns.inode as u32), ifindex: device.ifindex.0 })
}

/// What a recording says about who wrote it.
pub const TOOL: &str = concat!("vnet-trace ", env!("CARGO_PKG_VERSION"));

/// So many events are followed, or packets told, before it is seen to the kernel's buffer again.
const SLICE: usize = 256;

/// How often what found no room is counted: more often than packets end that are not seen any more.
const COUNT: Duration = Duration::from_millis(100);

/// How far the clock that ends packets runs behind: sightings come that late at the most, unless the machine is overloaded.
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
