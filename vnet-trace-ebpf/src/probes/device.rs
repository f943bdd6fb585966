//! Devices: a packet is queued, transmitted, put on a backlog, received.
//!
//! These are the probes on every packet's way. Most packets leave them after a glance at
//! `skb->protocol` and the first bytes.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use vnet_trace_ebpf::{FLAG_FIRST, ProbeId, Role};

use crate::emit::{self, Extra};
use crate::filter;
use crate::probes::{packet_entry, seen};
use crate::read::{Direct, Kernel};
use crate::track::{self, Begin};

#[btf_tracepoint]
pub fn tp_net_dev_queue(ctx: BtfTracePointContext) -> i32 {
    seen::<Direct>(ProbeId::NetDevQueue, ctx.arg(0), Begin::AtNetworkHeader, &Extra::NONE);
    0
}

#[btf_tracepoint]
pub fn tp_net_dev_start_xmit(ctx: BtfTracePointContext) -> i32 {
    let skb: Kernel = ctx.arg(0);
    if let Some(sighting) = track::follow::<Direct>(skb, Begin::AtNetworkHeader) {
        let extra = Extra { dev: ctx.arg(1), ..Extra::NONE };
        emit::packet::<Direct>(ProbeId::NetDevStartXmit, skb, &sighting, &extra);
        track::leave(skb as u64);
        if sighting.role == Role::EchoRequest as u32 && sighting.flags & FLAG_FIRST == 0 {
            filter::learn_identifier(sighting.network);
        }
    }
    0
}

#[btf_tracepoint]
pub fn tp_netif_rx(ctx: BtfTracePointContext) -> i32 {
    seen::<Direct>(ProbeId::NetifRx, ctx.arg(0), Begin::AtData, &Extra::NONE);
    0
}

/// From here on, and until the packet is freed or transmitted, this CPU works on nothing else: route
/// look-ups in between are this packet's.
#[btf_tracepoint]
pub fn tp_netif_receive_skb(ctx: BtfTracePointContext) -> i32 {
    let skb: Kernel = ctx.arg(0);
    if let Some(sighting) = track::follow::<Direct>(skb, Begin::AtData) {
        let place = emit::packet::<Direct>(ProbeId::NetifReceiveSkb, skb, &sighting, &Extra::NONE);
        track::enter(skb as u64, &sighting, place.netns, place.ifindex);
    }
    0
}

packet_entry!(VethXmit: fentry_veth_xmit, kprobe_veth_xmit, skb = 0);
