//! Loads the probes into the kernel and attaches them: reads the kernel's BTF, writes the offsets and
//! the question into the object, loads what the kernel can take, attaches row by row of [`TABLE`].
//!
//! A probe that cannot be attached is not an error but a [`ProbeReport`], because a trace with fewer
//! eyes is still a trace. The same holds for a kernel without BTF and for a user without rights: then
//! no probe is attached and every report says why. Only what can never work is an [`AttachError`].
//!
//! Programs are loaded by several threads, since most of the time goes into the kernel's verifier.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use aya::maps::MapError;
use aya::programs::{Program, ProgramError};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use vnet_trace_ebpf::{Config, Mode, ProbeId, TUNNEL_PORTS};

use super::attach::{AttachPoint, Needs, TABLE, Target, Tier};
use super::btf::{Btf, Wanted};
use super::drain::Probes;
use super::offsets;
use super::reasons::Reasons;
use super::record::DeviceRef;
use crate::filter::Expression;

/// The probes, as `cargo xtask ebpf` builds them.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../probes.bpf.o");

/// Modules whose types or drop reasons are of interest.
const MODULES: &[&str] = &["bridge", "openvswitch", "mac80211"];

/// What the probes are to look for.
#[derive(Clone, Debug)]
pub struct ProbeConfig {
    /// Use this tier and what it cannot do without (tracepoints), for tests; None takes the best.
    pub tier: Option<Tier>,
    /// Addresses whose ARP, ND, route look-ups and neighbour entries are of interest.
    pub addresses: Vec<IpAddr>,
    /// Inodes of the namespaces in which these count, or in which a packet must be seen to be followed from there on;
    /// None means all.
    pub netns: Option<Vec<u32>>,
    /// Identifiers of our echo requests, as they stand in the packet.
    pub identifiers: Vec<u16>,
    /// 6 or 17: the exchange is one of TCP or UDP, and [`super::Probes::watch_port`] tells the ports; else 0.
    pub transport: u8,
    /// Size of the ring buffer; rounded up to a power of two of pages.
    pub ring_bytes: u32,
    /// UDP ports that carry tunnels, at most [`TUNNEL_PORTS`].
    pub tunnel_ports: Vec<u16>,
    /// How much the probes say about themselves.
    pub log: LogLevel,
    /// Which packets are asked for.
    pub question: Matching,
}

impl Default for ProbeConfig {
    fn default() -> Self {
        Self {
            tier: None,
            question: Matching::Ping,
            addresses: Vec::new(),
            netns: None,
            identifiers: Vec::new(),
            transport: 0,
            ring_bytes: 1 << 20,
            // VXLAN by IANA's choice and by Linux's old one, Geneve.
            tunnel_ports: vec![4789, 8472, 6081],
            log: LogLevel::Off,
        }
    }
}

/// Which packets are asked for.
#[derive(Clone, Debug, Default)]
pub enum Matching {
    /// Those of one ping: echoes with one of [`ProbeConfig::identifiers`], errors that quote them, and the address resolution
    /// of [`ProbeConfig::addresses`].
    #[default]
    Ping,
    /// Those that match an expression, whoever sends them.
    Expression(Watched),
}

/// Which packets of others are followed, and how much of them is told.
///
/// A packet is followed from the first place where it matches, through clones, address translation, tunnels and
/// namespaces, to its end; what else is asked here restricts only where it may begin.
#[derive(Clone, Debug)]
pub struct Watched {
    /// What a packet must match; None means all.
    pub filter: Option<Expression>,
    /// Devices at which it must be seen to be followed; empty means all.
    pub devices: Vec<DeviceRef>,
    /// What is told of the packets that are followed.
    pub told: Told,
    /// How many bytes of each packet are told, from its network header; at most [`SNAP_MAX`].
    pub snap: u16,
}

/// The most bytes of a packet that a record can carry.
pub const SNAP_MAX: u16 = 1504;

