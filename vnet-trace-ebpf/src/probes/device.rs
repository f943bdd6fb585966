//! Devices: a packet is queued, transmitted, put on a backlog, received.
//!
//! These are the probes on every packet's way. Most packets leave them after a glance at
//! `skb->protocol` and the first bytes.

use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use vnet_trace_ebpf::{FLAG_FIRST, Mode, ProbeId, Role};

use super::{nothing, packet_entry, record};
use crate::filter;
use crate::read::config;
use crate::track::{self, Begin, Sighting};

#[btf_tracepoint]
pub fn tp_net_dev_queue(ctx: BtfTracePointContext) -> i32 {
    if let Some(sighting) = track::follow_typed(ProbeId::NetDevQueue, ctx.arg(0), Begin::AtNetworkHeader) {
        record(ProbeId::NetDevQueue, sighting, nothing, nothing);
    }
    0
}

#[btf_tracepoint]
pub fn tp_net_dev_start_xmit(ctx: BtfTracePointContext) -> i32 {
    if let Some(sighting) = track::follow_typed(ProbeId::NetDevStartXmit, ctx.arg(0), Begin::AtNetworkHeader) {
        let dev: u64 = ctx.arg(1);
        let note = |sighting: &mut Sighting| sighting.desk().dev = dev;
        record(ProbeId::NetDevStartXmit, sighting, note, handed_on);
    }
    0
}

#[inline(always)]
fn handed_on(sighting: &mut Sighting) {
    track::leave(sighting);
    let desk = sighting.desk();
    let is_request = desk.role == Role::EchoRequest as u32 && desk.flags & u32::from(FLAG_FIRST) == 0;
    if config!(mode) == Mode::Ping as u8 && is_request {
        filter::learn_identifier(desk.network);
    }
}

/// A packet that is not known yet is recognised where it is received: what comes here goes there.
#[btf_tracepoint]
pub fn tp_netif_rx(ctx: BtfTracePointContext) -> i32 {
    if let Some(sighting) = track::follow_typed(ProbeId::NetifRx, ctx.arg(0), Begin::ByHead) {
        record(ProbeId::NetifRx, sighting, nothing, nothing);
    }
    0
}

/// From here on, and until the packet is freed or transmitted, this CPU works on nothing else: route
/// look-ups in between are this packet's.
#[btf_tracepoint]
pub fn tp_netif_receive_skb(ctx: BtfTracePointContext) -> i32 {
    if let Some(sighting) = track::follow_typed(ProbeId::NetifReceiveSkb, ctx.arg(0), Begin::AtData) {
        record(ProbeId::NetifReceiveSkb, sighting, nothing, track::enter);
    }
    0
}

packet_entry!(VethXmit: fentry_veth_xmit, kprobe_veth_xmit, skb = 0);
