//! Conditions and values in words: as nftables writes them, whichever program the rule came from.

use crate::model::netfilter::expression::{
    BitOp, CtSide, Expression, FibFlags, Field, HeaderBase, IpVersion, Match, Op, Pattern, Value, ct_state,
};

/// A condition: `oifname "eth1"`, `ip saddr != 10.0.0.0/8`.
pub fn condition(condition: &Match) -> String {
    let left = expression(&condition.left);
    let right = named(&condition.left, &condition.right);
    match condition.op {
        Op::Equal | Op::AnyBit => format!("{left} {right}"),
        Op::NotEqual => format!("{left} != {right}"),
        Op::NoBit => format!("{left} ! {right}"),
        Op::Less => format!("{left} < {right}"),
        Op::Greater => format!("{left} > {right}"),
        Op::LessOrEqual => format!("{left} <= {right}"),
        Op::GreaterOrEqual => format!("{left} >= {right}"),
    }
}

/// What the packet has where a condition looked; None is nothing of that sort.
pub fn actual(condition: &Match, actual: Option<&Value>) -> String {
    match actual {
        Some(found) => named(&condition.left, &Pattern::Is(found.clone())),
        None => "nothing of the sort".to_owned(),
    }
}

fn named(left: &Expression, right: &Pattern) -> String {
    match (left, right) {
        (Expression::Field(Field::CtState | Field::CtStateOrNat), Pattern::Is(Value::Number(bits))) => states(*bits),
        (
            Expression::Field(
                Field::IifName | Field::OifName | Field::Iif | Field::Oif | Field::PhysIn | Field::PhysOut,
            ),
            Pattern::Is(Value::Name(name)),
        ) if name.is_empty() => "no device".to_owned(),
        (Expression::Field(Field::Mark | Field::CtMark), Pattern::Is(Value::Number(mark))) => format!("0x{mark:x}"),
        (_, right) => pattern(right),
    }
}

fn states(bits: u64) -> String {
    const NAMES: &[(u64, &str)] = &[
        (ct_state::INVALID, "invalid"),
        (ct_state::ESTABLISHED, "established"),
        (ct_state::RELATED, "related"),
        (ct_state::NEW, "new"),
        (ct_state::UNTRACKED, "untracked"),
        (ct_state::SNAT, "snat"),
        (ct_state::DNAT, "dnat"),
    ];
    let set: Vec<&str> = NAMES.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect();
    set.join(",")
}

fn pattern(pattern: &Pattern) -> String {
    let again =
        |patterns: &[Pattern], between: &str| patterns.iter().map(self::pattern).collect::<Vec<_>>().join(between);
    match pattern {
        Pattern::Is(found) => value(found),
        Pattern::Prefix { address, length } => format!("{address}/{length}"),
        Pattern::Range { from, to } => format!("{}-{}", value(from), value(to)),
        Pattern::NameStart(start) => format!("\"{start}*\""),
        Pattern::Masked { bits, mask } => format!("0x{bits:x}/0x{mask:x}"),
        Pattern::Any => "*".to_owned(),
        Pattern::Set(patterns) => format!("{{ {} }}", again(patterns, ", ")),
        Pattern::Named(set) => format!("@{set}"),
        Pattern::Concat(patterns) => again(patterns, " . "),
        Pattern::Computed(found) => expression(found),
        Pattern::Unknown { text } => text.clone(),
    }
}

fn value(value: &Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        Value::Address(address) => address.to_string(),
        Value::Mac(mac) => mac.map(|byte| format!("{byte:02x}")).join(":"),
        Value::Name(name) => format!("\"{name}\""),
        Value::Concat(values) => values.iter().map(self::value).collect::<Vec<_>>().join(" . "),
    }
}

fn expression(expression: &Expression) -> String {
    match expression {
        Expression::Value(found) => value(found),
        Expression::Prefix { address, length } => format!("{address}/{length}"),
        Expression::Range { from, to } => format!("{}-{}", value(from), value(to)),
        Expression::Field(found) => field(found),
        Expression::Concat(parts) => parts.iter().map(self::expression).collect::<Vec<_>>().join(" . "),
        Expression::Bits { op, left, right } => {
            let sign = match op {
                BitOp::And => "&",
                BitOp::Or => "|",
                BitOp::Xor => "^",
                BitOp::ShiftLeft => "<<",
                BitOp::ShiftRight => ">>",
            };
            format!("{} {sign} {}", self::expression(left), self::expression(right))
        }
        Expression::Lookup { key, .. } => format!("map of {}", self::expression(key)),
        Expression::Generated { modulus, .. } => format!("numgen mod {modulus}"),
        Expression::Unknown { text } => text.clone(),
    }
}

