//! What a watch sees with: probes in the kernel, or, where none can be attached, captures on the devices.
//!
//! The probes match once and follow the socket buffer; captures see every device by itself, and cannot tell why the kernel
//! drops a packet. Both give what they saw in the order of time.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::collect::clock;
use crate::collect::kernel::{
    self, Begin, DeviceRef, KernelRecord, Matching, ProbeConfig, ProbeId, Probes, PutBy, SNAP_MAX, Told as ToldOf,
    Watched,
};
use crate::collect::pcap::CaptureError;
use crate::collect::pcap::stream::Stream;
use crate::filter::Expression;
use crate::model::event::Event;
use crate::model::frame::Frame;
use crate::model::id::{Device, Nanos, NetnsId};
use crate::model::sight::{Gap, ProbeCount, Sight, Tier};
use crate::model::snapshot::Snapshot;

/// The ring buffer of the probes, in bytes. It is mapped twice, so that no record is torn at its end, and both count as
/// memory of this process.
const RING: u32 = 4 << 20;

/// Room for records that came faster than they are followed, in bytes. What finds no room here waits in the ring buffer,
/// and what finds none there is counted.
const PUT_BY: usize = 6 << 20;

/// Records that are taken in one round, which bounds the memory that they take, and that of the packets which they end.
const ROUND: usize = 2048;

/// The most records that are taken when it ends: what was put by, and what the ring buffer has room for, are fewer.
const LAST: usize = 131_072;

/// Between the time of a record and its being in the ring buffer.
const MOMENT: Nanos = Nanos(200_000);

/// What sees.
pub enum Eyes {
    /// Probes in the kernel.
    Probes(Box<Probed>),
    /// Captures on the devices.
    Captures(Box<Stream>),
}

/// Probes that are attached.
pub struct Probed {
    probes: Probes,
    by_inode: HashMap<u32, NetnsId>,
    put_by: PutBy,
    records: Vec<KernelRecord>,
    /// Taken, and not handed over yet, in the order of time.
    held: Vec<Event>,
    /// What was seen until then has been handed over.
    until: Nanos,
    offset: u64,
    received: u64,
    /// The same by probe.
    seen: BTreeMap<ProbeId, u64>,
    unknown: bool,
}

/// What was seen at the end.
#[derive(Debug, Default)]
pub struct Last {
    /// The last events.
    pub events: Vec<Event>,
    /// The last frames.
    pub frames: Vec<Frame>,
    /// Frames and events that were let through, and those of them that found no room.
    pub received: u64,
    /// Frames that found no room.
    pub frames_lost: u64,
    /// Events that found no room.
    pub events_lost: u64,
    /// Events by probe.
    pub probes: Vec<ProbeCount>,
    /// What broke off.
    pub gaps: Vec<Gap>,
}

/// What is asked of the probes.
pub struct Asked<'a> {
    /// The best way to attach that may be used.
    pub tier: Option<Tier>,
    /// What a packet must match.
    pub expression: Option<&'a Expression>,
    /// Inodes of the namespaces in which it must match; None means all.
    pub netns: Option<Vec<u32>>,
    /// Devices at which it must match, with the inode of their namespace.
    pub devices: Vec<DeviceRef>,
    /// Packets inside tunnels are matched as well.
    pub inner: bool,
    /// Bytes of a packet that are kept.
    pub snaplen: Option<u32>,
    /// Which probes are attached before a packet was lost.
    pub begin: Begin,
}

/// Attaches the probes; None, with why, if none can be had.
pub fn attach(asked: &Asked<'_>) -> Result<Probes, Gap> {
    let watched = Watched {
        filter: asked.expression.cloned(),
        devices: asked.devices.clone(),
        inner: asked.inner,
        told: ToldOf::Everything,
        snap: asked
            .snaplen
            .map_or(Watched::default().snap, |bytes| u16::try_from(bytes).unwrap_or(SNAP_MAX).min(SNAP_MAX)),
    };
    let config = ProbeConfig {
        tier: asked.tier,
        netns: asked.netns.clone(),
        question: Matching::Expression(watched),
        ring_bytes: RING,
        begin: asked.begin,
        ..ProbeConfig::default()
    };
    let gap = |why: String| Gap {
        what: "what the kernel says about the packets (drop reasons, their way inside of it)".to_owned(),
        why,
        help: "run as root, or see `vnet-trace doctor`".to_owned(),
    };
    match kernel::attach(&config) {
        Ok(probes) if probes.tier() == Tier::Capture => {
            let why = probes.reports().first().map(kernel::decode::sight).and_then(|sight| sight.why);
            Err(gap(why.unwrap_or_else(|| "no probe can be attached".to_owned())))
        }
        Ok(probes) => Ok(probes),
        Err(error) => Err(gap(error.to_string())),
    }
}

