//! Whether the kernel lets a program read a packet's bytes where they lie.
//!
//! `skb->data` is a pointer to bytes. Before 6.17 what a program loads from it is a number, and the bytes behind it take a
//! helper; from then on it is an address that can be read through, and gives 0 where it leads nowhere. No version number
//! is trusted for that: the kernel is given the shortest program that does it.

use std::os::fd::OwnedFd;

use vnet_trace_ebpf::Offsets;

use super::btf::{Btf, Kind};
use super::sys::{self, ProgramKind, ProgramLoad};

/// A tracepoint whose first argument is a packet.
const TRACEPOINT: &str = "netif_receive_skb";

/// Asks the kernel.
pub fn reads_in_place(btf: &Btf, offsets: &Offsets) -> bool {
    btf.id(Kind::Typedef, &format!("btf_trace_{TRACEPOINT}")).and_then(|to| load(to, offsets.skb_data)).is_some()
}

fn load(attach_to: u32, skb_data: u32) -> Option<OwnedFd> {
    let data = u64::from(u16::try_from(skb_data).ok()?);
    let instructions = [
        0x1179,              // r1 = *(u64 *)(r1 + 0), the packet
        0x1179 | data << 16, // r1 = *(u64 *)(r1 + data)
        0x1171,              // r1 = *(u8 *)(r1 + 0)
        0xb7,                // r0 = 0
        0x95,                // exit
    ];
    let program = ProgramLoad {
        kind: ProgramKind::BtfTracepoint,
        name: "in_place",
        instructions: &instructions,
        license: b"GPL\0",
        types: None,
        attach_to,
        attach_module: None,
    };
    sys::program_load(&program, None).ok()
}
