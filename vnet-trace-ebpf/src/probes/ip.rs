//! Routing and the ICMP that goes with it, IPv4 and IPv6.
//!
//! A route look-up has no packet. It is recorded when this CPU is taking a packet of ours through
//! the stack, or when both ends of its flow are addresses of interest.

use aya_ebpf::helpers::bpf_get_current_task;
use aya_ebpf::macros::{fentry, fexit, kprobe, kretprobe, raw_tracepoint};
use aya_ebpf::programs::{FEntryContext, FExitContext, ProbeContext, RawTracePointContext, RetProbeContext};
use vnet_trace_ebpf::{FLAG_CONTEXT, Mode, ProbeId};

use super::{Pocket, nothing, packet_entry, put, seen, take};
use crate::desk::{Context, set_args};
use crate::emit;
use crate::filter::{self, Address, NO_ADDRESS, mapped};
use crate::read::{config, dev_ifindex, dev_netns, field, net_inum, offset};
use crate::track::{self, Begin, Sighting};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// `fib_table_lookup(table, flowi4 *, fib_nh_common *, err)`; the next hop is NULL if none was found.
#[raw_tracepoint]
pub fn raw_fib_table_lookup(ctx: RawTracePointContext) -> i32 {
    let context = track::context();
    if context.is_null() && config!(mode) != Mode::Ping as u8 {
        return 0;
    }
    let flow: u64 = ctx.arg(1);
    let source = mapped(field(flow, offset!(flow4_saddr)));
    let destination = mapped(field(flow, offset!(flow4_daddr)));
    if context.is_null() && !flow_wanted(&source, &destination) {
        return 0;
    }
    let hop: u64 = ctx.arg(2);
    let netns = match dev_netns(field(hop, offset!(nhc_dev))) {
        0 => task_netns(),
        netns => netns,
    };
    let family: u8 = field(hop, offset!(nhc_gw_family));
    let scope: u8 = field(flow, offset!(flow4_scope));
    let table: u64 = ctx.arg(0);
    let error: u64 = ctx.arg(3);
    let iif: u32 = field(flow, offset!(flow4_iif));
    let oif: u32 = field(flow, offset!(flow4_oif));
    let args =
        [table & 0xffff_ffff, u64::from(iif), u64::from(oif), error & 0xffff_ffff, u64::from(scope), u64::from(family)];
    lookup(ProbeId::FibTableLookup, args, context, netns, &source, &destination, hop);
    0
}

/// `fib6_table_lookup(net, fib6_result *, fib6_table *, flowi6 *)`.
#[raw_tracepoint]
pub fn raw_fib6_table_lookup(ctx: RawTracePointContext) -> i32 {
    let context = track::context();
    if context.is_null() && config!(mode) != Mode::Ping as u8 {
        return 0;
    }
    let flow: u64 = ctx.arg(3);
    let source: Address = field(flow, offset!(flow6_saddr));
    let destination: Address = field(flow, offset!(flow6_daddr));
    if context.is_null() && !flow_wanted(&source, &destination) {
        return 0;
    }
    let result: u64 = ctx.arg(1);
    let nh: u64 = field(result, offset!(fib6_result_nh));
    let hop = if nh == 0 { 0 } else { nh + u64::from(offset!(fib6_nh_common)) };
    let table: u32 = field(ctx.arg(2), offset!(fib6_table_id));
    let iif: u32 = field(flow, offset!(flow6_iif));
    let oif: u32 = field(flow, offset!(flow6_oif));
    let kind: u8 = field(result, offset!(fib6_result_type));
    let flags: u32 = field(result, offset!(fib6_result_flags));
    let args = [u64::from(table), u64::from(iif), u64::from(oif), 0, u64::from(kind), u64::from(flags)];
    let netns = net_inum(ctx.arg(0));
    lookup(ProbeId::Fib6TableLookup, args, context, netns, &source, &destination, hop);
    0
}

