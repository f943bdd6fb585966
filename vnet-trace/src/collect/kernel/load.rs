//! Loads the probes into the kernel and attaches them: reads the kernel's BTF, writes the offsets and
//! the question into the object's read-only data, loads what the kernel can take, attaches row by row of [`TABLE`].
//!
//! A probe that cannot be attached is not an error but a [`ProbeReport`], because a trace with fewer
//! eyes is still a trace. The same holds for a kernel without BTF and for a user without rights: then
//! no probe is attached and every report says why. Only what can never work is an [`AttachError`].
//!
//! # Time
//!
//! Everybody waits for this, so it does as little as it can: the kernel's types are swept over once while the maps
//! are made; only programs are put together that will be loaded; the verifier writes its log only when it has refused
//! a program; and several threads load, since each program is verified for itself.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use vnet_trace_ebpf::{Config, Mode, TUNNEL_PORTS};

use super::attach::{AttachPoint, Needs, TABLE, Target, Tier};
use super::btf::{Btf, Kind, Wanted};
use super::config::{Begin, LogLevel, Matching, ProbeConfig, SNAP_MAX, Told, Watched};
use super::drain::Probes;
use super::in_place;
use super::maps::{Maps, address_key};
use super::object::{Object, ObjectError, Places};
use super::offsets;
use super::reasons::Reasons;
use super::report::{self, Failure, ProbeReport, WhyNot, chain};
use super::sys::{self, KprobeAt, ProgramKind, ProgramLoad};

/// The probes, as `cargo xtask ebpf` builds them.
pub(super) static OBJECT: &[u8] = include_bytes!("../../../probes.bpf.o");

/// Modules whose types or drop reasons are of interest.
const MODULES: &[&str] = &["bridge", "openvswitch", "mac80211"];

/// What can never work.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The object in this program is not what it should be.
    #[error("the eBPF object in this program cannot be read")]
    Object {
        /// What is wrong with it.
        #[source]
        source: ObjectError,
    },
    /// A map of the object could not be made or used.
    #[error("the eBPF map {map} cannot be used")]
    Map {
        /// Its name.
        map: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// More tunnel ports than the object has room for.
    #[error("{given} tunnel ports given, at most {TUNNEL_PORTS} can be watched")]
    TunnelPorts {
        /// How many.
        given: usize,
    },
}

impl AttachError {
    pub(super) fn map(map: &str, source: io::Error) -> Self {
        Self::Map { map: map.to_owned(), source }
    }
}

impl From<ObjectError> for AttachError {
    fn from(source: ObjectError) -> Self {
        Self::Object { source }
    }
}

/// Attaches all probes that can be attached.
pub fn attach(config: &ProbeConfig) -> Result<Probes, AttachError> {
    if config.tunnel_ports.len() > TUNNEL_PORTS {
        return Err(AttachError::TunnelPorts { given: config.tunnel_ports.len() });
    }
    if config.tier == Some(Tier::Capture) {
        return Ok(Probes::none(report::without(&WhyNot::OtherTier), Reasons::default()));
    }
    let mut kernel = match KernelTypes::read() {
        Ok(kernel) => kernel,
        Err(what) => {
            return Ok(Probes::none(report::without(&WhyNot::NoBtf { what }), Reasons::default()));
        }
    };
    raise_locked_memory();
    let object = Object::open(OBJECT)?;
    let rodata = rodata(&object, config, &kernel)?;
    let maps = match Maps::create(&object, &rodata, &[("RECORDS", ring_bytes(config))]) {
        Ok(maps) => maps,
        Err(AttachError::Map { source, .. }) if denial(&source).is_some() => {
            let why = denial(&source).unwrap_or(WhyNot::Denied);
            return Ok(Probes::none(report::without(&why), kernel.reasons));
        }
        Err(error) => return Err(error),
    };
    fill(&maps, config)?;
    let reasons = std::mem::take(&mut kernel.reasons);
    let loader = Loader {
        places: maps.places(),
        types: sys::btf_load(object.btf()).ok(),
        object,
        instead: instead(config),
        kernel,
        tier: config.tier,
        support: Support::probe(),
    };
    let scope = config.scope();
    let (now, later): (Vec<_>, Vec<_>) = TABLE
        .iter()
        .filter(|row| row.concerns(&scope))
        .map(|row| Row::new(row, if config.begin == Begin::Lean && row.can_wait() { When::Later } else { When::Now }))
        .partition(|row| row.when == When::Now);
    let rows = loader.work(now.into_iter().chain(later).collect());
    let (mut links, mut reports, mut waiting) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        if row.ready.is_some() {
            waiting.push(row);
        } else {
            links.extend(row.links);
            reports.push(row.report);
        }
    }
    reports.extend(waiting.iter().map(Row::waits));
    report::sort(&mut reports);
    let waiting = (!waiting.is_empty()).then(|| Waiting { loader, rows: waiting });
    Probes::new(maps, links, waiting, reports, reasons, config.log)
}

