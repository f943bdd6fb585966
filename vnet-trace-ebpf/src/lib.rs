//! The binary interface between the probes and user space: what a record looks like in the ring
//! buffer, and what user space writes into the object before the kernel loads it.
//!
//! This library holds no logic and has no dependencies, because it is compiled twice: for the eBPF
//! target, where the probes fill these structures, and for the machine, where
//! `vnet_trace::collect::kernel` reads them. Every structure is `#[repr(C)]` without implicit
//! padding, and the assertions at the end of this file make a drift of the layout a compile error.
//!
//! Numbers are in host byte order unless a field says otherwise. Addresses of IPv4 are written as
//! IPv6 addresses of the form `::ffff:a.b.c.d`, so that one map and one record serve both families.
//!
//! Read [`Record`] first, then [`ProbeId`], which says what [`Record::args`] means at each probe.
#![no_std]

/// How many bytes of a packet are usually recorded, counted from the network header.
///
/// 112 bytes hold the longest thing that identifies a ping: an ICMPv6 error (48 bytes) with the
/// IPv6 echo request that it quotes (48 bytes).
pub const PACKET_BYTES: u16 = 112;

/// The most bytes of a packet that can be recorded.
pub const SNAP_MAX: u16 = 1504;

/// How many bytes follow a record that has no packet: three addresses.
pub const ADDRESS_BYTES: u32 = 48;

/// How far into a frame an expression can read.
pub const FRAME_REACH: usize = 256;

/// How much memory a frame takes: what an expression reads, and a header that is put before it.
pub const FRAME_BYTES: usize = 280;

/// How many counters there are: one for each number of a probe, for records that found no room, and the following.
pub const COUNTERS: u32 = 128;

/// Counts packets of which an expression could not tell whether they match, because it reads what is not in one piece
/// with their headers.
pub const COUNTER_UNDECIDED: u32 = 127;

/// Number of `u64` arguments of a record.
pub const ARGS: usize = 6;

/// How many UDP ports are taken for tunnels, see [`Config::tunnel_ports`].
pub const TUNNEL_PORTS: usize = 4;

/// The value of an offset in [`Offsets`] that the running kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// One sighting, as it lies in the ring buffer. Behind it lies the packet from its network header; at the FIB probes
/// [`FlowAddresses`]; at the neighbour probes the protocol address, 16 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Nanoseconds of CLOCK_MONOTONIC (`bpf_ktime_get_ns`).
    pub time_ns: u64,
    /// Address of the `sk_buff`; 0 where no packet is at hand. A name for the packet while it lives, no more.
    pub skb: u64,
    /// `skb->head`: the data buffer, which clones of one packet share.
    pub head: u64,
    /// The tracking id: the same for every sighting of one packet and its clones; 0 means not tracked.
    pub origin: u64,
    /// Arguments of the probe, see [`ProbeId`].
    pub args: [u64; ARGS],
    /// Inode number of the network namespace of `ifindex` (`net.ns.inum`); 0 means unknown.
    pub netns: u32,
    /// Interface index, valid in `netns` only; 0 means none.
    pub ifindex: u32,
    /// Inode number of the network namespace of `other_ifindex`; 0 means unknown.
    pub other_netns: u32,
    /// A second device: the next hop's, the bridge port's, the outgoing device of a hook; 0 means none.
    pub other_ifindex: u32,
    /// `skb->len`: bytes from the current `skb->data`.
    pub len: u32,
    /// `skb->data_len`: how many of these are not in the linear part.
    pub data_len: u32,
    /// `skb->mark`.
    pub mark: u32,
    /// `skb->skb_iif`: interface index on which the packet came in, 0 for local packets.
    pub skb_iif: u32,
    /// The CPU it was seen on.
    pub cpu: u16,
    /// A [`ProbeId`].
    pub probe: u8,
    /// A set of `FLAG_…` bits.
    pub flags: u8,
    /// A [`Role`].
    pub role: u8,
    /// `skb->pkt_type`: PACKET_HOST and so on, as in `linux/if_packet.h`.
    pub pkt_type: u8,
    /// How many bytes behind the record are valid.
    pub packet_len: u16,
    /// `skb->protocol` as an EtherType.
    pub protocol: u16,
    /// EtherType of the VLAN tag that the kernel keeps beside the packet; 0 means no such tag.
    pub vlan_proto: u16,
    /// The tag: 3 bits priority, 1 bit DEI, 12 bits VLAN id.
    pub vlan_tci: u16,
    /// Where the packet starts, counted from `skb->data`; negative once the header has been pulled.
    pub network_offset: i16,
    /// The Ethernet header, valid with [`FLAG_MAC`]. At neighbour probes: the link-layer address.
    pub mac: [u8; 14],
    /// Always 0.
    pub padding: [u8; 2],
}

