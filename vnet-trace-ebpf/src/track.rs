//! Following a packet once it has matched.
//!
//! # What makes two sightings the same packet
//!
//! A packet is an `sk_buff` and a data buffer. Veth, bridge, macvlan and tunnels hand the same
//! `sk_buff` on, so its address names the packet through devices and namespaces for as long as it is
//! not freed; addresses are reused within microseconds of that, so an entry is removed at
//! `kfree_skb` and `consume_skb`, which together see every regular end. That is the map [`TRACKED`].
//!
//! A flooded, broadcast or sniffed packet is cloned: another `sk_buff`, the same data buffer
//! (`skb->head`). So a cloned skb that is not known is looked up by its buffer in [`HEADS`]; an entry
//! there is removed when the last user of the buffer (`skb_shared_info.dataref`) goes.
//!
//! A copy (`skb_copy`) has neither in common. It is recognised by its bytes like a new packet, and
//! gets a new tracking id; user space joins the two by their headers.
//!
//! # Limits
//!
//! Both maps forget the least recently used entry when full. A buffer that is reallocated
//! (`pskb_expand_head`) is noticed at the next sighting of the same skb; a clone made in between and
//! never seen before is then recognised by its bytes only.
//!
//! # Cost
//!
//! [`SLOTS`] counts the tracked skbs by a few bits of their address. While nothing is tracked, or
//! nothing in the same slot, a packet costs one array look-up and no hash.

use core::arch::asm;

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, LruHashMap, PerCpuArray};
use vnet_trace_ebpf::{FLAG_BY_HEAD, FLAG_CLONED, FLAG_FIRST, Role, Tracked};

use crate::filter;
use crate::read::{Access, Copied, Kernel, copy, dev_netns, number, offset};

/// Followed packets by the address of their skb.
#[map]
static TRACKED: LruHashMap<u64, Tracked> = LruHashMap::with_max_entries(8192, 0);

/// Followed packets by the address of their data buffer.
#[map]
static HEADS: LruHashMap<u64, Tracked> = LruHashMap::with_max_entries(8192, 0);

const SLOT_COUNT: u32 = 1024;

/// How many tracked skbs fall into each slot.
#[map]
static SLOTS: Array<u64> = Array::with_max_entries(SLOT_COUNT, 0);

/// How many packets each CPU has begun to follow.
#[map]
static BEGUN: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// The packet that each CPU is taking through the stack.
#[map]
static CONTEXT: PerCpuArray<Context> = PerCpuArray::with_max_entries(1, 0);

/// A packet on its way through the stack of one CPU.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Context {
    pub skb: u64,
    pub head: u64,
    pub origin: u64,
    pub netns: u32,
    pub ifindex: u32,
}

/// A packet that is asked for.
#[derive(Clone, Copy)]
pub struct Sighting {
    pub head: u64,
    pub origin: u64,
    /// Where the network header is.
    pub network: u64,
    pub role: u32,
    pub flags: u8,
}

/// Whether a packet that is not tracked yet may be recognised by its bytes here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// By its bytes, with the network header where the skb says.
    AtNetworkHeader,
    /// By its bytes, with the network header at `skb->data`: the skb's own field is not set yet.
    AtData,
    /// No: whoever gets here has passed a probe that could.
    No,
}