/// Probes that are loaded and wait to be attached.
pub(super) struct Waiting {
    loader: Loader,
    rows: Vec<Row>,
}

impl Waiting {
    /// How many they are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Attaches them, and gives what keeps them attached, and what became of each. Takes a while where functions are entered.
    pub fn attach(self) -> (Vec<OwnedFd>, Vec<ProbeReport>) {
        let Self { loader, mut rows } = self;
        for row in &mut rows {
            row.when = When::Now;
        }
        let (mut links, mut reports) = (Vec::new(), Vec::new());
        for row in loader.work(rows) {
            links.extend(row.links);
            reports.push(row.report);
        }
        (links, reports)
    }
}

/// A row on its way to be attached.
struct Row {
    point: &'static AttachPoint,
    when: When,
    /// What became of the ways that were tried.
    report: ProbeReport,
    /// How many ways were tried.
    tried: usize,
    /// The programs of the last way, which are loaded and not attached yet.
    ready: Option<Vec<Ready>>,
    links: Vec<OwnedFd>,
}

/// When a probe is attached.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Now,
    Later,
}

impl Row {
    fn new(point: &'static AttachPoint, when: When) -> Self {
        let report = ProbeReport {
            probe: point.probe,
            tier: Tier::Capture,
            place: point.targets[0].place(),
            needs: point.needs,
            blind: point.blind,
            failures: Vec::new(),
        };
        Self { point, when, report, tried: 0, ready: None, links: Vec::new() }
    }

    /// Attaches what is loaded.
    fn attach(&mut self, ready: &[Ready]) -> Result<(), WhyNot> {
        self.links = ready.iter().map(Ready::attach).collect::<Result<_, _>>()?;
        if let Some(target) = self.target() {
            (self.report.tier, self.report.place) = (target.tier(), target.place());
        }
        Ok(())
    }

    /// What is said of a probe that waits.
    fn waits(&self) -> ProbeReport {
        let mut report = self.report.clone();
        if let Some(target) = self.target() {
            report.failures.push(Failure { tier: target.tier(), place: target.place(), why: WhyNot::Waits });
        }
        report
    }

    /// The way that was tried last.
    fn target(&self) -> Option<&'static Target> {
        self.point.targets.get(self.tried.checked_sub(1)?)
    }
}

/// A program that is loaded, and where it goes.
struct Ready {
    program: OwnedFd,
    to: Site,
}

