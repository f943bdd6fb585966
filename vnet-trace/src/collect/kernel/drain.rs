//! Attached probes at work: reading what they recorded, telling them what else to look for, stopping.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use aya::maps::{Map, MapData, MapError, RingBuf};
use aya_log::EbpfLogger;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vnet_trace_ebpf::{COUNTER_UNDECIDED, ProbeId, Record, SNAP_MAX};

use super::attach::Tier;
use super::config::LogLevel;
use super::load::{AttachError, Waiting};
use super::maps::{Maps, address_key, possible_cpus};
use super::reasons::Reasons;
use super::record::KernelRecord;
use super::release::{Pace, release};
use super::report::ProbeReport;
use super::symbols::Symbols;
use crate::collect::clock;
use crate::model::id::Nanos;

/// One sighting as it lies in the ring buffer: nothing is copied or looked up, for those who read millions of them.
///
/// [`KernelRecord::from_raw`] makes plain data of it.
#[derive(Clone, Copy, Debug)]
pub struct Sighting<'a> {
    /// All but the packet. Its numbers are explained at [`Record`].
    pub record: &'a Record,
    /// The packet from its network header; at probes without a packet, what [`Record::args`] does not hold.
    pub packet: &'a [u8],
}

/// Sightings that found no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lost {
    /// Where they were made.
    pub probe: ProbeId,
    /// By which CPU.
    pub cpu: u16,
    /// How many.
    pub count: u64,
}

/// Records as they lay in the ring buffer, put by to make room there: copying takes less time than the kernel takes to fill
/// it, making something of them takes more.
#[derive(Debug)]
pub struct PutBy {
    /// The records, each at a multiple of 8 bytes from `begin`. It never moves.
    bytes: Vec<u8>,
    /// Where they begin, so that they are aligned as they were.
    begin: usize,
    /// How long each is that was not handed over yet.
    lengths: VecDeque<u16>,
    /// Where the first of these is.
    next: usize,
}

impl PutBy {
    /// With room for so many bytes.
    pub fn new(room: usize) -> Self {
        let mut bytes: Vec<u8> = Vec::with_capacity(room + 8);
        let begin = bytes.as_ptr().align_offset(8).min(8);
        bytes.resize(begin, 0);
        Self { bytes, begin, lengths: VecDeque::new(), next: begin }
    }

    /// Whether all was handed over.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Whether the longest record would find room.
    fn has_room(&self) -> bool {
        self.bytes.capacity() - self.bytes.len() >= size_of::<Record>() + SNAP_MAX as usize + 8
    }

    fn push(&mut self, item: &[u8]) {
        self.bytes.extend_from_slice(item);
        self.bytes.resize(self.begin + (self.bytes.len() - self.begin).next_multiple_of(8), 0);
        self.lengths.push_back(item.len() as u16);
    }

    /// The next record. When there is none, all of the room is free again.
    fn next(&mut self) -> Option<&[u8]> {
        let Some(length) = self.lengths.pop_front() else {
            self.bytes.truncate(self.begin);
            self.next = self.begin;
            return None;
        };
        let at = self.next;
        self.next += usize::from(length).next_multiple_of(8);
        self.bytes.get(at..at + usize::from(length))
    }
}

/// The probes of one trace. Dropping it detaches them.
pub struct Probes {
    kernel: Option<Attached>,
    /// Probes that are loaded and not attached yet.
    waiting: Option<Box<Waiting>>,
    /// A thread attaches them, because that takes longer than the ring buffer lasts.
    coming: Option<JoinHandle<(Vec<OwnedFd>, Vec<ProbeReport>)>>,
    reports: Vec<ProbeReport>,
    reasons: Reasons,
    symbols: Option<Symbols>,
}

struct Attached {
    records: RingBuf<MapData>,
    maps: Maps,
    cpus: usize,
    log: Option<EbpfLogger<&'static dyn log::Log>>,
    /// When the last probe was attached. What the first ones saw before then is half a story.
    since: Nanos,
    /// What keeps the programs attached.
    links: Vec<OwnedFd>,
}

impl Probes {
    /// No probe at all, and why.
    pub(super) fn none(reports: Vec<ProbeReport>, reasons: Reasons) -> Self {
        Self { kernel: None, waiting: None, coming: None, reports, reasons, symbols: None }
    }

