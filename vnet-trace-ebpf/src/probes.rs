//! The programs, by layer; each file has the same stem as the layer it watches.
//!
//! What they share is here: the body of the many programs that only say "this packet passed", and
//! the pocket in which the entry of a function leaves what its return will need.

mod bridge;
mod device;
mod drop;
mod ip;
mod neigh;
mod netfilter;
mod socket;
mod tunnel;

use aya_ebpf::helpers::{bpf_get_current_pid_tgid, bpf_get_smp_processor_id};
use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;
use vnet_trace_ebpf::ProbeId;

use crate::emit;
use crate::tell;
use crate::track::{self, Begin, Sighting};

/// Records that a packet passed, if it is one that is asked for. `note` adds what this probe knows of it, `then` comes after
/// the record.
#[inline(always)]
fn seen(probe: ProbeId, skb: u64, begin: Begin, note: impl FnOnce(&mut Sighting), then: impl FnOnce(&mut Sighting)) {
    if let Some(sighting) = track::follow(probe, skb, begin) {
        record(probe, sighting, note, then);
    }
}

/// Records a sighting.
#[inline(always)]
fn record(probe: ProbeId, mut sighting: Sighting, note: impl FnOnce(&mut Sighting), then: impl FnOnce(&mut Sighting)) {
    note(&mut sighting);
    emit::emit(sighting.number, probe as u32);
    tell::first(&mut sighting, probe as u32);
    then(&mut sighting);
    sighting.done();
}

/// There is nothing to add.
#[inline(always)]
fn nothing(_: &mut Sighting) {}

/// Two programs that record a packet's entry into a function, by `fentry` and by `kprobe`; the packet is
/// the argument at a position, or what the argument points to.
///
/// The function is only reached through a probe that begins to follow packets, so it does not itself.
macro_rules! packet_entry {
    ($probe:ident: $fentry:ident, $kprobe:ident, skb = $skb:literal) => {
        packet_entry!($probe: $fentry, $kprobe, $skb, crate::probes::itself);
    };
    ($probe:ident: $fentry:ident, $kprobe:ident, skb at $skb:literal) => {
        packet_entry!($probe: $fentry, $kprobe, $skb, crate::probes::behind);
    };
    ($probe:ident: $fentry:ident, $kprobe:ident, $skb:literal, $find:path) => {
        #[aya_ebpf::macros::fentry]
        pub fn $fentry(ctx: aya_ebpf::programs::FEntryContext) -> i32 {
            crate::probes::passed(vnet_trace_ebpf::ProbeId::$probe, $find(ctx.arg($skb)));
            0
        }

        #[aya_ebpf::macros::kprobe]
        pub fn $kprobe(ctx: aya_ebpf::programs::ProbeContext) -> u32 {
            crate::probes::passed(vnet_trace_ebpf::ProbeId::$probe, $find(ctx.arg($skb).unwrap_or(0)));
            0
        }
    };
}
use packet_entry;

/// The packet is the argument.
#[inline(always)]
fn itself(argument: u64) -> u64 {
    argument
}

/// The packet is behind the argument.
#[inline(always)]
fn behind(argument: u64) -> u64 {
    crate::read::copy(argument)
}

/// Records that a packet passed, if it is followed already.
#[inline(always)]
fn passed(probe: ProbeId, skb: u64) {
    seen(probe, skb, Begin::No, nothing, nothing);
}

/// What the entry of a function leaves for its return.
#[repr(C)]
#[derive(Clone, Copy)]
struct Pocket {
    skb: u64,
    head: u64,
    origin: u64,
    values: [u64; 4],
}

/// Pockets of the functions that are running, by task and function.
///
/// At most one call of a function per task is remembered. The functions concerned do not recurse; a
/// soft interrupt that enters the function its task was in overwrites the pocket, and the outer call
/// then goes unrecorded rather than wrong, because the inner return empties it.
#[map]
static POCKETS: LruHashMap<[u64; 2], Pocket> = LruHashMap::with_max_entries(1024, 0);

/// A task, or for the idle tasks, which all have the number 0, the CPU.
#[inline(always)]
fn pocket_key(probe: ProbeId) -> [u64; 2] {
    let task = bpf_get_current_pid_tgid();
    let task = if task == 0 {
        // SAFETY: the helper takes nothing and cannot fail.
        1 << 63 | u64::from(unsafe { bpf_get_smp_processor_id() })
    } else {
        task
    };
    [task, probe as u64]
}

#[inline(always)]
fn put(probe: ProbeId, pocket: &Pocket) {
    let _ = POCKETS.insert(pocket_key(probe), pocket, 0);
}

#[inline(always)]
fn take(probe: ProbeId) -> Option<Pocket> {
    let key = pocket_key(probe);
    // SAFETY: only this task writes this entry.
    let pocket = unsafe { POCKETS.get(key) }.copied()?;
    let _ = POCKETS.remove(key);
    Some(pocket)
}