/// Where a program goes.
enum Site {
    /// What it was loaded for, or a tracepoint of this name.
    Trace(Option<&'static str>),
    /// A function.
    Kprobe(&'static str, KprobeAt),
}

impl Ready {
    fn attach(&self) -> Result<OwnedFd, WhyNot> {
        let attached = match self.to {
            Site::Trace(name) => sys::tracepoint_open(name, self.program.as_fd()),
            Site::Kprobe(function, at) => sys::kprobe(function, at, self.program.as_fd()),
        };
        attached.map_err(|error| why_not(&error, ""))
    }
}

/// What the running kernel says about its types.
struct KernelTypes {
    btf: Arc<Btf>,
    modules: Vec<Btf>,
    offsets: vnet_trace_ebpf::Offsets,
    reasons: Reasons,
}

impl KernelTypes {
    fn read() -> Result<Self, String> {
        let wanted = wanted_names();
        let btf = Arc::new(Btf::vmlinux(&wanted).map_err(|error| chain(&error))?);
        let modules: Vec<Btf> = MODULES.iter().filter_map(|name| Btf::module(name, &btf, &wanted).ok()).collect();
        let offsets = offsets::resolve(&btf, &modules);
        if let Some(field) = offsets::missing(&offsets) {
            return Err(format!("the kernel's BTF has no {field}"));
        }
        let reasons = Reasons::read(&btf, modules.iter());
        Ok(Self { btf, modules, offsets, reasons })
    }
}

/// The names that are looked up in BTF.
fn wanted_names() -> Wanted {
    let mut names: Vec<String> = offsets::structures().map(str::to_owned).collect();
    for target in TABLE.iter().flat_map(|row| row.targets) {
        names.push(match target.tier() {
            Tier::Tracepoint => format!("btf_trace_{}", target.place()),
            _ => target.place().to_owned(),
        });
    }
    Wanted::new(names.iter().map(String::as_str))
}

/// The object's read-only data with what the kernel is like and what is asked for.
fn rodata(object: &Object<'_>, config: &ProbeConfig, kernel: &KernelTypes) -> Result<Vec<u8>, ObjectError> {
    let arguments = |tracepoint| kernel.btf.tracepoint_arguments(tracepoint).unwrap_or(0);
    let mut tunnel_ports = [0; TUNNEL_PORTS];
    for (slot, port) in tunnel_ports.iter_mut().zip(&config.tunnel_ports) {
        *slot = *port;
    }
    let mut question = Config {
        tunnel_ports,
        mode: Mode::Ping as u8,
        only_netns: u8::from(config.netns.is_some()),
        kfree_reason: u8::from(arguments("kfree_skb") > 2),
        consume_location: u8::from(arguments("consume_skb") > 1),
        transport: config.transport,
        ..Config::NONE
    };
    if let Matching::Expression(watched) = &config.question {
        question.mode = Mode::Expression as u8;
        question.told = match watched.told {
            Told::Everything => vnet_trace_ebpf::Told::Everything,
            Told::Losses => vnet_trace_ebpf::Told::Losses,
        } as u8;
        question.only_devices = u8::from(!watched.devices.is_empty());
        question.snap = watched.snap.next_multiple_of(8).min(SNAP_MAX);
        question.wake_bytes = ring_bytes(config) / 8;
        question.inner = u8::from(watched.inner);
        question.reads_in_place = u8::from(!watched.inner && in_place::reads_in_place(&kernel.btf, &kernel.offsets));
        if let Some(filter) = &watched.filter {
            question.frame_bytes = filter.reach().next_multiple_of(8) as u16;
            question.reads_addresses = u8::from(filter.reads_addresses());
        }
    }
    let offsets: Vec<u8> = kernel.offsets.words().iter().flat_map(|word| word.to_ne_bytes()).collect();
    let log_level = match config.log {
        LogLevel::Off => 0,
        LogLevel::Debug => aya_log::Level::Debug as u8,
    };
    let mut rodata = object.rodata();
    for (name, value) in
        [("OFFSETS", &offsets[..]), ("CONFIG", &question.bytes()[..]), (aya_log::LEVEL, &[log_level][..])]
    {
        let place = object.global(name)?;
        let slot = rodata.get_mut(place).filter(|slot| slot.len() == value.len());
        slot.ok_or(ObjectError::Malformed { part: "read-only data" })?.copy_from_slice(value);
    }
    Ok(rodata)
}

/// Functions of the object that are replaced: the expression by what it was compiled to, and by nothing what nobody listens to.
fn instead(config: &ProbeConfig) -> HashMap<String, Vec<u64>> {
    let expression = match &config.question {
        Matching::Ping => returns(0),
        Matching::Expression(Watched { filter: None, .. }) => returns(1),
        Matching::Expression(Watched { filter: Some(filter), .. }) => filter.kernel_code().to_vec(),
    };
    let mut instead = HashMap::from([("filter_expression".to_owned(), expression)]);
    if config.log == LogLevel::Off {
        instead.insert("tell_first".to_owned(), returns(0));
    }
    instead
}

/// A function that returns this number: `r0 = number; exit`.
fn returns(number: u32) -> Vec<u64> {
    vec![0xb7 | u64::from(number) << 32, 0x95]
}

/// A power of two of pages, as ring buffers are.
fn ring_bytes(config: &ProbeConfig) -> u32 {
    config.ring_bytes.clamp(1 << 12, 1 << 30).next_power_of_two()
}

/// Kernels before 5.11 charge maps to the limit of locked memory, which is small by default. Where the
/// limit cannot be raised the maps cannot be made, and that is what is reported.
fn raise_locked_memory() {
    use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
}

/// Fills the maps that say what is asked for, before any probe is attached.
fn fill(maps: &Maps, config: &ProbeConfig) -> Result<(), AttachError> {
    for address in &config.addresses {
        maps.insert("ADDRESSES", &address_key(*address))?;
    }
    for inode in config.netns.iter().flatten() {
        maps.insert("NETNS", &inode.to_ne_bytes())?;
    }
    if let Matching::Expression(watched) = &config.question {
        for device in &watched.devices {
            let key = [device.netns.unwrap_or_default().to_ne_bytes(), device.ifindex.to_ne_bytes()].concat();
            maps.insert("DEVICES", &key)?;
        }
    }
    for identifier in &config.identifiers {
        maps.insert("IDENTIFIERS", &u32::from(*identifier).to_ne_bytes())?;
    }
    Ok(())
}

/// Everything that it takes to load and attach programs.
struct Loader {
    object: Object<'static>,
    places: Places,
    types: Option<OwnedFd>,
    /// Functions that are replaced.
    instead: HashMap<String, Vec<u64>>,
    kernel: KernelTypes,
    /// The best tier that may be used.
    tier: Option<Tier>,
    support: Support,
}

impl Loader {
    /// Attaches rows, or loads those that wait, on several threads.
    fn work(&self, rows: Vec<Row>) -> Vec<Row> {
        let queue = Mutex::new(rows.into_iter());
        let next = || queue.lock().ok().and_then(|mut queue| queue.next());
        let work = || {
            let mut done = Vec::new();
            while let Some(mut row) = next() {
                self.see_to(&mut row);
                done.push(row);
            }
            done
        };
        let others = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(4) - 1;
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..others).map(|_| scope.spawn(work)).collect();
            let mut rows = work();
            rows.extend(threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()));
            rows
        })
    }

    /// Attaches a row by the best way that the kernel takes, or loads it if it waits.
    fn see_to(&self, row: &mut Row) {
        loop {
            let outcome = match (row.ready.take(), row.target()) {
                (Some(ready), Some(target)) => row.attach(&ready).map_err(|why| (target, why)),
                _ => match row.point.targets.get(row.tried) {
                    None => return,
                    Some(target) => {
                        row.tried += 1;
                        let loaded = self.prepare(row.point, target).and_then(|ready| match row.when {
                            When::Later => {
                                row.ready = Some(ready);
                                Ok(())
                            }
                            When::Now => row.attach(&ready),
                        });
                        loaded.map_err(|why| (target, why))
                    }
                },
            };
            match outcome {
                Ok(()) => return,
                Err((target, why)) => {
                    self.support.learn(target.tier(), &why);
                    row.report.failures.push(Failure { tier: target.tier(), place: target.place(), why });
                }
            }
        }
    }

    /// Loads the programs of one way, those first that are attached first.
    fn prepare(&self, row: &AttachPoint, target: &Target) -> Result<Vec<Ready>, WhyNot> {
        allowed(target, self.tier)?;
        self.support.allows(target.tier())?;
        fits(target, row.needs, &self.kernel)?;
        match *target {
            Target::TpBtf { program, tracepoint } => {
                let to = self.kernel.btf.id(Kind::Typedef, &format!("btf_trace_{tracepoint}"));
                Ok(vec![self.trace(program, ProgramKind::BtfTracepoint, to, None)?])
            }
            Target::RawTp { program, tracepoint } => {
                Ok(vec![self.trace(program, ProgramKind::RawTracepoint, Some(0), Some(tracepoint))?])
            }
            Target::Fentry { program, function, .. } => {
                Ok(vec![self.trace(program, ProgramKind::Fentry, self.function(function), None)?])
            }
            Target::Fexit { program, function, .. } => {
                Ok(vec![self.trace(program, ProgramKind::Fexit, self.function(function), None)?])
            }
            // The return first: it does nothing until the entry has left something for it.
            Target::FentryFexit { entry, exit, function, .. } => {
                let to = self.function(function);
                let exit = self.trace(exit, ProgramKind::Fexit, to, None)?;
                Ok(vec![exit, self.trace(entry, ProgramKind::Fentry, to, None)?])
            }
            Target::Kprobe { program, function } => Ok(vec![self.kprobe(program, function, KprobeAt::Entry)?]),
            Target::KprobeKretprobe { entry, exit, function } => {
                let exit = self.kprobe(exit, function, KprobeAt::Return)?;
                Ok(vec![exit, self.kprobe(entry, function, KprobeAt::Entry)?])
            }
        }
    }

    /// The number of a function of vmlinux.
    fn function(&self, name: &str) -> Option<u32> {
        self.kernel.btf.id(Kind::Func, name)
    }

    /// Loads a program that goes to what it is loaded for, or to a tracepoint by name.
    fn trace(
        &self,
        program: &str,
        kind: ProgramKind,
        to: Option<u32>,
        name: Option<&'static str>,
    ) -> Result<Ready, WhyNot> {
        Ok(Ready { program: self.load(program, kind, to.ok_or(WhyNot::Absent)?)?, to: Site::Trace(name) })
    }

    fn kprobe(&self, program: &str, function: &'static str, at: KprobeAt) -> Result<Ready, WhyNot> {
        Ok(Ready { program: self.load(program, ProgramKind::Kprobe, 0)?, to: Site::Kprobe(function, at) })
    }

    fn load(&self, name: &str, kind: ProgramKind, attach_to: u32) -> Result<OwnedFd, WhyNot> {
        let linked = self
            .object
            .link(name, &self.places, &self.instead)
            .map_err(|error| WhyNot::Refused { what: error.to_string() })?;
        let program = ProgramLoad {
            kind,
            name,
            instructions: &linked.instructions,
            license: self.object.license(),
            types: self.types.as_ref().map(|types| (types.as_fd(), &linked.functions[..])),
            attach_to,
            attach_module: None,
        };
        let begun = Instant::now();
        let loaded = sys::program_load(&program, None);
        log::debug!(
            "{name}: {} instructions, {} µs in the verifier",
            linked.instructions.len(),
            begun.elapsed().as_micros()
        );
        loaded.map_err(|error| {
            if matches!(error.raw_os_error(), Some(nix::libc::EPERM)) {
                return WhyNot::Denied;
            }
            let (error, log) = verifier_log(&program);
            why_not(&error, &log)
        })
    }
}

