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
//! # When a name has worn out
//!
//! Some ends are not seen: TCP frees what it has taken in without a word. Its `sk_buff` comes back from the allocator as
//! another packet while [`TRACKED`] still has it. Two signs give that away. A packet that a program has read from its
//! socket does not come to a device again. And a packet that was received keeps the number of the device that it came in
//! by (`skb->skb_iif`) until it is sent, unless a tunnel takes it, which is a device of its own: one that comes to a device
//! to be sent, was last seen being received, and has no such number is a new one. What both signs miss is recognised in
//! user space, where bytes go before names.
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
use aya_ebpf::maps::{Array, LruHashMap};
use vnet_trace_ebpf::{FLAG_BY_HEAD, FLAG_CLONED, FLAG_FIRST, Mode, ProbeId, Role, Tracked};

use crate::desk::{self, Context, Cpu, Desk};
use crate::expression;
use crate::filter;
use crate::read::{Typed, config, copy, field, offset, typed, typed_bits};

/// Followed packets by the address of their skb.
#[map]
static TRACKED: LruHashMap<u64, Tracked> = LruHashMap::with_max_entries(8192, 0);

/// Followed packets by the address of their data buffer.
#[map]
static HEADS: LruHashMap<u64, Tracked> = LruHashMap::with_max_entries(8192, 0);

const SLOT_COUNT: u32 = 4096;

/// How many tracked skbs fall into each slot.
#[map]
static SLOTS: Array<u64> = Array::with_max_entries(SLOT_COUNT, 0);

/// Whether a packet that is not tracked yet may be recognised here, and how.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// By its bytes, with the network header where the skb says.
    AtNetworkHeader,
    /// By its bytes, with the network header at `skb->data`: the skb's own field is not set yet.
    AtData,
    /// By its data buffer, as the clone of a packet that is followed.
    ByHead,
    /// No: whoever gets here has passed a probe that could.
    No,
}

/// A packet that is asked for, on a desk of this CPU, which must be given back.
pub struct Sighting {
    pub cpu: &'static mut Cpu,
    pub number: u32,
}

impl Sighting {
    #[inline(always)]
    pub fn desk(&mut self) -> &mut Desk {
        self.cpu.desk(self.number)
    }

    #[inline(always)]
    pub fn done(self) {
        self.cpu.give_back();
    }
}

/// Tells whether a packet is asked for, and follows it from now on.
#[inline(always)]
pub fn follow(probe: ProbeId, skb: u64, begin: Begin) -> Option<Sighting> {
    let is_followed = slot_is_used(skb);
    if begin == Begin::No && !is_followed {
        return None;
    }
    let cpu = desk::cpu()?;
    let number = cpu.take(skb);
    cpu.desk(number).clear();
    if is_followed && known(number, probe as u32, begin as u32) != 0 {
        return Some(Sighting { cpu, number });
    }
    let is_wanted = match begin {
        Begin::No => false,
        Begin::ByHead => by_head(number) != 0,
        Begin::AtNetworkHeader | Begin::AtData => by_bytes(number, begin as u32) != 0,
    };
    if is_wanted {
        return Some(Sighting { cpu, number });
    }
    cpu.give_back();
    None
}

/// The same on the way of every packet, where a typed pointer spares copying the skb first.
#[inline(always)]
pub fn follow_typed(probe: ProbeId, pointer: Typed, begin: Begin) -> Option<Sighting> {
    let skb = pointer as u64;
    if slot_is_used(skb) {
        let cpu = desk::cpu()?;
        let number = cpu.take(skb);
        cpu.desk(number).clear();
        if known(number, probe as u32, begin as u32) != 0 {
            return Some(Sighting { cpu, number });
        }
        cpu.give_back();
    }
    let is_cloned = typed_bits(pointer, offset!(skb_cloned)) != 0;
    if begin == Begin::ByHead && !is_cloned {
        return None;
    }
    let ether_type = u16::from_be(typed(pointer, offset!(skb_protocol)));
    if config!(mode) == Mode::Ping as u8 && !is_cloned && !filter::is_candidate(ether_type) {
        return None;
    }
    let cpu = desk::cpu()?;
    if probe == ProbeId::NetDevStartXmit && cpu.passed_over == skb {
        cpu.passed_over = 0;
        return None;
    }
    let number = cpu.take(skb);
    let desk = cpu.desk(number);
    desk.role = Role::None as u32;
    desk.flags = if is_cloned { FLAG_CLONED.into() } else { 0 };
    if begin != Begin::ByHead {
        let outline = Outline::typed(pointer, ether_type, desk);
        recognise(desk, &outline, begin);
    }
    if (desk.role != Role::None as u32 || is_cloned) && begun(number) != 0 {
        desk.clear();
        return Some(Sighting { cpu, number });
    }
    cpu.give_back();
    if probe == ProbeId::NetDevQueue {
        cpu.passed_over = skb;
    }
    None
}

