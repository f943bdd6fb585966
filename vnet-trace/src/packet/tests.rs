//! Golden bytes, truncation at every length, and random bytes.

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;

const A: [u8; 6] = [2, 0, 0, 0, 0, 1];
const B: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// The 64 bytes that follow an echo header: a time, the cookie, a pattern.
fn echo_payload(id: u16) -> Vec<u8> {
    let mut payload = vec![0; 56];
    payload[8..16].copy_from_slice(&identity::cookie(id));
    payload
}

fn echo_request() -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(A, B)
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .icmpv4_echo_request(0x1234, 7)
        .write(&mut bytes, &echo_payload(0x1234))
        .unwrap();
    bytes
}

fn echo_request_v6() -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(A, B)
        .ipv6(address("fd00::1"), address("fd00::2"), 64)
        .icmpv6_echo_request(0x1234, 7)
        .write(&mut bytes, &echo_payload(0x1234))
        .unwrap();
    bytes
}

fn address(text: &str) -> [u8; 16] {
    text.parse::<Ipv6Addr>().unwrap().octets()
}

/// A neighbour advertisement as a Linux host sends it.
fn advertisement() -> Vec<u8> {
    let mut icmp = vec![136, 0, 0, 0, 0x60, 0, 0, 0];
    icmp.extend(address("fd00::2"));
    icmp.extend([2, 1]);
    icmp.extend(B);
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(B, A)
        .ipv6(address("fd00::2"), address("fd00::1"), 255)
        .icmpv6_raw(136, 0, [0x60, 0, 0, 0])
        .write(&mut bytes, &icmp[8..])
        .unwrap();
    bytes
}

fn arp_request() -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend([0xff; 6]);
    bytes.extend(A);
    bytes.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
    bytes.extend(A);
    bytes.extend([10, 0, 0, 1]);
    bytes.extend([0; 6]);
    bytes.extend([10, 0, 0, 2]);
    bytes
}

fn vxlan(inner: &[u8], port: u16) -> Vec<u8> {
    let mut payload = vec![8, 0, 0, 0, 0, 0, 42, 0];
    payload.extend(inner);
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(A, B)
        .ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
        .udp(50000, port)
        .write(&mut bytes, &payload)
        .unwrap();
    bytes
}

/// "Fragmentation needed" with an MTU of 1280, quoting the request.
fn too_big() -> Vec<u8> {
    let request = echo_request();
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(B, A)
        .ipv4([10, 0, 0, 254], [10, 0, 0, 1], 64)
        .icmpv4_raw(3, 4, [0, 0, 5, 0])
        .write(&mut bytes, &request[14..])
        .unwrap();
    bytes
}

fn tagged(frame: &[u8], vid: u16) -> Vec<u8> {
    let mut bytes = frame[..12].to_vec();
    bytes.extend([0x81, 0x00]);
    bytes.extend((0x2000 | vid).to_be_bytes());
    bytes.extend(&frame[12..]);
    bytes
}

fn tcp_syn() -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(A, B)
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .tcp(40000, 80, 1, 1000)
        .syn()
        .write(&mut bytes, &[])
        .unwrap();
    bytes
}

fn ethernet(bytes: &[u8]) -> Packet {
    parse_frame(LinkLayer::Ethernet, bytes).unwrap()
}

/// One of each kind, for the properties below.
pub(super) fn samples() -> Vec<Vec<u8>> {
    let mut gre = vec![0x20, 0, 0x65, 0x58, 0, 0, 0, 9];
    gre.extend(echo_request());
    let mut in_gre = Vec::new();
    PacketBuilder::ethernet2(A, B)
        .ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
        .write(&mut in_gre, etherparse::IpNumber(47), &gre)
        .unwrap();
    vec![
        echo_request(),
        echo_request_v6(),
        advertisement(),
        arp_request(),
        vxlan(&echo_request(), 4789),
        vxlan(&tagged(&too_big(), 5), 8472),
        too_big(),
        tagged(&tagged(&echo_request(), 10), 20),
        tcp_syn(),
        in_gre,
    ]
}

#[test]
fn reads_an_echo_request() {
    let packet = ethernet(&echo_request());
    assert_eq!(packet.link.unwrap().src, MacAddr(A));
    assert_eq!(packet.cut, None);
    let ip = packet.ip().unwrap();
    assert_eq!((ip.src.to_string(), ip.dst.to_string()), ("10.0.0.1".into(), "10.0.0.2".into()));
    assert_eq!((ip.ttl, ip.len, ip.checksum), (64, 84, Checksum::Good));
    let icmp = packet.icmp().unwrap();
    assert_eq!((icmp.kind, icmp.checksum), (8, Checksum::Good));
    let echo = Echo { id: 0x1234, seq: 7, cookie: Some(identity::cookie(0x1234)) };
    assert_eq!(icmp.message, IcmpMessage::EchoRequest(echo));
}