/// [`Record::mac`] is valid.
pub const FLAG_MAC: u8 = 1;
/// The skb is a clone or has been cloned.
pub const FLAG_CLONED: u8 = 2;
/// The first sighting of this skb.
pub const FLAG_FIRST: u8 = 4;
/// The skb was recognised by its data buffer: it is a clone of a packet that is tracked.
pub const FLAG_BY_HEAD: u8 = 8;
/// `skb->dev` was NULL: the device is that of the packet's route, or there is none and the namespace is that of its socket.
pub const FLAG_DEV_OF_ROUTE: u8 = 16;
/// The record belongs to the packet that this CPU was processing; the probe itself has no packet.
pub const FLAG_CONTEXT: u8 = 32;

/// What lies behind a record of the FIB probes.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct FlowAddresses {
    /// Source address that was looked up; all zero means any.
    pub source: [u8; 16],
    /// Destination address that was looked up.
    pub destination: [u8; 16],
    /// The gateway that was found; all zero means none, the destination is on the link.
    pub gateway: [u8; 16],
}

/// Where a record comes from, and what its [`Record::args`] mean.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProbeId {
    /// `kfree_skb`. args: drop reason (0 where the kernel has none), address of the code that dropped.
    KfreeSkb = 1,
    /// `consume_skb`, tracked packets only. args: address of the code that consumed, or 0.
    ConsumeSkb = 2,
    /// `skb_clone`. args: address of the new skb.
    SkbClone = 3,
    /// `net_dev_queue`: handed to the queueing discipline of a device.
    NetDevQueue = 10,
    /// `net_dev_start_xmit`: handed to the driver.
    NetDevStartXmit = 11,
    /// `netif_rx`: put on a CPU's backlog, at the receiving device.
    NetifRx = 12,
    /// `netif_receive_skb`: taken up by the stack, at the receiving device.
    NetifReceiveSkb = 13,
    /// `veth_xmit` entered.
    VethXmit = 14,
    /// `qdisc_drop` (7.2 and later). args: drop reason of the QDISC subsystem.
    QdiscDrop = 15,
    /// `fib_table_lookup`. args: table, iif, oif, error (as i32), scope, address family of the gateway.
    /// other device: the next hop's. behind it: [`FlowAddresses`].
    FibTableLookup = 20,
    /// `fib6_table_lookup`. args: table, iif, oif, error (as i32), route type, route flags.
    /// other device: the next hop's. behind it: [`FlowAddresses`].
    Fib6TableLookup = 21,
    /// `fib_validate_source` returned. args: return value (as i32), source (IPv4, network order), destination, oif.
    FibValidateSource = 22,
    /// `ip_route_input_noref` returned. args: return value (as i32), destination (IPv4, network order), source.
    IpRouteInput = 23,
    /// `ip_forward` entered.
    IpForward = 24,
    /// `ip_local_deliver` entered.
    IpLocalDeliver = 25,
    /// `icmp_rcv` entered.
    IcmpRcv = 26,
    /// `icmp_echo` entered.
    IcmpEcho = 27,
    /// `icmp_send`: an ICMP error is about to be made because of this packet. args: type, code.
    IcmpSend = 28,
    /// `icmpv6_rcv` entered.
    Icmpv6Rcv = 29,
    /// `icmp6_send`: an ICMPv6 error is about to be made because of this packet. args: type, code.
    Icmp6Send = 30,
    /// `ip6_forward` entered.
    Ip6Forward = 31,
    /// `arp_process` entered.
    ArpProcess = 40,
    /// `ndisc_rcv` entered.
    NdiscRcv = 41,
    /// `neigh_update`. args: old state, new state, flags. mac: new link-layer address. behind it: protocol address.
    NeighUpdate = 42,
    /// `neigh_event_send_done`. args: state, return code. mac: link-layer address. behind it: protocol address.
    NeighEventSend = 43,
    /// `neigh_timer_handler`. args: state, 1 if a solicitation follows. mac: link-layer address. behind it: protocol address.
    NeighTimer = 44,
    /// `br_handle_frame` entered: a bridge port got the frame. (`struct sk_buff **`)
    BrHandleFrame = 50,
    /// `br_handle_frame_finish` entered: past the port's state and the bridge's netfilter.
    BrHandleFrameFinish = 51,
    /// `br_forward` entered. other device: the port it is meant for.
    BrForward = 52,
    /// `__br_forward` entered. other device: the port it goes out of.
    BrForwardPort = 53,
    /// `nf_hook_slow` returned. args: return value (as i32), hook, protocol family, verdict's priority index.
    /// device: in; other device: out.
    NfHookSlow = 60,
    /// `macvlan_start_xmit` entered.
    MacvlanStartXmit = 70,
    /// `macvlan_handle_frame` entered, at the lower device.
    MacvlanHandleFrame = 71,
    /// `vxlan_xmit` entered.
    VxlanXmit = 72,
    /// `vxlan_rcv` entered.
    VxlanRcv = 73,
    /// `ovs_dp_upcall`: no flow of Open vSwitch matches, or the flow says so.
    OvsUpcall = 74,
    /// `ovs_do_execute_action`. args: type of the action.
    OvsAction = 75,
    /// `ipvlan_start_xmit` entered.
    IpvlanStartXmit = 76,
    /// `ipvlan_handle_frame` entered, at the lower device.
    IpvlanHandleFrame = 77,
    /// `skb_copy_datagram_iovec`: a program reads the packet from its socket. args: bytes.
    SocketRead = 80,
    /// `sock_rcvqueue_full`: the socket has no room for the packet.
    SocketFull = 81,
}