#[inline(always)]
fn lookup(
    probe: ProbeId,
    args: [u64; 6],
    context: *const Context,
    netns: u32,
    source: &Address,
    destination: &Address,
    hop: u64,
) {
    if context.is_null() && !filter::netns_wanted(netns) {
        return;
    }
    let Some(bare) = emit::bare(probe, &args) else {
        return;
    };
    let dev: u64 = field(hop, offset!(nhc_dev));
    let ifindex = dev_ifindex(dev);
    // SAFETY: the record is reserved, with three addresses behind it, and the context is this CPU's own.
    unsafe {
        let record = &raw mut (*bare).record;
        (*record).other_netns = dev_netns(dev);
        (*record).other_ifindex = ifindex;
        (*record).packet_len = 48;
        (*bare).addresses[0] = *source;
        (*bare).addresses[1] = *destination;
        gateway(hop, &raw mut (*bare).addresses[2]);
        if context.is_null() {
            (*record).netns = netns;
        } else {
            (*record).skb = (*context).skb;
            (*record).head = (*context).head;
            (*record).origin = (*context).origin;
            (*record).netns = (*context).netns;
            (*record).ifindex = (*context).ifindex;
            (*record).flags = FLAG_CONTEXT;
            if ifindex != 0 && config!(mode) == Mode::Ping as u8 {
                filter::want_address(destination);
            }
        }
    }
    emit::submit(bare.cast());
}

/// Writes the gateway of a next hop, zeroes if it has none, and asks for what ARP and ND say about it.
///
/// Each branch does all of its work by itself: values that depend on the branch, kept for later, would
/// make the verifier go through all that follows once per branch.
///
/// # Safety
///
/// There must be an address at `into`.
#[inline(always)]
unsafe fn gateway(hop: u64, into: *mut Address) {
    let family: u8 = field(hop, offset!(nhc_gw_family));
    match family {
        AF_INET => {
            let address = mapped(field(hop, offset!(nhc_gw)));
            // SAFETY: as the caller promises.
            unsafe { *into = address };
            if config!(mode) == Mode::Ping as u8 {
                filter::want_address(&address);
            }
        }
        AF_INET6 => {
            let address: Address = field(hop, offset!(nhc_gw));
            // SAFETY: as the caller promises.
            unsafe { *into = address };
            if config!(mode) == Mode::Ping as u8 {
                filter::want_address(&address);
            }
        }
        // SAFETY: as the caller promises.
        _ => unsafe { *into = NO_ADDRESS },
    }
}

/// A look-up without a packet belongs to us if both its ends do; a sender that has not chosen its
/// source address yet counts by the destination.
#[inline(always)]
fn flow_wanted(source: &Address, destination: &Address) -> bool {
    filter::address_wanted(destination)
        && (*source == NO_ADDRESS || *source == mapped(0) || filter::address_wanted(source))
}

/// The namespace of the task that runs, which is the sender's own when a program asks for a route.
#[inline(always)]
fn task_netns() -> u32 {
    // SAFETY: the helper takes nothing and cannot fail.
    let task = unsafe { bpf_get_current_task() };
    let proxy = field(task, offset!(task_nsproxy));
    net_inum(field(proxy, offset!(nsproxy_net)))
}

/// `fib_validate_source(skb, src, dst, tos, oif, dev, idev, itag)` returned.
#[fexit]
pub fn fexit_fib_validate_source(ctx: FExitContext) -> i32 {
    let value: u64 = ctx.arg(8);
    let values = [value & 0xffff_ffff, ctx.arg(1), ctx.arg(2), ctx.arg(4), ctx.arg(5)];
    returned(ProbeId::FibValidateSource, ctx.arg(0), values);
    0
}

#[kprobe]
pub fn kprobe_fib_validate_source(ctx: ProbeContext) -> u32 {
    let skb: u64 = ctx.arg(0).unwrap_or(0);
    let values = [ctx.arg(1).unwrap_or(0), ctx.arg(2).unwrap_or(0), ctx.arg(4).unwrap_or(0), ctx.arg(5).unwrap_or(0)];
    pocket_packet(ProbeId::FibValidateSource, skb, values);
    0
}

#[kretprobe]
pub fn kretprobe_fib_validate_source(ctx: RetProbeContext) -> u32 {
    if let Some(pocket) = take(ProbeId::FibValidateSource) {
        let value: u64 = ctx.ret();
        let [source, destination, oif, dev] = pocket.values;
        let values = [value & 0xffff_ffff, source & 0xffff_ffff, destination & 0xffff_ffff, oif, dev];
        returned(ProbeId::FibValidateSource, pocket.skb, values);
    }
    0
}

/// `ip_route_input_noref(skb, daddr, saddr, tos, dev)` returned.
#[fexit]
pub fn fexit_ip_route_input_noref(ctx: FExitContext) -> i32 {
    let value: u64 = ctx.arg(5);
    let values = [value & 0xffff_ffff, ctx.arg(1), ctx.arg(2), 0, ctx.arg(4)];
    returned(ProbeId::IpRouteInput, ctx.arg(0), values);
    0
}

