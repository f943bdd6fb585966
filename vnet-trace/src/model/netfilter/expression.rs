//! What a rule can ask about a packet: fields, values, and the patterns they are compared with.
//!
//! Takes nothing, gives the types that [`super::statement::Statement::Match`] is made of. Symbols (`established`, `tcp`,
//! `echo-request`, `drop`) are already numbers here: the parser resolves them by the field they are compared with, so that the
//! evaluator never sees a name except a device's.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// One condition: `left op right`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Match {
    /// What is looked at.
    pub left: Expression,
    /// How it is compared.
    pub op: Op,
    /// With what.
    pub right: Pattern,
}

/// How a condition compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Equal to, or contained in, the pattern.
    Equal,
    /// Neither equal nor contained.
    NotEqual,
    /// Smaller.
    Less,
    /// Greater.
    Greater,
    /// Smaller or equal.
    LessOrEqual,
    /// Greater or equal.
    GreaterOrEqual,
    /// At least one of the pattern's bits is set (`ct state established,related`).
    AnyBit,
    /// None of the pattern's bits is set.
    NoBit,
}

/// Something that has a value once there is a packet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Expression {
    /// The value itself.
    Value(Value),
    /// Whole bytes of an address, as a NAT target: `10.1.0.0/24`.
    Prefix {
        /// Network address.
        address: IpAddr,
        /// Its length in bits.
        length: u8,
    },
    /// Any of these, as a NAT target: `10.0.0.1-10.0.0.9`, `80-90`.
    Range {
        /// The lowest.
        from: Value,
        /// The highest.
        to: Value,
    },
    /// A field of the packet, or something the kernel knows about it.
    Field(Field),
    /// Several at once: `ip saddr . tcp dport`.
    Concat(Vec<Expression>),
    /// Arithmetic on bits: `meta mark & 0xff`.
    Bits {
        /// Which.
        op: BitOp,
        /// Left operand.
        left: Box<Expression>,
        /// Right operand.
        right: Box<Expression>,
    },
    /// The value that a map holds for a key.
    Lookup {
        /// What is looked up.
        key: Box<Expression>,
        /// Where.
        map: MapRef,
    },
    /// A number from a generator: random or counting up, `offset ..= offset + modulus - 1`.
    Generated {
        /// How many different numbers.
        modulus: u64,
        /// The smallest.
        offset: u64,
    },
    /// Not understood: has some value, which we do not know.
    Unknown {
        /// As written.
        text: String,
    },
}

/// A map or set: written in the rule, or named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum MapRef {
    /// In the rule itself.
    Anonymous(Vec<super::Element>),
    /// `@name`, in the same table.
    Named(String),
}

/// Arithmetic on bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BitOp {
    /// `&`
    And,
    /// `|`
    Or,
    /// `^`
    Xor,
    /// `<<`
    ShiftLeft,
    /// `>>`
    ShiftRight,
}

/// A value of a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Value {
    /// A number, a bit set or a resolved symbol, in host byte order.
    Number(u64),
    /// An IPv4 or IPv6 address.
    Address(IpAddr),
    /// A hardware address.
    Mac([u8; 6]),
    /// A device's name, a device's kind, or a symbol that we do not know.
    Name(String),
    /// Values side by side.
    Concat(Vec<Value>),
}

/// What a value is compared with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Pattern {
    /// Exactly this.
    Is(Value),
    /// An address in this network.
    Prefix {
        /// Network address.
        address: IpAddr,
        /// Its length in bits.
        length: u8,
    },
    /// A value between, both ends included.
    Range {
        /// The lowest.
        from: Value,
        /// The highest.
        to: Value,
    },
    /// A name that begins so: `"veth*"`, `veth+`.
    NameStart(String),
    /// These bits of the value are these: `value & mask == bits` (`--mark 0x4000/0x4000`, a MAC with a mask).
    Masked {
        /// Value of the bits that count.
        bits: u64,
        /// Which bits count.
        mask: u64,
    },
    /// Everything (`*` in a set).
    Any,
    /// One of these.
    Set(Vec<Pattern>),
    /// One of a named set's elements.
    Named(String),
    /// Part by part.
    Concat(Vec<Pattern>),
    /// Another expression's value, known only with the packet.
    Computed(Box<Expression>),
    /// Not understood.
    Unknown {
        /// As written.
        text: String,
    },
}