impl Default for Watched {
    fn default() -> Self {
        Self { filter: None, devices: Vec::new(), told: Told::Everything, snap: vnet_trace_ebpf::PACKET_BYTES as u16 }
    }
}

/// What is told of the packets that are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Told {
    /// Every sighting.
    #[default]
    Everything,
    /// Only the drops.
    Losses,
}

/// How much the probes say about themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// Nothing.
    #[default]
    Off,
    /// What they begin to follow, and what they lose.
    Debug,
}

/// What can never work.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The object in this program is not what it should be.
    #[error("the eBPF object in this program cannot be read")]
    Object {
        /// What is wrong with it.
        #[source]
        source: aya::EbpfError,
    },
    /// A map of the object could not be used.
    #[error("the eBPF map {map} cannot be used")]
    Map {
        /// Its name.
        map: &'static str,
        /// What is wrong with it.
        #[source]
        source: MapError,
    },
    /// More tunnel ports than the object has room for.
    #[error("{given} tunnel ports given, at most {TUNNEL_PORTS} can be watched")]
    TunnelPorts {
        /// How many.
        given: usize,
    },
}

/// What became of one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeReport {
    /// The probe.
    pub probe: ProbeId,
    /// How it is attached; [`Tier::Capture`] if it is not.
    pub tier: Tier,
    /// The function or tracepoint where it is attached, or would best be.
    pub place: &'static str,
    /// Which part of the kernel it belongs to.
    pub needs: Needs,
    /// What cannot be seen without it.
    pub blind: &'static str,
    /// The better ways that failed, best first.
    pub failures: Vec<Failure>,
}

/// A way to attach that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The way.
    pub tier: Tier,
    /// The function or tracepoint.
    pub place: &'static str,
    /// Why not.
    pub why: WhyNot,
}

/// Why a way to attach failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WhyNot {
    /// Another tier was asked for.
    OtherTier,
    /// The kernel has no such function or tracepoint, or its module is not loaded.
    Absent,
    /// The function has another number of arguments than the probe expects.
    Arguments {
        /// How many it has.
        found: usize,
        /// How many were expected.
        expected: usize,
    },
    /// The kernel does not support this way at all.
    Unsupported,
    /// The rights are missing.
    Denied,
    /// The kernel has no BTF, or it lacks what is needed.
    NoBtf {
        /// What is missing.
        what: String,
    },
    /// The kernel refused.
    Refused {
        /// What it said.
        what: String,
    },
}

/// Attaches all probes that can be attached.
pub fn attach(config: &ProbeConfig) -> Result<Probes, AttachError> {
    if config.tunnel_ports.len() > TUNNEL_PORTS {
        return Err(AttachError::TunnelPorts { given: config.tunnel_ports.len() });
    }
    if config.tier == Some(Tier::Capture) {
        return Ok(Probes::none(reports_without(&WhyNot::OtherTier), Reasons::default()));
    }
    // The loader reads the kernel's BTF for itself when it is made, although it has no use for it here,
    // so that is done beside our own reading.
    let (kernel, loader) = std::thread::scope(|scope| {
        let loader = scope.spawn(EbpfLoader::new);
        (KernelTypes::read(), loader.join())
    });
    let kernel = match kernel {
        Ok(kernel) => kernel,
        Err(what) => {
            return Ok(Probes::none(reports_without(&WhyNot::NoBtf { what }), Reasons::default()));
        }
    };
    let loader = loader.unwrap_or_default();
    let mut ebpf = match load_object(loader, config, &kernel) {
        Ok(ebpf) => ebpf,
        Err(source) => match denial(&source) {
            Some(why) => return Ok(Probes::none(reports_without(&why), kernel.reasons)),
            None => return Err(AttachError::Object { source }),
        },
    };
    super::drain::fill_maps(&mut ebpf, config)?;
    let reports = attach_rows(&mut ebpf, config, &kernel);
    Probes::new(ebpf, reports, kernel.reasons, config.log)
}

