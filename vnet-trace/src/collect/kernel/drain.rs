//! Attached probes at work: reading what they recorded, telling them what else to look for, stopping.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{HashMap, MapData, MapError, PerCpuArray, RingBuf};
use aya::programs::Program;
use aya_log::EbpfLogger;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use vnet_trace_ebpf::{ProbeId, Record};

use super::attach::Tier;
use super::load::{AttachError, LogLevel, ProbeConfig, ProbeReport};
use super::reasons::Reasons;
use super::record::KernelRecord;
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

/// The probes of one trace. Dropping it detaches them.
pub struct Probes {
    kernel: Option<Attached>,
    reports: Vec<ProbeReport>,
    reasons: Reasons,
    symbols: Option<Symbols>,
}

struct Attached {
    records: RingBuf<MapData>,
    lost: PerCpuArray<MapData, u64>,
    addresses: HashMap<MapData, [u8; 16], u8>,
    netns: HashMap<MapData, u32, u8>,
    identifiers: HashMap<MapData, u32, u8>,
    ports: HashMap<MapData, u32, u8>,
    log: Option<EbpfLogger<&'static dyn log::Log>>,
    /// When the last probe was attached. What the first ones saw before then is half a story.
    since: Nanos,
    ebpf: Ebpf,
}

impl Probes {
    /// No probe at all, and why.
    pub(super) fn none(reports: Vec<ProbeReport>, reasons: Reasons) -> Self {
        Self { kernel: None, reports, reasons, symbols: None }
    }

