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
//! (`skb->head`). So a cloned skb that is not known is looked up by its buffer. Most packets are never cloned, so a buffer
//! costs one word: [`Followed::owners`] says, by a few bits of the buffer's address, which followed skb has it, and the entry of
//! that skb in [`TRACKED`] says whether it is this buffer. Where one word has to stand for two buffers, and where
//! the skb goes before its buffer does, the buffer gets an entry in [`HEADS`]; that is removed when the last user of
//! the buffer (`skb_shared_info.dataref`) goes.
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
//! Both maps forget the least recently used entry when full. Two CPUs that note two buffers in one word at the same moment
//! may lose one of them. A buffer that is reallocated
//! (`pskb_expand_head`) is noticed at the next sighting of the same skb; a clone made in between and
//! never seen before is then recognised by its bytes only.
//!
//! # Cost
//!
//! [`FOLLOWED`] counts the tracked skbs by a few bits of their address. While nothing is tracked, or nothing in the same
//! slot, a packet costs one or two loads and no hash; and until the first packet is followed, one load of a word that
//! stays in every CPU's cache.

use core::arch::asm;
use core::cell::UnsafeCell;
use core::ptr;

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::macros::map;
use aya_ebpf::maps::LruHashMap;
use vnet_trace_ebpf::{FLAG_BY_HEAD, FLAG_CLONED, FLAG_FIRST, Mode, ProbeId, Role, Tracked};

use crate::desk::{self, Context, Cpu, Desk};
use crate::expression::{self, Glance};
use crate::filter;
use crate::read::{Typed, config, copy, field, low, offset, typed, typed_bits};

/// Followed packets by the address of their skb.
#[map]
static TRACKED: LruHashMap<u64, Tracked> = LruHashMap::with_max_entries(8192, 0);

/// Followed packets by the address of their data buffer, where [`Followed::owners`] does not say it.
#[map]
static HEADS: LruHashMap<u64, Tracked> = LruHashMap::with_max_entries(8192, 0);

/// Only a key that is not there yet.
const BPF_NOEXIST: u64 = 1;

const SLOT_COUNT: usize = 4096;

const OWNER_BITS: u32 = 13;

/// What every packet's way asks first: whether any packet has been followed, how many tracked skbs fall into each slot, and
/// which of them has a data buffer.
///
/// It lies where a program reaches it by its address, without a look-up.
#[repr(C, align(64))]
struct Followed {
    any: UnsafeCell<u64>,
    /// Keeps the slots off the line of `any`, which is hardly ever written.
    padding: [u64; 7],
    slots: UnsafeCell<[u32; SLOT_COUNT]>,
    owners: UnsafeCell<[u64; 1 << OWNER_BITS]>,
}

// SAFETY: words that are read and written one by one, or added to by an atomic instruction.
unsafe impl Sync for Followed {}