/// What a field's values are; how its symbols are read and printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// Nothing particular.
    Number,
    /// IPv4 or IPv6.
    Address,
    /// Hardware address.
    Mac,
    /// A device's name.
    DeviceName,
    /// A device, by index. Listed by name, so a [`Value::Name`] if it was deleted since.
    DeviceIndex,
    /// A protocol above IP.
    Protocol,
    /// A port.
    Port,
    /// An EtherType.
    EtherType,
    /// IPv4 or IPv6 (`nfproto`).
    NfProto,
    /// ICMP type.
    IcmpType,
    /// ICMP code.
    IcmpCode,
    /// ICMPv6 type.
    Icmp6Type,
    /// ICMPv6 code.
    Icmp6Code,
    /// ARP operation.
    ArpOperation,
    /// Bits of conntrack's state.
    CtState,
    /// Bits of conntrack's status.
    CtStatus,
    /// 0 original, 1 reply.
    CtDirection,
    /// host, broadcast, multicast, other.
    PacketType,
    /// ARPHRD number.
    DeviceType,
    /// Route type: local, broadcast, unicast …
    AddressType,
    /// TCP flags.
    TcpFlags,
    /// Differentiated services code point.
    Dscp,
    /// Explicit congestion notification.
    Ecn,
    /// A packet mark.
    Mark,
    /// Yes or no.
    Flag,
    /// A name of something else.
    Text,
    /// Not known to us.
    Other,
}

/// Where raw bits are counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HeaderBase {
    /// Ethernet.
    Link,
    /// IP or ARP.
    Network,
    /// What follows the IP header.
    Transport,
    /// What follows the transport header, or anything else that we do not hold.
    Beyond,
}

/// Which address a `fib` expression looks up, and with what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "nftables' own independent flags of the fib expression")]
pub struct FibFlags {
    /// The source address rather than the destination.
    pub source: bool,
    /// With the packet's mark.
    pub mark: bool,
    /// Seen from the input device.
    pub iif: bool,
    /// Seen from the output device.
    pub oif: bool,
}

/// Which side of a connection a conntrack field is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum CtSide {
    /// As the connection was begun.
    Original,
    /// As replies come back.
    Reply,
}

