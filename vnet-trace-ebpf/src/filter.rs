//! Which packets are asked for, judged by their bytes alone.
//!
//! [`role_of`] is the entrance: it takes the address of a network header and gives the packet's
//! [`Role`], or [`Role::None`] for a packet that nobody asked for. These are:
//!
//! - an ICMP or ICMPv6 echo whose identifier is in [`IDENTIFIERS`], whatever its addresses, because
//!   NAT may rewrite them;
//! - where the question is one of TCP or UDP instead, segments with SYN or RST, or datagrams, whose near port is in
//!   [`PORTS`], whatever the other one is;
//! - an ICMP or ICMPv6 error that quotes such a packet;
//! - the later fragments of such a packet, by the identification that its first fragment had;
//! - ARP and neighbour discovery about an address in [`ADDRESSES`];
//! - each of these inside a tunnel: VXLAN and Geneve (by UDP port), GRE, IP in IP.
//!
//! Limits: one tunnel deep; of IPv6 extension headers only the fragment header is passed; encrypted
//! packets have no readable inside. A packet that was recognised once is followed by other means from
//! there on (see [`crate::track`]), so these limits matter for its first sighting only.
//!
//! The other mode, in which an expression decides, is [`crate::expression`].

use aya_ebpf::macros::map;
use aya_ebpf::maps::{HashMap, LruHashMap};
use vnet_trace_ebpf::Role;

use crate::desk::Desk;
use crate::read::{config, copy, dev_ifindex, dev_netns, field, net_inum, offset};

/// Addresses of interest, IPv4 as `::ffff:a.b.c.d`. Filled by user space; gateways found by route
/// look-ups of the exchange are added here.
#[map]
static ADDRESSES: HashMap<Address, u8> = HashMap::with_max_entries(4096, 0);

/// Namespaces of interest, by inode number.
#[map]
static NETNS: HashMap<u32, u8> = HashMap::with_max_entries(1024, 0);

/// Devices of interest, by namespace and interface index.
#[map]
static DEVICES: HashMap<[u32; 2], u8> = HashMap::with_max_entries(1024, 0);

/// Identifiers of our echoes, as they stand in the packet. NAT may add to them.
#[map]
static IDENTIFIERS: LruHashMap<u32, u8> = LruHashMap::with_max_entries(256, 0);

/// Our own ports, and what source NAT makes of them, as they stand in the packet.
#[map]
static PORTS: LruHashMap<u32, u8> = LruHashMap::with_max_entries(256, 0);

/// Identification of fragmented packets of ours; the value is the role.
#[map]
static FRAGMENTS: LruHashMap<[u32; 4], u32> = LruHashMap::with_max_entries(1024, 0);

pub const ETH_P_IP: u16 = 0x0800;
pub const ETH_P_ARP: u16 = 0x0806;
pub const ETH_P_IPV6: u16 = 0x86dd;
pub const ETH_P_8021Q: u16 = 0x8100;
pub const ETH_P_8021AD: u16 = 0x88a8;
const ETH_P_TEB: u16 = 0x6558;

const IPPROTO_ICMP: u8 = 1;
const IPPROTO_IPIP: u8 = 4;
const IPPROTO_TCP: u8 = 6;
const IPPROTO_UDP: u8 = 17;
const IPPROTO_IPV6: u8 = 41;
const IPPROTO_FRAGMENT: u8 = 44;
const IPPROTO_GRE: u8 = 47;
const IPPROTO_ICMPV6: u8 = 58;

const GENEVE_PORT: u16 = 6081;

/// The 16 bytes of an IPv6 address, in words because bytes would each take an instruction.
pub type Address = [u32; 4];

/// `::`.
pub const NO_ADDRESS: Address = [0; 4];

/// The outcome of looking at one network header: a role in the lowest byte, or an inner packet's
/// EtherType in bits 16 to 31 and its distance in bits 32 to 63.
type Outcome = u64;