    pub(super) fn new(
        mut ebpf: Ebpf,
        reports: Vec<ProbeReport>,
        reasons: Reasons,
        log: LogLevel,
    ) -> Result<Self, AttachError> {
        if reports.iter().all(|report| report.tier == Tier::Capture) {
            return Ok(Self::none(reports, reasons));
        }
        let log = match log {
            LogLevel::Off => None,
            LogLevel::Debug => EbpfLogger::init(&mut ebpf).ok(),
        };
        let kernel = Attached {
            records: take(&mut ebpf, "RECORDS")?,
            lost: take(&mut ebpf, "LOST")?,
            addresses: take(&mut ebpf, "ADDRESSES")?,
            netns: take(&mut ebpf, "NETNS")?,
            identifiers: take(&mut ebpf, "IDENTIFIERS")?,
            ports: take(&mut ebpf, "PORTS")?,
            log,
            since: clock::monotonic(),
            ebpf,
        };
        Ok(Self { kernel: Some(kernel), reports, reasons, symbols: None })
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

    /// The same without making anything of the records.
    pub fn drain_raw(&mut self, each: impl FnMut(Sighting<'_>)) -> usize {
        self.kernel.as_mut().map_or(0, |kernel| kernel.drain(each))
    }

    /// How many records found no room in the ring buffer since the start.
    pub fn lost(&self) -> u64 {
        let Some(kernel) = &self.kernel else {
            return 0;
        };
        kernel.lost.get(&0, 0).map_or(0, |values| values.iter().sum())
    }

    /// The same by probe and CPU; probes that have lost nothing are left out.
    pub fn lost_by(&self) -> Vec<Lost> {
        Vec::new()
    }

    /// Adds an address whose ARP, ND, route look-ups and neighbour entries are of interest.
    pub fn watch_address(&mut self, address: IpAddr) -> Result<(), AttachError> {
        let Some(kernel) = &mut self.kernel else {
            return Ok(());
        };
        set("ADDRESSES", &mut kernel.addresses, map_key(address))
    }

    /// Adds a namespace, by inode number. It has an effect if the configuration named namespaces at all.
    pub fn watch_netns(&mut self, inode: u32) -> Result<(), AttachError> {
        let Some(kernel) = &mut self.kernel else {
            return Ok(());
        };
        set("NETNS", &mut kernel.netns, inode)
    }

    /// Adds an identifier of echo requests.
    pub fn watch_identifier(&mut self, identifier: u16) -> Result<(), AttachError> {
        let Some(kernel) = &mut self.kernel else {
            return Ok(());
        };
        set("IDENTIFIERS", &mut kernel.identifiers, u32::from(identifier))
    }

    /// Adds a port of ours, from which segments or datagrams are sent.
    pub fn watch_port(&mut self, port: u16) -> Result<(), AttachError> {
        let Some(kernel) = &mut self.kernel else {
            return Ok(());
        };
        set("PORTS", &mut kernel.ports, u32::from(port))
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

    /// Each detachment waits until no CPU runs the program any more. The waits are for the same thing,
    /// so they are done side by side.
    fn detach_all(&mut self) {
        let Some(mut kernel) = self.kernel.take() else {
            return;
        };
        let programs: Vec<_> = kernel.ebpf.programs_mut().map(|(_, program)| program).collect();
        std::thread::scope(|scope| {
            for program in programs {
                if program.fd().is_ok() {
                    scope.spawn(move || unload(program));
                }
            }
        });
    }
}

impl Attached {
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

/// Detaches and unloads a program. That cannot fail in a way that anything could be done about.
fn unload(program: &mut Program) {
    let _ = match program {
        Program::BtfTracePoint(program) => program.unload(),
        Program::RawTracePoint(program) => program.unload(),
        Program::FEntry(program) => program.unload(),
        Program::FExit(program) => program.unload(),
        Program::KProbe(program) => program.unload(),
        _ => Ok(()),
    };
}

/// Fills the maps that say what is asked for, before any probe is attached.
pub(super) fn fill_maps(ebpf: &mut Ebpf, config: &ProbeConfig) -> Result<(), AttachError> {
    let mut addresses = open(ebpf, "ADDRESSES")?;
    for address in &config.addresses {
        set("ADDRESSES", &mut addresses, map_key(*address))?;
    }
    let mut netns = open(ebpf, "NETNS")?;
    for inode in config.netns.iter().flatten() {
        set("NETNS", &mut netns, *inode)?;
    }
    let mut identifiers = open(ebpf, "IDENTIFIERS")?;
    for identifier in &config.identifiers {
        set("IDENTIFIERS", &mut identifiers, u32::from(*identifier))?;
    }
    Ok(())
}

fn open<'a, K: aya::Pod>(
    ebpf: &'a mut Ebpf,
    map: &'static str,
) -> Result<HashMap<&'a mut MapData, K, u8>, AttachError> {
    ebpf.map_mut(map)
        .ok_or_else(|| missing(map))
        .and_then(|found| HashMap::try_from(found).map_err(|source| AttachError::Map { map, source }))
}

fn take<T>(ebpf: &mut Ebpf, map: &'static str) -> Result<T, AttachError>
where
    T: TryFrom<aya::maps::Map, Error = MapError>,
{
    ebpf.take_map(map)
        .ok_or_else(|| missing(map))
        .and_then(|found| T::try_from(found).map_err(|source| AttachError::Map { map, source }))
}

fn missing(map: &'static str) -> AttachError {
    AttachError::Map { map, source: MapError::InvalidName { name: map.to_owned() } }
}

fn set<T: std::borrow::BorrowMut<MapData>, K: aya::Pod>(
    name: &'static str,
    map: &mut HashMap<T, K, u8>,
    key: K,
) -> Result<(), AttachError> {
    map.insert(key, 1, 0).map_err(|source| AttachError::Map { map: name, source })
}

/// An address as the maps hold it.
fn map_key(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// Finds a record in the ring buffer; None if the bytes are not one.
#[expect(unsafe_code, reason = "bytes of the ring buffer become the structure that was written there")]
fn sighting(bytes: &[u8]) -> Option<Sighting<'_>> {
    // SAFETY: every bit pattern is a `Record`, which has only integers.
    let (before, records, _) = unsafe { bytes.align_to::<Record>() };
    // What lies in the ring buffer is aligned to 8 bytes.
    let record = records.first().filter(|_| before.is_empty())?;
    Some(Sighting { record, packet: record.packet.get(..usize::from(record.packet_len))? })
}