#[kprobe]
pub fn kprobe_ip_route_input_noref(ctx: ProbeContext) -> u32 {
    let skb: u64 = ctx.arg(0).unwrap_or(0);
    let values = [ctx.arg(1).unwrap_or(0), ctx.arg(2).unwrap_or(0), ctx.arg(4).unwrap_or(0), 0];
    pocket_packet(ProbeId::IpRouteInput, skb, values);
    0
}

#[kretprobe]
pub fn kretprobe_ip_route_input_noref(ctx: RetProbeContext) -> u32 {
    if let Some(pocket) = take(ProbeId::IpRouteInput) {
        let value: u64 = ctx.ret();
        let [destination, source, dev, _] = pocket.values;
        let values = [value & 0xffff_ffff, destination & 0xffff_ffff, source & 0xffff_ffff, 0, dev];
        returned(ProbeId::IpRouteInput, pocket.skb, values);
    }
    0
}

/// Records what a function about a packet returned: four numbers, and the device.
#[inline(always)]
fn returned(probe: ProbeId, skb: u64, values: [u64; 5]) {
    let note = |sighting: &mut Sighting| {
        let [value, first, second, third, dev] = values;
        let desk = sighting.desk();
        set_args(&mut desk.args, [value, first, second, third, 0, 0]);
        desk.dev = dev;
    };
    seen(probe, skb, Begin::No, note, nothing);
}

/// Leaves the arguments of a function for its return, if the packet is followed.
#[inline(always)]
fn pocket_packet(probe: ProbeId, skb: u64, values: [u64; 4]) {
    if let Some(mut sighting) = track::follow(probe, skb, Begin::No) {
        put(probe, &Pocket { skb, head: sighting.desk().head, origin: sighting.desk().origin, values });
        sighting.done();
    }
}

packet_entry!(IpForward: fentry_ip_forward, kprobe_ip_forward, skb = 0);
packet_entry!(Ip6Forward: fentry_ip6_forward, kprobe_ip6_forward, skb = 0);
packet_entry!(IpLocalDeliver: fentry_ip_local_deliver, kprobe_ip_local_deliver, skb = 0);
packet_entry!(IcmpRcv: fentry_icmp_rcv, kprobe_icmp_rcv, skb = 0);
packet_entry!(Icmpv6Rcv: fentry_icmpv6_rcv, kprobe_icmpv6_rcv, skb = 0);
packet_entry!(IcmpEcho: fentry_icmp_echo, kprobe_icmp_echo, skb = 0);

/// `icmp_send(skb, type, code)`, from 5.12 on.
#[raw_tracepoint]
pub fn raw_icmp_send(ctx: RawTracePointContext) -> i32 {
    icmp_error(ProbeId::IcmpSend, ctx.arg(0), ctx.arg(1), ctx.arg(2));
    0
}

/// `__icmp_send(skb, type, code, info, opt)`.
#[fentry]
pub fn fentry_icmp_send(ctx: FEntryContext) -> i32 {
    icmp_error(ProbeId::IcmpSend, ctx.arg(0), ctx.arg(1), ctx.arg(2));
    0
}

#[kprobe]
pub fn kprobe_icmp_send(ctx: ProbeContext) -> u32 {
    if let (Some(skb), Some(kind), Some(code)) = (ctx.arg(0), ctx.arg(1), ctx.arg(2)) {
        icmp_error(ProbeId::IcmpSend, skb, kind, code);
    }
    0
}

/// `icmp6_send(skb, type, code, …)`.
#[fentry]
pub fn fentry_icmp6_send(ctx: FEntryContext) -> i32 {
    icmp_error(ProbeId::Icmp6Send, ctx.arg(0), ctx.arg(1), ctx.arg(2));
    0
}

#[kprobe]
pub fn kprobe_icmp6_send(ctx: ProbeContext) -> u32 {
    if let (Some(skb), Some(kind), Some(code)) = (ctx.arg(0), ctx.arg(1), ctx.arg(2)) {
        icmp_error(ProbeId::Icmp6Send, skb, kind, code);
    }
    0
}

#[inline(always)]
fn icmp_error(probe: ProbeId, skb: u64, kind: u64, code: u64) {
    let note = |sighting: &mut Sighting| {
        sighting.desk().args[0] = kind & 0xff;
        sighting.desk().args[1] = code & 0xff;
    };
    seen(probe, skb, Begin::No, note, nothing);
}
