//! The end of a packet: dropped (`kfree_skb`) or done with (`consume_skb`); and its doubling
//! (`skb_clone`).
//!
//! Both ends take the packet off the lists of [`crate::track`]. Only a dropped packet may be one that
//! no other probe has seen, for instance one that a firewall refuses on its way out.

use aya_ebpf::macros::{fexit, raw_tracepoint};
use aya_ebpf::programs::{FExitContext, RawTracePointContext};
use vnet_trace_ebpf::ProbeId;

use super::{nothing, seen};
use crate::read::config;
use crate::track::{self, Begin, Sighting};

#[raw_tracepoint]
pub fn raw_kfree_skb(ctx: RawTracePointContext) -> i32 {
    let location: u64 = ctx.arg(1);
    let reason: u64 = if config!(kfree_reason) == 0 { 0 } else { ctx.arg(2) };
    let note = |sighting: &mut Sighting| {
        sighting.desk().args[0] = reason & 0xffff_ffff;
        sighting.desk().args[1] = location;
    };
    seen(ProbeId::KfreeSkb, ctx.arg(0), Begin::AtNetworkHeader, note, forget);
    0
}

#[raw_tracepoint]
pub fn raw_consume_skb(ctx: RawTracePointContext) -> i32 {
    let location: u64 = if config!(consume_location) == 0 { 0 } else { ctx.arg(1) };
    let note = |sighting: &mut Sighting| sighting.desk().args[0] = location;
    seen(ProbeId::ConsumeSkb, ctx.arg(0), Begin::No, note, forget);
    0
}

#[inline(always)]
fn forget(sighting: &mut Sighting) {
    track::forget(sighting.number);
}

/// `qdisc_drop(struct Qdisc *, netdev_queue *, net_device *, sk_buff *, reason)`, from 7.2 on.
#[raw_tracepoint]
pub fn raw_qdisc_drop(ctx: RawTracePointContext) -> i32 {
    let reason: u64 = ctx.arg(4);
    let note = |sighting: &mut Sighting| sighting.desk().args[0] = reason & 0xffff_ffff;
    seen(ProbeId::QdiscDrop, ctx.arg(3), Begin::No, note, nothing);
    0
}

/// `skb_clone(skb, gfp)` returned: the clone is followed from its birth, before its header changes.
#[fexit]
pub fn fexit_skb_clone(ctx: FExitContext) -> i32 {
    let clone: u64 = ctx.arg(2);
    if clone != 0 {
        let note = |sighting: &mut Sighting| sighting.desk().args[0] = clone;
        let then = |sighting: &mut Sighting| track::follow_clone(sighting.desk(), clone);
        seen(ProbeId::SkbClone, ctx.arg(0), Begin::No, note, then);
    }
    0
}