/// A field of the packet, or something the kernel knows about it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Field {
    /// Name of the input device.
    IifName,
    /// Name of the output device.
    OifName,
    /// Index of the input device.
    Iif,
    /// Index of the output device.
    Oif,
    /// ARPHRD type of the input device.
    IifType,
    /// ARPHRD type of the output device.
    OifType,
    /// Kind of the input device (`veth`, `bridge` …).
    IifKind,
    /// Kind of the output device.
    OifKind,
    /// Group of the input device.
    IifGroup,
    /// Group of the output device.
    OifGroup,
    /// Device in a VRF by which it really came in.
    SdifName,
    /// Bridge of the input port.
    BridgeIn,
    /// Bridge of the output port.
    BridgeOut,
    /// Bridge port by which br_netfilter's packet came in.
    PhysIn,
    /// Bridge port by which br_netfilter's packet will go out.
    PhysOut,
    /// Whether br_netfilter's packet is being bridged rather than routed.
    PhysBridged,
    /// Whether it came in by a bridge port.
    PhysHasIn,
    /// Whether it goes out by a bridge port.
    PhysHasOut,
    /// Protocol above IP.
    L4Proto,
    /// IPv4 or IPv6.
    NfProto,
    /// EtherType of the packet.
    Protocol,
    /// Packet mark.
    Mark,
    /// Length of the network-layer packet in bytes.
    Length,
    /// To this host, broadcast, multicast or other.
    PacketType,
    /// User that owns the sending socket.
    SocketUser,
    /// The same, and a number that no user has where there is no socket: `-m owner ! --uid-owner N` matches then.
    SocketUserOrNone,
    /// Group that owns the sending socket.
    SocketGroup,
    /// Source hardware address.
    EtherSource,
    /// Destination hardware address.
    EtherDestination,
    /// EtherType in the frame (8021q for a tagged one).
    EtherType,
    /// VLAN identifier of a tagged frame.
    VlanId,
    /// ARP hardware type.
    ArpHardwareType,
    /// ARP protocol type.
    ArpProtocolType,
    /// ARP hardware address length.
    ArpHardwareLength,
    /// ARP protocol address length.
    ArpProtocolLength,
    /// ARP operation.
    ArpOperation,
    /// ARP sender protocol address.
    ArpSourceIp,
    /// ARP target protocol address.
    ArpTargetIp,
    /// ARP sender hardware address.
    ArpSourceMac,
    /// ARP target hardware address.
    ArpTargetMac,
    /// Source address. In a table for both families only one of them can be meant.
    Source(IpVersion),
    /// Destination address.
    Destination(IpVersion),
    /// TTL or hop limit.
    HopLimit(IpVersion),
    /// `ip protocol`, `ip6 nexthdr`.
    NextHeader(IpVersion),
    /// Version number in the header.
    Version(IpVersion),
    /// Total length (IPv4) or payload length (IPv6).
    IpLength(IpVersion),
    /// Differentiated services code point.
    Dscp(IpVersion),
    /// Explicit congestion notification.
    Ecn(IpVersion),
    /// IPv4 identification.
    IpId,
    /// IPv4 flags and fragment offset, 16 bits.
    FragmentBits,
    /// IPv4 header length in bytes.
    HeaderLength,
    /// Whether a fragment other than the first, as iptables `-f`.
    LaterFragment,
    /// ICMP type.
    IcmpType,
    /// ICMP code.
    IcmpCode,
    /// ICMP echo identifier.
    IcmpId,
    /// ICMP echo sequence number.
    IcmpSequence,
    /// ICMPv6 type.
    Icmp6Type,
    /// ICMPv6 code.
    Icmp6Code,
    /// ICMPv6 echo identifier.
    Icmp6Id,
    /// ICMPv6 echo sequence number.
    Icmp6Sequence,
    /// Source port of a protocol, by its number.
    SourcePort(u8),
    /// Destination port of a protocol, by its number.
    DestinationPort(u8),
    /// First two bytes after the IP header, whatever they are.
    AnySourcePort,
    /// Next two bytes after the IP header.
    AnyDestinationPort,
    /// TCP flags.
    TcpFlags,
    /// Bits of a header by place.
    Raw {
        /// Counted from here.
        base: HeaderBase,
        /// First bit.
        offset: u32,
        /// How many bits.
        length: u32,
    },
    /// conntrack's state, as bits.
    CtState,
    /// conntrack's state with iptables' two virtual states: bit 8 SNAT, bit 9 DNAT.
    CtStateOrNat,
    /// conntrack's status, as bits.
    CtStatus,
    /// 0 original, 1 reply.
    CtDirection,
    /// Mark of the connection.
    CtMark,
    /// Protocol above IP of the connection.
    CtProtocol,
    /// Source address of the connection.
    CtSource(CtSide),
    /// Destination address of the connection.
    CtDestination(CtSide),
    /// Source port of the connection.
    CtSourcePort(CtSide),
    /// Destination port of the connection.
    CtDestinationPort(CtSide),
    /// Type of an address in the routing tables.
    FibType(FibFlags),
    /// Index of the device that the routing tables give.
    FibOif(FibFlags),
    /// Its name.
    FibOifName(FibFlags),
    /// Whether there is such a route at all.
    FibExists(FibFlags),
    /// Whether a VRF, tunnel or IPsec policy applies; always unknown to us.
    Ipsec,
    /// Anything else.
    Other {
        /// As written.
        text: String,
    },
}

/// Which IP header a field belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum IpVersion {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// conntrack state bits, as nftables numbers them.
pub mod ct_state {
    /// Not part of any connection, or the packet is malformed.
    pub const INVALID: u64 = 1;
    /// Packets were seen both ways.
    pub const ESTABLISHED: u64 = 2;
    /// Begins something that belongs to a known connection: an ICMP error, an FTP data connection.
    pub const RELATED: u64 = 4;
    /// Begins a connection.
    pub const NEW: u64 = 8;
    /// Taken out of tracking by a rule.
    pub const UNTRACKED: u64 = 64;
    /// iptables' virtual state: its source was rewritten.
    pub const SNAT: u64 = 256;
    /// iptables' virtual state: its destination was rewritten.
    pub const DNAT: u64 = 512;
}

/// conntrack status bits (enum ip_conntrack_status, include/uapi/linux/netfilter/nf_conntrack_common.h).
pub mod ct_status {
    /// Came from an expectation.
    pub const EXPECTED: u64 = 1;
    /// Packets were seen both ways.
    pub const SEEN_REPLY: u64 = 2;
    /// Not evicted early.
    pub const ASSURED: u64 = 4;
    /// The first packet left the machine.
    pub const CONFIRMED: u64 = 8;
    /// Source rewritten.
    pub const SNAT: u64 = 16;
    /// Destination rewritten.
    pub const DNAT: u64 = 32;
}