const NOTHING: Outcome = 0;

const fn role(role: Role) -> Outcome {
    role as Outcome
}

const fn inner(ether_type: u16, distance: u32) -> Outcome {
    (ether_type as u64) << 16 | (distance as u64) << 32
}

/// Whether a packet of this EtherType can be asked for at all; the first and cheapest test.
#[inline(always)]
pub fn is_candidate(ether_type: u16) -> bool {
    matches!(ether_type, ETH_P_IP | ETH_P_ARP | ETH_P_IPV6 | ETH_P_8021Q | ETH_P_8021AD)
}

/// The role of the packet with this network header; 0 if it is not asked for.
#[inline(always)]
pub fn role_of(address: u64, ether_type: u16) -> u32 {
    exchange(address, u32::from(ether_type))
}

/// Where the packet inside a tunnel begins, and its EtherType.
#[inline(always)]
pub fn inside(address: u64, ether_type: u16) -> Option<(u64, u16)> {
    let outcome = network(address, u32::from(ether_type));
    // The lowest byte would be a role; there are none without identifiers and addresses to look for.
    (outcome >> 32 != 0).then_some((address + (outcome >> 32), (outcome >> 16) as u16))
}

/// Whether ARP, ND, look-ups and neighbour events of this namespace (0: unknown) are asked for.
#[inline(always)]
pub fn netns_wanted(inum: u32) -> bool {
    config!(only_netns) == 0 || inum == 0 || NETNS.get_ptr(inum).is_some()
}

/// Whether a packet of this role may begin where the skb on the desk is.
#[inline(always)]
pub fn place_wanted(desk: &Desk) -> bool {
    let role = desk.role;
    if role < Role::ArpRequest as u32 || config!(only_netns) == 0 && config!(only_devices) == 0 {
        return true;
    }
    let dev = desk.get(offset!(skb_dev));
    let netns = dev_netns(dev);
    if role != Role::Other as u32 {
        return netns_wanted(netns);
    }
    if config!(only_devices) != 0 && DEVICES.get_ptr([netns, dev_ifindex(dev)]).is_none() {
        return false;
    }
    if config!(only_netns) == 0 || NETNS.get_ptr(netns).is_some() {
        return true;
    }
    // A packet that its sender has not got to a device yet is where its socket is.
    let sock: u64 = desk.get(offset!(skb_sk));
    netns == 0 && NETNS.get_ptr(net_inum(field(sock, offset!(sock_net)))).is_some()
}

/// Whether an address is asked for.
#[inline(always)]
pub fn address_wanted(address: &Address) -> bool {
    ADDRESSES.get_ptr(address).is_some()
}

/// Adds an address: a next hop of a packet of ours, which ARP or ND will be about.
#[inline(always)]
pub fn want_address(address: &Address) {
    let _ = ADDRESSES.insert(address, 1, 0);
}

/// Reads the identifier or the source port of a request that is followed anyway, so that its answer is
/// recognised after NAT has changed it.
#[inline(always)]
pub fn learn_identifier(address: u64) {
    let header: [u8; 10] = copy(address);
    let (at, protocol) = match header[0] >> 4 {
        4 => (address + u64::from(header[0] & 0xf) * 4, header[9]),
        6 => (address + 40, header[6]),
        _ => return,
    };
    if is_transport(protocol) {
        let port: [u8; 2] = copy(at);
        if !port_wanted(port[0], port[1]) {
            let _ = PORTS.insert(u32::from(be16(port[0], port[1])), 1, 0);
        }
        return;
    }
    if !matches!(protocol, IPPROTO_ICMP | IPPROTO_ICMPV6) {
        return;
    }
    let echo: [u8; 8] = copy(at);
    if matches!(echo[0], 8 | 128) && !identifier_wanted(echo[4], echo[5]) {
        let _ = IDENTIFIERS.insert(u32::from(be16(echo[4], echo[5])), 1, 0);
    }
}