/// As much of an skb as it takes to recognise it.
pub struct Outline {
    /// EtherType, as `skb->protocol` has it.
    pub ether_type: u16,
    pub head: u64,
    pub data: u64,
    pub network_header: u16,
    pub mac_header: u16,
    /// Offset of the end of what lies in one piece.
    pub tail: u32,
    pub len: u32,
    /// The VLAN tag beside the packet as it would be in the frame, EtherType and content, in network byte order; 0 if
    /// there is none.
    pub tag: u32,
}

impl Outline {
    /// Loads it field by field. What the mode has no use for is not loaded.
    #[inline(always)]
    fn typed(pointer: Typed, ether_type: u16, desk: &mut Desk) -> Self {
        let head = number(typed(pointer, offset!(skb_head)), &mut desk.head);
        let data = number(typed(pointer, offset!(skb_data)), &mut desk.network);
        let mut outline = Self {
            ether_type,
            head,
            data,
            network_header: typed(pointer, offset!(skb_network_header)),
            mac_header: 0,
            tail: 0,
            len: 0,
            tag: 0,
        };
        if config!(mode) == Mode::Expression as u8 {
            outline.mac_header = typed(pointer, offset!(skb_mac_header));
            outline.tail = typed(pointer, offset!(skb_tail));
            outline.len = typed(pointer, offset!(skb_len));
            outline.tag = tag(
                typed(pointer, offset!(skb_vlan_proto)),
                typed(pointer, offset!(skb_vlan_tci)),
                typed_bits(pointer, offset!(skb_vlan_present)),
            );
        }
        outline
    }

    /// Takes it from a copy.
    #[inline(always)]
    fn copied(desk: &Desk) -> Self {
        Self {
            ether_type: u16::from_be(desk.get(offset!(skb_protocol))),
            head: desk.get(offset!(skb_head)),
            data: desk.get(offset!(skb_data)),
            network_header: desk.get(offset!(skb_network_header)),
            mac_header: desk.get(offset!(skb_mac_header)),
            tail: desk.get(offset!(skb_tail)),
            len: desk.get(offset!(skb_len)),
            tag: tag_of(desk),
        }
    }
}

/// A pointer to bytes as a number. From 6.17 on the verifier takes what is loaded from such a field for a pointer, until it
/// has been through memory, which here is a field of a desk that has no value yet.
#[inline(always)]
fn number(pointer: u64, place: &mut u64) -> u64 {
    // SAFETY: a reference is valid and aligned; nobody else is at this desk.
    unsafe {
        ptr::write_volatile(place, pointer);
        ptr::read_volatile(place)
    }
}

/// The VLAN tag beside a packet that lies on a desk, as in [`Outline::tag`].
#[inline(always)]
pub fn tag_of(desk: &Desk) -> u32 {
    tag(desk.get(offset!(skb_vlan_proto)), desk.get(offset!(skb_vlan_tci)), desk.bits(offset!(skb_vlan_present)))
}

#[inline(always)]
fn tag(protocol: u16, content: u16, present: u8) -> u32 {
    if offset!(skb_vlan_present).byte != vnet_trace_ebpf::ABSENT && present == 0 || protocol == 0 {
        return 0;
    }
    u32::from(protocol) | u32::from(content.to_be()) << 16
}

/// Whether a packet is asked for, judged by its bytes; the role and where the network header is go to the desk.
#[inline(always)]
fn recognise(desk: &mut Desk, outline: &Outline, begin: Begin) {
    let at = network(begin == Begin::AtData, outline.head, outline.data, outline.network_header);
    let (inside, ether_type) = untagged(at, outline.ether_type, begin == Begin::AtData);
    desk.network = inside;
    desk.role = if config!(mode) == Mode::Expression as u8 {
        if expression::matches(desk, outline, at, inside, ether_type) { Role::Other as u32 } else { Role::None as u32 }
    } else {
        filter::role_of(inside, ether_type)
    };
}