impl Eyes {
    /// With probes.
    pub fn of_probes(probes: Probes, snapshot: &Snapshot) -> Self {
        let mut probed = Probed {
            probes,
            by_inode: HashMap::new(),
            put_by: PutBy::new(PUT_BY),
            records: Vec::new(),
            held: Vec::new(),
            until: Nanos(0),
            offset: clock::realtime_offset(),
            received: 0,
            seen: BTreeMap::new(),
            unknown: false,
        };
        probed.know(snapshot);
        Self::Probes(Box::new(probed))
    }

    /// What can be seen.
    pub fn sight(&self) -> Sight {
        match self {
            Self::Probes(probed) => Sight {
                tier: probed.probes.tier(),
                probes: probed.probes.reports().iter().map(kernel::decode::sight).collect(),
                ..Sight::default()
            },
            Self::Captures(stream) => {
                Sight { tier: Tier::Capture, captured: stream.devices().to_vec(), ..Sight::default() }
            }
        }
    }

    /// A packet was lost: attaches what would have told more of its way.
    pub fn look_closer(&mut self) {
        if let Self::Probes(probed) = self {
            probed.probes.attach_rest();
        }
    }

    /// Whether probes were attached since the last call, so that more can be seen than before.
    pub fn got_rest(&mut self) -> bool {
        match self {
            Self::Probes(probed) => probed.probes.got_rest(),
            Self::Captures(_) => false,
        }
    }

    /// How many places are looked at, for people: `36 devices`, `14 probes`.
    pub fn count(&self) -> String {
        match self {
            Self::Probes(probed) => {
                let attached = probed.probes.reports().iter().filter(|report| report.tier != Tier::Capture).count();
                let tier = probed.probes.tier().name();
                match probed.probes.waiting() {
                    0 => format!("{attached} probes ({tier})"),
                    waiting => format!("{attached} probes ({tier}), {waiting} more after a loss,"),
                }
            }
            Self::Captures(stream) => format!("{} devices (capture)", stream.devices().len()),
        }
    }

    /// What to add to a time to get nanoseconds since 1970.
    pub fn realtime_offset(&self) -> u64 {
        match self {
            Self::Probes(probed) => probed.offset,
            Self::Captures(stream) => stream.realtime_offset(),
        }
    }

    /// Waits, at most so long, and hands over what was seen. A signal ends the wait.
    pub fn take(
        &mut self,
        at_most: Duration,
        events: &mut Vec<Event>,
        frames: &mut Vec<Frame>,
    ) -> Result<(), CaptureError> {
        match self {
            Self::Probes(probed) => {
                probed.take(at_most, events);
                Ok(())
            }
            Self::Captures(stream) => stream.take(u16::try_from(at_most.as_millis()).unwrap_or(u16::MAX), frames),
        }
    }

    /// Until when everything that was seen has been handed over: not later than when it was last looked, whatever the time is
    /// now.
    pub fn until(&self) -> Nanos {
        match self {
            Self::Probes(probed) => probed.until,
            Self::Captures(_) => clock::monotonic(),
        }
    }

    /// Empties what the kernel fills, for a later [`Eyes::take`]: following takes longer than that buffer lasts.
    pub fn keep_up(&mut self) {
        if let Self::Probes(probed) = self {
            probed.probes.put_by(&mut probed.put_by);
        }
    }

    /// Frames and events that found no room, so far.
    pub fn lost(&mut self) -> (u64, u64) {
        match self {
            Self::Probes(probed) => (0, probed.probes.lost()),
            Self::Captures(stream) => (stream.lost(), 0),
        }
    }

    /// What broke off since the last call.
    pub fn gaps(&mut self) -> Vec<Gap> {
        match self {
            Self::Probes(_) => Vec::new(),
            Self::Captures(stream) => stream.gaps(),
        }
    }