/// Tells whether a packet is asked for, and follows it from now on.
#[inline(always)]
pub fn follow<A: Access>(skb: Kernel, begin: Begin) -> Option<Sighting> {
    let key = skb as u64;
    if slot_is_used(key)
        && let Some(entry) = TRACKED.get_ptr_mut(key)
    {
        let head = number(skb, offset!(skb_head));
        // SAFETY: the entry is memory of the map; a concurrent writer writes values of the same kind.
        let tracked = unsafe { &mut *entry };
        if tracked.partner != head {
            move_head(tracked, key, head);
        }
        return Some(Sighting {
            head,
            origin: tracked.origin,
            network: network_header::<A>(skb, head, begin),
            role: tracked.role,
            flags: cloned_flag::<A>(skb),
        });
    }
    if begin == Begin::No {
        return None;
    }
    let ether_type = u16::from_be(A::load(skb, offset!(skb_protocol)));
    let cloned = cloned_flag::<A>(skb);
    if cloned == 0 && !filter::is_candidate(ether_type) {
        return None;
    }
    let head = number(skb, offset!(skb_head));
    let network = network_header::<A>(skb, head, begin);
    let (at, ether_type) = untagged(network, ether_type, begin);
    let role = filter::role_of(at, ether_type);
    if cloned != 0
        // SAFETY: an entry that is being replaced is an entry all the same.
        && let Some(known) = unsafe { HEADS.get(head) }
    {
        let sighting = Sighting {
            head,
            origin: known.origin,
            network: at,
            role: known.role,
            flags: cloned | FLAG_FIRST | FLAG_BY_HEAD,
        };
        remember(key, &sighting);
        return Some(sighting);
    }
    if role == Role::None as u32 {
        return None;
    }
    if role >= Role::ArpRequest as u32
        && !filter::netns_wanted(dev_netns::<Copied>(Copied::pointer(skb, offset!(skb_dev))))
    {
        return None;
    }
    let sighting = Sighting { head, origin: new_origin(), network: at, role, flags: cloned | FLAG_FIRST };
    remember(key, &sighting);
    remember_head(key, &sighting);
    Some(sighting)
}

/// Follows a copy of a packet that is followed.
#[inline(always)]
pub fn follow_clone(of: &Sighting, clone: u64) {
    remember(clone, of);
    remember_head(clone, of);
}

/// Stops following an skb that is being freed.
#[inline(always)]
pub fn forget<A: Access>(skb: Kernel) {
    let key = skb as u64;
    if !slot_is_used(key) || TRACKED.remove(key).is_err() {
        return;
    }
    count_slot(key, u64::MAX);
    leave(key);
    let head = number(skb, offset!(skb_head));
    if cloned_flag::<A>(skb) == 0 || data_users::<A>(skb, head) <= 1 {
        let _ = HEADS.remove(head);
    }
}

/// Notes that this CPU now takes a packet of ours through the stack.
#[inline(always)]
pub fn enter(skb: u64, sighting: &Sighting, netns: u32, ifindex: u32) {
    if let Some(context) = CONTEXT.get_ptr_mut(0) {
        // SAFETY: the element is this CPU's own.
        unsafe {
            *context = Context { skb, head: sighting.head, origin: sighting.origin, netns, ifindex };
        }
    }
}

/// Notes that this CPU has handed the packet on or freed it.
#[inline(always)]
pub fn leave(skb: u64) {
    if let Some(context) = CONTEXT.get_ptr_mut(0) {
        // SAFETY: the element is this CPU's own.
        unsafe {
            if (*context).skb == skb {
                (*context).skb = 0;
            }
        }
    }
}

/// The packet of ours that this CPU is taking through the stack.
#[inline(always)]
pub fn context() -> Option<Context> {
    let context = CONTEXT.get_ptr(0)?;
    // SAFETY: the element is this CPU's own.
    let context = unsafe { *context };
    (context.skb != 0).then_some(context)
}

/// Where the network header of an skb is.
#[inline(always)]
fn network_header<A: Access>(skb: Kernel, head: u64, begin: Begin) -> u64 {
    let header: u16 = A::load(skb, offset!(skb_network_header));
    if begin == Begin::AtData || header == 0 || header == u16::MAX {
        number(skb, offset!(skb_data))
    } else {
        head + u64::from(header)
    }
}

