//! Devices: a packet is queued, transmitted, put on a backlog, received.
//!
//! These are the probes on every packet's way. Most packets leave them after a glance at
//! `skb->protocol` and the first bytes.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use vnet_trace_ebpf::{FLAG_FIRST, ProbeId, Role};

use crate::emit::{self, Extra};
use crate::filter;
use crate::probes::{packet_entry, tell_first};
use crate::read::Typed;
use crate::track::{self, Begin};

#[btf_tracepoint]
pub fn tp_net_dev_queue(ctx: BtfTracePointContext) -> i32 {
    if let Some(sighting) = track::follow_typed(ctx.arg(0), Begin::AtNetworkHeader) {
        tell_first!(&ctx, "net_dev_queue", sighting);
        emit::packet(ProbeId::NetDevQueue, &sighting, &Extra::NONE);
        sighting.view.done();
    }
    0
}

#[btf_tracepoint]
pub fn tp_net_dev_start_xmit(ctx: BtfTracePointContext) -> i32 {
    let skb: Typed = ctx.arg(0);
    if let Some(sighting) = track::follow_typed(skb, Begin::AtNetworkHeader) {
        let extra = Extra { dev: ctx.arg(1), ..Extra::NONE };
        emit::packet(ProbeId::NetDevStartXmit, &sighting, &extra);
        track::leave(sighting.skb);
        if sighting.role == Role::EchoRequest as u32 && sighting.flags & FLAG_FIRST == 0 {
            filter::learn_identifier(sighting.network);
        }
        sighting.view.done();
    }
    0
}

#[btf_tracepoint]
pub fn tp_netif_rx(ctx: BtfTracePointContext) -> i32 {
    if let Some(sighting) = track::follow_typed(ctx.arg(0), Begin::AtData) {
        emit::packet(ProbeId::NetifRx, &sighting, &Extra::NONE);
        sighting.view.done();
    }
    0
}

/// From here on, and until the packet is freed or transmitted, this CPU works on nothing else: route
/// look-ups in between are this packet's.
#[btf_tracepoint]
pub fn tp_netif_receive_skb(ctx: BtfTracePointContext) -> i32 {
    let skb: Typed = ctx.arg(0);
    if let Some(sighting) = track::follow_typed(skb, Begin::AtData) {
        let place = emit::packet(ProbeId::NetifReceiveSkb, &sighting, &Extra::NONE);
        tell_first!(&ctx, "netif_receive_skb", sighting);
        track::enter(&sighting, place.netns, place.ifindex);
        sighting.view.done();
    }
    0
}

packet_entry!(VethXmit: fentry_veth_xmit, kprobe_veth_xmit, skb = 0);
