//! A record of the ring buffer as plain data.
//!
//! Takes the bytes that a probe wrote ([`vnet_trace_ebpf::Record`]) and gives a [`KernelRecord`],
//! in which numbers have become names and zeroes have become `None`. What a record means for the
//! packet is not decided here; `decode` turns it into an event of the model.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use nix::errno::Errno;
use vnet_trace_ebpf::{FLAG_BY_HEAD, FLAG_CLONED, FLAG_CONTEXT, FLAG_DEV_OF_ROUTE, FLAG_FIRST, FLAG_MAC};

pub use vnet_trace_ebpf::{ProbeId, Role};

use super::drain::Sighting;

/// One sighting by a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own about the packet")]
pub struct KernelRecord {
    /// Nanoseconds of CLOCK_MONOTONIC.
    pub time_ns: u64,
    /// The CPU it was seen on.
    pub cpu: u16,
    /// The probe that saw it.
    pub probe: ProbeId,
    /// Which packet of the exchange it is, as far as its bytes tell.
    pub role: Role,
    /// Address of the `sk_buff`; 0 if the probe has no packet and no packet is being processed.
    pub skb: u64,
    /// Address of the data buffer, which clones share.
    pub head: u64,
    /// The same for all sightings of one packet and its clones; 0 means not tracked.
    pub origin: u64,
    /// First sighting of this skb.
    pub first: bool,
    /// Recognised as the clone of a packet that is tracked.
    pub by_head: bool,
    /// The skb shares its data with another one.
    pub cloned: bool,
    /// The probe has no packet; `skb` and `origin` name the one that this CPU was processing.
    pub context: bool,
    /// The device where it was seen.
    pub device: Option<DeviceRef>,
    /// The packet had no device yet: `device` is the one that its route leads to.
    pub device_of_route: bool,
    /// Inode of the network namespace; also known for some packets without a device.
    pub netns: Option<u32>,
    /// A second device: see [`ProbeId`].
    pub other: Option<DeviceRef>,
    /// Bytes of the packet from the layer that is being processed.
    pub len: u32,
    /// `skb->mark`.
    pub mark: u32,
    /// Interface index on which the packet came in; None for local packets.
    pub iif: Option<u32>,
    /// EtherType, as `skb->protocol` says.
    pub protocol: u16,
    /// `skb->pkt_type`: 0 host, 1 broadcast, 2 multicast, 3 other host, 4 outgoing.
    pub pkt_type: u8,
    /// The VLAN tag that the kernel keeps beside the packet.
    pub vlan: Option<VlanTag>,
    /// The Ethernet header.
    pub mac: Option<[u8; 14]>,
    /// The packet from its network header, as much of it as was asked for.
    pub packet: Arc<[u8]>,
    /// What this probe has to say beyond the packet.
    pub detail: Detail,
}

/// A device by namespace inode and index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceRef {
    /// Inode number of the network namespace; None if the probe could not read it.
    pub netns: Option<u32>,
    /// Interface index in that namespace.
    pub ifindex: u32,
}

/// A VLAN tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VlanTag {
    /// EtherType of the tag: 0x8100 or 0x88a8.
    pub protocol: u16,
    /// Priority, DEI and VLAN id.
    pub tci: u16,
}

/// Why the kernel says that it dropped a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DropReason {
    /// The number; its upper 16 bits are the subsystem.
    pub number: u32,
    /// The name without its prefix, as in `NETFILTER_DROP`; None if the kernel's BTF has no such number.
    pub name: Option<Arc<str>>,
}

/// What a probe has to say beyond the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail {
    /// The packet passed here; nothing more.
    Seen,
    /// `kfree_skb`: dropped.
    Drop {
        /// None where the kernel has no reasons (before 5.17).
        reason: Option<DropReason>,
        /// Address of the code that dropped.
        location: u64,
    },
    /// `consume_skb`: done with.
    Consume {
        /// Address of the code that was done with it; None where the kernel does not say.
        location: Option<u64>,
    },
    /// `skb_clone`.
    Clone {
        /// Address of the new skb.
        skb: u64,
    },
    /// A look-up in one routing table.
    FibLookup(FibLookup),
    /// `fib_validate_source` returned.
    ValidateSource {
        /// 0 or more: accepted. Negative: an errno up to 6.12, a negated drop reason later.
        value: i32,
        /// The reason, where the value is one.
        reason: Option<DropReason>,
        /// Source address of the packet.
        source: Ipv4Addr,
        /// Destination address of the packet.
        destination: Ipv4Addr,
    },
    /// `ip_route_input_noref` returned.
    RouteInput {
        /// 0: a route. Negative: an errno (up to 6.12). Positive: a drop reason (later).
        value: i32,
        /// The reason, where the value is one.
        reason: Option<DropReason>,
        /// Destination address of the packet.
        destination: Ipv4Addr,
        /// Source address of the packet.
        source: Ipv4Addr,
    },
    /// An ICMP or ICMPv6 error is about to be made because of this packet.
    IcmpSend {
        /// ICMP type.
        kind: u8,
        /// ICMP code.
        code: u8,
    },
    /// A neighbour entry.
    Neigh(NeighEvent),
    /// `nf_hook_slow` returned.
    NfHook {
        /// 1: accepted; negative errno: dropped; 0: stolen or queued.
        value: i32,
        /// `enum nf_inet_hooks` or the family's own numbering.
        hook: u8,
        /// Protocol family: NFPROTO_IPV4 and so on.
        family: u8,
    },
    /// `ovs_do_execute_action`.
    OvsAction {
        /// OVS_ACTION_ATTR_…
        action: u16,
    },
    /// A program read the packet from its socket.
    SocketRead {
        /// How many bytes.
        bytes: u32,
    },
}

