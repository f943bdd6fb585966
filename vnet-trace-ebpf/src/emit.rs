//! Writing records: reserved in the ring buffer, filled in place, submitted.
//!
//! A record that finds no room is counted in [`COUNTS`], by probe and CPU; user space reports the sums, so that
//! nothing is lost unsaid.
//!
//! The reader is woken for each record that finds it waiting, which for one ping is right. For other people's traffic
//! that would be a wake-up for nearly every packet, so there the reader is woken when [`Config::wake_bytes`] have come
//! together, and looks by itself now and then. A reader that is behind has more than that before it all the time: it is
//! not woken for each record either, because a wake-up costs more than the record.
//!
//! [`Config::wake_bytes`]: vnet_trace_ebpf::Config::wake_bytes

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::helpers::generated::{
    bpf_ktime_get_ns, bpf_probe_read_kernel, bpf_ringbuf_query, bpf_ringbuf_reserve, bpf_ringbuf_submit,
};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{PerCpuArray, RingBuf};
use vnet_trace_ebpf::{
    ADDRESS_BYTES, ARGS, COUNTERS, FLAG_DEV_OF_ROUTE, FLAG_MAC, ProbeId, Record, Role, SNAP_MAX, Told,
};

use crate::desk::{self, Desk, set_args};
use crate::read::{config, dev_ifindex, dev_netns, field, net_inum, offset};
use crate::track::tag_of;

/// The records. User space may choose another size.
#[map]
static RECORDS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Records that found no room, by probe and CPU; the last one is [`vnet_trace_ebpf::COUNTER_UNDECIDED`].
#[map]
static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS, 0);

/// For so long no CPU wakes the reader twice.
const WAKE_PAUSE_NS: u64 = 2_000_000;

const BPF_RB_AVAIL_DATA: u64 = 0;
const BPF_RB_NO_WAKEUP: u64 = 1;
const BPF_RB_FORCE_WAKEUP: u64 = 2;

/// Writes the record of the packet on a desk, and notes there where it was seen. Gives 0 if it found no room.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn emit(number: u32, probe: u32) -> u32 {
    let Some(cpu) = desk::cpu() else { return 0 };
    let desk = cpu.desk(number);
    let mut flags = desk.flags as u8;
    find_place(desk, &mut flags);
    if config!(told) == Told::Losses as u8 && probe != ProbeId::KfreeSkb as u32 && probe != ProbeId::QdiscDrop as u32 {
        return 1;
    }
    // A constant to the verifier, because the configuration is.
    let snap = u32::from(config!(snap));
    let Some(record) = reserve(size_of::<Record>() as u32 + snap, probe) else { return 0 };
    begin(record, probe);

    let head = desk.head;
    let network = desk.network;
    let data: u64 = desk.get(offset!(skb_data));
    let tail: u32 = desk.get(offset!(skb_tail));
    let mac_header: u16 = desk.get(offset!(skb_mac_header));
    let tag = tag_of(desk);
    // SAFETY: `record` is a reserved record with room for `snap` bytes behind it, and every field of it is written once.
    unsafe {
        set_args(&mut (*record).args, desk.args);
        (*record).skb = desk.address;
        (*record).head = head;
        (*record).origin = desk.origin;
        (*record).netns = desk.netns;
        (*record).ifindex = desk.ifindex;
        (*record).other_netns = 0;
        (*record).other_ifindex = 0;
        if desk.other != 0 {
            (*record).other_netns = dev_netns(desk.other);
            (*record).other_ifindex = dev_ifindex(desk.other);
        }
        (*record).len = desk.get(offset!(skb_len));
        (*record).data_len = desk.get(offset!(skb_data_len));
        (*record).mark = desk.get(offset!(skb_mark));
        (*record).skb_iif = desk.get(offset!(skb_iif));
        (*record).role = desk.role as u8;
        (*record).pkt_type = desk.bits(offset!(skb_pkt_type));
        (*record).protocol = u16::from_be(desk.get(offset!(skb_protocol)));
        (*record).network_offset = network.wrapping_sub(data) as i16;
        (*record).vlan_proto = u16::from_be(tag as u16);
        (*record).vlan_tci = u16::from_be((tag >> 16) as u16);

        let mac_to_network = network.wrapping_sub(head + u64::from(mac_header));
        if mac_header != u16::MAX && (mac_to_network == 14 || mac_to_network == 18) {
            flags |= FLAG_MAC;
            fill((&raw mut (*record).mac).cast(), 14, head + u64::from(mac_header));
        } else {
            (*record).mac = [0; 14];
        }
        (*record).flags = flags;

        let present = (head + u64::from(tail)).wrapping_sub(network);
        let packet = record.add(1).cast::<c_void>();
        (*record).packet_len = if snap <= u32::from(SNAP_CAREFREE) {
            // The bytes after the tail still belong to the buffer or to the `skb_shared_info` behind it, so that a
            // fixed number can be read, which spares the verifier a bound.
            let is_read = fill(packet, snap, network);
            if !is_read || present >= 1 << 20 {
                0
            } else if present < u64::from(snap) {
                present as u16
            } else {
                snap as u16
            }
        } else {
            let wanted = if present < u64::from(snap) { present as u32 } else { snap };
            let wanted = bounded(wanted);
            if wanted <= snap && fill(packet, wanted, network) { wanted as u16 } else { 0 }
        };
    }
    submit(record);
    1
}