/// Loads a program that was refused once more, to hear why.
fn verifier_log(program: &ProgramLoad<'_>) -> (io::Error, String) {
    let mut log = vec![0; 1 << 20];
    let Err(error) = sys::program_load(program, Some(&mut log)) else {
        return (io::ErrorKind::Interrupted.into(), "accepted at the second attempt".to_owned());
    };
    let length = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..length]);
    // What it says last is what it stopped at; before that come the instructions that it went through.
    let last: Vec<&str> = text.lines().filter(|line| !line.starts_with("processed ")).rev().take(3).collect();
    (error, last.into_iter().rev().collect::<Vec<_>>().join("; "))
}

/// A forced tier leaves the tracepoints, without which there would be nothing to follow.
fn allowed(target: &Target, forced: Option<Tier>) -> Result<(), WhyNot> {
    let tier = target.tier();
    if forced.is_none_or(|forced| tier == forced || tier == Tier::Tracepoint) { Ok(()) } else { Err(WhyNot::OtherTier) }
}

/// Whether the running kernel has what the target names, in the shape that the program expects.
fn fits(target: &Target, needs: Needs, kernel: &KernelTypes) -> Result<(), WhyNot> {
    match *target {
        Target::TpBtf { tracepoint, .. } => {
            kernel.btf.tracepoint_arguments(tracepoint).map(|_| ()).ok_or(WhyNot::Absent)
        }
        Target::RawTp { tracepoint, .. } => {
            let mut files = std::iter::once(&*kernel.btf).chain(&kernel.modules);
            let described = files.any(|btf| btf.tracepoint_arguments(tracepoint).is_some());
            if described || module_is_loaded(needs) { Ok(()) } else { Err(WhyNot::Absent) }
        }
        Target::Fentry { function, arguments, .. }
        | Target::Fexit { function, arguments, .. }
        | Target::FentryFexit { function, arguments, .. } => match kernel.btf.function_arguments(function) {
            None => Err(WhyNot::Absent),
            Some(found) if found == arguments => Ok(()),
            Some(found) => Err(WhyNot::Arguments { found, expected: arguments }),
        },
        // Loading a program to find that its function is not there would cost more than looking first.
        Target::Kprobe { function, .. } | Target::KprobeKretprobe { function, .. } => {
            let is_there = match needs {
                Needs::Module(_) => module_is_loaded(needs) || kernel.btf.function_arguments(function).is_some(),
                Needs::Core | Needs::Version => true,
            };
            if is_there { Ok(()) } else { Err(WhyNot::Absent) }
        }
    }
}