/// A look-up in one routing table, IPv4 or IPv6.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FibLookup {
    /// Table number (254 main, 255 local; both are one table until a rule is added).
    pub table: u32,
    /// Source address of the flow; None means any.
    pub source: Option<IpAddr>,
    /// Destination address of the flow.
    pub destination: IpAddr,
    /// Input interface index of the flow; 1 means a look-up for output, 0 a type check.
    pub iif: u32,
    /// Output interface index that the flow asks for; 0 means any.
    pub oif: u32,
    /// 0 or a negative errno; -11 only means "not in this table". IPv6 has no such number, but entries that say so:
    /// those of type unreachable, which also stands where a table has nothing, count as -113.
    pub error: i32,
    /// IPv6: the route's type (RTN_UNICAST and so on).
    pub route_type: Option<u8>,
    /// The gateway, if the route has one.
    pub gateway: Option<IpAddr>,
}

/// An event of a neighbour entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeighEvent {
    /// The protocol address.
    pub address: IpAddr,
    /// The link-layer address at hand; None if there is none.
    pub lladdr: Option<[u8; 6]>,
    /// `nud_state` when seen (before an update).
    pub state: u8,
    /// The state that it is to get, at `neigh_update`.
    pub new_state: Option<u8>,
}

/// Names for drop reasons, read from the running kernel.
pub trait ReasonNames {
    /// The name of a drop reason without its prefix.
    fn reason_name(&self, number: u32) -> Option<Arc<str>>;
    /// Whether `kfree_skb` gives a reason.
    fn has_reasons(&self) -> bool;
    /// Whether return values of the IPv4 input path are drop reasons and not errnos (6.13 and later).
    fn route_input_returns_reasons(&self) -> bool;
}

impl KernelRecord {
    /// The inode of the namespace where it was seen, as far as the probe could tell.
    pub fn inode(&self) -> Option<u32> {
        self.device.and_then(|device| device.netns).or(self.netns)
    }

    /// Reads a record; None if it comes from a probe that this version does not know.
    pub fn from_raw(sighting: &Sighting<'_>, names: &dyn ReasonNames) -> Option<Self> {
        let raw = sighting.record;
        let probe = ProbeId::from_number(raw.probe)?;
        let role = Role::from_number(raw.role)?;
        let flag = |bit| raw.flags & bit != 0;
        let netns = (raw.netns != 0).then_some(raw.netns);
        let has_mac = flag(FLAG_MAC) && !is_neigh(probe);
        Some(Self {
            time_ns: raw.time_ns,
            cpu: raw.cpu,
            probe,
            role,
            skb: raw.skb,
            head: raw.head,
            origin: raw.origin,
            first: flag(FLAG_FIRST),
            by_head: flag(FLAG_BY_HEAD),
            cloned: flag(FLAG_CLONED),
            context: flag(FLAG_CONTEXT),
            device: (raw.ifindex != 0).then_some(DeviceRef { netns, ifindex: raw.ifindex }),
            device_of_route: flag(FLAG_DEV_OF_ROUTE),
            netns,
            other: (raw.other_ifindex != 0).then_some(DeviceRef {
                netns: (raw.other_netns != 0).then_some(raw.other_netns),
                ifindex: raw.other_ifindex,
            }),
            len: raw.len,
            mark: raw.mark,
            iif: (raw.skb_iif != 0).then_some(raw.skb_iif),
            protocol: raw.protocol,
            pkt_type: raw.pkt_type,
            vlan: (raw.vlan_proto != 0).then_some(VlanTag { protocol: raw.vlan_proto, tci: raw.vlan_tci }),
            mac: has_mac.then_some(raw.mac),
            packet: if carries_addresses(probe) { Arc::default() } else { Arc::from(sighting.packet) },
            detail: detail(probe, sighting, names),
        })
    }
}

fn is_neigh(probe: ProbeId) -> bool {
    matches!(probe, ProbeId::NeighUpdate | ProbeId::NeighEventSend | ProbeId::NeighTimer)
}

fn carries_addresses(probe: ProbeId) -> bool {
    is_neigh(probe) || matches!(probe, ProbeId::FibTableLookup | ProbeId::Fib6TableLookup)
}

