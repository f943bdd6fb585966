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

use crate::emit::{self, Extra};
use crate::track::{self, Begin};

/// Records that a packet passed, if it is one that is asked for.
#[inline(always)]
fn seen(probe: ProbeId, skb: u64, begin: Begin, extra: &Extra) {
    if skb == 0 {
        return;
    }
    if let Some(sighting) = track::follow(skb, begin) {
        emit::packet(probe, &sighting, extra);
        sighting.view.done();
    }
}

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

/// Says, to those who ask for details, that a packet is followed from here on. Without them the verifier
/// cuts this off, because the level is a constant.
macro_rules! tell_first {
    ($ctx:expr, $place:literal, $sighting:expr) => {
        if $sighting.flags & vnet_trace_ebpf::FLAG_FIRST != 0 {
            aya_log_ebpf::debug!(
                $ctx,
                "{}: following the packet with the buffer {:x}, role {}, id {:x}",
                $place,
                $sighting.head,
                $sighting.role,
                $sighting.origin
            );
        }
    };
}
use tell_first;

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
    seen(probe, skb, Begin::No, &Extra::NONE);
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