/// Looks at the bytes of a packet that is not known, and follows it if it is asked for. Gives 1 for yes.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn by_bytes(number: u32, begin: u32) -> u32 {
    let Some(cpu) = desk::cpu() else { return 0 };
    let skb = cpu.desk(number).address;
    if cpu.passed_over == skb {
        cpu.passed_over = 0;
    }
    let desk = cpu.desk(number);
    desk.read();
    let outline = Outline::copied(desk);
    let is_cloned = desk.bits(offset!(skb_cloned)) != 0;
    desk.flags = if is_cloned { FLAG_CLONED.into() } else { 0 };
    let begin = if begin == Begin::AtData as u32 { Begin::AtData } else { Begin::AtNetworkHeader };
    recognise(desk, &outline, begin);
    if desk.role == Role::None as u32 && !is_cloned {
        return 0;
    }
    begun(number)
}

/// Looks for the data buffer of a packet that is not known, and follows it if that is known. Gives 1 for yes.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn by_head(number: u32) -> u32 {
    let Some(cpu) = desk::cpu() else { return 0 };
    let desk = cpu.desk(number);
    desk.read();
    if desk.bits(offset!(skb_cloned)) == 0 {
        return 0;
    }
    let at =
        network(false, desk.get(offset!(skb_head)), desk.get(offset!(skb_data)), desk.get(offset!(skb_network_header)));
    desk.network = untagged(at, u16::from_be(desk.get(offset!(skb_protocol))), false).0;
    desk.role = Role::None as u32;
    desk.flags = FLAG_CLONED.into();
    begun(number)
}

/// The entry of a packet that is followed goes to the desk. Gives 0 if there is none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn known(number: u32, probe: u32, begin: u32) -> u32 {
    let Some(cpu) = desk::cpu() else { return 0 };
    let desk = cpu.desk(number);
    let skb = desk.address;
    let Some(entry) = TRACKED.get_ptr_mut(skb) else { return 0 };
    desk.read();
    // SAFETY: the entry is memory of the map; a concurrent writer writes values of the same kind.
    let tracked = unsafe { &mut *entry };
    if has_worn_out(tracked.last, probe, desk) {
        drop_entry(skb);
        return 0;
    }
    tracked.last = probe;
    let head: u64 = desk.get(offset!(skb_head));
    desk.origin = tracked.origin;
    desk.role = tracked.role;
    if tracked.partner != head {
        move_head(tracked, skb, head);
    }
    desk.head = head;
    let is_at_data = begin == Begin::AtData as u32;
    let at = network(is_at_data, head, desk.get(offset!(skb_data)), desk.get(offset!(skb_network_header)));
    desk.network = untagged(at, u16::from_be(desk.get(offset!(skb_protocol))), is_at_data).0;
    desk.flags = if desk.bits(offset!(skb_cloned)) == 0 { 0 } else { FLAG_CLONED.into() };
    1
}

/// Whether the skb that was last seen at one probe must be another packet now, see the module's argument.
#[inline(always)]
fn has_worn_out(last: u32, probe: u32, desk: &Desk) -> bool {
    let is_sent = probe == ProbeId::NetDevQueue as u32 || probe == ProbeId::NetDevStartXmit as u32;
    let is_at_device = is_sent || probe == ProbeId::NetifRx as u32 || probe == ProbeId::NetifReceiveSkb as u32;
    let iif: u32 = desk.get(offset!(skb_iif));
    is_at_device && last == ProbeId::SocketRead as u32 || is_sent && last == ProbeId::NetifReceiveSkb as u32 && iif == 0
}

