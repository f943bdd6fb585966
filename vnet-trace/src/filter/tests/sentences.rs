//! Expressions: written ones, of each part of the language, and generated ones.

use proptest::prelude::*;

/// One of each kind that people write.
pub const WRITTEN: &[&str] = &[
    "",
    "tcp",
    "arp",
    "icmp or icmp6",
    "tcp port 80",
    "udp port 53 and host 10.0.0.1",
    "not tcp",
    "src net 10.0.0.0/8 and dst port 443",
    "tcp[tcpflags] & (tcp-syn|tcp-ack) = tcp-syn",
    "tcp[((tcp[12:1] & 0xf0) >> 2):4] = 0x47455420",
    "icmp[icmptype] = icmp-echo",
    "ip[8] < 64",
    "ip[6:2] & 0x1fff != 0",
    "ip[1] & 0xfc >> 2 = 46 or ip[8] * 2 > 100",
    "len > 200",
    "less 100",
    "greater 300 and ip",
    "vlan",
    "vlan 7",
    "vlan and tcp port 80",
    "vlan 7 && vlan 100",
    "ether host 02:00:00:00:00:01",
    "ether broadcast or ether multicast",
    "ip multicast",
    "ip broadcast or host 224.0.0.1",
    "ip6 host fd00::1",
    "ip6[6] = 17 and udp port 53",
    "ip proto 47",
    "proto 132 or sctp",
    "portrange 22-80",
    "mpls",
    "pppoes or pppoed",
    "ether proto 0x88cc",
    "ip[2:2] - ((ip[0] & 0xf) << 2) > 100",
    "tcp[13] % 3 = 1 and tcp[0:2] / 2 > 100",
    "ip[0] + ip[1] - 1 > 0x44",
    "ether[12:2] > 0x0800",
    "udp[4:2] = 18",
    "host 10.0.0.1 and not (port 80 or port 443) and (tcp or udp)",
    "ip[12:4] = 0x0a000001 or ip[16:4] = 0x0a000002",
    "tcp[2:2] = ip[2:2] or tcp[0:2] > tcp[2:2]",
    "(ip[8] ^ 0x40) = 0 and (ip[9] | 1) = 7",
    "geneve",
];

fn address() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("10.0.0.1".to_owned()),
        Just("10.0.0.2".to_owned()),
        Just("192.168.1.1".to_owned()),
        Just("fd00::1".to_owned()),
        Just("fd00::2".to_owned()),
    ]
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![Just(22_u16), Just(53), Just(80), Just(443), Just(8080), Just(40000), any::<u16>()]
}

fn direction() -> impl Strategy<Value = &'static str> {
    prop::sample::select(&["", "src ", "dst ", "src or dst ", "src and dst "][..])
}

/// A number that is computed from the packet.
fn number() -> impl Strategy<Value = String> {
    let load = (
        prop::sample::select(&["ether", "ip", "ip6", "tcp", "udp", "icmp"][..]),
        0_u32..16,
        prop::sample::select(&[1_u32, 2, 4][..]),
    )
        .prop_map(|(of, at, size)| format!("{of}[{at}:{size}]"));
    let leaf =
        prop_oneof![3 => load, 1 => (0_u32..70000).prop_map(|number| number.to_string()), 1 => Just("len".to_owned())];
    leaf.prop_recursive(2, 6, 2, |inner| {
        prop_oneof![
            (inner.clone(), prop::sample::select(&["+", "-", "*", "&", "|", "^"][..]), inner.clone())
                .prop_map(|(left, sign, right)| format!("({left} {sign} {right})")),
            (inner.clone(), prop::sample::select(&["/", "%"][..]), 1_u32..9)
                .prop_map(|(left, sign, right)| format!("({left} {sign} {right})")),
            (inner.clone(), prop::sample::select(&["<<", ">>"][..]), 0_u32..9)
                .prop_map(|(left, sign, right)| format!("({left} {sign} {right})")),
            // A distance or a divisor that only the packet knows, zero among them.
            (inner.clone(), prop::sample::select(&["/", "%", "<<", ">>"][..]), inner)
                .prop_map(|(left, sign, right)| format!("({left} {sign} ({right} & 0x3f))")),
        ]
    })
}

/// A place that is computed from the packet, bounded so that it stays within reach.
fn computed() -> impl Strategy<Value = String> {
    (
        prop::sample::select(&["ip", "tcp", "udp"][..]),
        number(),
        0_u32..4,
        prop::sample::select(&[1_u32, 2, 4][..]),
        0_u32..256,
    )
        .prop_map(|(of, place, more, size, value)| format!("{of}[({place} & 0x1f) + {more}:{size}] >= {value}"))
}

fn comparison() -> impl Strategy<Value = String> {
    (number(), prop::sample::select(&["=", "!=", "<", ">", "<=", ">="][..]), number())
        .prop_map(|(left, sign, right)| format!("{left} {sign} {right}"))
}

fn primitive() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(
            &["tcp", "udp", "icmp", "icmp6", "arp", "ip", "ip6", "sctp", "ip multicast", "ether broadcast", "ether multicast"][..]
        )
        .prop_map(str::to_owned),
        2 => (direction(), address()).prop_map(|(way, address)| format!("{way}host {address}")),
        2 => (direction(), port()).prop_map(|(way, port)| format!("{way}port {port}")),
        1 => (direction(), port()).prop_map(|(way, port)| format!("tcp {way}port {port}")),
        1 => (direction(), 8_u32..25).prop_map(|(way, bits)| {
            let network = u32::from_be_bytes([10, 1, 0, 0]) & (u32::MAX << (32 - bits));
            format!("{way}net {}/{bits}", std::net::Ipv4Addr::from(network))
        }),
        1 => (0_u16..200, 0_u16..60000).prop_map(|(from, more)| format!("portrange {from}-{}", from + more)),
        1 => prop::sample::select(&["less 90", "greater 90", "ip proto 47", "ip6 proto 17", "ether proto 0x8100"][..]).prop_map(str::to_owned),
        1 => (direction(), prop::sample::select(&["02:00:00:00:00:01", "02:00:00:00:00:02"][..]))
            .prop_map(|(way, mac)| format!("ether {way}host {mac}")),
        3 => comparison(),
        2 => computed(),
    ]
}

/// A sentence of the language that libpcap accepts.
pub fn sentence() -> impl Strategy<Value = String> {
    let tree = primitive().prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left}) and ({right})")),
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left}) or ({right})")),
            inner.prop_map(|inner| format!("not ({inner})")),
        ]
    });
    let tagged = (prop::sample::select(&["vlan", "vlan 7", "vlan 7 and vlan 100"][..]), tree.clone())
        .prop_map(|(tag, rest)| format!("{tag} and ({rest})"));
    prop_oneof![6 => tree, 1 => tagged].prop_filter("libpcap accepts it", |text| {
        pcap::Capture::dead(pcap::Linktype::ETHERNET).is_ok_and(|dead| dead.compile(text, true).is_ok())
    })
}