/// An IPv4 address (in network byte order, as it lies in memory) as the maps hold it.
#[inline(always)]
pub fn mapped(address: u32) -> Address {
    [0, 0, 0xffff_0000_u32.to_le(), address]
}

#[inline(always)]
fn be16(high: u8, low: u8) -> u16 {
    u16::from_be_bytes([high, low])
}

#[inline(always)]
fn identifier_wanted(high: u8, low: u8) -> bool {
    IDENTIFIERS.get_ptr(u32::from(be16(high, low))).is_some()
}

#[inline(always)]
fn port_wanted(high: u8, low: u8) -> bool {
    PORTS.get_ptr(u32::from(be16(high, low))).is_some()
}

/// Whether the exchange is one of this protocol, TCP or UDP.
#[inline(always)]
fn is_transport(protocol: u8) -> bool {
    config!(transport) != 0 && protocol == config!(transport)
}

/// Looks at a packet and, if it is a tunnel's, at the packet inside.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn exchange(address: u64, ether_type: u32) -> u32 {
    let outer = network(address, ether_type);
    if outer as u8 != 0 {
        return outer as u32 & 0xff;
    }
    if outer == NOTHING {
        return 0;
    }
    network(address + (outer >> 32), (outer >> 16) as u32 & 0xffff) as u32 & 0xff
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn network(address: u64, ether_type: u32) -> Outcome {
    match ether_type as u16 {
        ETH_P_IP => ipv4(address),
        ETH_P_IPV6 => ipv6(address),
        ETH_P_ARP => arp(address),
        _ => NOTHING,
    }
}

/// RFC 826.
#[inline(always)]
fn arp(address: u64) -> Outcome {
    let fixed: [u8; 8] = copy(address);
    // Protocol type IPv4, hardware addresses of 6 bytes, protocol addresses of 4 bytes.
    if fixed[2] != 0x08 || fixed[3] != 0 || fixed[4] != 6 || fixed[5] != 4 {
        return NOTHING;
    }
    if !address_wanted(&mapped(copy(address + 14))) && !address_wanted(&mapped(copy(address + 24))) {
        return NOTHING;
    }
    match fixed[7] {
        1 => role(Role::ArpRequest),
        2 => role(Role::ArpReply),
        _ => NOTHING,
    }
}

/// RFC 791, and what it carries.
#[inline(always)]
fn ipv4(address: u64) -> Outcome {
    let header: [u8; 20] = copy(address);
    if header[0] >> 4 != 4 {
        return NOTHING;
    }
    let length = u32::from(header[0] & 0xf) * 4;
    let protocol = header[9];
    if !carries(protocol) {
        return NOTHING;
    }
    let fragment = be16(header[6], header[7]);
    if fragment & 0x3fff == 0 {
        return transport(address, length, u32::from(protocol));
    }
    let key = [
        u32::from_ne_bytes([header[12], header[13], header[14], header[15]]),
        u32::from_ne_bytes([header[16], header[17], header[18], header[19]]),
        u32::from(be16(header[4], header[5])),
        4,
    ];
    fragmented(address, length, protocol, fragment & 0x1fff == 0, &key)
}

/// RFC 8200, and what it carries.
#[inline(always)]
fn ipv6(address: u64) -> Outcome {
    let first: u8 = copy(address);
    let next: u8 = copy(address + 6);
    if first >> 4 != 6 || !carries(next) {
        return NOTHING;
    }
    if next != IPPROTO_FRAGMENT {
        return transport(address, 40, u32::from(next));
    }
    let fragment: [u8; 8] = copy(address + 40);
    let identification = u32::from_ne_bytes([fragment[4], fragment[5], fragment[6], fragment[7]]);
    let source: u32 = copy(address + 20);
    let destination: u32 = copy(address + 36);
    let key = [source, destination, identification, 6];
    let is_first = be16(fragment[2], fragment[3]) & 0xfff8 == 0;
    if !carries(fragment[0]) {
        return NOTHING;
    }
    fragmented(address, 48, fragment[0], is_first, &key)
}

