//! Which fields of the kernel's structures the probes read.
//!
//! Takes the running kernel's BTF and gives the [`Offsets`] that are written into the object before
//! it is loaded. A field that the kernel does not have stays [`ABSENT`]; the probes do without it,
//! except for the few in [`ESSENTIAL`], without which no packet can be read at all.

use vnet_trace_ebpf::{ABSENT, BitField, Offsets};

use super::btf::Btf;

type Place = fn(&mut Offsets) -> &mut u32;

/// Structure, path of the field, and where its offset goes.
const FIELDS: &[(&str, &str, Place)] = &[
    ("sk_buff", "dev", |o| &mut o.skb_dev),
    ("sk_buff", "sk", |o| &mut o.skb_sk),
    ("sk_buff", "head", |o| &mut o.skb_head),
    ("sk_buff", "data", |o| &mut o.skb_data),
    ("sk_buff", "tail", |o| &mut o.skb_tail),
    ("sk_buff", "end", |o| &mut o.skb_end),
    ("sk_buff", "network_header", |o| &mut o.skb_network_header),
    ("sk_buff", "mac_header", |o| &mut o.skb_mac_header),
    ("sk_buff", "protocol", |o| &mut o.skb_protocol),
    ("sk_buff", "vlan_tci", |o| &mut o.skb_vlan_tci),
    ("sk_buff", "vlan_proto", |o| &mut o.skb_vlan_proto),
    ("sk_buff", "len", |o| &mut o.skb_len),
    ("sk_buff", "data_len", |o| &mut o.skb_data_len),
    ("sk_buff", "mark", |o| &mut o.skb_mark),
    ("sk_buff", "skb_iif", |o| &mut o.skb_iif),
    ("sk_buff", "_skb_refdst", |o| &mut o.skb_refdst),
    ("skb_shared_info", "dataref", |o| &mut o.shinfo_dataref),
    ("dst_entry", "dev", |o| &mut o.dst_dev),
    ("sock", "__sk_common.skc_net.net", |o| &mut o.sock_net),
    ("net_device", "ifindex", |o| &mut o.dev_ifindex),
    ("net_device", "nd_net.net", |o| &mut o.dev_net),
    ("net", "ns.inum", |o| &mut o.net_inum),
    ("flowi4", "saddr", |o| &mut o.flow4_saddr),
    ("flowi4", "daddr", |o| &mut o.flow4_daddr),
    ("flowi4", "__fl_common.flowic_oif", |o| &mut o.flow4_oif),
    ("flowi4", "__fl_common.flowic_iif", |o| &mut o.flow4_iif),
    ("flowi4", "__fl_common.flowic_scope", |o| &mut o.flow4_scope),
    ("flowi6", "saddr", |o| &mut o.flow6_saddr),
    ("flowi6", "daddr", |o| &mut o.flow6_daddr),
    ("flowi6", "__fl_common.flowic_oif", |o| &mut o.flow6_oif),
    ("flowi6", "__fl_common.flowic_iif", |o| &mut o.flow6_iif),
    ("fib_nh_common", "nhc_dev", |o| &mut o.nhc_dev),
    ("fib_nh_common", "nhc_gw_family", |o| &mut o.nhc_gw_family),
    ("fib_nh_common", "nhc_gw", |o| &mut o.nhc_gw),
    ("fib6_result", "nh", |o| &mut o.fib6_result_nh),
    ("fib6_result", "fib6_flags", |o| &mut o.fib6_result_flags),
    ("fib6_result", "fib6_type", |o| &mut o.fib6_result_type),
    ("fib6_nh", "nh_common", |o| &mut o.fib6_nh_common),
    ("fib6_table", "tb6_id", |o| &mut o.fib6_table_id),
    ("neighbour", "tbl", |o| &mut o.neigh_tbl),
    ("neighbour", "dev", |o| &mut o.neigh_dev),
    ("neighbour", "nud_state", |o| &mut o.neigh_state),
    ("neighbour", "ha", |o| &mut o.neigh_ha),
    ("neighbour", "primary_key", |o| &mut o.neigh_key),
    ("neigh_table", "family", |o| &mut o.neigh_table_family),
    ("nf_hook_state", "hook", |o| &mut o.hook_state_hook),
    ("nf_hook_state", "pf", |o| &mut o.hook_state_pf),
    ("nf_hook_state", "in", |o| &mut o.hook_state_in),
    ("nf_hook_state", "out", |o| &mut o.hook_state_out),
    ("nf_hook_state", "net", |o| &mut o.hook_state_net),
    ("net_bridge_port", "dev", |o| &mut o.bridge_port_dev),
    ("task_struct", "nsproxy", |o| &mut o.task_nsproxy),
    ("nsproxy", "net_ns", |o| &mut o.nsproxy_net),
];

