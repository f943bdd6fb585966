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
use core::ptr;

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, LruHashMap, PerCpuArray};
use vnet_trace_ebpf::{FLAG_BY_HEAD, FLAG_CLONED, FLAG_FIRST, Role, Tracked};

use crate::filter;
use crate::read::{Typed, View, copy, dev_netns, field, offset, typed, typed_bits};

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

/// A packet that is asked for. Its view must be given back.
#[derive(Clone, Copy)]
pub struct Sighting {
    pub skb: u64,
    pub view: View,
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
pub fn follow(skb: u64, begin: Begin) -> Option<Sighting> {
    if let Some(entry) = lookup(skb) {
        return known(skb, begin, entry);
    }
    if begin == Begin::No {
        return None;
    }
    let view = View::of(skb)?;
    let outline = Outline {
        ether_type: u16::from_be(view.get(offset!(skb_protocol))),
        cloned: cloned_flag(view.bits(offset!(skb_cloned))),
        head: view.get(offset!(skb_head)),
        data: view.get(offset!(skb_data)),
        network_header: view.get(offset!(skb_network_header)),
    };
    let found = recognise(skb, begin, &outline);
    if found.is_none() {
        view.done();
    }
    found.map(|found| found.sighting(skb, view))
}

/// The same on the way of every packet, where a typed pointer spares copying the skb first.
#[inline(always)]
pub fn follow_typed(pointer: Typed, begin: Begin) -> Option<Sighting> {
    let skb = pointer as u64;
    if let Some(entry) = lookup(skb) {
        return known(skb, begin, entry);
    }
    let ether_type = u16::from_be(typed(pointer, offset!(skb_protocol)));
    let cloned = cloned_flag(typed_bits(pointer, offset!(skb_cloned)));
    if cloned == 0 && !filter::is_candidate(ether_type) {
        return None;
    }
    // One of the two is not needed, but never both are.
    let (head, data, network_header) = if begin == Begin::AtData {
        (0, field(skb, offset!(skb_data)), 0)
    } else {
        (field(skb, offset!(skb_head)), 0, typed(pointer, offset!(skb_network_header)))
    };
    let outline = Outline { ether_type, cloned, head, data, network_header };
    let found = recognise(skb, begin, &outline)?;
    let view = View::of(skb)?;
    Some(found.sighting(skb, view))
}

/// The entry of a packet that is followed.
#[inline(always)]
fn lookup(skb: u64) -> Option<*mut Tracked> {
    if slot_is_used(skb) { TRACKED.get_ptr_mut(skb) } else { None }
}

#[inline(always)]
fn known(skb: u64, begin: Begin, entry: *mut Tracked) -> Option<Sighting> {
    let view = View::of(skb)?;
    let head: u64 = view.get(offset!(skb_head));
    // SAFETY: the entry is memory of the map; a concurrent writer writes values of the same kind.
    let tracked = unsafe { &mut *entry };
    if tracked.partner != head {
        move_head(tracked, skb, head);
    }
    let at = network(begin, head, view.get(offset!(skb_data)), view.get(offset!(skb_network_header)));
    let (network, _) = untagged(at, u16::from_be(view.get(offset!(skb_protocol))), begin);
    Some(Sighting {
        skb,
        view,
        head,
        origin: tracked.origin,
        network,
        role: tracked.role,
        flags: cloned_flag(view.bits(offset!(skb_cloned))),
    })
}

/// As much of an skb as it takes to recognise it.
struct Outline {
    ether_type: u16,
    cloned: u8,
    /// 0 if it has not been read and is not needed to find the network header.
    head: u64,
    data: u64,
    network_header: u16,
}

/// A packet that has just been recognised.
struct Found {
    head: u64,
    origin: u64,
    network: u64,
    role: u32,
    flags: u8,
}

impl Found {
    #[inline(always)]
    fn sighting(self, skb: u64, view: View) -> Sighting {
        let Self { head, origin, network, role, flags } = self;
        Sighting { skb, view, head, origin, network, role, flags }
    }
}

#[inline(always)]
fn recognise(skb: u64, begin: Begin, outline: &Outline) -> Option<Found> {
    let at = network(begin, outline.head, outline.data, outline.network_header);
    let (at, ether_type) = untagged(at, outline.ether_type, begin);
    let mut role = filter::role_of(at, ether_type);
    if role == Role::None as u32 && outline.cloned == 0 {
        return None;
    }
    let head = if outline.head == 0 { field(skb, offset!(skb_head)) } else { outline.head };
    let mut origin = 0;
    let mut flags = outline.cloned | FLAG_FIRST;
    if outline.cloned != 0
        // SAFETY: an entry that is being replaced is an entry all the same.
        && let Some(known) = unsafe { HEADS.get(head) }
    {
        origin = known.origin;
        role = known.role;
        flags |= FLAG_BY_HEAD;
    }
    if role == Role::None as u32 {
        return None;
    }
    if origin == 0 {
        if role >= Role::ArpRequest as u32 && !filter::netns_wanted(dev_netns(field(skb, offset!(skb_dev)))) {
            return None;
        }
        origin = new_origin();
        remember_head(skb, head, origin, role);
    }
    remember(skb, head, origin, role);
    Some(Found { head, origin, network: at, role, flags })
}

/// Follows a copy of a packet that is followed.
#[inline(always)]
pub fn follow_clone(of: &Sighting, clone: u64) {
    remember(clone, of.head, of.origin, of.role);
}

/// Stops following an skb that is being freed.
#[inline(always)]
pub fn forget(sighting: &Sighting) {
    if TRACKED.remove(sighting.skb).is_err() {
        return;
    }
    count_slot(sighting.skb, u64::MAX);
    leave(sighting.skb);
    if sighting.flags & FLAG_CLONED == 0 || data_users(&sighting.view, sighting.head) <= 1 {
        let _ = HEADS.remove(sighting.head);
    }
}

/// Notes that this CPU now takes a packet of ours through the stack.
#[inline(always)]
pub fn enter(sighting: &Sighting, netns: u32, ifindex: u32) {
    if let Some(context) = CONTEXT.get_ptr_mut(0) {
        // SAFETY: the element is this CPU's own.
        unsafe {
            *context = Context { skb: sighting.skb, head: sighting.head, origin: sighting.origin, netns, ifindex };
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

/// The packet of ours that this CPU is taking through the stack; null if there is none.
#[inline(always)]
pub fn context() -> *const Context {
    match CONTEXT.get_ptr(0) {
        // SAFETY: the element is this CPU's own.
        Some(context) if unsafe { (*context).skb } != 0 => context,
        _ => ptr::null(),
    }
}

/// Where the network header of an skb is.
#[inline(always)]
fn network(begin: Begin, head: u64, data: u64, header: u16) -> u64 {
    if begin == Begin::AtData || (data != 0 && (header == 0 || header == u16::MAX)) {
        data
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
fn cloned_flag(bit: u8) -> u8 {
    if bit != 0 { FLAG_CLONED } else { 0 }
}

/// How many skbs use the data buffer.
#[inline(always)]
fn data_users(view: &View, head: u64) -> u32 {
    let end: u32 = view.get(offset!(skb_end));
    let users: u32 = field(head + u64::from(end), offset!(shinfo_dataref));
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
fn remember(skb: u64, head: u64, origin: u64, role: u32) {
    // Counted first: a slot that is too full costs a look-up, one that is too empty loses the packet.
    if TRACKED.get_ptr(skb).is_none() {
        count_slot(skb, 1);
    }
    let _ = TRACKED.insert(skb, tracked(origin, head, role), 0);
}

#[inline(always)]
fn remember_head(skb: u64, head: u64, origin: u64, role: u32) {
    let _ = HEADS.insert(head, tracked(origin, skb, role), 0);
}

#[inline(always)]
fn tracked(origin: u64, partner: u64, role: u32) -> Tracked {
    // SAFETY: the helper takes nothing and cannot fail.
    let since_ns = unsafe { bpf_ktime_get_ns() };
    Tracked { origin, partner, since_ns, role, reserved: 0 }
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
/// The verifier lets a typed pointer be copied in part, which makes it a number, but not shifted; so the
/// copy is written as an instruction that the compiler cannot merge with the shift.
#[inline(always)]
fn slot(skb: u64) -> u32 {
    let low: u32;
    // SAFETY: the instruction copies a register.
    unsafe { asm!("{0} = {1}", out(wreg) low, in(wreg) skb as u32, options(pure, nomem, nostack)) };
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