fn detail(probe: ProbeId, sighting: &Sighting<'_>, names: &dyn ReasonNames) -> Detail {
    let raw = sighting.record;
    let args = &raw.args;
    let reason = |number: u32| DropReason { number, name: names.reason_name(number) };
    match probe {
        ProbeId::KfreeSkb => {
            Detail::Drop { reason: names.has_reasons().then(|| reason(args[0] as u32)), location: args[1] }
        }
        ProbeId::QdiscDrop => Detail::Drop { reason: Some(reason(args[0] as u32)), location: 0 },
        ProbeId::ConsumeSkb => Detail::Consume { location: (args[0] != 0).then_some(args[0]) },
        ProbeId::SkbClone => Detail::Clone { skb: args[0] },
        ProbeId::FibTableLookup | ProbeId::Fib6TableLookup => Detail::FibLookup(fib_lookup(probe, sighting)),
        ProbeId::FibValidateSource => {
            let value = args[0] as i32;
            Detail::ValidateSource {
                value,
                reason: (value < 0 && names.route_input_returns_reasons()).then(|| reason(value.unsigned_abs())),
                source: network_ipv4(args[1]),
                destination: network_ipv4(args[2]),
            }
        }
        ProbeId::IpRouteInput => {
            let value = args[0] as i32;
            Detail::RouteInput {
                value,
                reason: (value > 0 && names.route_input_returns_reasons()).then(|| reason(value.unsigned_abs())),
                destination: network_ipv4(args[1]),
                source: network_ipv4(args[2]),
            }
        }
        ProbeId::IcmpSend | ProbeId::Icmp6Send => Detail::IcmpSend { kind: args[0] as u8, code: args[1] as u8 },
        ProbeId::NeighUpdate | ProbeId::NeighEventSend | ProbeId::NeighTimer => {
            let mut lladdr = [0; 6];
            lladdr.copy_from_slice(&raw.mac[..6]);
            Detail::Neigh(NeighEvent {
                address: address(sighting.packet, 0),
                lladdr: (lladdr != [0; 6]).then_some(lladdr),
                state: args[0] as u8,
                new_state: (probe == ProbeId::NeighUpdate).then_some(args[1] as u8),
            })
        }
        ProbeId::NfHookSlow => Detail::NfHook { value: args[0] as i32, hook: args[1] as u8, family: args[2] as u8 },
        ProbeId::OvsAction => Detail::OvsAction { action: args[0] as u16 },
        ProbeId::SocketRead => Detail::SocketRead { bytes: args[0] as u32 },
        _ => Detail::Seen,
    }
}

fn fib_lookup(probe: ProbeId, sighting: &Sighting<'_>) -> FibLookup {
    let (raw, packet) = (sighting.record, sighting.packet);
    let some = |ip: IpAddr| (!ip.is_unspecified()).then_some(ip);
    FibLookup {
        table: raw.args[0] as u32,
        source: some(address(packet, 0)),
        destination: address(packet, 16),
        iif: raw.args[1] as u32,
        oif: raw.args[2] as u32,
        error: if probe == ProbeId::Fib6TableLookup { refusal(raw.args[4], raw.args[5]) } else { raw.args[3] as i32 },
        route_type: (probe == ProbeId::Fib6TableLookup).then_some(raw.args[4] as u8),
        gateway: some(address(packet, 32)),
    }
}

/// What an IPv6 entry means that only says that there is no way: its device is `lo`, and nothing is sent there.
/// (`fib6_prop` in net/ipv6/route.c, Linux 6.12)
fn refusal(kind: u64, flags: u64) -> i32 {
    const RTF_REJECT: u64 = 0x200;
    const RTN_BLACKHOLE: u64 = 6;
    const RTN_PROHIBIT: u64 = 8;
    const RTN_THROW: u64 = 9;
    if flags & RTF_REJECT == 0 {
        return 0;
    }
    let errno = match kind {
        RTN_BLACKHOLE => Errno::EINVAL,
        RTN_PROHIBIT => Errno::EACCES,
        RTN_THROW => Errno::EAGAIN,
        _ => Errno::EHOSTUNREACH,
    };
    -(errno as i32)
}

/// Reads 16 bytes as an address; `::ffff:a.b.c.d` is an IPv4 address, and what is not there is `::`.
fn address(bytes: &[u8], at: usize) -> IpAddr {
    let octets = bytes.get(at..).and_then(<[u8]>::first_chunk::<16>).copied().unwrap_or_default();
    let v6 = Ipv6Addr::from(octets);
    v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
}

/// An IPv4 address that the kernel handed over as a number in network byte order.
fn network_ipv4(argument: u64) -> Ipv4Addr {
    Ipv4Addr::from((argument as u32).to_ne_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_entry_that_rejects_is_no_way() {
        // A unicast route with a gateway, what stands where a table has nothing, and a prohibit route.
        assert_eq!(refusal(1, 0x3), 0);
        assert_eq!(refusal(7, 0x20_0200), -113);
        assert_eq!(refusal(8, 0x20_0200), -13);
    }
}
