//! Which packets belong to a question, and which only look so.

use etherparse::PacketBuilder;

use super::*;
use crate::packet::{ETHERTYPE_ARP, ETHERTYPE_IPV4, ETHERTYPE_IPV6, parse_network};

const ID: u16 = 0x4d2;
const ASKER: [u8; 4] = [10, 0, 0, 1];
const OWNER: [u8; 4] = [10, 0, 0, 2];

fn key() -> Key {
    Key { icmp_id: ID, protocol: Protocol::Echo, addresses: BTreeSet::new(), own: None }
}

fn key_about(addresses: &[[u8; 4]]) -> Key {
    key().with_addresses(addresses.iter().map(|address| IpAddr::from(*address)))
}

fn request(id: u16, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(ASKER, OWNER, 64).icmpv4_echo_request(id, 3).write(&mut bytes, payload).unwrap();
    bytes
}

fn ipv4(bytes: &[u8]) -> Packet {
    parse_network(ETHERTYPE_IPV4, bytes).unwrap()
}

fn arp(operation: u16, sender: [u8; 4], target: [u8; 4]) -> Packet {
    let mut bytes = vec![0, 1, 8, 0, 6, 4];
    bytes.extend(operation.to_be_bytes());
    bytes.extend([2, 0, 0, 0, 0, 1]);
    bytes.extend(sender);
    bytes.extend([0; 6]);
    bytes.extend(target);
    parse_network(ETHERTYPE_ARP, &bytes).unwrap()
}

#[test]
fn an_echo_is_ours_by_identifier() {
    let identity = identify(&ipv4(&request(ID, &[])), &key()).unwrap();
    assert_eq!(identity, Identity::new(Role::Request, Some(3)));
    assert_eq!(identify(&ipv4(&request(ID + 1, &[])), &key()), None);
}

#[test]
fn an_echo_with_a_rewritten_identifier_is_ours_by_its_cookie() {
    let mut payload = vec![0; 56];
    payload[8..16].copy_from_slice(&cookie(ID));
    assert!(identify(&ipv4(&request(9, &payload)), &key()).is_some());
    payload[8..16].copy_from_slice(&cookie(ID + 1));
    assert!(identify(&ipv4(&request(9, &payload)), &key()).is_none());
}

#[test]
fn an_error_is_ours_by_what_it_quotes() {
    let mut bytes = Vec::new();
    PacketBuilder::ipv4([10, 0, 0, 254], ASKER, 64)
        .icmpv4_raw(11, 0, [0; 4])
        .write(&mut bytes, &request(ID, &[])[..28])
        .unwrap();
    let identity = identify(&ipv4(&bytes), &key()).unwrap();
    assert_eq!((identity.role, identity.about, identity.seq), (Role::IcmpError, Some(Role::Request), Some(3)));
}

#[test]
fn arp_is_ours_by_the_address_it_is_about() {
    let key = key_about(&[ASKER, OWNER]);
    assert_eq!(identify(&arp(1, ASKER, OWNER), &key).unwrap().role, Role::ArpRequest);
    assert_eq!(identify(&arp(2, OWNER, ASKER), &key).unwrap().role, Role::ArpReply);
    assert!(identify(&arp(1, ASKER, [10, 0, 0, 9]), &key).is_none());
    assert!(identify(&arp(2, [10, 0, 0, 9], ASKER), &key).is_none());
}

#[test]
fn announcements_and_address_probes_are_not_ours() {
    assert!(identify(&arp(1, OWNER, OWNER), &key()).is_none());
    assert!(identify(&arp(1, [0; 4], OWNER), &key()).is_none());
}

#[test]
fn a_host_that_asks_for_itself_is_ours_where_its_address_is_asked_for() {
    let own = Key { own: Some(OWNER.into()), ..key() };
    assert_eq!(identify(&arp(1, OWNER, OWNER), &own).unwrap().role, Role::ArpRequest);
    assert!(identify(&arp(2, OWNER, OWNER), &own).is_none());
    assert!(identify(&arp(1, ASKER, ASKER), &own).is_none());
}

#[test]
fn duplicate_address_detection_is_not_ours() {
    let mut target = vec![0; 16];
    target[..2].copy_from_slice(&[0xfd, 0]);
    let solicitation = |src: [u8; 16]| {
        let mut bytes = Vec::new();
        PacketBuilder::ipv6(src, [0xff; 16], 255).icmpv6_raw(135, 0, [0; 4]).write(&mut bytes, &target).unwrap();
        parse_network(ETHERTYPE_IPV6, &bytes).unwrap()
    };
    assert!(identify(&solicitation([0; 16]), &key()).is_none());
    let mut src = [0; 16];
    src[15] = 1;
    assert_eq!(identify(&solicitation(src), &key()).unwrap().role, Role::ArpRequest);
}