#[test]
fn reads_ipv6_and_judges_its_checksum() {
    let mut bytes = echo_request_v6();
    assert_eq!(ethernet(&bytes).icmp().unwrap().checksum, Checksum::Good);
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(ethernet(&bytes).icmp().unwrap().checksum, Checksum::Bad);
}

#[test]
fn a_wrong_header_checksum_is_seen() {
    let mut bytes = echo_request();
    bytes[14 + 8] -= 1;
    let packet = ethernet(&bytes);
    assert_eq!(packet.ip().unwrap().checksum, Checksum::Bad);
    assert_eq!(packet.icmp().unwrap().checksum, Checksum::Good);
}

#[test]
fn a_checksum_over_missing_bytes_is_unknown() {
    let bytes = echo_request();
    assert_eq!(ethernet(&bytes[..bytes.len() - 1]).icmp().unwrap().checksum, Checksum::Unknown);
}

#[test]
fn padding_of_short_frames_is_not_payload() {
    let mut bytes = tcp_syn();
    bytes.extend([0; 6]);
    assert_eq!(ethernet(&bytes).cut, None);
    let mut short = Vec::new();
    PacketBuilder::ethernet2(A, B)
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .icmpv4_echo_request(1, 1)
        .write(&mut short, &[])
        .unwrap();
    short.extend([0xee; 18]);
    assert_eq!(ethernet(&short).icmp().unwrap().checksum, Checksum::Good);
}

#[test]
fn reads_arp() {
    let Net::Arp(arp) = ethernet(&arp_request()).net else { panic!("not ARP") };
    assert_eq!((arp.operation, arp.sender_mac, arp.target_mac), (1, MacAddr(A), MacAddr::default()));
    assert_eq!((arp.sender.to_string(), arp.target.to_string()), ("10.0.0.1".into(), "10.0.0.2".into()));
}

#[test]
fn reads_neighbour_discovery() {
    let packet = ethernet(&advertisement());
    let icmp = packet.icmp().unwrap();
    assert_eq!(icmp.checksum, Checksum::Good);
    let wanted = IcmpMessage::NeighbourAdvertisement {
        target: "fd00::2".parse().unwrap(),
        lladdr: Some(MacAddr(B)),
        solicited: true,
        overrides: true,
        router: false,
    };
    assert_eq!(icmp.message, wanted);
}

#[test]
fn reads_what_an_error_quotes() {
    let packet = ethernet(&too_big());
    let IcmpMessage::Error { mtu, quoted } = &packet.icmp().unwrap().message else { panic!("not an error") };
    assert_eq!(*mtu, Some(1280));
    let quoted = quoted.as_ref().unwrap();
    assert!(matches!(quoted.icmp().unwrap().message, IcmpMessage::EchoRequest(Echo { id: 0x1234, seq: 7, .. })));
}

#[test]
fn reads_vlan_tags_from_the_outermost() {
    let packet = ethernet(&tagged(&tagged(&echo_request(), 10), 20));
    assert_eq!(packet.vlans, [20, 10]);
    assert_eq!(packet.link.unwrap().ethertype, ETHERTYPE_IPV4);
    assert!(packet.icmp().is_some());
}

#[test]
fn reads_vxlan_at_any_port() {
    let packet = ethernet(&vxlan(&echo_request(), 4790));
    let tunnel = packet.tunnel().unwrap();
    assert_eq!((tunnel.kind, tunnel.vni), (TunnelKind::Vxlan, Some(42)));
    assert_eq!(tunnel.ports, Some(Ports { src: 50000, dst: 4790 }));
    assert!(tunnel.inner.icmp().is_some());
}

#[test]
fn udp_that_only_begins_like_vxlan_is_udp() {
    let packet = ethernet(&vxlan(&[0; 20], 4789));
    assert!(matches!(packet.ip().unwrap().payload, Payload::Udp(Udp { ports: Ports { dst: 4789, .. }, .. })));
}

#[test]
fn a_tunnel_in_a_tunnel_keeps_its_outer_headers() {
    let packet = ethernet(&vxlan(&vxlan(&echo_request(), 4789), 4789));
    let inner = &packet.tunnel().unwrap().inner;
    assert!(matches!(inner.ip().unwrap().payload, Payload::Udp(_)));
}

