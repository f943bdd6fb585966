//! Neighbours: ARP and ND packets being processed, and what happens to the entries.
//!
//! An event of an entry has no packet. It is recorded when the entry's address is one of interest, in
//! a namespace of interest.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use vnet_trace_ebpf::ProbeId;

use super::packet_entry;
use crate::emit;
use crate::filter::{self, mapped};
use crate::read::{copy, dev_ifindex, dev_netns, field, offset};

const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;

packet_entry!(ArpProcess: fentry_arp_process, kprobe_arp_process, skb = 2);
packet_entry!(NdiscRcv: fentry_ndisc_rcv, kprobe_ndisc_rcv, skb = 0);

/// `neigh_update(neigh, lladdr, new state, flags, port id of the requester)`.
#[raw_tracepoint]
pub fn raw_neigh_update(ctx: RawTracePointContext) -> i32 {
    let neigh: u64 = ctx.arg(0);
    let lladdr: u64 = ctx.arg(1);
    let new: u64 = ctx.arg(2);
    let flags: u64 = ctx.arg(3);
    event(ProbeId::NeighUpdate, neigh, lladdr, [new & 0xff, flags & 0xffff_ffff]);
    0
}

/// `neigh_event_send_done(neigh, rc)`: a packet wanted this neighbour.
#[raw_tracepoint]
pub fn raw_neigh_event_send_done(ctx: RawTracePointContext) -> i32 {
    let code: u64 = ctx.arg(1);
    event(ProbeId::NeighEventSend, ctx.arg(0), 0, [code & 0xffff_ffff, 0]);
    0
}

/// `neigh_timer_handler(neigh, notify)`: time has passed without an answer.
#[raw_tracepoint]
pub fn raw_neigh_timer_handler(ctx: RawTracePointContext) -> i32 {
    let notify: u64 = ctx.arg(1);
    event(ProbeId::NeighTimer, ctx.arg(0), 0, [notify & 0xffff_ffff, 0]);
    0
}

#[inline(always)]
fn event(probe: ProbeId, neigh: u64, lladdr: u64, more: [u64; 2]) {
    let table = field(neigh, offset!(neigh_tbl));
    let family: u32 = field(table, offset!(neigh_table_family));
    let at = neigh + u64::from(offset!(neigh_key));
    let address = match family {
        AF_INET => mapped(copy(at)),
        AF_INET6 => copy(at),
        _ => return,
    };
    if !filter::address_wanted(&address) {
        return;
    }
    let dev = field(neigh, offset!(neigh_dev));
    let netns = dev_netns(dev);
    if !filter::netns_wanted(netns) {
        return;
    }
    let ifindex = dev_ifindex(dev);
    let state: u8 = field(neigh, offset!(neigh_state));
    let lladdr = if lladdr == 0 { neigh + u64::from(offset!(neigh_ha)) } else { lladdr };
    let args = [u64::from(state), more[0], more[1], 0, 0, 0];
    let Some(bare) = emit::bare(probe, &args) else {
        return;
    };
    // SAFETY: the record is reserved, with three addresses behind it.
    unsafe {
        let record = &raw mut (*bare).record;
        (*record).netns = netns;
        (*record).ifindex = ifindex;
        bpf_probe_read_kernel((&raw mut (*record).mac).cast(), 6, lladdr as *const c_void);
        (*bare).addresses[0] = address;
        (*record).packet_len = 16;
    }
    emit::submit(bare.cast());
}