/// Begins to follow the packet on a desk, which has a role or is a clone. Gives 1 if it is asked for after all.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn begun(number: u32) -> u32 {
    let Some(cpu) = desk::cpu() else { return 0 };
    let desk = cpu.desk(number);
    let skb = desk.address;
    desk.read();
    let head: u64 = desk.get(offset!(skb_head));
    let mut flags = desk.flags | u32::from(FLAG_FIRST);
    let mut origin = 0;
    if flags & u32::from(FLAG_CLONED) != 0
        // SAFETY: an entry that is being replaced is an entry all the same.
        && let Some(known) = unsafe { HEADS.get(head) }
    {
        origin = known.origin;
        desk.role = known.role;
        flags |= u32::from(FLAG_BY_HEAD);
    }
    if desk.role == Role::None as u32 {
        return 0;
    }
    if origin == 0 {
        if !filter::place_wanted(desk) {
            return 0;
        }
        origin = new_origin();
        let _ = HEADS.insert(head, tracked(origin, skb, desk.role), 0);
    }
    desk.head = head;
    desk.origin = origin;
    desk.flags = flags;
    remember(skb, head, origin, desk.role);
    1
}

/// Follows a copy of a packet that is followed.
#[inline(always)]
pub fn follow_clone(of: &Desk, clone: u64) {
    remember(clone, of.head, of.origin, of.role);
}

/// Stops following the skb on a desk, which is being freed.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn forget(number: u32) -> u32 {
    let Some(cpu) = desk::cpu() else { return 0 };
    let desk = cpu.desk(number);
    let skb = desk.address;
    let head = desk.head;
    let is_alone = desk.flags & u32::from(FLAG_CLONED) == 0 || data_users(desk, head) <= 1;
    if cpu.context.skb == skb {
        cpu.context.skb = 0;
    }
    drop_entry(skb);
    if is_alone {
        let _ = HEADS.remove(head);
    }
    1
}

#[inline(always)]
fn drop_entry(skb: u64) {
    if TRACKED.remove(skb).is_ok() {
        count_slot(skb, u64::MAX);
    }
}

/// Notes that this CPU now takes the packet on a desk through the stack.
#[inline(always)]
pub fn enter(sighting: &mut Sighting) {
    let desk = sighting.desk();
    let Desk { address, head, origin, netns, ifindex, .. } = *desk;
    sighting.cpu.context = Context { skb: address, head, origin, netns, ifindex };
}

/// Notes that this CPU has handed the packet on or freed it.
#[inline(always)]
pub fn leave(sighting: &mut Sighting) {
    let skb = sighting.desk().address;
    if sighting.cpu.context.skb == skb {
        sighting.cpu.context.skb = 0;
    }
}

/// The packet of ours that this CPU is taking through the stack; null if there is none.
#[inline(always)]
pub fn context() -> *const Context {
    match desk::cpu() {
        Some(cpu) if cpu.context.skb != 0 => &raw const cpu.context,
        _ => ptr::null(),
    }
}

/// Where the network header of an skb is.
#[inline(always)]
fn network(is_at_data: bool, head: u64, data: u64, header: u16) -> u64 {
    if is_at_data || header == 0 || header == u16::MAX { data } else { head + u64::from(header) }
}

/// Steps over a VLAN tag that is part of the packet.
///
/// On reception the network header still points to the tag; on transmission the tag has been put in
/// front of it, and the true EtherType stands just before it.
#[inline(always)]
fn untagged(network: u64, ether_type: u16, is_at_data: bool) -> (u64, u16) {
    if ether_type != filter::ETH_P_8021Q && ether_type != filter::ETH_P_8021AD {
        return (network, ether_type);
    }
    if is_at_data {
        let inner: u16 = copy(network + 2);
        (network + 4, u16::from_be(inner))
    } else {
        let inner: u16 = copy(network - 2);
        (network, u16::from_be(inner))
    }
}

/// How many skbs use the data buffer.
#[inline(always)]
fn data_users(desk: &Desk, head: u64) -> u32 {
    let end: u32 = desk.get(offset!(skb_end));
    let users: u32 = field(head + u64::from(end), offset!(shinfo_dataref));
    users & 0xffff
}

/// A number that no other packet has, without an atomic operation that old kernels lack.
#[inline(always)]
fn new_origin() -> u64 {
    let Some(desks) = desk::cpu() else {
        return 0;
    };
    desks.begun += 1;
    // SAFETY: the helper takes nothing and cannot fail.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    u64::from(cpu) << 48 | desks.begun
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
fn tracked(origin: u64, partner: u64, role: u32) -> Tracked {
    // SAFETY: the helper takes nothing and cannot fail.
    let since_ns = unsafe { bpf_ktime_get_ns() };
    Tracked { origin, partner, since_ns, role, last: 0 }
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