#[test]
fn reads_tcp_flags() {
    let packet = ethernet(&tcp_syn());
    let Payload::Tcp(tcp) = packet.ip().unwrap().payload else { panic!("not TCP") };
    assert!(tcp.has(Tcp::SYN) && !tcp.has(Tcp::ACK));
    assert_eq!(tcp.ports, Ports { src: 40000, dst: 80 });
}

#[test]
fn a_later_fragment_has_no_header_of_its_own() {
    let mut bytes = echo_request();
    // Offset 185 units of 8 bytes.
    bytes[20..22].copy_from_slice(&185u16.to_be_bytes());
    let packet = ethernet(&bytes);
    let ip = packet.ip().unwrap();
    assert_eq!(ip.fragment.unwrap().offset, 1480);
    assert_eq!(ip.payload, Payload::LaterFragment);
}

#[test]
fn reads_ipv6_extension_headers() {
    let full = echo_request_v6();
    let mut bytes = full[14..].to_vec();
    let payload_len = u16::from_be_bytes([bytes[4], bytes[5]]) + 16;
    bytes[4..6].copy_from_slice(&payload_len.to_be_bytes());
    bytes[6] = 0;
    // Hop-by-hop options (padding), then a first fragment.
    let extensions = [44, 0, 1, 4, 0, 0, 0, 0, 58, 0, 0, 1, 0, 0, 0, 99];
    bytes.splice(40..40, extensions);
    let packet = parse_network(ETHERTYPE_IPV6, &bytes).unwrap();
    let ip = packet.ip().unwrap();
    assert_eq!(ip.fragment, Some(Fragment { id: 99, offset: 0, more: true }));
    assert_eq!(packet.icmp().unwrap().checksum, Checksum::Unknown);
}

#[test]
fn an_error_names_layer_place_and_length() {
    let error = parse_frame(LinkLayer::Ethernet, &[0; 9]).unwrap_err();
    assert_eq!(error.to_string(), "Ethernet header at byte 0 needs 14 bytes, had 9");
    let packet = ethernet(&echo_request()[..14 + 20 + 3]);
    assert_eq!(packet.cut.unwrap().to_string(), "ICMP message at byte 34 needs 8 bytes, had 3");
    let error = parse_network(ETHERTYPE_IPV4, &[0x55; 20]).unwrap_err();
    assert_eq!(error.to_string(), "IPv4 header at byte 0 has version 5");
}

#[test]
fn a_frame_without_link_layer_says_its_version() {
    let packet = parse_frame(LinkLayer::Ip, &echo_request()[14..]).unwrap();
    assert!(packet.link.is_none() && packet.icmp().is_some());
    assert!(parse_frame(LinkLayer::Ip, &[]).is_err());
}

/// Everything in the error must be true of the bytes: what was needed is more than what was there.
fn check_error(error: &PacketError) {
    if let PacketError::Short { needed, had, .. } = error {
        assert!(needed > had, "{error}");
    }
}

fn read_all_ways(bytes: &[u8]) {
    for result in [
        parse_frame(LinkLayer::Ethernet, bytes),
        parse_frame(LinkLayer::Ip, bytes),
        parse_network(ETHERTYPE_ARP, bytes),
        parse_network(ETHERTYPE_IPV4, bytes),
        parse_network(ETHERTYPE_IPV6, bytes),
    ] {
        match result {
            Ok(packet) => packet.cut.iter().for_each(check_error),
            Err(error) => check_error(&error),
        }
    }
}

#[test]
fn truncation_at_every_length_keeps_what_was_read() {
    for sample in samples() {
        let whole = ethernet(&sample);
        for len in 14..sample.len() {
            let packet = ethernet(&sample[..len]);
            assert_eq!(packet.link.map(|link| link.src), whole.link.map(|link| link.src));
            if let (Some(ip), Some(of_whole)) = (packet.ip(), whole.ip()) {
                assert_eq!((ip.src, ip.dst, ip.len), (of_whole.src, of_whole.dst, of_whole.len));
            }
            read_all_ways(&sample[..len]);
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        read_all_ways(&bytes);
    }

    #[test]
    fn damaged_packets_never_panic(
        which in 0..10usize,
        damage in proptest::collection::vec((0..200usize, any::<u8>()), 1..6),
        len in 0..250usize,
    ) {
        let mut bytes = samples().swap_remove(which);
        for (at, value) in damage {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        bytes.truncate(len);
        read_all_ways(&bytes);
    }
}
