//! Routing and the ICMP that goes with it, IPv4 and IPv6.
//!
//! A route look-up has no packet. It is recorded when this CPU is taking a packet of ours through
//! the stack, or when both ends of its flow are addresses of interest.

use core::ptr;

use aya_ebpf::helpers::bpf_get_current_task;
use aya_ebpf::macros::{fentry, fexit, kprobe, kretprobe, raw_tracepoint};
use aya_ebpf::programs::{FEntryContext, FExitContext, ProbeContext, RawTracePointContext, RetProbeContext};
use vnet_trace_ebpf::{ProbeId, Record};

use crate::emit::{self, Extra};
use crate::filter;
use crate::probes::{Pocket, packet_entry, put, seen, take};
use crate::read::{Access, Copied, Direct, Kernel, copy, dev_ifindex, dev_netns, net_inum, offset};
use crate::track::{self, Begin, Context};

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

const NO_ADDRESS: [u8; 16] = [0; 16];

/// `fib_table_lookup(table, flowi4 *, fib_nh_common *, err)`; the next hop is NULL if none was found.
#[raw_tracepoint]
pub fn raw_fib_table_lookup(ctx: RawTracePointContext) -> i32 {
    let flow: Kernel = ctx.arg(1);
    let source = mapped(Copied::load(flow, offset!(flow4_saddr)));
    let destination = mapped(Copied::load(flow, offset!(flow4_daddr)));
    let context = track::context();
    if context.is_none() && !flow_wanted(&source, &destination) {
        return 0;
    }
    let hop: Kernel = ctx.arg(2);
    let dev = Copied::pointer(hop, offset!(nhc_dev));
    let next = NextHop { ifindex: dev_ifindex::<Copied>(dev), netns: dev_netns::<Copied>(dev), gateway: gateway(hop) };
    let family: u8 = Copied::field(hop, offset!(nhc_gw_family));
    let scope: u8 = Copied::field(flow, offset!(flow4_scope));
    let table: u64 = ctx.arg(0);
    let error: u64 = ctx.arg(3);
    let iif: u32 = Copied::field(flow, offset!(flow4_iif));
    let oif: u32 = Copied::field(flow, offset!(flow4_oif));
    let args =
        [table & 0xffff_ffff, u64::from(iif), u64::from(oif), error & 0xffff_ffff, u64::from(scope), u64::from(family)];
    let netns = if next.netns != 0 { next.netns } else { task_netns() };
    lookup(ProbeId::FibTableLookup, args, context, netns, &source, &destination, &next);
    0
}

/// `fib6_table_lookup(net, fib6_result *, fib6_table *, flowi6 *)`.
#[raw_tracepoint]
pub fn raw_fib6_table_lookup(ctx: RawTracePointContext) -> i32 {
    let net: Kernel = ctx.arg(0);
    let result: Kernel = ctx.arg(1);
    let table: Kernel = ctx.arg(2);
    let flow: Kernel = ctx.arg(3);
    let source: [u8; 16] = copy(flow as u64 + u64::from(offset!(flow6_saddr)));
    let destination: [u8; 16] = copy(flow as u64 + u64::from(offset!(flow6_daddr)));
    let context = track::context();
    if context.is_none() && !flow_wanted(&source, &destination) {
        return 0;
    }
    let nh = Copied::pointer(result, offset!(fib6_result_nh));
    let hop = if nh.is_null() { ptr::null() } else { (nh as u64 + u64::from(offset!(fib6_nh_common))) as Kernel };
    let dev = Copied::pointer(hop, offset!(nhc_dev));
    let next = NextHop { ifindex: dev_ifindex::<Copied>(dev), netns: dev_netns::<Copied>(dev), gateway: gateway(hop) };
    let table: u32 = Copied::field(table, offset!(fib6_table_id));
    let iif: u32 = Copied::field(flow, offset!(flow6_iif));
    let oif: u32 = Copied::field(flow, offset!(flow6_oif));
    let kind: u8 = Copied::field(result, offset!(fib6_result_type));
    let flags: u32 = Copied::field(result, offset!(fib6_result_flags));
    let args = [u64::from(table), u64::from(iif), u64::from(oif), 0, u64::from(kind), u64::from(flags)];
    let netns = net_inum::<Copied>(net);
    lookup(ProbeId::Fib6TableLookup, args, context, netns, &source, &destination, &next);
    0
}

struct NextHop {
    ifindex: u32,
    netns: u32,
    gateway: [u8; 16],
}

#[inline(always)]
fn lookup(
    probe: ProbeId,
    args: [u64; 6],
    context: Option<Context>,
    netns: u32,
    source: &[u8; 16],
    destination: &[u8; 16],
    next: &NextHop,
) {
    if context.is_none() && !filter::netns_wanted(netns) {
        return;
    }
    if next.gateway != NO_ADDRESS {
        filter::want_address(&next.gateway);
    } else if context.is_some() && next.ifindex != 0 {
        filter::want_address(destination);
    }
    emit::bare(probe, args, context, |record: *mut Record| {
        // SAFETY: `record` is a reserved record.
        unsafe {
            if context.is_none() {
                (*record).netns = netns;
            }
            (*record).other_netns = next.netns;
            (*record).other_ifindex = next.ifindex;
            let addresses = (&raw mut (*record).packet).cast::<[u8; 16]>();
            *addresses = *source;
            *addresses.add(1) = *destination;
            *addresses.add(2) = next.gateway;
            (*record).packet_len = 48;
        }
    });
}