/// What the running kernel says about its types.
struct KernelTypes {
    btf: Arc<Btf>,
    modules: Vec<Btf>,
    offsets: vnet_trace_ebpf::Offsets,
    reasons: Reasons,
    /// As much of `btf` as the loader needs.
    for_loader: aya::Btf,
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
        let for_loader = aya::Btf::parse(&btf.skeleton(), aya::Endianness::default()).map_err(|error| chain(&error))?;
        Ok(Self { btf, modules, offsets, reasons, for_loader })
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

fn load_object(loader: EbpfLoader<'_>, config: &ProbeConfig, kernel: &KernelTypes) -> Result<Ebpf, aya::EbpfError> {
    let arguments = |tracepoint| kernel.btf.tracepoint_arguments(tracepoint).unwrap_or(0);
    let mut tunnel_ports = [0; TUNNEL_PORTS];
    for (slot, port) in tunnel_ports.iter_mut().zip(&config.tunnel_ports) {
        *slot = *port;
    }
    let question = Config {
        tunnel_ports,
        mode: Mode::Ping as u8,
        only_netns: u8::from(config.netns.is_some()),
        kfree_reason: u8::from(arguments("kfree_skb") > 2),
        consume_location: u8::from(arguments("consume_skb") > 1),
        transport: config.transport,
        reserved: [0; 3],
    }
    .bytes();
    let offsets = kernel.offsets.words();
    let log_level: u8 = match config.log {
        LogLevel::Off => 0,
        LogLevel::Debug => aya_log::Level::Debug as u8,
    };
    // The verifier's own words cost time and memory; they are for those who ask for details.
    let verifier_log = match config.log {
        LogLevel::Off => VerifierLogLevel::DISABLE,
        LogLevel::Debug => VerifierLogLevel::DEBUG,
    };
    raise_locked_memory();
    let mut loader = loader;
    loader
        .btf(None)
        .override_global("OFFSETS", &offsets[..], true)
        .override_global("CONFIG", &question[..], true)
        .override_global(aya_log::LEVEL, &log_level, true)
        .map_max_entries("RECORDS", config.ring_bytes)
        .verifier_log_level(verifier_log)
        .load(OBJECT)
}

/// Kernels before 5.11 charge maps to the limit of locked memory, which is small by default. Where the
/// limit cannot be raised the maps cannot be made, and that is what is reported.
fn raise_locked_memory() {
    use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
    let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
}

/// A row of the table with the programs that it may need.
struct Job<'a> {
    row: &'static AttachPoint,
    programs: HashMap<&'static str, &'a mut Program>,
}