    pub(super) fn new(
        mut maps: Maps,
        links: Vec<OwnedFd>,
        waiting: Option<Waiting>,
        reports: Vec<ProbeReport>,
        reasons: Reasons,
        log: LogLevel,
    ) -> Result<Self, AttachError> {
        if links.is_empty() {
            return Ok(Self::none(reports, reasons));
        }
        let log = match log {
            LogLevel::Off => None,
            LogLevel::Debug => logger(&links),
        };
        let kernel = Attached {
            records: ring(maps.take("RECORDS")?)?,
            maps,
            cpus: possible_cpus(),
            log,
            since: clock::monotonic(),
            links,
        };
        Ok(Self { kernel: Some(kernel), waiting: waiting.map(Box::new), coming: None, reports, reasons, symbols: None })
    }

    /// Begins to attach the probes that were left out, see [`super::Begin::Lean`]. Does not wait for it.
    pub fn attach_rest(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            let name = "probes".to_owned();
            self.coming = std::thread::Builder::new().name(name).spawn(move || waiting.attach()).ok();
        }
    }

    /// Whether the probes that were left out have been attached since the last call.
    pub fn got_rest(&mut self) -> bool {
        let is_there = self.coming.as_ref().is_some_and(JoinHandle::is_finished);
        if is_there {
            self.take_rest();
        }
        is_there
    }

    /// How many probes wait to be attached.
    pub fn waiting(&self) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting.len())
    }

    /// Waits for the probes that are being attached.
    fn take_rest(&mut self) {
        if let Some(thread) = self.coming.take()
            && let Ok((links, reports)) = thread.join()
            && let Some(kernel) = &mut self.kernel
        {
            kernel.links.extend(links);
            for report in reports {
                if let Some(before) = self.reports.iter_mut().find(|before| before.probe == report.probe) {
                    *before = report;
                }
            }
        }
    }

    /// What became of each probe, in the order of the table.
    pub fn reports(&self) -> &[ProbeReport] {
        &self.reports
    }

    /// The best tier that any probe got.
    pub fn tier(&self) -> Tier {
        self.reports.iter().map(|report| report.tier).min().unwrap_or(Tier::Capture)
    }

    /// Becomes readable when there are records; None without probes.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.kernel.as_ref().map(|kernel| kernel.records.as_fd())
    }

    /// Waits until there are records, at most so long. Tells whether there are.
    pub fn wait(&self, at_most: Duration) -> bool {
        let Some(fd) = self.fd() else {
            std::thread::sleep(at_most);
            return false;
        };
        let timeout = PollTimeout::try_from(at_most).unwrap_or(PollTimeout::MAX);
        poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout).is_ok_and(|ready| ready > 0)
    }

    /// Hands over every record that is there, and tells how many there were. Does not wait.
    pub fn drain(&mut self, mut each: impl FnMut(KernelRecord)) -> usize {
        let Self { kernel: Some(kernel), reasons, .. } = self else {
            return 0;
        };
        kernel.drain(|sighting| {
            if let Some(record) = KernelRecord::from_raw(&sighting, reasons) {
                each(record);
            }
        })
    }

    /// Puts the records that are there by, as long as there is room, to be handed over by [`Probes::hand_over`].
    pub fn put_by(&mut self, into: &mut PutBy) {
        if let Some(kernel) = &mut self.kernel {
            kernel.put_by(into);
        }
    }

    /// Hands over at most so many of the records that were put by, and tells how many it were.
    pub fn hand_over(&self, from: &mut PutBy, at_most: usize, mut each: impl FnMut(KernelRecord)) -> usize {
        let Some(kernel) = &self.kernel else { return 0 };
        let mut count = 0;
        while count < at_most
            && let Some(item) = from.next()
        {
            count += 1;
            if let Some(sighting) = sighting(item)
                && sighting.record.time_ns >= kernel.since.0
                && let Some(record) = KernelRecord::from_raw(&sighting, &self.reasons)
            {
                each(record);
            }
        }
        count
    }

    /// The same without making anything of the records.
    pub fn drain_raw(&mut self, each: impl FnMut(Sighting<'_>)) -> usize {
        self.kernel.as_mut().map_or(0, |kernel| kernel.drain(each))
    }

    /// How many records found no room in the ring buffer since the start.
    pub fn lost(&self) -> u64 {
        self.lost_by().iter().map(|lost| lost.count).sum()
    }

    /// The same by probe and CPU; probes that have lost nothing are left out.
    pub fn lost_by(&self) -> Vec<Lost> {
        let counts = |probe: ProbeId| {
            self.counted(probe as u32).into_iter().enumerate().map(move |(cpu, count)| Lost {
                probe,
                cpu: cpu as u16,
                count,
            })
        };
        ProbeId::ALL.into_iter().flat_map(counts).filter(|lost| lost.count > 0).collect()
    }

    /// How often the expression had no verdict on a packet, because it reads what did not lie in one piece with the headers.
    pub fn undecided(&self) -> u64 {
        self.counted(COUNTER_UNDECIDED).iter().sum()
    }

    /// What each CPU has counted under a number.
    fn counted(&self, number: u32) -> Vec<u64> {
        let kernel = self.kernel.as_ref();
        kernel.and_then(|kernel| kernel.maps.per_cpu("COUNTS", number, kernel.cpus).ok()).unwrap_or_default()
    }

    /// Adds an address whose ARP, ND, route look-ups and neighbour entries are of interest.
    pub fn watch_address(&mut self, address: IpAddr) -> Result<(), AttachError> {
        self.insert("ADDRESSES", &address_key(address))
    }

    /// Adds a namespace, by inode number. It has an effect if the configuration named namespaces at all.
    pub fn watch_netns(&mut self, inode: u32) -> Result<(), AttachError> {
        self.insert("NETNS", &inode.to_ne_bytes())
    }

    /// Adds an identifier of echo requests.
    pub fn watch_identifier(&mut self, identifier: u16) -> Result<(), AttachError> {
        self.insert("IDENTIFIERS", &u32::from(identifier).to_ne_bytes())
    }

    /// Adds a port of ours, from which segments or datagrams are sent.
    pub fn watch_port(&mut self, port: u16) -> Result<(), AttachError> {
        self.insert("PORTS", &u32::from(port).to_ne_bytes())
    }

    fn insert(&self, map: &str, key: &[u8]) -> Result<(), AttachError> {
        self.kernel.as_ref().map_or(Ok(()), |kernel| kernel.maps.insert(map, key))
    }

    /// The function that an address of kernel code is in. The first call reads the kernel's symbols.
    pub fn symbol(&mut self, address: u64) -> Option<Arc<str>> {
        if address == 0 {
            return None;
        }
        self.symbols.get_or_insert_with(Symbols::read).name(address)
    }

    /// Names of drop reasons.
    pub fn reasons(&self) -> &Reasons {
        &self.reasons
    }

    /// Detaches all probes. Records that were not drained are gone.
    pub fn detach(mut self) {
        self.detach_all();
    }

    fn detach_all(&mut self) {
        self.take_rest();
        let pace = match self.tier() {
            Tier::Fentry | Tier::Kprobe => Pace::Slow,
            Tier::Tracepoint | Tier::Capture => Pace::Quick,
        };
        if let Some(kernel) = self.kernel.take() {
            release(kernel.links, pace);
        }
    }
}