impl ProbeId {
    /// Every probe, in the order of a packet's way as far as there is one.
    pub const ALL: [Self; 41] = [
        Self::KfreeSkb,
        Self::ConsumeSkb,
        Self::SkbClone,
        Self::NetDevQueue,
        Self::NetDevStartXmit,
        Self::NetifRx,
        Self::NetifReceiveSkb,
        Self::VethXmit,
        Self::QdiscDrop,
        Self::FibTableLookup,
        Self::Fib6TableLookup,
        Self::FibValidateSource,
        Self::IpRouteInput,
        Self::IpForward,
        Self::IpLocalDeliver,
        Self::IcmpRcv,
        Self::IcmpEcho,
        Self::IcmpSend,
        Self::Icmpv6Rcv,
        Self::Icmp6Send,
        Self::Ip6Forward,
        Self::ArpProcess,
        Self::NdiscRcv,
        Self::NeighUpdate,
        Self::NeighEventSend,
        Self::NeighTimer,
        Self::BrHandleFrame,
        Self::BrHandleFrameFinish,
        Self::BrForward,
        Self::BrForwardPort,
        Self::NfHookSlow,
        Self::MacvlanStartXmit,
        Self::MacvlanHandleFrame,
        Self::VxlanXmit,
        Self::VxlanRcv,
        Self::OvsUpcall,
        Self::OvsAction,
        Self::IpvlanStartXmit,
        Self::IpvlanHandleFrame,
        Self::SocketRead,
        Self::SocketFull,
    ];

    /// The probe of a record; None for a number that this version does not know.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|id| *id as u8 == number)
    }
}