fn attach_rows(ebpf: &mut Ebpf, config: &ProbeConfig, kernel: &KernelTypes) -> Vec<ProbeReport> {
    let mut programs: HashMap<String, &mut Program> =
        ebpf.programs_mut().map(|(name, program)| (name.to_owned(), program)).collect();
    let jobs: Vec<Job<'_>> = TABLE
        .iter()
        .map(|row| Job {
            row,
            programs: row
                .targets
                .iter()
                .flat_map(Target::programs)
                .filter_map(|name| Some((name, programs.remove(name)?)))
                .collect(),
        })
        .collect();
    let support = Support::probe();
    let queue = Mutex::new(jobs.into_iter());
    let next = || queue.lock().ok().and_then(|mut queue| queue.next());
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(4);
    let mut reports: Vec<ProbeReport> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers)
            .map(|_| {
                scope.spawn(|| {
                    let mut done = Vec::new();
                    while let Some(job) = next() {
                        done.push(attach_row(job, config, kernel, &support));
                    }
                    done
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    let position = |probe| TABLE.iter().position(|row| row.probe == probe);
    reports.sort_by_key(|report| position(report.probe));
    reports
}

fn attach_row(mut job: Job<'_>, config: &ProbeConfig, kernel: &KernelTypes, support: &Support) -> ProbeReport {
    let mut report = ProbeReport {
        probe: job.row.probe,
        tier: Tier::Capture,
        place: job.row.targets[0].place(),
        needs: job.row.needs,
        blind: job.row.blind,
        failures: Vec::new(),
    };
    for target in job.row.targets {
        let outcome = allowed(target, config.tier)
            .and_then(|()| support.allows(target.tier()))
            .and_then(|()| fits(target, job.row.needs, kernel))
            .and_then(|()| attach_target(target, &mut job.programs, &kernel.for_loader));
        match outcome {
            Ok(()) => {
                report.tier = target.tier();
                report.place = target.place();
                break;
            }
            Err(why) => {
                support.learn(target.tier(), &why);
                report.failures.push(Failure { tier: target.tier(), place: target.place(), why });
            }
        }
    }
    report
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

fn attach_target(
    target: &Target,
    programs: &mut HashMap<&'static str, &mut Program>,
    btf: &aya::Btf,
) -> Result<(), WhyNot> {
    // The return first: it does nothing until the entry has left something for it.
    for name in target.programs().into_iter().rev() {
        let program = programs
            .get_mut(name)
            .ok_or_else(|| WhyNot::Refused { what: format!("the object has no program {name}") })?;
        attach_program(program, target.place(), btf).map_err(|error| why_not(&error))?;
    }
    Ok(())
}

fn attach_program(program: &mut Program, place: &str, btf: &aya::Btf) -> Result<(), ProgramError> {
    match program {
        Program::BtfTracePoint(program) => {
            program.load(place, btf)?;
            program.attach()?;
        }
        Program::RawTracePoint(program) => {
            program.load()?;
            program.attach(place)?;
        }
        Program::FEntry(program) => {
            program.load(place, btf)?;
            program.attach()?;
        }
        Program::FExit(program) => {
            program.load(place, btf)?;
            program.attach()?;
        }
        Program::KProbe(program) => {
            program.load()?;
            program.attach(place, 0)?;
        }
        _ => return Err(ProgramError::UnexpectedProgramType),
    }
    Ok(())
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

/// The error number behind an error, if the system gave one.
fn error_number(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut error = Some(error);
    while let Some(current) = error {
        if let Some(io) = current.downcast_ref::<std::io::Error>() {
            return io.raw_os_error();
        }
        error = current.source();
    }
    None
}

/// ENOTSUPP, which the kernel returns although it is not meant for user space.
const ENOTSUPP: i32 = 524;

fn why_not(error: &ProgramError) -> WhyNot {
    let number = error_number(error);
    match number {
        Some(nix::libc::EPERM | nix::libc::EACCES) if !matches!(error, ProgramError::LoadError { verifier_log, .. } if !verifier_log.to_string().is_empty()) => {
            WhyNot::Denied
        }
        Some(nix::libc::ENOENT) => WhyNot::Absent,
        Some(ENOTSUPP | nix::libc::EOPNOTSUPP) => WhyNot::Unsupported,
        _ => WhyNot::Refused { what: chain(error) },
    }
}

/// Why an object could not be loaded, where that is for want of rights.
fn denial(error: &aya::EbpfError) -> Option<WhyNot> {
    match error_number(error) {
        Some(nix::libc::EPERM | nix::libc::EACCES) => Some(WhyNot::Denied),
        Some(nix::libc::ENOSYS) => Some(WhyNot::Unsupported),
        _ => None,
    }
}

fn reports_without(why: &WhyNot) -> Vec<ProbeReport> {
    TABLE
        .iter()
        .map(|row| ProbeReport {
            probe: row.probe,
            tier: Tier::Capture,
            place: row.targets[0].place(),
            needs: row.needs,
            blind: row.blind,
            failures: row
                .targets
                .iter()
                .map(|target| Failure { tier: target.tier(), place: target.place(), why: why.clone() })
                .collect(),
        })
        .collect()
}

/// An error with everything that caused it, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
