//! The system calls: bpf(2), and perf_event_open(2) for kprobes.
//!
//! Each function is one command with the few fields that the probes need; everything else is zero, which every kernel takes
//! for "not asked for". It decides nothing: an error is the kernel's number.
//!
//! The structures are those of the kernel's `include/uapi/linux/bpf.h`. Kernels accept a structure that is longer than
//! their own as long as what they do not know is zero, and one that is shorter.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::libc;

const MAP_CREATE: libc::c_int = 0;
const MAP_LOOKUP: libc::c_int = 1;
const MAP_UPDATE: libc::c_int = 2;
const PROG_LOAD: libc::c_int = 5;
#[cfg(test)]
const PROG_TEST_RUN: libc::c_int = 10;
const RAW_TRACEPOINT_OPEN: libc::c_int = 17;
const BTF_LOAD: libc::c_int = 18;
const MAP_FREEZE: libc::c_int = 22;

/// `enum bpf_map_type`.
pub const MAP_ARRAY: u32 = 2;

/// `enum bpf_prog_type` and `enum bpf_attach_type`, as far as they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramKind {
    /// Runs on a packet that is given to it.
    #[cfg(test)]
    Classifier,
    /// At the entry or return of a function, by way of a kprobe.
    Kprobe,
    /// At a tracepoint, whose arguments are numbers.
    RawTracepoint,
    /// At a tracepoint, whose arguments have types.
    BtfTracepoint,
    /// At the entry of a function.
    Fentry,
    /// At the return of a function.
    Fexit,
}

impl ProgramKind {
    const fn numbers(self) -> (u32, u32) {
        match self {
            #[cfg(test)]
            Self::Classifier => (3, 0),
            Self::Kprobe => (2, 0),
            Self::RawTracepoint => (17, 0),
            Self::BtfTracepoint => (26, 23),
            Self::Fentry => (26, 24),
            Self::Fexit => (26, 25),
        }
    }
}

/// What `BPF_PROG_LOAD` is given.
#[derive(Clone, Copy, Debug)]
pub struct ProgramLoad<'a> {
    /// What it is for.
    pub kind: ProgramKind,
    /// Its name, of which the kernel keeps 15 characters.
    pub name: &'a str,
    /// Instructions.
    pub instructions: &'a [u64],
    /// The licence, ending with a zero.
    pub license: &'a [u8],
    /// The types of its functions, and which is where.
    pub types: Option<(BorrowedFd<'a>, &'a [[u32; 2]])>,
    /// The type in the kernel's BTF that it attaches to; 0 for kinds that attach to none.
    pub attach_to: u32,
    /// The BTF of the module that `attach_to` is in; None for vmlinux.
    pub attach_module: Option<BorrowedFd<'a>>,
}

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct MapElement {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
    attach_btf_obj_fd: u32,
    padding: u32,
}

#[cfg(test)]
#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
}

#[repr(C)]
#[derive(Default)]
struct TracepointOpen {
    name: u64,
    prog_fd: u32,
    padding: u32,
}

#[repr(C)]
#[derive(Default)]
struct BtfLoad {
    btf: u64,
    log_buf: u64,
    size: u32,
    log_size: u32,
    log_level: u32,
    padding: u32,
}

/// Calls bpf(2).
#[expect(unsafe_code, reason = "there is no safe binding of bpf(2)")]
fn bpf<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: the structure is the command's own, and what it points to lives until the call returns.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Calls bpf(2) for a command that gives a file descriptor, which the kernel makes close-on-exec.
#[expect(unsafe_code, reason = "a number that the kernel has just given becomes the owner of what it stands for")]
fn bpf_fd<T>(command: libc::c_int, attributes: &mut T) -> io::Result<OwnedFd> {
    let number = bpf(command, attributes)?;
    // SAFETY: the kernel has just given it, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(number as libc::c_int) })
}

fn address<T: ?Sized>(of: &T) -> u64 {
    std::ptr::from_ref(of).cast::<()>() as u64
}

/// A name as the kernel keeps it.
fn short_name(name: &str) -> [u8; 16] {
    let mut short = [0; 16];
    for (to, from) in short[..15].iter_mut().zip(name.bytes()) {
        *to = if from.is_ascii_alphanumeric() { from } else { b'_' };
    }
    short
}

/// Makes a map.
pub fn map_create(name: &str, kind: u32, key: u32, value: u32, entries: u32, flags: u32) -> io::Result<OwnedFd> {
    let mut attributes = MapCreate {
        map_type: kind,
        key_size: key,
        value_size: value,
        max_entries: entries,
        map_flags: flags,
        map_name: short_name(name),
        ..MapCreate::default()
    };
    bpf_fd(MAP_CREATE, &mut attributes)
}

/// Puts an entry into a map. The slices must be as long as the map's keys and values.
pub fn map_update(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<()> {
    let mut attributes = MapElement {
        map_fd: map.as_raw_fd() as u32,
        key: address(key),
        value: address(value),
        ..MapElement::default()
    };
    bpf(MAP_UPDATE, &mut attributes).map(|_| ())
}

/// Reads an entry of a map. The slices must be as long as the map's keys and values, for all CPUs.
pub fn map_lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<()> {
    let mut attributes = MapElement {
        map_fd: map.as_raw_fd() as u32,
        key: address(key),
        value: address(value),
        ..MapElement::default()
    };
    bpf(MAP_LOOKUP, &mut attributes).map(|_| ())
}

/// Lets user space not write to a map any more, which makes what is in it known to the verifier.
pub fn map_freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    bpf(MAP_FREEZE, &mut MapElement { map_fd: map.as_raw_fd() as u32, ..MapElement::default() }).map(|_| ())
}