/// Up to so many bytes are read without looking how many there are.
const SNAP_CAREFREE: u16 = 192;

/// A number of bytes of which the verifier sees that it is not too large.
#[inline(always)]
fn bounded(number: u32) -> u32 {
    let mut kept = number;
    // SAFETY: the instruction changes nothing that the compiler does not know of.
    unsafe { core::arch::asm!("{0} &= 2047", inout(wreg) kept, options(pure, nomem, nostack)) };
    if kept > u32::from(SNAP_MAX) { u32::from(SNAP_MAX) } else { kept }
}

/// Finds out where a packet is, for the record and for those who come after.
#[inline(always)]
fn find_place(desk: &mut Desk, flags: &mut u8) {
    let dev = if desk.dev == 0 { desk.get(offset!(skb_dev)) } else { desk.dev };
    desk.netns = dev_netns(dev);
    desk.ifindex = dev_ifindex(dev);
    if desk.ifindex != 0 {
        return;
    }
    // Without a device it is where its route leads, or else where its socket is.
    *flags |= FLAG_DEV_OF_ROUTE;
    let refdst: u64 = desk.get(offset!(skb_refdst));
    let dev = field(refdst & !7, offset!(dst_dev));
    desk.netns = dev_netns(dev);
    desk.ifindex = dev_ifindex(dev);
    if desk.ifindex == 0 {
        let sock: u64 = desk.get(offset!(skb_sk));
        desk.netns = net_inum(field(sock, offset!(sock_net)));
    }
}

/// Copies kernel memory into a record.
///
/// # Safety
///
/// There must be `size` bytes at `into`.
#[inline(always)]
unsafe fn fill(into: *mut c_void, size: u32, address: u64) -> bool {
    // SAFETY: as the caller promises; the helper checks the address.
    unsafe { bpf_probe_read_kernel(into, size, address as *const c_void) == 0 }
}

/// What [`bare`] makes: a record with room for three addresses behind it.
#[repr(C)]
pub struct Bare {
    pub record: Record,
    pub addresses: [[u32; 4]; 3],
}

/// Reserves a record that has no packet of its own, all zero but for the probe and its arguments. It must
/// be submitted.
#[inline(always)]
pub fn bare(probe: ProbeId, args: &[u64; ARGS]) -> Option<*mut Bare> {
    let record = reserve(size_of::<Record>() as u32 + ADDRESS_BYTES, probe as u32)?;
    // SAFETY: the record is reserved with what follows it, and zeroes are a value of all of it.
    unsafe {
        // The helper reads nothing at address 0 and gives zeroes, by one instruction where the compiler would write a loop.
        bpf_probe_read_kernel(record.cast(), size_of::<Bare>() as u32, core::ptr::null());
        (*record).role = Role::None as u8;
        set_args(&mut (*record).args, *args);
    }
    begin(record, probe as u32);
    Some(record.cast())
}

#[inline(always)]
fn reserve(bytes: u32, probe: u32) -> Option<*mut Record> {
    // SAFETY: the map is a ring buffer; what the helper gives is null or as many bytes as were asked for.
    let room = unsafe { bpf_ringbuf_reserve((&raw const RECORDS).cast_mut().cast(), u64::from(bytes), 0) };
    if room.is_null() {
        count(probe);
        return None;
    }
    Some(room.cast())
}

/// Counts something under a number.
#[inline(always)]
pub fn count(number: u32) {
    if let Some(counter) = COUNTS.get_ptr_mut(number) {
        // SAFETY: the element is this CPU's own.
        unsafe { *counter += 1 };
    }
}

#[inline(always)]
fn begin(record: *mut Record, probe: u32) {
    // SAFETY: `record` is a reserved record; the helpers take nothing and cannot fail.
    unsafe {
        (*record).time_ns = bpf_ktime_get_ns();
        (*record).cpu = bpf_get_smp_processor_id() as u16;
        (*record).probe = probe as u8;
        (*record).padding = [0; 2];
    }
}

/// Hands a record over, and wakes the reader if it is time.
#[inline(always)]
pub fn submit(record: *mut Record) {
    let flags = if config!(wake_bytes) == 0 {
        0
    } else if is_time(record) {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    };
    // SAFETY: the record was reserved in the ring buffer.
    unsafe { bpf_ringbuf_submit(record.cast(), flags) };
}

/// Whether enough waits for the reader, and it was not woken just now.
#[inline(always)]
fn is_time(record: *mut Record) -> bool {
    let Some(cpu) = desk::cpu() else { return false };
    // SAFETY: the record has its time.
    let now = unsafe { (*record).time_ns };
    if now.wrapping_sub(cpu.woken_ns) < WAKE_PAUSE_NS {
        return false;
    }
    // SAFETY: the map is a ring buffer.
    let waiting = unsafe { bpf_ringbuf_query((&raw const RECORDS).cast_mut().cast(), BPF_RB_AVAIL_DATA) };
    let is_time = waiting >= u64::from(config!(wake_bytes));
    if is_time {
        cpu.woken_ns = now;
    }
    is_time
}
