//! Names that rules use for numbers, by the kind of field: `established`, `tcp`, `echo-request`, `drop`.
//!
//! nft prints a number as a name where it knows one. The numbers are protocol constants (IANA's registries, RFC 792, 826,
//! 4443) or the kernel's own (nf_conntrack_common.h, if_packet.h, if_arp.h, rtnetlink.h).

use crate::model::netfilter::expression::Kind;

/// The number that a name stands for.
pub fn number(kind: Kind, name: &str) -> Option<u64> {
    if let Some((_, value)) = table(kind).iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        return Some(*value);
    }
    match kind {
        Kind::Dscp => dscp(name),
        _ => None,
    }
    .or_else(|| plain(name))
}

/// A plain number, decimal or hexadecimal.
pub fn plain(text: &str) -> Option<u64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// A hardware address.
pub fn mac(text: &str) -> Option<[u8; 6]> {
    let mut bytes = [0u8; 6];
    let mut parts = text.split(':');
    for byte in &mut bytes {
        let part = parts.next()?;
        if part.is_empty() || part.len() > 2 {
            return None;
        }
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(bytes)
}

/// The kind that nftables calls so in a set's type.
pub fn kind(name: &str) -> Kind {
    match name {
        "ipv4_addr" | "ipv6_addr" => Kind::Address,
        "ether_addr" | "ll_addr" => Kind::Mac,
        "ifname" => Kind::DeviceName,
        "iface_index" => Kind::DeviceIndex,
        "inet_proto" => Kind::Protocol,
        "inet_service" => Kind::Port,
        "ether_type" => Kind::EtherType,
        "nf_proto" => Kind::NfProto,
        "icmp_type" => Kind::IcmpType,
        "icmp_code" => Kind::IcmpCode,
        "icmpv6_type" => Kind::Icmp6Type,
        "icmpv6_code" => Kind::Icmp6Code,
        "arp_op" => Kind::ArpOperation,
        "ct_state" => Kind::CtState,
        "ct_status" => Kind::CtStatus,
        "ct_dir" => Kind::CtDirection,
        "pkt_type" => Kind::PacketType,
        "iface_type" => Kind::DeviceType,
        "fib_addrtype" => Kind::AddressType,
        "tcp_flag" => Kind::TcpFlags,
        "dscp" => Kind::Dscp,
        "ecn" => Kind::Ecn,
        "mark" => Kind::Mark,
        "boolean" => Kind::Flag,
        "integer" | "invalid" => Kind::Number,
        "string" | "ifkind" | "ct_helper" => Kind::Text,
        _ => Kind::Other,
    }
}

fn table(kind: Kind) -> &'static [(&'static str, u64)] {
    match kind {
        Kind::Protocol => PROTOCOLS,
        Kind::EtherType => ETHER_TYPES,
        Kind::NfProto => &[("ipv4", 2), ("ipv6", 10), ("inet", 1), ("arp", 3), ("netdev", 5), ("bridge", 7)],
        Kind::IcmpType => ICMP_TYPES,
        Kind::IcmpCode => &[
            ("net-unreachable", 0),
            ("host-unreachable", 1),
            ("prot-unreachable", 2),
            ("port-unreachable", 3),
            ("frag-needed", 4),
            ("net-prohibited", 9),
            ("host-prohibited", 10),
            ("admin-prohibited", 13),
        ],
        Kind::Icmp6Type => ICMP6_TYPES,
        Kind::Icmp6Code => &[
            ("no-route", 0),
            ("admin-prohibited", 1),
            ("addr-unreachable", 3),
            ("port-unreachable", 4),
            ("policy-fail", 5),
            ("reject-route", 6),
        ],
        Kind::ArpOperation => &[
            ("request", 1),
            ("reply", 2),
            ("rrequest", 3),
            ("rreply", 4),
            ("inrequest", 8),
            ("inreply", 9),
            ("nak", 10),
        ],
        Kind::CtState => &[
            ("invalid", 1),
            ("established", 2),
            ("related", 4),
            ("new", 8),
            ("untracked", 64),
            ("snat", 256),
            ("dnat", 512),
        ],
        Kind::CtStatus => &[
            ("none", 0),
            ("expected", 1),
            ("seen-reply", 2),
            ("seen_reply", 2),
            ("assured", 4),
            ("confirmed", 8),
            ("snat", 16),
            ("dnat", 32),
            ("dying", 512),
        ],
        Kind::CtDirection => &[("original", 0), ("reply", 1)],
        Kind::PacketType => {
            &[("host", 0), ("unicast", 0), ("broadcast", 1), ("multicast", 2), ("other", 3), ("otherhost", 3)]
        }
        Kind::DeviceType => &[
            ("ether", 1),
            ("ppp", 512),
            ("ipip", 768),
            ("ipip6", 769),
            ("loopback", 772),
            ("sit", 776),
            ("ipgre", 778),
        ],
        Kind::AddressType => &[
            ("unspec", 0),
            ("unicast", 1),
            ("local", 2),
            ("broadcast", 3),
            ("anycast", 4),
            ("multicast", 5),
            ("blackhole", 6),
            ("unreachable", 7),
            ("prohibit", 8),
            ("throw", 9),
            ("nat", 10),
            ("xresolve", 11),
        ],
        Kind::TcpFlags => &[
            ("fin", 1),
            ("syn", 2),
            ("rst", 4),
            ("psh", 8),
            ("ack", 16),
            ("urg", 32),
            ("ecn", 64),
            ("ece", 64),
            ("cwr", 128),
        ],
        Kind::Ecn => &[("not-ect", 0), ("ect1", 1), ("ect0", 2), ("ce", 3)],
        Kind::Flag => &[("missing", 0), ("exists", 1)],
        _ => &[],
    }
}