/// Whether a probe belongs to a module and that is loaded; it may be one without BTF.
fn module_is_loaded(needs: Needs) -> bool {
    matches!(needs, Needs::Module(name) if Path::new("/sys/module").join(name).exists())
}

/// Which ways of attaching the kernel has at all, so that none is tried in vain for each probe.
struct Support {
    kprobes: bool,
    /// Whether the kernel has refused to load a program for the entry or return of a function, for want
    /// of rights or of trampolines; it would refuse the others as well.
    no_fentry: AtomicBool,
}

impl Support {
    fn probe() -> Self {
        Self {
            kprobes: Path::new("/sys/bus/event_source/devices/kprobe/type").exists(),
            no_fentry: AtomicBool::new(false),
        }
    }

    fn allows(&self, tier: Tier) -> Result<(), WhyNot> {
        let refused = match tier {
            Tier::Kprobe => !self.kprobes,
            Tier::Fentry => self.no_fentry.load(Ordering::Relaxed),
            Tier::Tracepoint | Tier::Capture => false,
        };
        if refused { Err(WhyNot::Unsupported) } else { Ok(()) }
    }

    fn learn(&self, tier: Tier, why: &WhyNot) {
        if tier == Tier::Fentry && *why == WhyNot::Denied {
            self.no_fentry.store(true, Ordering::Relaxed);
        }
    }
}

/// ENOTSUPP, which the kernel returns although it is not meant for user space.
const ENOTSUPP: i32 = 524;

fn why_not(error: &io::Error, log: &str) -> WhyNot {
    match error.raw_os_error() {
        Some(nix::libc::EPERM | nix::libc::EACCES) if log.is_empty() => WhyNot::Denied,
        Some(nix::libc::ENOENT) => WhyNot::Absent,
        Some(ENOTSUPP | nix::libc::EOPNOTSUPP) => WhyNot::Unsupported,
        _ if log.is_empty() => WhyNot::Refused { what: error.to_string() },
        _ => WhyNot::Refused { what: format!("{error}: {log}") },
    }
}

/// Why a map could not be made, where that is for want of rights.
fn denial(error: &io::Error) -> Option<WhyNot> {
    match error.raw_os_error() {
        Some(nix::libc::EPERM | nix::libc::EACCES) => Some(WhyNot::Denied),
        Some(nix::libc::ENOSYS) => Some(WhyNot::Unsupported),
        _ => None,
    }
}
