//! Netfilter: what the rules of a hook made of a packet.
//!
//! `nf_hook_slow` has often freed the packet when it returns, so all that is wanted is kept at its
//! entry; the record has the packet's names (skb, tracking id) but none of its bytes.

use aya_ebpf::macros::{fentry, fexit, kprobe, kretprobe};
use aya_ebpf::programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext};
use vnet_trace_ebpf::ProbeId;

use super::{Pocket, put, take};
use crate::emit;
use crate::read::{dev_ifindex, dev_netns, field, net_inum, offset};
use crate::track::{self, Begin};

/// `nf_hook_slow(skb, state, entries, start)`.
#[fentry]
pub fn fentry_nf_hook_slow(ctx: FEntryContext) -> i32 {
    enter(ctx.arg(0), ctx.arg(1));
    0
}

#[fexit]
pub fn fexit_nf_hook_slow(ctx: FExitContext) -> i32 {
    leave(ctx.arg(4));
    0
}

#[kprobe]
pub fn kprobe_nf_hook_slow(ctx: ProbeContext) -> u32 {
    if let (Some(skb), Some(state)) = (ctx.arg(0), ctx.arg(1)) {
        enter(skb, state);
    }
    0
}

#[kretprobe]
pub fn kretprobe_nf_hook_slow(ctx: RetProbeContext) -> u32 {
    leave(ctx.ret());
    0
}

#[inline(always)]
fn enter(skb: u64, state: u64) {
    // A packet on its way out is first seen here.
    let Some(mut sighting) = track::follow(ProbeId::NfHookSlow, skb, Begin::AtNetworkHeader) else {
        return;
    };
    let input: u64 = field(state, offset!(hook_state_in));
    let output: u64 = field(state, offset!(hook_state_out));
    let netns = net_inum(field(state, offset!(hook_state_net)));
    let hook: u8 = field(state, offset!(hook_state_hook));
    let family: u8 = field(state, offset!(hook_state_pf));
    let output_netns = dev_netns(output);
    let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
    let values = [
        pair(netns, dev_ifindex(input)),
        pair(output_netns, dev_ifindex(output)),
        pair(u32::from(hook), u32::from(family)),
        u64::from(sighting.desk().role),
    ];
    let pocket = Pocket { skb, head: sighting.desk().head, origin: sighting.desk().origin, values };
    put(ProbeId::NfHookSlow, &pocket);
    sighting.done();
}

#[inline(always)]
fn leave(value: u64) {
    let Some(pocket) = take(ProbeId::NfHookSlow) else {
        return;
    };
    let [input, output, hook, role] = pocket.values;
    let args = [value & 0xffff_ffff, hook >> 32, hook & 0xff, 0, 0, 0];
    let Some(bare) = emit::bare(ProbeId::NfHookSlow, &args) else {
        return;
    };
    // SAFETY: the record is reserved.
    unsafe {
        let record = &raw mut (*bare).record;
        (*record).skb = pocket.skb;
        (*record).head = pocket.head;
        (*record).origin = pocket.origin;
        (*record).netns = (input >> 32) as u32;
        (*record).ifindex = input as u32;
        (*record).other_netns = (output >> 32) as u32;
        (*record).other_ifindex = output as u32;
        (*record).role = role as u8;
    }
    emit::submit(bare.cast());
}