impl Attached {
    fn put_by(&mut self, into: &mut PutBy) {
        while into.has_room()
            && let Some(item) = self.records.next()
        {
            into.push(&item);
        }
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }

    fn drain(&mut self, mut each: impl FnMut(Sighting<'_>)) -> usize {
        let mut count = 0;
        while let Some(item) = self.records.next() {
            if let Some(sighting) = sighting(&item)
                && sighting.record.time_ns >= self.since.0
            {
                count += 1;
                each(sighting);
            }
        }
        if let Some(log) = &mut self.log {
            log.flush();
        }
        count
    }
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.detach_all();
    }
}

/// The reader of a ring buffer.
fn ring(map: OwnedFd) -> Result<RingBuf<MapData>, AttachError> {
    let unusable = |error: MapError| AttachError::map("RECORDS", std::io::Error::other(error));
    MapData::from_fd(map).and_then(|data| RingBuf::try_from(Map::RingBuf(data))).map_err(unusable)
}

/// The reader of what the programs say about themselves, which one of them leads to.
fn logger(links: &[OwnedFd]) -> Option<EbpfLogger<&'static dyn log::Log>> {
    links.iter().find_map(|link| {
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", link.as_raw_fd())).ok()?;
        let number = info.lines().find_map(|line| line.strip_prefix("prog_id:"))?;
        EbpfLogger::init_from_id(number.trim().parse().ok()?).ok()
    })
}

/// Finds a record in the ring buffer; None if the bytes are not one.
#[expect(unsafe_code, reason = "bytes of the ring buffer become the structure that was written there")]
fn sighting(bytes: &[u8]) -> Option<Sighting<'_>> {
    let (head, packet) = bytes.split_at_checked(size_of::<Record>())?;
    // SAFETY: every bit pattern is a `Record`, which has only integers.
    let (before, records, _) = unsafe { head.align_to::<Record>() };
    // What lies in the ring buffer is aligned to 8 bytes.
    let record = records.first().filter(|_| before.is_empty())?;
    Some(Sighting { record, packet: packet.get(..usize::from(record.packet_len))? })
}