/// Which packet of the exchange a record is about, as far as its own bytes tell.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// No packet at hand (route look-ups, neighbour events).
    None = 0,
    /// An ICMP or ICMPv6 echo request, a TCP SYN or a UDP datagram of the asker.
    EchoRequest = 1,
    /// An ICMP or ICMPv6 echo reply, what answers a SYN or a datagram.
    EchoReply = 2,
    /// An ICMP or ICMPv6 error that quotes one of these.
    IcmpError = 3,
    /// An ARP request.
    ArpRequest = 4,
    /// An ARP reply.
    ArpReply = 5,
    /// A neighbour solicitation.
    NeighSolicit = 6,
    /// A neighbour advertisement.
    NeighAdvert = 7,
    /// Anything else that is followed, such as a packet of a `watch`.
    Other = 8,
}

impl Role {
    /// The role of a record; None for a number that this version does not know.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::None,
            1 => Self::EchoRequest,
            2 => Self::EchoReply,
            3 => Self::IcmpError,
            4 => Self::ArpRequest,
            5 => Self::ArpReply,
            6 => Self::NeighSolicit,
            7 => Self::NeighAdvert,
            8 => Self::Other,
            _ => return None,
        })
    }
}

/// What the kernel-side filter lets through; constant from load on. The sets that may grow later
/// (identifiers, addresses, namespaces) are maps.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// UDP destination ports (host order) inside which an Ethernet frame or an IP packet is looked for; 0 means none.
    pub tunnel_ports: [u16; TUNNEL_PORTS],
    /// A [`Mode`].
    pub mode: u8,
    /// 1: ARP, ND, route look-ups and neighbour events count only in the namespaces of the map `NETNS`; packets that an
    /// expression matches are followed from the first sighting in one of them.
    pub only_netns: u8,
    /// 1: `kfree_skb` has a third argument, the reason.
    pub kfree_reason: u8,
    /// 1: `consume_skb` has a second argument, the location.
    pub consume_location: u8,
    /// 6 or 17: the exchange is one of TCP or UDP, whose near ports are in the map `PORTS`; else 0.
    pub transport: u8,
    /// A [`Told`].
    pub told: u8,
    /// 1: packets that an expression matches are followed from the first sighting at a device of the map `DEVICES`.
    pub only_devices: u8,
    /// 1: the expression is also asked about the packet inside a tunnel.
    pub inner: u8,
    /// 1: the expression reads Ethernet addresses.
    pub reads_addresses: u8,
    /// 1: the mode is [`Mode::Expression`], packets inside tunnels are not asked about, and the kernel lets a program read
    /// where a typed pointer to bytes leads.
    pub reads_in_place: u8,
    /// How many bytes of a packet are recorded, a multiple of 8, at most [`SNAP_MAX`].
    pub snap: u16,
    /// How far into a frame the expression can read, a multiple of 8, at most [`FRAME_REACH`].
    pub frame_bytes: u16,
    /// Always 0.
    pub padding: u16,
    /// The reader is woken when so many bytes wait for it; 0: for each record that finds it waiting.
    pub wake_bytes: u32,
}

/// How many bytes [`Config`] has.
pub const CONFIG_BYTES: usize = size_of::<Config>();

impl Config {
    /// One that asks for nothing.
    pub const NONE: Self = Self {
        tunnel_ports: [0; TUNNEL_PORTS],
        mode: Mode::Ping as u8,
        only_netns: 0,
        kfree_reason: 0,
        consume_location: 0,
        transport: 0,
        told: Told::Everything as u8,
        only_devices: 0,
        inner: 0,
        reads_addresses: 0,
        reads_in_place: 0,
        snap: PACKET_BYTES,
        frame_bytes: 0,
        padding: 0,
        wake_bytes: 0,
    };

    /// The structure as the bytes that it consists of, in order.
    pub fn bytes(&self) -> [u8; CONFIG_BYTES] {
        let mut bytes = [0; CONFIG_BYTES];
        for (index, port) in self.tunnel_ports.iter().enumerate() {
            bytes[index * 2..index * 2 + 2].copy_from_slice(&port.to_ne_bytes());
        }
        bytes[8..18].copy_from_slice(&[
            self.mode,
            self.only_netns,
            self.kfree_reason,
            self.consume_location,
            self.transport,
            self.told,
            self.only_devices,
            self.inner,
            self.reads_addresses,
            self.reads_in_place,
        ]);
        bytes[18..20].copy_from_slice(&self.snap.to_ne_bytes());
        bytes[20..22].copy_from_slice(&self.frame_bytes.to_ne_bytes());
        bytes[24..28].copy_from_slice(&self.wake_bytes.to_ne_bytes());
        bytes
    }
}