/// Without these no packet can be read.
const ESSENTIAL: &[(&str, Place)] = &[
    ("sk_buff.dev", |o| &mut o.skb_dev),
    ("sk_buff.head", |o| &mut o.skb_head),
    ("sk_buff.data", |o| &mut o.skb_data),
    ("sk_buff.tail", |o| &mut o.skb_tail),
    ("sk_buff.end", |o| &mut o.skb_end),
    ("sk_buff.network_header", |o| &mut o.skb_network_header),
    ("sk_buff.mac_header", |o| &mut o.skb_mac_header),
    ("sk_buff.protocol", |o| &mut o.skb_protocol),
    ("sk_buff.len", |o| &mut o.skb_len),
    ("sk_buff.data_len", |o| &mut o.skb_data_len),
    ("net_device.ifindex", |o| &mut o.dev_ifindex),
    ("net_device.nd_net", |o| &mut o.dev_net),
    ("net.ns.inum", |o| &mut o.net_inum),
];

/// `struct net_bridge_port` begins with a pointer to the bridge and one to the device, in every
/// kernel since the structure exists. Only where the bridge is a module without BTF (before 5.11)
/// is this relied upon.
const BRIDGE_PORT_DEV: u32 = 8;

/// The structures whose fields are looked up, for the sweep over the BTF.
pub fn structures() -> impl Iterator<Item = &'static str> {
    FIELDS.iter().map(|(structure, _, _)| *structure)
}

/// Looks the fields up. `modules` are the BTF of modules that may define a structure.
pub fn resolve(vmlinux: &Btf, modules: &[Btf]) -> Offsets {
    let mut offsets = Offsets::ABSENT;
    for (structure, path, place) in FIELDS {
        let field =
            vmlinux.field(structure, path).or_else(|| modules.iter().find_map(|module| module.field(structure, path)));
        if let Some(field) = field {
            *place(&mut offsets) = field.byte_offset();
        }
    }
    if offsets.bridge_port_dev == ABSENT {
        offsets.bridge_port_dev = BRIDGE_PORT_DEV;
    }
    offsets.skb_pkt_type = bit_field(vmlinux, "pkt_type");
    offsets.skb_cloned = bit_field(vmlinux, "cloned");
    offsets.skb_vlan_present = bit_field(vmlinux, "vlan_present");
    offsets
}

/// The first field that is missing and without which nothing can be read.
pub fn missing(offsets: &Offsets) -> Option<&'static str> {
    let mut offsets = *offsets;
    ESSENTIAL.iter().find(|(_, place)| *place(&mut offsets) == ABSENT).map(|(name, _)| *name)
}

/// A field of `sk_buff` that shares its byte with others, counted from the least significant bit.
fn bit_field(btf: &Btf, name: &str) -> BitField {
    let Some(field) = btf.field("sk_buff", name) else {
        return BitField::ABSENT;
    };
    let width = field.bit_size.unwrap_or(8).min(8);
    BitField { byte: field.bit_offset / 8, shift: field.bit_offset % 8, mask: (1_u32 << width) - 1 }
}
