//! Veiled packets are packets of the same kind, and nothing of the old ones is in them.

use proptest::prelude::*;

use super::*;
use crate::packet::tests::samples;
use crate::packet::{Checksum, Net, Packet, Payload, parse_frame};

/// Every address becomes its complement.
struct Inverted;

impl Veil for Inverted {
    fn ip(&self, address: IpAddr) -> IpAddr {
        match address {
            IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from_bits(!address.to_bits())),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(!address.to_bits())),
        }
    }

    fn mac(&self, mac: MacAddr) -> MacAddr {
        MacAddr(mac.0.map(|byte| !byte))
    }

    fn seed(&self, beginning: &[u8]) -> u64 {
        beginning.iter().fold(7u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(*byte)))
    }
}

fn veiled(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    frame(LinkLayer::Ethernet, &mut bytes, &Inverted);
    bytes
}

/// What must stay.
fn shape(packet: &Packet) -> String {
    match &packet.net {
        Net::Arp(arp) => format!("arp {} {:?}", arp.operation, packet.vlans),
        Net::Other(ethertype) => format!("{ethertype:x}"),
        Net::Ip(ip) => {
            let inside = match &ip.payload {
                Payload::Icmp(icmp) => {
                    let quoted = match &icmp.message {
                        crate::packet::IcmpMessage::Error { quoted, .. } => quoted.as_deref().map(shape),
                        _ => None,
                    };
                    format!("icmp {} {} {:?} {quoted:?}", icmp.kind, icmp.code, icmp.checksum)
                }
                Payload::Tunnel(tunnel) => format!("{:?} {:?} {}", tunnel.kind, tunnel.vni, shape(&tunnel.inner)),
                other => format!("{other:?}"),
            };
            format!("{} {} {} {:?} {:?} {inside}", ip.protocol, ip.ttl, ip.len, ip.checksum, ip.fragment)
        }
    }
}

#[test]
fn a_packet_stays_what_it_is() {
    for sample in samples() {
        let before = parse_frame(LinkLayer::Ethernet, &sample).unwrap();
        let veil = veiled(&sample);
        assert_eq!(veil.len(), sample.len());
        let after = parse_frame(LinkLayer::Ethernet, &veil).unwrap();
        // A tunnel's inner header is believed only with a right checksum, so that one was made right again too.
        assert_eq!(shape(&after), shape(&before), "{sample:x?}\n{veil:x?}");
    }
}

#[test]
fn a_wrong_checksum_stays_wrong() {
    let sample = samples().into_iter().find(|sample| sample[12..14] == [8, 0]).unwrap();
    let mut wrong = sample.clone();
    wrong[24] ^= 1;
    let packet = parse_frame(LinkLayer::Ethernet, &veiled(&wrong)).unwrap();
    assert_eq!(packet.ip().map(|ip| ip.checksum), Some(Checksum::Bad));
}

#[test]
fn nothing_of_addresses_and_payload_is_left() {
    let secret = b"the quick brown fox jumps over the lazy dog";
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ethernet2([2, 3, 5, 7, 11, 13], [17, 19, 23, 29, 31, 37])
        .ipv4([10, 20, 30, 40], [10, 20, 30, 50], 64)
        .udp(1000, 53)
        .write(&mut bytes, secret)
        .unwrap();
    let veil = veiled(&bytes);
    for old in [&[2, 3, 5, 7, 11, 13][..], &[10, 20, 30], b"quick", b"lazy"] {
        assert!(!veil.windows(old.len()).any(|window| window == old));
    }
    // The same payload becomes the same again, also where less of it was captured.
    let mut shorter = bytes[..80].to_vec();
    frame(LinkLayer::Ethernet, &mut shorter, &Inverted);
    assert_eq!(shorter[..], veil[..80]);
}

proptest! {
    #[test]
    fn any_bytes_are_veiled_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut bytes = bytes;
        let len = bytes.len();
        frame(LinkLayer::Ethernet, &mut bytes, &Inverted);
        frame(LinkLayer::Ip, &mut bytes, &Inverted);
        prop_assert_eq!(bytes.len(), len);
    }

    #[test]
    fn damaged_packets_are_veiled_without_panic(
        which in 0..100usize, at in 0..200usize, value in any::<u8>(), len in 0..200usize,
    ) {
        let samples = samples();
        let mut bytes = samples[which % samples.len()].clone();
        let at = at % bytes.len();
        bytes[at] = value;
        bytes.truncate(len);
        frame(LinkLayer::Ethernet, &mut bytes, &Inverted);
    }
}