fn field(field: &Field) -> String {
    let ip = |version: IpVersion| match version {
        IpVersion::V4 => "ip",
        IpVersion::V6 => "ip6",
    };
    let side = |side: CtSide| match side {
        CtSide::Original => "original",
        CtSide::Reply => "reply",
    };
    let fib = |flags: FibFlags, result: &str| {
        let mut words = vec![if flags.source { "saddr" } else { "daddr" }];
        for (set, word) in [(flags.mark, "mark"), (flags.iif, "iif"), (flags.oif, "oif")] {
            if set {
                words.push(word);
            }
        }
        format!("fib {} {result}", words.join(" . "))
    };
    let plain = match field {
        Field::IifName => "iifname",
        Field::OifName => "oifname",
        Field::Iif => "iif",
        Field::Oif => "oif",
        Field::IifType => "meta iiftype",
        Field::OifType => "meta oiftype",
        Field::IifKind => "meta iifkind",
        Field::OifKind => "meta oifkind",
        Field::IifGroup => "iifgroup",
        Field::OifGroup => "oifgroup",
        Field::SdifName => "meta sdifname",
        Field::BridgeIn => "meta ibrname",
        Field::BridgeOut => "meta obrname",
        Field::PhysIn => "physdev in",
        Field::PhysOut => "physdev out",
        Field::PhysBridged => "physdev is bridged",
        Field::PhysHasIn => "physdev has in",
        Field::PhysHasOut => "physdev has out",
        Field::L4Proto => "meta l4proto",
        Field::NfProto => "meta nfproto",
        Field::Protocol => "meta protocol",
        Field::Mark => "meta mark",
        Field::Length => "meta length",
        Field::PacketType => "meta pkttype",
        Field::SocketUser | Field::SocketUserOrNone => "meta skuid",
        Field::SocketGroup => "meta skgid",
        Field::EtherSource => "ether saddr",
        Field::EtherDestination => "ether daddr",
        Field::EtherType => "ether type",
        Field::VlanId => "vlan id",
        Field::ArpHardwareType => "arp htype",
        Field::ArpProtocolType => "arp ptype",
        Field::ArpHardwareLength => "arp hlen",
        Field::ArpProtocolLength => "arp plen",
        Field::ArpOperation => "arp operation",
        Field::ArpSourceIp => "arp saddr ip",
        Field::ArpTargetIp => "arp daddr ip",
        Field::ArpSourceMac => "arp saddr ether",
        Field::ArpTargetMac => "arp daddr ether",
        Field::IpId => "ip id",
        Field::FragmentBits => "ip frag-off",
        Field::HeaderLength => "ip hdrlength",
        Field::LaterFragment => "later fragment",
        Field::IcmpType => "icmp type",
        Field::IcmpCode => "icmp code",
        Field::IcmpId => "icmp id",
        Field::IcmpSequence => "icmp sequence",
        Field::Icmp6Type => "icmpv6 type",
        Field::Icmp6Code => "icmpv6 code",
        Field::Icmp6Id => "icmpv6 id",
        Field::Icmp6Sequence => "icmpv6 sequence",
        Field::AnySourcePort => "th sport",
        Field::AnyDestinationPort => "th dport",
        Field::TcpFlags => "tcp flags",
        Field::CtState | Field::CtStateOrNat => "ct state",
        Field::CtStatus => "ct status",
        Field::CtDirection => "ct direction",
        Field::CtMark => "ct mark",
        Field::CtProtocol => "ct protocol",
        Field::Ipsec => "meta ipsec",
        Field::Source(version) => return format!("{} saddr", ip(*version)),
        Field::Destination(version) => return format!("{} daddr", ip(*version)),
        Field::HopLimit(IpVersion::V4) => "ip ttl",
        Field::HopLimit(IpVersion::V6) => "ip6 hoplimit",
        Field::NextHeader(IpVersion::V4) => "ip protocol",
        Field::NextHeader(IpVersion::V6) => "ip6 nexthdr",
        Field::Version(version) => return format!("{} version", ip(*version)),
        Field::IpLength(version) => return format!("{} length", ip(*version)),
        Field::Dscp(version) => return format!("{} dscp", ip(*version)),
        Field::Ecn(version) => return format!("{} ecn", ip(*version)),
        Field::SourcePort(protocol) => return format!("{} sport", protocol_word(*protocol)),
        Field::DestinationPort(protocol) => return format!("{} dport", protocol_word(*protocol)),
        Field::Raw { base, offset, length } => {
            let base = match base {
                HeaderBase::Link => "ll",
                HeaderBase::Network => "nh",
                HeaderBase::Transport => "th",
                HeaderBase::Beyond => "ih",
            };
            return format!("@{base},{offset},{length}");
        }
        Field::CtSource(at) => return format!("ct {} saddr", side(*at)),
        Field::CtDestination(at) => return format!("ct {} daddr", side(*at)),
        Field::CtSourcePort(at) => return format!("ct {} proto-src", side(*at)),
        Field::CtDestinationPort(at) => return format!("ct {} proto-dst", side(*at)),
        Field::FibType(flags) => return fib(*flags, "type"),
        Field::FibOif(flags) | Field::FibExists(flags) => return fib(*flags, "oif"),
        Field::FibOifName(flags) => return fib(*flags, "oifname"),
        Field::Other { text } => return text.clone(),
    };
    plain.to_owned()
}

fn protocol_word(protocol: u8) -> String {
    match protocol {
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        33 => "dccp".to_owned(),
        132 => "sctp".to_owned(),
        136 => "udplite".to_owned(),
        other => format!("protocol {other}"),
    }
}
