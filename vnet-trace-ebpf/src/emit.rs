//! Writing records: reserved in the ring buffer, filled in place, submitted.
//!
//! A record that finds no room is counted in [`LOST`], per CPU; user space reports the sum, so that
//! nothing is lost unsaid.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::helpers::generated::{bpf_ktime_get_ns, bpf_probe_read_kernel};
use aya_ebpf::macros::map;
use aya_ebpf::maps::ring_buf::RingBufEntry;
use aya_ebpf::maps::{PerCpuArray, RingBuf};
use vnet_trace_ebpf::{ABSENT, ARGS, FLAG_DEV_OF_ROUTE, FLAG_MAC, PACKET_BYTES, ProbeId, Record, Role};

use crate::read::{View, dev_ifindex, dev_netns, field, net_inum, offset};
use crate::track::Sighting;

/// The records. User space may choose another size.
#[map]
static RECORDS: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// Records that found no room, per CPU.
#[map]
static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// What a probe adds to the packet.
#[derive(Clone, Copy)]
pub struct Extra {
    pub args: [u64; ARGS],
    /// The device, where it is not `skb->dev`.
    pub dev: u64,
    /// A second device.
    pub other: u64,
}

impl Extra {
    pub const NONE: Self = Self { args: [0; ARGS], dev: 0, other: 0 };

    #[inline(always)]
    pub fn args(args: [u64; ARGS]) -> Self {
        Self { args, ..Self::NONE }
    }
}

/// Where a packet was seen.
#[derive(Clone, Copy)]
pub struct Place {
    pub netns: u32,
    pub ifindex: u32,
}

/// Writes the record of a packet and tells where it was seen.
#[inline(always)]
pub fn packet(probe: ProbeId, sighting: &Sighting, extra: &Extra) -> Place {
    let view = &sighting.view;
    let dev = if extra.dev == 0 { view.get(offset!(skb_dev)) } else { extra.dev };
    let mut place = Place { netns: dev_netns(dev), ifindex: dev_ifindex(dev) };
    let mut flags = sighting.flags;
    if place.ifindex == 0 {
        place = place_by_route(view);
        flags |= FLAG_DEV_OF_ROUTE;
    }

    let Some(mut entry) = reserve() else {
        return place;
    };
    let record = entry.as_mut_ptr();
    begin(record, probe, &extra.args);

    let head = sighting.head;
    let network = sighting.network;
    let data: u64 = view.get(offset!(skb_data));
    let tail: u32 = view.get(offset!(skb_tail));
    let mac_header: u16 = view.get(offset!(skb_mac_header));
    let (vlan_proto, vlan_tci) = vlan(view);
    // SAFETY: `record` is a reserved record, and every field of it is written once.
    unsafe {
        (*record).skb = sighting.skb;
        (*record).head = head;
        (*record).origin = sighting.origin;
        (*record).netns = place.netns;
        (*record).ifindex = place.ifindex;
        (*record).other_netns = dev_netns(extra.other);
        (*record).other_ifindex = dev_ifindex(extra.other);
        (*record).len = view.get(offset!(skb_len));
        (*record).data_len = view.get(offset!(skb_data_len));
        (*record).mark = view.get(offset!(skb_mark));
        (*record).skb_iif = view.get(offset!(skb_iif));
        (*record).role = sighting.role as u8;
        (*record).pkt_type = view.bits(offset!(skb_pkt_type));
        (*record).protocol = u16::from_be(view.get(offset!(skb_protocol)));
        (*record).network_offset = network.wrapping_sub(data) as i16;
        (*record).vlan_proto = vlan_proto;
        (*record).vlan_tci = vlan_tci;

        let mac_to_network = network.wrapping_sub(head + u64::from(mac_header));
        if mac_header != u16::MAX && (mac_to_network == 14 || mac_to_network == 18) {
            flags |= FLAG_MAC;
            fill((&raw mut (*record).mac).cast(), 14, head + u64::from(mac_header));
        } else {
            (*record).mac = [0; 14];
        }
        (*record).flags = flags;

        // The bytes after the tail still belong to the buffer or to the `skb_shared_info` behind it,
        // so that a fixed number can be read, which spares the verifier a bound.
        let present = (head + u64::from(tail)).wrapping_sub(network);
        let is_read = fill((&raw mut (*record).packet).cast(), PACKET_BYTES as u32, network);
        (*record).packet_len = if !is_read || present >= 1 << 20 {
            0
        } else if present < PACKET_BYTES as u64 {
            present as u8
        } else {
            PACKET_BYTES as u8
        };
    }
    entry.submit(0);
    place
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

/// Reserves a record that has no packet of its own, all zero but for the probe and its arguments. It must
/// be submitted.
#[inline(always)]
pub fn bare(probe: ProbeId, args: &[u64; ARGS]) -> Option<RingBufEntry<Record>> {
    let mut entry = reserve()?;
    let record = entry.as_mut_ptr();
    begin(record, probe, args);
    // SAFETY: `record` is a reserved record, and every field of it is written.
    unsafe {
        (*record).skb = 0;
        (*record).head = 0;
        (*record).origin = 0;
        (*record).netns = 0;
        (*record).ifindex = 0;
        (*record).flags = 0;
        (*record).other_netns = 0;
        (*record).other_ifindex = 0;
        (*record).len = 0;
        (*record).data_len = 0;
        (*record).mark = 0;
        (*record).skb_iif = 0;
        (*record).role = Role::None as u8;
        (*record).pkt_type = 0;
        (*record).packet_len = 0;
        (*record).protocol = 0;
        (*record).vlan_proto = 0;
        (*record).vlan_tci = 0;
        (*record).network_offset = 0;
        (*record).mac = [0; 14];
        (*record).packet = [0; PACKET_BYTES];
    }
    Some(entry)
}

#[inline(always)]
fn reserve() -> Option<RingBufEntry<Record>> {
    let entry = RECORDS.reserve::<Record>(0);
    if entry.is_none()
        && let Some(lost) = LOST.get_ptr_mut(0)
    {
        // SAFETY: the element is this CPU's own.
        unsafe { *lost += 1 };
    }
    entry
}

#[inline(always)]
fn begin(record: *mut Record, probe: ProbeId, args: &[u64; ARGS]) {
    // SAFETY: `record` is a reserved record; the helpers take nothing and cannot fail.
    unsafe {
        (*record).time_ns = bpf_ktime_get_ns();
        (*record).cpu = bpf_get_smp_processor_id() as u16;
        (*record).probe = probe as u8;
        (*record).reserved = 0;
        (*record).padding = [0; 2];
        (*record).args = *args;
    }
}

/// Where a packet without a device is: where its route leads, or else where its socket is.
#[inline(always)]
fn place_by_route(view: &View) -> Place {
    let refdst: u64 = view.get(offset!(skb_refdst));
    let dev = field(refdst & !7, offset!(dst_dev));
    let place = Place { netns: dev_netns(dev), ifindex: dev_ifindex(dev) };
    if place.ifindex != 0 {
        return place;
    }
    let sock: u64 = view.get(offset!(skb_sk));
    Place { netns: net_inum(field(sock, offset!(sock_net))), ifindex: 0 }
}

/// EtherType and content of the VLAN tag beside the packet; zeroes if there is none.
#[inline(always)]
fn vlan(view: &View) -> (u16, u16) {
    let present = offset!(skb_vlan_present);
    let protocol = u16::from_be(view.get(offset!(skb_vlan_proto)));
    if present.byte != ABSENT && view.bits(present) == 0 || protocol == 0 {
        return (0, 0);
    }
    (protocol, view.get(offset!(skb_vlan_tci)))
}