fn dscp(name: &str) -> Option<u64> {
    let name = name.to_ascii_lowercase();
    if let Some(class) = name.strip_prefix("cs") {
        return class.parse::<u64>().ok().filter(|class| *class < 8).map(|class| class * 8);
    }
    if let Some(digits) = name.strip_prefix("af") {
        let number: u64 = digits.parse().ok()?;
        let (class, drop) = (number / 10, number % 10);
        return ((1..=4).contains(&class) && (1..=3).contains(&drop)).then_some(class * 8 + drop * 2);
    }
    match name.as_str() {
        "ef" => Some(46),
        "be" | "df" => Some(0),
        "va" => Some(44),
        "lephb" => Some(1),
        _ => None,
    }
}

const PROTOCOLS: &[(&str, u64)] = &[
    ("icmp", 1),
    ("igmp", 2),
    ("ipencap", 4),
    ("tcp", 6),
    ("egp", 8),
    ("udp", 17),
    ("dccp", 33),
    ("ipv6", 41),
    ("ipv6-route", 43),
    ("ipv6-frag", 44),
    ("rsvp", 46),
    ("gre", 47),
    ("esp", 50),
    ("ipsec-esp", 50),
    ("ah", 51),
    ("ipsec-ah", 51),
    ("icmpv6", 58),
    ("ipv6-icmp", 58),
    ("ipv6-nonxt", 59),
    ("ipv6-opts", 60),
    ("eigrp", 88),
    ("ospf", 89),
    ("ipip", 94),
    ("etherip", 97),
    ("encap", 98),
    ("pim", 103),
    ("comp", 108),
    ("ipcomp", 108),
    ("vrrp", 112),
    ("l2tp", 115),
    ("sctp", 132),
    ("mobility-header", 135),
    ("udplite", 136),
    ("mptcp", 262),
];

const ETHER_TYPES: &[(&str, u64)] = &[
    ("ip", 0x0800),
    ("ipv4", 0x0800),
    ("arp", 0x0806),
    ("ip6", 0x86dd),
    ("ipv6", 0x86dd),
    ("vlan", 0x8100),
    ("8021q", 0x8100),
    ("802_1q", 0x8100),
    ("8021ad", 0x88a8),
    ("mpls", 0x8847),
];

const ICMP_TYPES: &[(&str, u64)] = &[
    ("echo-reply", 0),
    ("pong", 0),
    ("destination-unreachable", 3),
    ("source-quench", 4),
    ("redirect", 5),
    ("echo-request", 8),
    ("ping", 8),
    ("router-advertisement", 9),
    ("router-solicitation", 10),
    ("time-exceeded", 11),
    ("ttl-exceeded", 11),
    ("parameter-problem", 12),
    ("timestamp-request", 13),
    ("timestamp-reply", 14),
    ("info-request", 15),
    ("info-reply", 16),
    ("address-mask-request", 17),
    ("address-mask-reply", 18),
];

const ICMP6_TYPES: &[(&str, u64)] = &[
    ("destination-unreachable", 1),
    ("packet-too-big", 2),
    ("time-exceeded", 3),
    ("ttl-exceeded", 3),
    ("parameter-problem", 4),
    ("echo-request", 128),
    ("ping", 128),
    ("echo-reply", 129),
    ("pong", 129),
    ("mld-listener-query", 130),
    ("mld-listener-report", 131),
    ("mld-listener-done", 132),
    ("mld-listener-reduction", 132),
    ("nd-router-solicit", 133),
    ("router-solicitation", 133),
    ("nd-router-advert", 134),
    ("router-advertisement", 134),
    ("nd-neighbor-solicit", 135),
    ("neighbour-solicitation", 135),
    ("neighbor-solicitation", 135),
    ("nd-neighbor-advert", 136),
    ("neighbour-advertisement", 136),
    ("neighbor-advertisement", 136),
    ("nd-redirect", 137),
    ("redirect", 137),
    ("router-renumbering", 138),
    ("ind-neighbor-solicit", 141),
    ("ind-neighbor-advert", 142),
    ("mld2-listener-report", 143),
];
