//! Which packets an expression matches.
//!
//! User space compiles the expression and puts the result in the place of [`filter_expression`] before the object is
//! loaded. Most packets lie in memory as the expression wants them, and where the kernel allows it they are read there
//! ([`glance`]). Any other is made into what the expression was compiled for: an Ethernet frame with its tags, in memory
//! that can be read without a helper. What the frame lacks:
//!
//! - Its first bytes only are there, as many as the expression can reach, which user space knows
//!   ([`Config::frame_bytes`]). What is not in one piece with the headers is not there either; an expression that reads
//!   on there has no verdict, which is counted.
//! - A packet without an Ethernet header gets one, without addresses: with an expression that reads addresses it does not
//!   match.
//!
//! [`Config::frame_bytes`]: vnet_trace_ebpf::Config::frame_bytes

use core::ffi::c_void;
use core::ptr;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use vnet_trace_ebpf::{COUNTER_UNDECIDED, FRAME_BYTES, FRAME_REACH};

use crate::desk::Desk;
use crate::emit::count;
use crate::filter;
use crate::read::{Typed, config, low, offset, typed};
use crate::track::Outline;

/// Length of an Ethernet header, and of the addresses in it.
const HEADER: u64 = 14;
const ADDRESSES: u64 = 12;
/// Length of a VLAN tag.
const TAG: u64 = 4;

/// What [`filter_expression`] gives for a frame that does not match, and for one that matches; anything else is no verdict.
const NO: u32 = 0;
const YES: u32 = 1;

/// The expression: whether `available` bytes of a frame of `length` bytes match. These instructions are replaced; they only
/// keep the compiler from knowing what they would do.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn filter_expression(frame: *const u8, available: u32, length: u32) -> u32 {
    // SAFETY: a frame has a first byte.
    let first = unsafe { ptr::read_volatile(frame) };
    u32::from(first) ^ available ^ length
}

/// What can be said of a packet without copying anything of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Glance {
    /// It matches.
    Yes,
    /// It does not match, or there is no verdict.
    No,
    /// It must be made into a frame first, or the kernel does not let a program read it where it lies.
    Unclear,
}

/// Asks about a packet that lies in memory as the expression wants it: with an Ethernet header, and all tags in the frame.
///
/// From 6.17 on what a typed pointer leads to can be read without a helper, even where it is just bytes: the load of an
/// address that is none gives 0.
#[inline(always)]
pub fn glance(skb: Typed, is_at_data: bool) -> Glance {
    if config!(reads_in_place) == 0 {
        return Glance::Unclear;
    }
    let tag: u16 = typed(skb, offset!(skb_vlan_proto));
    let mac = u32::from(typed::<u16>(skb, offset!(skb_mac_header)));
    let head: *const u8 = typed(skb, offset!(skb_head));
    let data: *const u8 = typed(skb, offset!(skb_data));
    let to_data = low(data as u64).wrapping_sub(low(head as u64));
    let network = u32::from(typed::<u16>(skb, offset!(skb_network_header)));
    let unknown = u32::from(u16::MAX);
    let network = if is_at_data || network == 0 || network == unknown { to_data } else { network };
    let to_network = network.wrapping_sub(mac);
    let has_header = mac != unknown && (to_network == HEADER as u32 || to_network == (HEADER + TAG) as u32);
    if tag != 0 || !has_header {
        return Glance::Unclear;
    }
    let present = typed::<u32>(skb, offset!(skb_tail)).wrapping_sub(mac);
    let length = to_data.wrapping_sub(mac).wrapping_add(typed(skb, offset!(skb_len)));
    let wanted = u32::from(config!(frame_bytes));
    let available = if present >= 1 << 16 { 0 } else { present };
    let available = if available < wanted { available } else { wanted };
    match filter_expression(head.wrapping_add(mac as usize), available, length) {
        YES => Glance::Yes,
        NO => Glance::No,
        _ => {
            count(COUNTER_UNDECIDED);
            Glance::No
        }
    }
}

/// Whether a packet matches. `network` is where its network header begins, `inside` is the same after a VLAN tag
/// that is part of the packet, and `ether_type` what follows such a tag.
#[inline(always)]
pub fn matches(desk: &mut Desk, outline: &Outline, network: u64, inside: u64, ether_type: u16) -> bool {
    let mac = outline.head + u64::from(outline.mac_header);
    let to_network = network.wrapping_sub(mac);
    let has_header = outline.mac_header != u16::MAX && (to_network == HEADER || to_network == HEADER + TAG);
    let from = if has_header { mac } else { network };
    // How much there is from there on, in one piece and in all.
    let present = (outline.head + u64::from(outline.tail)).wrapping_sub(from);
    let length = outline.data.wrapping_sub(from) + u64::from(outline.len);
    let verdict = if !has_header && config!(reads_addresses) != 0 {
        NO
    } else {
        verdict(desk, from, present, length, outline, has_header)
    };
    if verdict == YES {
        return true;
    }
    if config!(inner) != 0
        && let Some((at, inner_type)) = filter::inside(inside, ether_type)
    {
        let end = outline.head + u64::from(outline.tail);
        let skipped = at.wrapping_sub(from);
        let plain = Outline { ether_type: inner_type, tag: 0, ..*outline };
        if config!(reads_addresses) == 0 {
            return self::verdict(desk, at, end.wrapping_sub(at), length.wrapping_sub(skipped), &plain, false) == YES;
        }
    }
    false
}

/// Makes the frame and asks.
#[inline(always)]
fn verdict(desk: &mut Desk, from: u64, present: u64, length: u64, outline: &Outline, has_header: bool) -> u32 {
    let wanted = u64::from(config!(frame_bytes));
    let frame = (&raw mut desk.frame).cast::<u8>();
    let mut added = 0;
    // SAFETY: the frame has room for the most that can be asked for, a header and a tag.
    unsafe {
        if has_header && outline.tag == 0 {
            read(frame, wanted, from);
        } else {
            if has_header {
                read(frame, ADDRESSES, from);
            } else {
                frame.cast::<[u64; 2]>().write([0; 2]);
                added += HEADER;
            }
            let mut rest = frame.add(ADDRESSES as usize);
            if outline.tag != 0 {
                rest.cast::<u32>().write_unaligned(outline.tag);
                rest = rest.add(TAG as usize);
                added += TAG;
            }
            if has_header {
                read(rest, wanted, from + ADDRESSES);
            } else {
                rest.cast::<u16>().write_unaligned(outline.ether_type.to_be());
                read(rest.add(2), wanted, from);
            }
        }
    }
    let present = if present >= 1 << 16 { 0 } else { present + added };
    let available = if present < wanted { present } else { wanted };
    let verdict = filter_expression(frame, available as u32, (length + added) as u32);
    if verdict > YES {
        count(COUNTER_UNDECIDED);
    }
    verdict
}

/// # Safety
///
/// There must be room for `size` bytes at `into`.
#[inline(always)]
unsafe fn read(into: *mut u8, size: u64, address: u64) {
    const { assert!(FRAME_REACH as u64 + HEADER + TAG <= FRAME_BYTES as u64) };
    // SAFETY: as the caller promises; the helper checks the address.
    unsafe { bpf_probe_read_kernel(into.cast(), size as u32, address as *const c_void) };
}