    /// Whether something was seen in a namespace that is not known; from then on it is not told again.
    pub fn met_strangers(&mut self) -> bool {
        match self {
            Self::Probes(probed) => std::mem::take(&mut probed.unknown),
            Self::Captures(_) => false,
        }
    }

    /// The namespaces have other numbers, or there are others.
    pub fn know(&mut self, snapshot: &Snapshot, renamed: &dyn Fn(Device) -> Option<Device>) {
        match self {
            Self::Probes(probed) => probed.know(snapshot),
            Self::Captures(stream) => stream.rename(renamed),
        }
    }

    /// Stops looking, and hands over what was seen up to now.
    pub fn stop(self) -> Last {
        match self {
            Self::Probes(probed) => probed.stop(),
            Self::Captures(stream) => {
                let captured = stream.stop();
                Last {
                    frames: captured.frames,
                    received: captured.received,
                    frames_lost: captured.lost,
                    gaps: captured.gaps,
                    ..Last::default()
                }
            }
        }
    }
}

impl Probed {
    fn know(&mut self, snapshot: &Snapshot) {
        self.by_inode = snapshot.namespaces.iter().map(|netns| (netns.inode as u32, netns.id)).collect();
    }

    fn take(&mut self, at_most: Duration, events: &mut Vec<Event>) {
        let waits = if !self.put_by.is_empty() {
            Duration::ZERO
        } else if self.held.is_empty() {
            at_most
        } else {
            at_most.min(Duration::from_millis(1))
        };
        self.probes.wait(waits);
        let now = clock::monotonic();
        self.drain();
        // What was put by may be a moment older than what was just handed over.
        let latest = self.held.last().filter(|_| !self.put_by.is_empty()).map(|event| event.time);
        let horizon = Nanos(latest.unwrap_or(now).0.saturating_sub(MOMENT.0));
        self.until = self.until.max(horizon);
        let ripe = self.held.partition_point(|event| event.time <= horizon);
        events.extend(self.held.drain(..ripe));
    }

    fn drain(&mut self) {
        let records = &mut self.records;
        self.probes.put_by(&mut self.put_by);
        self.probes.hand_over(&mut self.put_by, ROUND, |record| records.push(record));
        let by_inode = &self.by_inode;
        let number = |inode: u32| by_inode.get(&inode).copied();
        for record in self.records.drain(..) {
            self.received += 1;
            *self.seen.entry(record.probe).or_default() += 1;
            let mut names =
                kernel::decode::Names { netns: &number, symbol: &mut |address| self.probes.symbol(address) };
            let mut event = kernel::decode::event(&record, &mut names);
            // The namespaces are read again then, and until that is done the packet stays where it was.
            if event.netns == Some(NetnsId::ELSEWHERE) {
                self.unknown = true;
                event.netns = None;
            }
            // Nearly in order already: only what two CPUs saw at the same moment may have changed places.
            let at = self.held.iter().rposition(|before| before.time <= event.time).map_or(0, |last| last + 1);
            self.held.insert(at, event);
        }
    }

    /// What each probe saw, and what of it found no room.
    fn counts(&self) -> Vec<ProbeCount> {
        let mut counts: BTreeMap<ProbeId, (u64, u64)> =
            self.seen.iter().map(|(probe, seen)| (*probe, (*seen, 0))).collect();
        for lost in self.probes.lost_by() {
            counts.entry(lost.probe).or_default().1 += lost.count;
        }
        let count = |(probe, (seen, lost))| ProbeCount { name: kernel::attach::place(probe), seen, lost };
        counts.into_iter().map(count).collect()
    }

    fn stop(mut self) -> Last {
        while self.held.len() < LAST {
            let before = self.held.len();
            self.drain();
            if self.held.len() == before {
                break;
            }
        }
        let last = Last {
            events: std::mem::take(&mut self.held),
            received: self.received,
            events_lost: self.probes.lost(),
            probes: self.counts(),
            ..Last::default()
        };
        // On kernels with trampolines this takes a moment, and nobody has to wait for it: the process does not end before
        // the kernel has let go.
        let _ = std::thread::Builder::new().name("detach".to_owned()).spawn(move || self.probes.detach());
        last
    }
}