/// Whether a packet of ours can be in this protocol.
#[inline(always)]
fn carries(protocol: u8) -> bool {
    matches!(
        protocol,
        IPPROTO_ICMP | IPPROTO_IPIP | IPPROTO_UDP | IPPROTO_IPV6 | IPPROTO_FRAGMENT | IPPROTO_GRE | IPPROTO_ICMPV6
    ) || is_transport(protocol)
}

/// The first fragment tells what the packet is; the others are recognised by its identification.
#[inline(always)]
fn fragmented(address: u64, length: u32, protocol: u8, is_first: bool, key: &[u32; 4]) -> Outcome {
    if !is_first {
        // SAFETY: a value that is being replaced is a role all the same.
        return unsafe { FRAGMENTS.get(key) }.map_or(NOTHING, |role| Outcome::from(*role));
    }
    let outcome = transport(address, length, u32::from(protocol));
    if outcome as u8 != 0 {
        let _ = FRAGMENTS.insert(key, outcome as u32 & 0xff, 0);
    }
    outcome
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn transport(address: u64, length: u32, protocol: u32) -> Outcome {
    let at = address + u64::from(length);
    match protocol as u8 {
        IPPROTO_ICMP => icmp(at),
        IPPROTO_ICMPV6 => icmpv6(address, at),
        IPPROTO_TCP if is_transport(IPPROTO_TCP) => tcp(at),
        IPPROTO_UDP => udp(at, length),
        IPPROTO_GRE => gre(at, length),
        IPPROTO_IPIP => inner(ETH_P_IP, length),
        IPPROTO_IPV6 => inner(ETH_P_IPV6, length),
        _ => NOTHING,
    }
}

/// RFC 9293: what opens, accepts or refuses a connection.
#[inline(always)]
fn tcp(at: u64) -> Outcome {
    let header: [u8; 14] = copy(at);
    const SYN_OR_RST: u8 = 0x06;
    if header[13] & SYN_OR_RST == 0 {
        return NOTHING;
    }
    near([header[0], header[1], header[2], header[3]])
}

/// Which way a segment or datagram of ours goes, by its ports.
#[inline(always)]
fn near(ports: [u8; 4]) -> Outcome {
    if port_wanted(ports[0], ports[1]) {
        role(Role::EchoRequest)
    } else if port_wanted(ports[2], ports[3]) {
        role(Role::EchoReply)
    } else {
        NOTHING
    }
}

/// RFC 792.
#[inline(always)]
fn icmp(at: u64) -> Outcome {
    let header: [u8; 8] = copy(at);
    match header[0] {
        8 if identifier_wanted(header[4], header[5]) => role(Role::EchoRequest),
        0 if identifier_wanted(header[4], header[5]) => role(Role::EchoReply),
        // Destination unreachable, source quench, redirect, time exceeded, parameter problem.
        3 | 4 | 5 | 11 | 12 => quoted_ipv4(at + 8),
        _ => NOTHING,
    }
}

#[inline(always)]
fn quoted_ipv4(address: u64) -> Outcome {
    let header: [u8; 20] = copy(address);
    let at = address + u64::from(header[0] & 0xf) * 4;
    if header[0] >> 4 == 4 && is_transport(header[9]) {
        return quoted_ports(at);
    }
    if header[0] >> 4 != 4 || header[9] != IPPROTO_ICMP {
        return NOTHING;
    }
    let echo: [u8; 8] = copy(at);
    if matches!(echo[0], 0 | 8) && identifier_wanted(echo[4], echo[5]) { role(Role::IcmpError) } else { NOTHING }
}

#[inline(always)]
fn quoted_ports(at: u64) -> Outcome {
    if near(copy(at)) == NOTHING { NOTHING } else { role(Role::IcmpError) }
}

/// RFC 4443 and RFC 4861.
#[inline(always)]
fn icmpv6(address: u64, at: u64) -> Outcome {
    let header: [u8; 8] = copy(at);
    match header[0] {
        128 if identifier_wanted(header[4], header[5]) => role(Role::EchoRequest),
        129 if identifier_wanted(header[4], header[5]) => role(Role::EchoReply),
        // Destination unreachable, packet too big, time exceeded, parameter problem, redirect.
        1..=4 => quoted_ipv6(at + 8),
        135 if neighbour_wanted(address, at) => role(Role::NeighSolicit),
        136 if neighbour_wanted(address, at) => role(Role::NeighAdvert),
        _ => NOTHING,
    }
}

#[inline(always)]
fn quoted_ipv6(address: u64) -> Outcome {
    let next: u8 = copy(address + 6);
    if is_transport(next) {
        return quoted_ports(address + 40);
    }
    let at = match next {
        IPPROTO_ICMPV6 => address + 40,
        IPPROTO_FRAGMENT => address + 48,
        _ => return NOTHING,
    };
    let echo: [u8; 8] = copy(at);
    if matches!(echo[0], 128 | 129) && identifier_wanted(echo[4], echo[5]) { role(Role::IcmpError) } else { NOTHING }
}

#[inline(always)]
fn neighbour_wanted(address: u64, at: u64) -> bool {
    let target: Address = copy(at + 8);
    if address_wanted(&target) {
        return true;
    }
    let source: Address = copy(address + 8);
    address_wanted(&source)
}

/// VXLAN (RFC 7348) and Geneve (RFC 8926), by their destination port.
#[inline(always)]
fn udp(at: u64, length: u32) -> Outcome {
    let ports: [u8; 4] = copy(at);
    if is_transport(IPPROTO_UDP) {
        let ours = near(ports);
        if ours != NOTHING {
            return ours;
        }
    }
    let port = be16(ports[2], ports[3]);
    let tunnels = config!(tunnel_ports);
    if port == 0 || (port != tunnels[0] && port != tunnels[1] && port != tunnels[2] && port != tunnels[3]) {
        return NOTHING;
    }
    let mut skip = length + 16;
    if port == GENEVE_PORT {
        let geneve: [u8; 4] = copy(at + 8);
        skip += u32::from(geneve[0] & 0x3f) * 4;
        let ether_type = be16(geneve[2], geneve[3]);
        if ether_type != ETH_P_TEB {
            return inner(ether_type, skip);
        }
    }
    ethernet(at + u64::from(skip - length), skip)
}

/// RFC 2784 and RFC 2890.
#[inline(always)]
fn gre(at: u64, length: u32) -> Outcome {
    let header: [u8; 4] = copy(at);
    let mut skip = length + 4;
    // Checksum, key and sequence number add four bytes each.
    if header[0] & 0x80 != 0 {
        skip += 4;
    }
    if header[0] & 0x20 != 0 {
        skip += 4;
    }
    if header[0] & 0x10 != 0 {
        skip += 4;
    }
    let ether_type = be16(header[2], header[3]);
    if ether_type == ETH_P_TEB {
        return ethernet(at + u64::from(skip - length), skip);
    }
    inner(ether_type, skip)
}

/// An Ethernet frame inside a tunnel, `skip` bytes after the outer network header.
#[inline(always)]
fn ethernet(at: u64, skip: u32) -> Outcome {
    let ether_type: [u8; 2] = copy(at + 12);
    let ether_type = be16(ether_type[0], ether_type[1]);
    if ether_type == ETH_P_8021Q || ether_type == ETH_P_8021AD {
        let tagged: [u8; 2] = copy(at + 16);
        return inner(be16(tagged[0], tagged[1]), skip + 18);
    }
    inner(ether_type, skip + 14)
}