static FOLLOWED: Followed = Followed {
    any: UnsafeCell::new(0),
    padding: [0; 7],
    slots: UnsafeCell::new([0; SLOT_COUNT]),
    owners: UnsafeCell::new([0; 1 << OWNER_BITS]),
};

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
    let may_be_clone = is_cloned && is_any_followed();
    let glance = if begin == Begin::ByHead { Glance::No } else { expression::glance(pointer, begin == Begin::AtData) };
    if glance == Glance::No && !may_be_clone {
        return None;
    }
    let ether_type = u16::from_be(typed(pointer, offset!(skb_protocol)));
    if config!(mode) == Mode::Ping as u8 && !is_cloned && !filter::is_candidate(ether_type) {
        return None;
    }
    let cpu = desk::cpu()?;
    if glance == Glance::Unclear && probe == ProbeId::NetDevStartXmit && cpu.passed_over == skb {
        cpu.passed_over = 0;
        return None;
    }
    let number = cpu.take(skb);
    let desk = cpu.desk(number);
    desk.flags = if is_cloned { FLAG_CLONED.into() } else { 0 };
    match glance {
        Glance::Yes => desk.role = Role::Other as u32,
        Glance::No => desk.role = Role::None as u32,
        Glance::Unclear => {
            let outline = Outline::typed(pointer, ether_type, desk);
            recognise(desk, &outline, begin);
        }
    }
    if (desk.role != Role::None as u32 || may_be_clone) && begun(number, begin as u32) != 0 {
        desk.clear();
        return Some(Sighting { cpu, number });
    }
    cpu.give_back();
    if glance == Glance::Unclear && probe == ProbeId::NetDevQueue {
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

/// Whether a packet is asked for, judged by its bytes; the role goes to the desk.
#[inline(always)]
fn recognise(desk: &mut Desk, outline: &Outline, begin: Begin) {
    let at = network(begin == Begin::AtData, outline.head, outline.data, outline.network_header);
    let (inside, ether_type) = untagged(at, outline.ether_type, begin == Begin::AtData);
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
    begun(number, begin as u32)
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
    desk.role = Role::None as u32;
    desk.flags = FLAG_CLONED.into();
    begun(number, Begin::ByHead as u32)
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
    desk.network = network_of(desk, begin);
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
extern "C" fn begun(number: u32, begin: u32) -> u32 {
    let Some(cpu) = desk::cpu() else { return 0 };
    let desk = cpu.desk(number);
    let skb = desk.address;
    desk.read();
    let head: u64 = desk.get(offset!(skb_head));
    let mut flags = desk.flags | u32::from(FLAG_FIRST);
    let mut origin = 0;
    if flags & u32::from(FLAG_CLONED) != 0
        && let Some((known, role)) = by_buffer(head)
    {
        origin = known;
        desk.role = role;
        flags |= u32::from(FLAG_BY_HEAD);
    }
    if desk.role == Role::None as u32 {
        return 0;
    }
    let mut is_in_heads = 0;
    if origin == 0 {
        if !filter::place_wanted(desk) {
            return 0;
        }
        origin = new_origin();
        is_in_heads = own(skb, head, origin, desk.role);
    }
    desk.head = head;
    desk.network = network_of(desk, begin);
    desk.origin = origin;
    desk.flags = flags;
    remember(skb, Tracked { origin, partner: head, role: desk.role, last: 0, is_in_heads });
    1
}

/// Follows a copy of a packet that is followed.
#[inline(always)]
pub fn follow_clone(of: &Desk, clone: u64) {
    remember(clone, Tracked { origin: of.origin, partner: of.head, role: of.role, last: 0, is_in_heads: 0 });
}

/// Stops following the skb on a desk, which is being freed.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn forget(number: u32) -> u32 {
    let Some(cpu) = desk::cpu() else { return 0 };
    let desk = cpu.desk(number);
    let skb = desk.address;
    let head = desk.head;
    let is_cloned = desk.flags & u32::from(FLAG_CLONED) != 0;
    let is_alone = !is_cloned || data_users(desk, head) <= 1;
    if cpu.context.skb == skb {
        cpu.context.skb = 0;
    }
    // Before the entry goes, which says whether it has the buffer.
    if let Some(entry) = TRACKED.get_ptr(skb) {
        // SAFETY: the entry is memory of the map; a concurrent writer writes values of the same kind.
        let Tracked { origin, role, is_in_heads, .. } = unsafe { *entry };
        let is_owner = disown(skb, head);
        if is_alone && (is_in_heads != 0 || is_cloned) {
            let _ = HEADS.remove(head);
        } else if !is_alone && is_owner {
            let _ = HEADS.insert(head, Tracked { origin, partner: skb, role, last: 0, is_in_heads: 0 }, 0);
        }
    }
    drop_entry(skb);
    1
}

#[inline(always)]
fn drop_entry(skb: u64) {
    if TRACKED.remove(skb).is_ok() {
        count_slot(skb, u32::MAX);
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
    if !is_any_followed() {
        return ptr::null();
    }
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

/// The same of the packet on a desk, behind a VLAN tag that is part of it.
#[inline(always)]
fn network_of(desk: &Desk, begin: u32) -> u64 {
    let is_at_data = begin == Begin::AtData as u32;
    let (head, data) = (desk.get(offset!(skb_head)), desk.get(offset!(skb_data)));
    let at = network(is_at_data, head, data, desk.get(offset!(skb_network_header)));
    untagged(at, u16::from_be(desk.get(offset!(skb_protocol))), is_at_data).0
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
fn remember(skb: u64, entry: Tracked) {
    // Counted first: a slot that is too full costs a look-up, one that is too empty loses the packet.
    count_slot(skb, 1);
    if TRACKED.insert(skb, entry, BPF_NOEXIST).is_err() {
        count_slot(skb, u32::MAX);
        let _ = TRACKED.insert(skb, entry, 0);
    }
}

/// The data buffer was reallocated: the new one is followed, the old one forgotten if it was ours alone.
#[inline(always)]
fn move_head(tracked: &mut Tracked, skb: u64, head: u64) {
    let old = tracked.partner;
    disown(skb, old);
    // SAFETY: an entry that is being replaced is an entry all the same.
    if tracked.is_in_heads != 0 && unsafe { HEADS.get(old) }.is_some_and(|entry| entry.partner == skb) {
        let _ = HEADS.remove(old);
    }
    tracked.partner = head;
    tracked.is_in_heads = own(skb, head, tracked.origin, tracked.role);
}

/// Which packet has a data buffer: its tracking id and role.
#[inline(always)]
fn by_buffer(head: u64) -> Option<(u64, u32)> {
    // SAFETY: the word is memory of the program, read at once.
    let owner = unsafe { owner(head).read_volatile() };
    // SAFETY: an entry that is being replaced is an entry all the same.
    let entry = unsafe { TRACKED.get(owner) }.filter(|entry| entry.partner == head);
    // SAFETY: as before.
    entry.or_else(|| unsafe { HEADS.get(head) }).map(|entry| (entry.origin, entry.role))
}

/// Notes which skb has a data buffer. Gives 1 if it took an entry in [`HEADS`].
#[inline(always)]
fn own(skb: u64, head: u64, origin: u64, role: u32) -> u64 {
    let place = owner_index(head);
    let owner = owner(head);
    // SAFETY: the word is memory of the program, read and written at once; what another CPU writes meanwhile is seen by the
    // second look, or else costs that packet's clones what a full map costs.
    unsafe {
        let before = owner.read_volatile();
        // Who was not seen to end is forgotten, or has another buffer by now.
        let is_taken = before != 0 && TRACKED.get(before).is_some_and(|entry| owner_index(entry.partner) == place);
        if !is_taken {
            owner.write_volatile(skb);
        }
        if owner.read_volatile() == skb {
            return 0;
        }
    }
    let _ = HEADS.insert(head, Tracked { origin, partner: skb, role, last: 0, is_in_heads: 0 }, 0);
    1
}

/// Takes it back. Gives whether it was noted.
#[inline(always)]
fn disown(skb: u64, head: u64) -> bool {
    let owner = owner(head);
    // SAFETY: the word is memory of the program, read and written at once.
    unsafe {
        let is_owner = owner.read_volatile() == skb;
        if is_owner {
            owner.write_volatile(0);
        }
        is_owner
    }
}

/// Where the owner of a data buffer is noted.
#[inline(always)]
fn owner(head: u64) -> *mut u64 {
    // SAFETY: the index is below the count of owners.
    unsafe { FOLLOWED.owners.get().cast::<u64>().add(owner_index(head) as usize) }
}

/// Buffers are at least 64 bytes apart.
#[inline(always)]
fn owner_index(head: u64) -> u32 {
    const SPREAD: u32 = 0x9e37_79b1;
    ((head >> 6) as u32).wrapping_mul(SPREAD) >> (32 - OWNER_BITS)
}

/// The slot of an skb: skbs are at least 128 bytes apart, so lower bits say nothing.
#[inline(always)]
fn slot(skb: u64) -> *mut u32 {
    let low = low(skb);
    let index = ((low >> 7) ^ (low >> 17)) & (SLOT_COUNT as u32 - 1);
    // SAFETY: the index is below the count of slots.
    unsafe { FOLLOWED.slots.get().cast::<u32>().add(index as usize) }
}

#[inline(always)]
fn slot_is_used(skb: u64) -> bool {
    // SAFETY: the word is memory of the program, read at once.
    is_any_followed() && unsafe { slot(skb).read_volatile() } != 0
}

/// Whether any packet has been followed.
#[inline(always)]
pub fn is_any_followed() -> bool {
    // SAFETY: the word is memory of the program, read at once.
    unsafe { FOLLOWED.any.get().read_volatile() != 0 }
}

/// Adds to a slot's count, modulo 2^32.
///
/// Written as an instruction because the target has no compare-and-swap before 5.12, for which reason
/// the core library offers no atomic addition either; this one instruction is in every kernel.
#[inline(always)]
fn count_slot(skb: u64, by: u32) {
    if !is_any_followed() {
        // SAFETY: the word is memory of the program, written at once, by everybody the same.
        unsafe { FOLLOWED.any.get().write_volatile(1) };
    }
    let count = slot(skb);
    // SAFETY: the word is memory of the program, aligned, and only changed atomically.
    unsafe { asm!("lock *(u32 *)({0} + 0) += {1}", in(reg) count, in(wreg) by) };
}
