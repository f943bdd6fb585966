//! The glance against the full reading: of good packets, cut ones, damaged ones.

use proptest::prelude::*;

use super::*;
use crate::packet::tests::samples;
use crate::packet::{Packet, Payload, parse_frame};

fn check(link: LinkLayer, bytes: &[u8]) {
    let skim = frame(link, bytes);
    let Ok(full) = parse_frame(link, bytes) else {
        return assert!(matches!(skim.net, Net::Other { .. }), "{skim:?}");
    };
    assert_eq!((skim.link, skim.vlan), (full.link, full.vlans.first().copied()));
    let outer = full.tunnel().map(|tunnel| (tunnel.kind, tunnel.vni.unwrap_or(0)));
    let carrier = full.ip().filter(|_| outer.is_some()).map(|ip| (ip.src, ip.dst));
    let own: &Packet = full.tunnel().map_or(&full, |tunnel| &tunnel.inner);
    // A tunnel that carries nothing that can be read is told as its carrier.
    if outer.is_some() && matches!(own.net, crate::packet::Net::Other(_)) {
        return assert!(skim.outer.is_none());
    }
    assert_eq!(skim.outer.map(|outer| (outer.kind, outer.vni)), outer, "{full:?}");
    assert_eq!(skim.outer.map(|outer| (outer.src, outer.dst)), carrier);
    match (&own.net, &skim.net) {
        (crate::packet::Net::Arp(full), Net::Arp(skim)) => assert_eq!(full, skim),
        // Addresses of another length than Ethernet's and IPv4's.
        (crate::packet::Net::Arp(_), Net::Other { .. }) => assert!(!bytes.windows(4).any(|four| four == [8, 0, 6, 4])),
        (crate::packet::Net::Other(full), Net::Other { ethertype, .. }) => assert_eq!(full, ethertype),
        (crate::packet::Net::Ip(full), Net::Ip(skim)) => {
            assert_eq!((full.src, full.dst, full.ttl, full.len), (skim.src, skim.dst, skim.ttl, skim.len));
            assert_eq!(full.protocol, skim.protocol);
            let part = full.fragment.map(|part| (part.offset, part.more));
            assert_eq!(part, skim.fragment);
            match (&full.payload, skim.transport) {
                (Payload::Icmp(icmp), Transport::Icmp { kind, code, .. }) => {
                    assert_eq!((icmp.kind, icmp.code), (kind, code));
                }
                (Payload::Tcp(tcp), Transport::Tcp { ports, seq, ack, flags, .. }) => {
                    assert_eq!((tcp.ports, tcp.seq, tcp.ack, tcp.flags), (ports, seq, ack, flags));
                }
                (Payload::Udp(full), Transport::Udp(ports)) => assert_eq!(full.ports, ports),
                (Payload::Esp { .. } | Payload::LaterFragment | Payload::Other, Transport::Other) => {}
                // A message whose own fields are cut off still tells what it is.
                (Payload::Other, Transport::Icmp { .. }) => assert!(own.cut.is_some()),
                // What is wrapped in it can't be read.
                (Payload::Tunnel(_), _) => assert!(skim.transport != Transport::Other || own.cut.is_none()),
                (full, skim) => panic!("{full:?} {skim:?}"),
            }
        }
        (full, skim) => panic!("{full:?} {skim:?}"),
    }
}

#[test]
fn the_glance_agrees_with_the_full_reading() {
    for sample in samples() {
        for len in 0..=sample.len() {
            check(LinkLayer::Ethernet, &sample[..len]);
            check(LinkLayer::Ip, sample.get(14..len).unwrap_or_default());
        }
    }
}

#[test]
fn what_follows_the_headers_is_payload() {
    let mut bytes = Vec::new();
    let payload = [7; 40];
    etherparse::PacketBuilder::ethernet2([1; 6], [2; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .udp(1000, 53)
        .write(&mut bytes, &payload)
        .unwrap();
    // Padding of a short frame is none of it, and what was cut off still counts.
    bytes.extend([0; 9]);
    let skim = frame(LinkLayer::Ethernet, &bytes);
    let ip = skim.ip().unwrap();
    assert_eq!((ip.payload, ip.payload_len), (&payload[..], 40));
    let cut = frame(LinkLayer::Ethernet, &bytes[..52]);
    let ip = cut.ip().unwrap();
    assert_eq!((ip.payload, ip.payload_len), (&payload[..10], 40));
}

proptest! {
    #[test]
    fn damaged_packets_are_read_alike(
        which in 0..100usize, at in 0..200usize, value in any::<u8>(), len in 0..200usize,
    ) {
        let samples = samples();
        let mut bytes = samples[which % samples.len()].clone();
        let at = at % bytes.len();
        bytes[at] = value;
        bytes.truncate(len.max(1));
        check(LinkLayer::Ethernet, &bytes);
        check(LinkLayer::Ip, bytes.get(14..).unwrap_or_default());
    }

    #[test]
    fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        check(LinkLayer::Ethernet, &bytes);
        check(LinkLayer::Ip, &bytes);
    }
}
