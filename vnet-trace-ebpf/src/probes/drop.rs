//! The end of a packet: dropped (`kfree_skb`) or done with (`consume_skb`); and its doubling
//! (`skb_clone`).
//!
//! Both ends take the packet off the lists of [`crate::track`]. Only a dropped packet may be one that
//! no other probe has seen, for instance one that a firewall refuses on its way out.

use aya_ebpf::macros::{fexit, raw_tracepoint};
use aya_ebpf::programs::{FExitContext, RawTracePointContext};
use vnet_trace_ebpf::ProbeId;

use crate::emit::{self, Extra};
use crate::read::config;
use crate::track::{self, Begin};

#[raw_tracepoint]
pub fn raw_kfree_skb(ctx: RawTracePointContext) -> i32 {
    let skb: u64 = ctx.arg(0);
    if let Some(sighting) = track::follow(skb, Begin::AtNetworkHeader) {
        super::tell_first!(&ctx, "kfree_skb", sighting);
        let location: u64 = ctx.arg(1);
        let reason: u64 = if config!(kfree_reason) == 0 { 0 } else { ctx.arg(2) };
        let extra = Extra::args([reason & 0xffff_ffff, location, 0, 0, 0, 0]);
        emit::packet(ProbeId::KfreeSkb, &sighting, &extra);
        track::forget(&sighting);
        sighting.view.done();
    }
    0
}

#[raw_tracepoint]
pub fn raw_consume_skb(ctx: RawTracePointContext) -> i32 {
    let skb: u64 = ctx.arg(0);
    if let Some(sighting) = track::follow(skb, Begin::No) {
        let location: u64 = if config!(consume_location) == 0 { 0 } else { ctx.arg(1) };
        let extra = Extra::args([location, 0, 0, 0, 0, 0]);
        emit::packet(ProbeId::ConsumeSkb, &sighting, &extra);
        track::forget(&sighting);
        sighting.view.done();
    }
    0
}

/// `qdisc_drop(struct Qdisc *, netdev_queue *, net_device *, sk_buff *, reason)`, from 7.2 on.
#[raw_tracepoint]
pub fn raw_qdisc_drop(ctx: RawTracePointContext) -> i32 {
    let reason: u64 = ctx.arg(4);
    super::seen(ProbeId::QdiscDrop, ctx.arg(3), Begin::No, &Extra::args([reason & 0xffff_ffff, 0, 0, 0, 0, 0]));
    0
}

/// `skb_clone(skb, gfp)` returned: the clone is followed from its birth, before its header changes.
#[fexit]
pub fn fexit_skb_clone(ctx: FExitContext) -> i32 {
    let skb: u64 = ctx.arg(0);
    let clone: u64 = ctx.arg(2);
    if clone != 0
        && let Some(sighting) = track::follow(skb, Begin::No)
    {
        track::follow_clone(&sighting, clone);
        let extra = Extra::args([clone, 0, 0, 0, 0, 0]);
        emit::packet(ProbeId::SkbClone, &sighting, &extra);
        sighting.view.done();
    }
    0
}
