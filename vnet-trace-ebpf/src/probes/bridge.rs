//! Bridges: which port a frame came in by, and which ports it is meant for.

use aya_ebpf::macros::{fentry, kprobe};
use aya_ebpf::programs::{FEntryContext, ProbeContext};
use vnet_trace_ebpf::ProbeId;

use super::{nothing, packet_entry, seen};
use crate::read::{field, offset};
use crate::track::{Begin, Sighting};

packet_entry!(BrHandleFrame: fentry_br_handle_frame, kprobe_br_handle_frame, skb at 0);
packet_entry!(BrHandleFrameFinish: fentry_br_handle_frame_finish, kprobe_br_handle_frame_finish, skb = 2);

/// `br_forward(to, skb, local_rcv, local_orig)`: a port has been chosen.
#[fentry]
pub fn fentry_br_forward(ctx: FEntryContext) -> i32 {
    toward(ProbeId::BrForward, ctx.arg(0), ctx.arg(1));
    0
}

#[kprobe]
pub fn kprobe_br_forward(ctx: ProbeContext) -> u32 {
    if let (Some(port), Some(skb)) = (ctx.arg(0), ctx.arg(1)) {
        toward(ProbeId::BrForward, port, skb);
    }
    0
}

/// `__br_forward(to, skb, local_orig)`: the port takes it.
#[fentry]
pub fn fentry_br_forward_port(ctx: FEntryContext) -> i32 {
    toward(ProbeId::BrForwardPort, ctx.arg(0), ctx.arg(1));
    0
}

#[kprobe]
pub fn kprobe_br_forward_port(ctx: ProbeContext) -> u32 {
    if let (Some(port), Some(skb)) = (ctx.arg(0), ctx.arg(1)) {
        toward(ProbeId::BrForwardPort, port, skb);
    }
    0
}

/// A flooded frame is a clone that nothing else has seen yet, so it may begin here.
#[inline(always)]
fn toward(probe: ProbeId, port: u64, skb: u64) {
    let note = |sighting: &mut Sighting| sighting.desk().other = field(port, offset!(bridge_port_dev));
    seen(probe, skb, Begin::ByHead, note, nothing);
}