/// A look-up without a packet belongs to us if both its ends do; a sender that has not chosen its
/// source address yet counts by the destination.
#[inline(always)]
fn flow_wanted(source: &[u8; 16], destination: &[u8; 16]) -> bool {
    filter::address_wanted(destination)
        && (*source == NO_ADDRESS || *source == filter::mapped(0, 0, 0, 0) || filter::address_wanted(source))
}

#[inline(always)]
fn mapped(address: u32) -> [u8; 16] {
    let [a, b, c, d] = address.to_ne_bytes();
    filter::mapped(a, b, c, d)
}

/// The gateway of a next hop; zeroes if it has none.
#[inline(always)]
fn gateway(hop: Kernel) -> [u8; 16] {
    if hop.is_null() {
        return NO_ADDRESS;
    }
    let at = hop as u64;
    let family: u8 = copy(at + u64::from(offset!(nhc_gw_family)));
    match family {
        AF_INET => mapped(copy(at + u64::from(offset!(nhc_gw)))),
        AF_INET6 => copy(at + u64::from(offset!(nhc_gw))),
        _ => NO_ADDRESS,
    }
}

/// The namespace of the task that runs, which is the sender's own when a program asks for a route.
#[inline(always)]
fn task_netns() -> u32 {
    // SAFETY: the helper takes nothing and cannot fail.
    let task = unsafe { bpf_get_current_task() } as Kernel;
    let proxy = Copied::pointer(task, offset!(task_nsproxy));
    net_inum::<Copied>(Copied::pointer(proxy, offset!(nsproxy_net)))
}

/// `fib_validate_source(skb, src, dst, tos, oif, dev, idev, itag)` returned.
#[fexit]
pub fn fexit_fib_validate_source(ctx: FExitContext) -> i32 {
    let value: u64 = ctx.arg(8);
    let extra = Extra {
        args: [value & 0xffff_ffff, ctx.arg(1), ctx.arg(2), ctx.arg(4), 0, 0],
        dev: ctx.arg(5),
        other: ptr::null(),
    };
    seen::<Direct>(ProbeId::FibValidateSource, ctx.arg(0), Begin::No, &extra);
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
        let extra = Extra {
            args: [value & 0xffff_ffff, source & 0xffff_ffff, destination & 0xffff_ffff, oif, 0, 0],
            dev: dev as Kernel,
            other: ptr::null(),
        };
        seen::<Copied>(ProbeId::FibValidateSource, pocket.skb as Kernel, Begin::No, &extra);
    }
    0
}

/// `ip_route_input_noref(skb, daddr, saddr, tos, dev)` returned.
#[fexit]
pub fn fexit_ip_route_input_noref(ctx: FExitContext) -> i32 {
    let value: u64 = ctx.arg(5);
    let extra =
        Extra { args: [value & 0xffff_ffff, ctx.arg(1), ctx.arg(2), 0, 0, 0], dev: ctx.arg(4), other: ptr::null() };
    seen::<Direct>(ProbeId::IpRouteInput, ctx.arg(0), Begin::No, &extra);
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
        let extra = Extra {
            args: [value & 0xffff_ffff, destination & 0xffff_ffff, source & 0xffff_ffff, 0, 0, 0],
            dev: dev as Kernel,
            other: ptr::null(),
        };
        seen::<Copied>(ProbeId::IpRouteInput, pocket.skb as Kernel, Begin::No, &extra);
    }
    0
}

/// Leaves the arguments of a function for its return, if the packet is followed.
#[inline(always)]
fn pocket_packet(probe: ProbeId, skb: u64, values: [u64; 4]) {
    if let Some(sighting) = track::follow::<Copied>(skb as Kernel, Begin::No) {
        put(probe, &Pocket { skb, head: sighting.head, origin: sighting.origin, values });
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
    icmp_error::<Copied>(ProbeId::IcmpSend, ctx.arg(0), ctx.arg(1), ctx.arg(2));
    0
}

/// `__icmp_send(skb, type, code, info, opt)`.
#[fentry]
pub fn fentry_icmp_send(ctx: FEntryContext) -> i32 {
    icmp_error::<Direct>(ProbeId::IcmpSend, ctx.arg(0), ctx.arg(1), ctx.arg(2));
    0
}

#[kprobe]
pub fn kprobe_icmp_send(ctx: ProbeContext) -> u32 {
    if let (Some(skb), Some(kind), Some(code)) = (ctx.arg(0), ctx.arg(1), ctx.arg(2)) {
        icmp_error::<Copied>(ProbeId::IcmpSend, skb, kind, code);
    }
    0
}

/// `icmp6_send(skb, type, code, …)`.
#[fentry]
pub fn fentry_icmp6_send(ctx: FEntryContext) -> i32 {
    icmp_error::<Direct>(ProbeId::Icmp6Send, ctx.arg(0), ctx.arg(1), ctx.arg(2));
    0
}

#[kprobe]
pub fn kprobe_icmp6_send(ctx: ProbeContext) -> u32 {
    if let (Some(skb), Some(kind), Some(code)) = (ctx.arg(0), ctx.arg(1), ctx.arg(2)) {
        icmp_error::<Copied>(ProbeId::Icmp6Send, skb, kind, code);
    }
    0
}

#[inline(always)]
fn icmp_error<A: Access>(probe: ProbeId, skb: Kernel, kind: u64, code: u64) {
    let extra = Extra::args([kind & 0xff, code & 0xff, 0, 0, 0, 0]);
    seen::<A>(probe, skb, Begin::No, &extra);
}