/// Steps over a VLAN tag that is part of the packet.
///
/// On reception the network header still points to the tag; on transmission the tag has been put in
/// front of it, and the true EtherType stands just before it.
#[inline(always)]
fn untagged(network: u64, ether_type: u16, begin: Begin) -> (u64, u16) {
    if ether_type != filter::ETH_P_8021Q && ether_type != filter::ETH_P_8021AD {
        return (network, ether_type);
    }
    if begin == Begin::AtData {
        let inner: u16 = copy(network + 2);
        (network + 4, u16::from_be(inner))
    } else {
        let inner: u16 = copy(network - 2);
        (network, u16::from_be(inner))
    }
}

#[inline(always)]
fn cloned_flag<A: Access>(skb: Kernel) -> u8 {
    if A::bits(skb, offset!(skb_cloned)) != 0 { FLAG_CLONED } else { 0 }
}

/// How many skbs use the data buffer.
#[inline(always)]
fn data_users<A: Access>(skb: Kernel, head: u64) -> u32 {
    let end: u32 = A::load(skb, offset!(skb_end));
    let users: u32 = copy(head + u64::from(end) + u64::from(offset!(shinfo_dataref)));
    users & 0xffff
}

/// A number that no other packet has, without an atomic operation that old kernels lack.
#[inline(always)]
fn new_origin() -> u64 {
    let Some(begun) = BEGUN.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: the element is this CPU's own.
    let number = unsafe {
        *begun += 1;
        *begun
    };
    // SAFETY: the helper takes nothing and cannot fail.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    u64::from(cpu) << 48 | number
}

#[inline(always)]
fn remember(skb: u64, sighting: &Sighting) {
    let known = TRACKED.get_ptr(skb).is_some();
    // Counted first: a slot that is too full costs a look-up, one that is too empty loses the packet.
    if !known {
        count_slot(skb, 1);
    }
    let _ = TRACKED.insert(skb, tracked(sighting, sighting.head), 0);
}

#[inline(always)]
fn remember_head(skb: u64, sighting: &Sighting) {
    let _ = HEADS.insert(sighting.head, tracked(sighting, skb), 0);
}

#[inline(always)]
fn tracked(sighting: &Sighting, partner: u64) -> Tracked {
    Tracked {
        origin: sighting.origin,
        partner,
        // SAFETY: the helper takes nothing and cannot fail.
        since_ns: unsafe { bpf_ktime_get_ns() },
        role: sighting.role,
        reserved: 0,
    }
}

/// The data buffer was reallocated: the new one is followed, the old one forgotten if it was ours alone.
#[inline(always)]
fn move_head(tracked: &mut Tracked, skb: u64, head: u64) {
    let old = tracked.partner;
    // SAFETY: an entry that is being replaced is an entry all the same.
    if unsafe { HEADS.get(old) }.is_some_and(|entry| entry.partner == skb) {
        let _ = HEADS.remove(old);
    }
    tracked.partner = head;
    let mut moved = *tracked;
    moved.partner = skb;
    let _ = HEADS.insert(head, moved, 0);
}

/// The slot of an skb: skbs are at least 128 bytes apart, so lower bits say nothing.
///
/// Cut to 32 bits first, because a typed pointer may be copied in part but not shifted.
#[inline(always)]
fn slot(skb: u64) -> u32 {
    let low = skb as u32;
    ((low >> 7) ^ (low >> 17)) & (SLOT_COUNT - 1)
}

#[inline(always)]
fn slot_is_used(skb: u64) -> bool {
    // SAFETY: the element is memory of the map, read at once.
    SLOTS.get_ptr(slot(skb)).is_some_and(|count| unsafe { count.read_volatile() } != 0)
}

/// Adds to a slot's count, modulo 2^64.
///
/// Written as an instruction because the target has no compare-and-swap before 5.12, for which reason
/// the core library offers no atomic addition either; this one instruction is in every kernel.
#[inline(always)]
fn count_slot(skb: u64, by: u64) {
    if let Some(count) = SLOTS.get_ptr_mut(slot(skb)) {
        // SAFETY: the element is memory of the map, aligned, and only changed atomically.
        unsafe { asm!("lock *(u64 *)({0} + 0) += {1}", in(reg) count, in(reg) by) };
    }
}