/// Gives the kernel types.
pub fn btf_load(btf: &[u8]) -> io::Result<OwnedFd> {
    bpf_fd(BTF_LOAD, &mut BtfLoad { btf: address(btf), size: btf.len() as u32, ..BtfLoad::default() })
}

/// Loads a program; with `log`, the verifier writes there what it thinks.
pub fn program_load(program: &ProgramLoad<'_>, log: Option<&mut [u8]>) -> io::Result<OwnedFd> {
    let (prog_type, expected_attach_type) = program.kind.numbers();
    let mut attributes = Load {
        prog_type,
        expected_attach_type,
        insn_cnt: program.instructions.len() as u32,
        insns: address(program.instructions),
        license: address(program.license),
        prog_name: short_name(program.name),
        attach_btf_id: program.attach_to,
        attach_btf_obj_fd: program.attach_module.map_or(0, |module| module.as_raw_fd() as u32),
        ..Load::default()
    };
    if let Some((types, functions)) = &program.types {
        attributes.prog_btf_fd = types.as_raw_fd() as u32;
        attributes.func_info_rec_size = 8;
        attributes.func_info = address(*functions);
        attributes.func_info_cnt = functions.len() as u32;
    }
    if let Some(log) = log {
        attributes.log_level = 1;
        attributes.log_size = log.len() as u32;
        attributes.log_buf = address(&*log);
    }
    bpf_fd(PROG_LOAD, &mut attributes)
}

/// Attaches a program to a raw tracepoint by name; a program that was loaded for one place goes there without a name.
pub fn tracepoint_open(name: Option<&str>, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let name = name.map(CString::new).transpose().map_err(io::Error::other)?;
    bpf_fd(
        RAW_TRACEPOINT_OPEN,
        &mut TracepointOpen {
            name: name.as_deref().map_or(0, |name| name.as_ptr() as u64),
            prog_fd: program.as_raw_fd() as u32,
            ..TracepointOpen::default()
        },
    )
}

/// Runs a program on a packet, so many times; gives what it returned and how many nanoseconds it took on average.
#[cfg(test)]
pub fn test_run(program: BorrowedFd<'_>, packet: &[u8], times: u32) -> io::Result<(u32, u32)> {
    let mut attributes = TestRun {
        prog_fd: program.as_raw_fd() as u32,
        data_size_in: packet.len() as u32,
        data_in: address(packet),
        repeat: times,
        ..TestRun::default()
    };
    bpf(PROG_TEST_RUN, &mut attributes)?;
    Ok((attributes.retval, attributes.duration))
}

/// Where a kprobe sits in a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KprobeAt {
    /// Its entry.
    Entry,
    /// Its return.
    Return,
}

/// `struct perf_event_attr`, its first version.
#[repr(C)]
#[derive(Default)]
struct PerfEvent {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    function: u64,
    offset: u64,
}

/// `PERF_FLAG_FD_CLOEXEC`.
const CLOSE_ON_EXEC: libc::c_ulong = 8;

/// `PERF_EVENT_IOC_ENABLE` and `PERF_EVENT_IOC_SET_BPF`.
const ENABLE: libc::c_ulong = 0x2400;
const SET_BPF: libc::c_ulong = 0x4004_2408;

/// Puts a kprobe at a function and has it run a program. The kprobe is gone when the descriptor is closed.
#[expect(unsafe_code, reason = "there is no safe binding of perf_event_open(2)")]
pub fn kprobe(function: &str, at: KprobeAt, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let kind = std::fs::read_to_string("/sys/bus/event_source/devices/kprobe/type")?;
    let kind = kind.trim().parse().map_err(io::Error::other)?;
    let name = CString::new(function).map_err(io::Error::other)?;
    let mut event = PerfEvent {
        kind,
        size: size_of::<PerfEvent>() as u32,
        // The lowest bit of the kprobe's configuration asks for the return.
        config: u64::from(at == KprobeAt::Return),
        function: name.as_ptr() as u64,
        ..PerfEvent::default()
    };
    // SAFETY: the structure says how long it is, and the name lives until the call returns. Any process, the first CPU:
    // a kprobe runs its program on all of them.
    let number =
        unsafe { libc::syscall(libc::SYS_perf_event_open, std::ptr::from_mut(&mut event), -1, 0, -1, CLOSE_ON_EXEC) };
    if number < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given it, and nobody else knows it.
    let perf = unsafe { OwnedFd::from_raw_fd(number as libc::c_int) };
    // SAFETY: both commands take a number.
    let results = unsafe {
        [libc::ioctl(perf.as_raw_fd(), SET_BPF, program.as_raw_fd()), libc::ioctl(perf.as_raw_fd(), ENABLE, 0)]
    };
    if results.iter().any(|result| *result < 0) { Err(io::Error::last_os_error()) } else { Ok(perf) }
}
