//! Devices on top of devices: macvlan, ipvlan, VXLAN, Open vSwitch.

use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use vnet_trace_ebpf::ProbeId;

use super::{nothing, packet_entry, seen};
use crate::read::copy;
use crate::track::{Begin, Sighting};

packet_entry!(MacvlanStartXmit: fentry_macvlan_start_xmit, kprobe_macvlan_start_xmit, skb = 0);
packet_entry!(MacvlanHandleFrame: fentry_macvlan_handle_frame, kprobe_macvlan_handle_frame, skb at 0);
packet_entry!(IpvlanStartXmit: fentry_ipvlan_start_xmit, kprobe_ipvlan_start_xmit, skb = 0);
packet_entry!(IpvlanHandleFrame: fentry_ipvlan_handle_frame, kprobe_ipvlan_handle_frame, skb at 0);
packet_entry!(VxlanXmit: fentry_vxlan_xmit, kprobe_vxlan_xmit, skb = 0);
packet_entry!(VxlanRcv: fentry_vxlan_rcv, kprobe_vxlan_rcv, skb = 1);

/// `ovs_dp_upcall(dp, skb, key, info)`, in the module openvswitch from 5.14 on.
#[raw_tracepoint]
pub fn raw_ovs_dp_upcall(ctx: RawTracePointContext) -> i32 {
    seen(ProbeId::OvsUpcall, ctx.arg(1), Begin::ByHead, nothing, nothing);
    0
}

/// `ovs_do_execute_action(dp, skb, key, attribute, remaining)`, in the module openvswitch from 5.14 on.
#[raw_tracepoint]
pub fn raw_ovs_do_execute_action(ctx: RawTracePointContext) -> i32 {
    let attribute: u64 = ctx.arg(3);
    // `struct nlattr` is u16 length, u16 type; the upper two bits of the type are flags.
    let kind: u16 = copy(attribute + 2);
    let note = |sighting: &mut Sighting| sighting.desk().args[0] = u64::from(kind & 0x3fff);
    seen(ProbeId::OvsAction, ctx.arg(1), Begin::ByHead, note, nothing);
    0
}