/// A segment between two ports with these flags, this sequence number and this acknowledgment.
fn segment(ports: (u16, u16), flags: &str, seq: u32, ack: u32) -> Packet {
    let mut bytes = Vec::new();
    let builder = PacketBuilder::ipv4(ASKER, OWNER, 64).tcp(ports.0, ports.1, seq, 0);
    match flags {
        "S" => builder.syn().write(&mut bytes, &[]),
        "SA" => builder.syn().ack(ack).write(&mut bytes, &[]),
        "RA" => builder.rst().ack(ack).write(&mut bytes, &[]),
        "R" => builder.rst().write(&mut bytes, &[]),
        _ => builder.ack(ack).write(&mut bytes, &[]),
    }
    .unwrap();
    ipv4(&bytes)
}

#[test]
fn flags_and_ports_tell_what_opens_accepts_and_refuses() {
    let key = Key { protocol: Protocol::Tcp { port: 80, sport: 40000 }, ..key() };
    let role = |packet: &Packet| identify(packet, &key).map(|identity| identity.role);
    assert_eq!(role(&segment((40000, 80), "S", 7, 0)), Some(Role::Request));
    assert_eq!(role(&segment((80, 40000), "SA", 1, 8)), Some(Role::Reply));
    assert_eq!(role(&segment((80, 40000), "RA", 0, 8)), Some(Role::Reset));
    // Of an established connection, of a strange one, and the reset by which we end it ourselves.
    assert_eq!(role(&segment((40000, 80), "A", 8, 2)), None);
    assert_eq!(role(&segment((40001, 80), "S", 7, 0)), None);
    assert_eq!(role(&segment((40000, 80), "R", 8, 0)), None);
    assert_eq!(role(&ipv4(&request(ID, &[]))), None);
}

#[test]
fn a_connection_is_followed_through_nat_by_its_first_number() {
    let mut sieve = Sieve::new(Key { protocol: Protocol::Tcp { port: 80, sport: 40000 }, ..key() });
    let mut role = |packet: &Packet| sieve.admit(packet).map(|identity| identity.role);
    assert_eq!(role(&segment((1024, 8080), "S", 7, 0)), None, "nothing is known of it yet");
    assert_eq!(role(&segment((40000, 80), "S", 7, 0)), Some(Role::Request));
    assert_eq!(role(&segment((1024, 8080), "S", 7, 0)), Some(Role::Request));
    assert_eq!(role(&segment((8080, 1024), "SA", 99, 8)), Some(Role::Reply));
    assert_eq!(role(&segment((8080, 1024), "RA", 0, 8)), Some(Role::Reset));
    assert_eq!(role(&segment((8080, 1024), "SA", 99, 9)), None);
}

#[test]
fn a_datagram_is_ours_by_cookie_and_its_answer_by_where_it_went() {
    let mut sieve = Sieve::new(Key { protocol: Protocol::Udp { port: 53, sport: 40000 }, ..key() });
    let mut role = |src: [u8; 4], dst: [u8; 4], ports: (u16, u16), payload: &[u8]| {
        let mut bytes = Vec::new();
        PacketBuilder::ipv4(src, dst, 64).udp(ports.0, ports.1).write(&mut bytes, payload).unwrap();
        sieve.admit(&ipv4(&bytes)).map(|identity| identity.role)
    };
    let ours = cookie(ID);
    assert_eq!(role(OWNER, ASKER, (5353, 1024), &[]), None);
    assert_eq!(role(ASKER, OWNER, (40000, 53), &ours), Some(Role::Request));
    assert_eq!(role(ASKER, OWNER, (1024, 5353), &ours), Some(Role::Request));
    assert_eq!(role(OWNER, ASKER, (5353, 1024), &[]), Some(Role::Reply));
    // An echo service sends the cookie back.
    assert_eq!(role(OWNER, ASKER, (5353, 1024), &ours), Some(Role::Reply));
    assert_eq!(role(OWNER, ASKER, (5353, 1025), &[]), None);
}

#[test]
fn a_packet_in_a_tunnel_is_ours() {
    let mut payload = vec![8, 0, 0, 0, 0, 0, 1, 0];
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(ASKER, OWNER, 64)
        .icmpv4_echo_request(ID, 3)
        .write(&mut payload, &[])
        .unwrap();
    let mut bytes = Vec::new();
    PacketBuilder::ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64).udp(1, 4789).write(&mut bytes, &payload).unwrap();
    assert!(identify(&ipv4(&bytes), &key()).unwrap().encapsulated);
}

#[test]
fn later_fragments_are_ours_after_their_first() {
    let mut first = request(ID, &[0; 24]);
    first[4..6].copy_from_slice(&[0xab, 0xcd]);
    first[6] = 0x20;
    let mut later = first.clone();
    later[6..8].copy_from_slice(&[0, 4]);
    let mut sieve = Sieve::new(key());
    assert_eq!(sieve.admit(&ipv4(&later)), None);
    assert!(sieve.admit(&ipv4(&first)).is_some());
    let identity = sieve.admit(&ipv4(&later)).unwrap();
    assert!(identity.later_fragment && identity.seq == Some(3));
    later[5] ^= 1;
    assert_eq!(sieve.admit(&ipv4(&later)), None);
}