/// How the filter recognises a packet that it has not seen before.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The exchange of one ping: its echoes, the errors that quote them, the ARP and ND they need.
    Ping = 0,
    /// Whatever an expression matches.
    Expression = 1,
}

/// What is told of the packets that are followed.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Every sighting.
    Everything = 0,
    /// Only that packets were dropped.
    Losses = 1,
}

/// A field that shares its byte with others.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BitField {
    /// Byte offset in the structure; [`ABSENT`] if the kernel has no such field.
    pub byte: u32,
    /// How far the byte is to be shifted right.
    pub shift: u32,
    /// What to keep of it then.
    pub mask: u32,
}

impl BitField {
    /// A field that the kernel does not have.
    pub const ABSENT: Self = Self { byte: ABSENT, shift: 0, mask: 0 };
}

macro_rules! offsets {
    ($($(#[$doc:meta])* $field:ident,)*) => {
        /// Byte offsets in the running kernel's structures, from its BTF; [`ABSENT`] where it has no such field.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct Offsets {
            $($(#[$doc])* pub $field: u32,)*
            /// `sk_buff.pkt_type`.
            pub skb_pkt_type: BitField,
            /// `sk_buff.cloned`.
            pub skb_cloned: BitField,
            /// `sk_buff.vlan_present`, before 6.2; later a tag is there when `vlan_proto` is not 0.
            pub skb_vlan_present: BitField,
        }

        impl Offsets {
            /// A kernel of which nothing is known.
            pub const ABSENT: Self = Self {
                $($field: ABSENT,)*
                skb_pkt_type: BitField::ABSENT,
                skb_cloned: BitField::ABSENT,
                skb_vlan_present: BitField::ABSENT,
            };

            /// The structure as the words that it consists of, in order.
            pub fn words(&self) -> [u32; OFFSET_WORDS] {
                let mut words = [0; OFFSET_WORDS];
                let plain = [$(self.$field,)*];
                let bits = [self.skb_pkt_type, self.skb_cloned, self.skb_vlan_present]
                    .map(|field| [field.byte, field.shift, field.mask]);
                words[..plain.len()].copy_from_slice(&plain);
                words[plain.len()..].copy_from_slice(bits.as_flattened());
                words
            }
        }

        /// How many words [`Offsets`] has.
        pub const OFFSET_WORDS: usize = size_of::<Offsets>() / 4;
    };
}

offsets! {
    /// `sk_buff.dev`.
    skb_dev,
    /// `sk_buff.sk`.
    skb_sk,
    /// `sk_buff.head`.
    skb_head,
    /// `sk_buff.data`.
    skb_data,
    /// `sk_buff.tail`, an offset from `head` on 64-bit machines.
    skb_tail,
    /// `sk_buff.end`, an offset from `head` on 64-bit machines.
    skb_end,
    /// `sk_buff.network_header`, an offset from `head`.
    skb_network_header,
    /// `sk_buff.mac_header`, an offset from `head`.
    skb_mac_header,
    /// `sk_buff.protocol`, network byte order.
    skb_protocol,
    /// `sk_buff.vlan_tci`.
    skb_vlan_tci,
    /// `sk_buff.vlan_proto`, network byte order.
    skb_vlan_proto,
    /// `sk_buff.len`.
    skb_len,
    /// `sk_buff.data_len`.
    skb_data_len,
    /// `sk_buff.mark`.
    skb_mark,
    /// `sk_buff.skb_iif`.
    skb_iif,
    /// `sk_buff._skb_refdst`: a `dst_entry` with one flag in its lowest bit.
    skb_refdst,
    /// `skb_shared_info.dataref`: users of the data buffer, in the lower 16 bits.
    shinfo_dataref,
    /// `dst_entry.dev`.
    dst_dev,
    /// `sock.__sk_common.skc_net.net`.
    sock_net,
    /// `net_device.ifindex`.
    dev_ifindex,
    /// `net_device.nd_net.net`.
    dev_net,
    /// `net.ns.inum`.
    net_inum,
    /// `flowi4.saddr`.
    flow4_saddr,
    /// `flowi4.daddr`.
    flow4_daddr,
    /// `flowi4.__fl_common.flowic_oif`.
    flow4_oif,
    /// `flowi4.__fl_common.flowic_iif`.
    flow4_iif,
    /// `flowi4.__fl_common.flowic_scope`.
    flow4_scope,
    /// `flowi6.saddr`.
    flow6_saddr,
    /// `flowi6.daddr`.
    flow6_daddr,
    /// `flowi6.__fl_common.flowic_oif`.
    flow6_oif,
    /// `flowi6.__fl_common.flowic_iif`.
    flow6_iif,
    /// `fib_nh_common.nhc_dev`.
    nhc_dev,
    /// `fib_nh_common.nhc_gw_family`.
    nhc_gw_family,
    /// `fib_nh_common.nhc_gw`.
    nhc_gw,
    /// `fib6_result.nh`.
    fib6_result_nh,
    /// `fib6_result.fib6_flags`.
    fib6_result_flags,
    /// `fib6_result.fib6_type`.
    fib6_result_type,
    /// `fib6_nh.nh_common`.
    fib6_nh_common,
    /// `fib6_table.tb6_id`.
    fib6_table_id,
    /// `neighbour.tbl`.
    neigh_tbl,
    /// `neighbour.dev`.
    neigh_dev,
    /// `neighbour.nud_state`.
    neigh_state,
    /// `neighbour.ha`.
    neigh_ha,
    /// `neighbour.primary_key`.
    neigh_key,
    /// `neigh_table.family`.
    neigh_table_family,
    /// `nf_hook_state.hook`.
    hook_state_hook,
    /// `nf_hook_state.pf`.
    hook_state_pf,
    /// `nf_hook_state.in`.
    hook_state_in,
    /// `nf_hook_state.out`.
    hook_state_out,
    /// `nf_hook_state.net`.
    hook_state_net,
    /// `net_bridge_port.dev`.
    bridge_port_dev,
    /// `task_struct.nsproxy`.
    task_nsproxy,
    /// `nsproxy.net_ns`.
    nsproxy_net,
}

/// What is remembered of a packet that is followed; the value of the maps `TRACKED` and `HEADS`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Tracked {
    /// The tracking id, see [`Record::origin`].
    pub origin: u64,
    /// `skb->head` when last seen (map `TRACKED`), or the skb first seen with it (map `HEADS`).
    pub partner: u64,
    /// A [`Role`].
    pub role: u32,
    /// The [`ProbeId`] that saw it last; 0 if none has since it began.
    pub last: u32,
    /// 1: its data buffer is in the map `HEADS` (map `TRACKED` only).
    pub is_in_heads: u64,
}

const _: () = {
    use core::mem::{align_of, offset_of, size_of};

    assert!(size_of::<Record>() == 144);
    assert!(align_of::<Record>() == 8);
    assert!(offset_of!(Record, args) == 32);
    assert!(offset_of!(Record, netns) == 80);
    assert!(offset_of!(Record, cpu) == 112);
    assert!(offset_of!(Record, protocol) == 120);
    assert!(offset_of!(Record, mac) == 128);
    assert!(size_of::<FlowAddresses>() == ADDRESS_BYTES as usize);
    assert!(offset_of!(Config, mode) == 8);
    assert!(offset_of!(Config, snap) == 18);
    assert!(offset_of!(Config, wake_bytes) == 24);
    assert!(size_of::<Config>() == 28);
    assert!(FRAME_BYTES >= FRAME_REACH + 18);
    assert!(ProbeId::SocketFull as u32 <= 100 && COUNTER_UNDECIDED < COUNTERS);
    assert!(size_of::<Tracked>() == 32);
    assert!(size_of::<BitField>() == 12);
    assert!(size_of::<Offsets>().is_multiple_of(4));
};
