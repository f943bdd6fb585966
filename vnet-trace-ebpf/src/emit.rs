//! Writing records: reserved in the ring buffer, filled in place, submitted.
//!
//! A record that finds no room is counted in [`LOST`], per CPU; user space reports the sum, so that
//! nothing is lost unsaid.

use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::helpers::generated::bpf_ktime_get_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{PerCpuArray, RingBuf};
use core::ptr;
use vnet_trace_ebpf::{ARGS, FLAG_CONTEXT, FLAG_DEV_OF_ROUTE, FLAG_MAC, PACKET_BYTES, ProbeId, Record, Role};

use crate::read::{Access, Copied, Kernel, copy, dev_ifindex, dev_netns, net_inum, number, offset};
use crate::track::{Context, Sighting};

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
    pub dev: Kernel,
    /// A second device.
    pub other: Kernel,
}

impl Extra {
    pub const NONE: Self = Self { args: [0; ARGS], dev: ptr::null(), other: ptr::null() };

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
pub fn packet<A: Access>(probe: ProbeId, skb: Kernel, sighting: &Sighting, extra: &Extra) -> Place {
    // Devices are read by copying even where a typed load would do: for each typed load of a pointer
    // the verifier of newer kernels searches its BTF by name, which takes milliseconds.
    let dev = if extra.dev.is_null() { number(skb, offset!(skb_dev)) as Kernel } else { extra.dev };
    let mut place = Place { netns: dev_netns::<Copied>(dev), ifindex: dev_ifindex::<Copied>(dev) };
    let mut flags = sighting.flags;
    if place.ifindex == 0 {
        place = place_by_route(skb);
        flags |= FLAG_DEV_OF_ROUTE;
    }

    let Some(mut entry) = reserve() else {
        return place;
    };
    let record = entry.as_mut_ptr();
    begin(record, probe, &extra.args);

    let head = sighting.head;
    let tail: u32 = A::load(skb, offset!(skb_tail));
    let data = number(skb, offset!(skb_data));
    let mac_header: u16 = A::load(skb, offset!(skb_mac_header));
    let network = sighting.network;
    // SAFETY: `record` is a reserved record, and every field of it is written once.
    unsafe {
        (*record).skb = skb as u64;
        (*record).head = head;
        (*record).origin = sighting.origin;
        (*record).netns = place.netns;
        (*record).ifindex = place.ifindex;
        (*record).other_netns = dev_netns::<Copied>(extra.other);
        (*record).other_ifindex = dev_ifindex::<Copied>(extra.other);
        (*record).len = A::load(skb, offset!(skb_len));
        (*record).data_len = A::load(skb, offset!(skb_data_len));
        (*record).mark = A::field(skb, offset!(skb_mark));
        (*record).skb_iif = A::field(skb, offset!(skb_iif));
        (*record).role = sighting.role as u8;
        (*record).pkt_type = A::bits(skb, offset!(skb_pkt_type));
        (*record).protocol = u16::from_be(A::load(skb, offset!(skb_protocol)));
        (*record).network_offset = network.wrapping_sub(data) as i16;
        let (vlan_proto, vlan_tci) = vlan::<A>(skb);
        (*record).vlan_proto = vlan_proto;
        (*record).vlan_tci = vlan_tci;

        let mac_to_network = network.wrapping_sub(head + u64::from(mac_header));
        if mac_header != u16::MAX && (mac_to_network == 14 || mac_to_network == 18) {
            (*record).mac = copy(head + u64::from(mac_header));
            flags |= FLAG_MAC;
        } else {
            (*record).mac = [0; 14];
        }
        (*record).flags = flags;

        // The bytes after the tail still belong to the buffer or to the `skb_shared_info` behind it,
        // so that a fixed number can be read, which spares the verifier a bound.
        let present = (head + u64::from(tail)).wrapping_sub(network);
        let read = aya_ebpf::helpers::generated::bpf_probe_read_kernel(
            (&raw mut (*record).packet).cast(),
            PACKET_BYTES as u32,
            network as *const _,
        );
        (*record).packet_len = if read != 0 {
            0
        } else if present < PACKET_BYTES as u64 {
            present as u8
        } else if present < 1 << 20 {
            PACKET_BYTES as u8
        } else {
            0
        };
    }
    entry.submit(0);
    place
}

/// Writes a record that has no packet of its own; `fill` completes it.
#[inline(always)]
pub fn bare(probe: ProbeId, args: [u64; ARGS], context: Option<Context>, fill: impl FnOnce(*mut Record)) {
    let Some(mut entry) = reserve() else {
        return;
    };
    let record = entry.as_mut_ptr();
    begin(record, probe, &args);
    // SAFETY: `record` is a reserved record, and every field of it is written.
    unsafe {
        match context {
            Some(context) => {
                (*record).skb = context.skb;
                (*record).head = context.head;
                (*record).origin = context.origin;
                (*record).netns = context.netns;
                (*record).ifindex = context.ifindex;
                (*record).flags = FLAG_CONTEXT;
            }
            None => {
                (*record).skb = 0;
                (*record).head = 0;
                (*record).origin = 0;
                (*record).netns = 0;
                (*record).ifindex = 0;
                (*record).flags = 0;
            }
        }
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
    fill(record);
    entry.submit(0);
}

#[inline(always)]
fn reserve() -> Option<aya_ebpf::maps::ring_buf::RingBufEntry<Record>> {
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
fn place_by_route(skb: Kernel) -> Place {
    let refdst = number(skb, offset!(skb_refdst));
    let dst = (refdst & !7) as Kernel;
    let dev = Copied::pointer(dst, offset!(dst_dev));
    let place = Place { netns: dev_netns::<Copied>(dev), ifindex: dev_ifindex::<Copied>(dev) };
    if place.ifindex != 0 {
        return place;
    }
    let sock = Copied::pointer(skb, offset!(skb_sk));
    let net = Copied::pointer(sock, offset!(sock_net));
    Place { netns: net_inum::<Copied>(net), ifindex: 0 }
}

/// EtherType and content of the VLAN tag beside the packet; zeroes if there is none.
#[inline(always)]
fn vlan<A: Access>(skb: Kernel) -> (u16, u16) {
    let present = offset!(skb_vlan_present);
    let protocol = u16::from_be(A::field(skb, offset!(skb_vlan_proto)));
    if present.byte != vnet_trace_ebpf::ABSENT && A::bits(skb, present) == 0 || protocol == 0 {
        return (0, 0);
    }
    (protocol, A::field(skb, offset!(skb_vlan_tci)))
}
