//! Which sightings are one packet, and which only look so.

use etherparse::PacketBuilder;

use super::*;
use crate::model::event::{Event, EventKind};
use crate::model::frame::{Direction, Frame, LinkLayer};
use crate::model::id::SkbId;
use crate::model::recording::Recording;
use crate::reconstruct::tests::recording;

pub const ID: u16 = 7;

pub fn device(netns: u32, index: u32) -> Device {
    Device::new(NetnsId(netns), IfIndex(index))
}

/// An echo request or reply from the Ethernet header on.
pub fn echo(reply: bool, seq: u16, ttl: u8, src: [u8; 4], dst: [u8; 4]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(src, dst, ttl);
    let builder = if reply { builder.icmpv4_echo_reply(ID, seq) } else { builder.icmpv4_echo_request(ID, seq) };
    builder.write(&mut bytes, &[]).unwrap();
    bytes
}

/// An ARP request or reply from the Ethernet header on.
pub fn arp(operation: u16, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let mut bytes = if operation == 1 { vec![0xff; 6] } else { vec![2; 6] };
    bytes.extend([4, 4, 4, 4, 4, 4, 8, 6, 0, 1, 8, 0, 6, 4]);
    bytes.extend(operation.to_be_bytes());
    bytes.extend([4; 6]);
    bytes.extend(sender);
    bytes.extend([0; 6]);
    bytes.extend(target);
    bytes
}

pub fn frame(time: u64, device: Device, direction: Direction, bytes: &[u8]) -> Frame {
    let bytes = bytes.to_vec();
    Frame { time: Nanos(time), device, direction, len: bytes.len() as u32, bytes, link: LinkLayer::Ethernet }
}

/// An event with the bytes of a frame from its network header on.
pub fn event(time: u64, skb: u64, device: Option<Device>, bytes: &[u8], kind: EventKind) -> Event {
    Event {
        time: Nanos(time),
        cpu: 0,
        skb: Some(SkbId(skb)),
        head: Some(skb + 1),
        device,
        netns: None,
        mac: None,
        bytes: bytes.get(14..).unwrap_or_default().into(),
        len: bytes.len() as u32,
        pkt_type: 0,
        mark: 0,
        kind,
    }
}

pub fn dropped(reason: &str, location: &str) -> EventKind {
    EventKind::Drop { reason: Some(reason.to_owned()), location: Some(location.to_owned()) }
}

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];

fn of(events: Vec<Event>, frames: Vec<Frame>) -> Packets {
    let recording = Recording { events, frames, ..recording() };
    correlate(&recording)
}

fn events_of(packet: &Packet) -> Vec<Pointer> {
    packet.visits.iter().flat_map(|visit| &visit.sightings).map(|sighting| sighting.pointer).collect()
}

#[test]
fn a_probe_and_a_capture_of_one_passage_are_one_visit() {
    let bytes = echo(false, 1, 64, A, B);
    let (here, there) = (device(0, 2), device(1, 3));
    let packets = of(
        vec![
            event(10, 0x100, Some(here), &bytes, EventKind::Queue),
            event(11, 0x100, Some(here), &bytes, EventKind::Xmit),
            event(13, 0x100, Some(there), &bytes, EventKind::Receive),
        ],
        vec![frame(12, here, Direction::Out, &bytes), frame(12, there, Direction::In, &bytes)],
    );
    assert_eq!(packets.packets.len(), 1);
    let visits: Vec<_> =
        packets.packets[0].visits.iter().map(|visit| (visit.at(), visit.way, visit.sightings.len())).collect();
    assert_eq!(visits, [(Some(here), Way::Out, 3), (Some(there), Way::In, 2)]);
    // The clock of the probes counts.
    assert_eq!(packets.packets[0].visits[1].time, Nanos(13));
}

#[test]
fn nat_and_routers_do_not_make_another_packet() {
    let packets = of(
        Vec::new(),
        vec![
            frame(1, device(0, 2), Direction::Out, &echo(false, 1, 64, A, B)),
            frame(2, device(1, 2), Direction::In, &echo(false, 1, 64, A, B)),
            frame(3, device(1, 3), Direction::Out, &echo(false, 1, 63, [192, 0, 2, 1], B)),
            frame(4, device(0, 2), Direction::Out, &echo(false, 2, 64, A, B)),
        ],
    );
    let counts: Vec<_> = packets.packets.iter().map(|packet| packet.visits.len()).collect();
    assert_eq!(counts, [3, 1]);
}

#[test]
fn a_pointer_is_a_name_only_while_the_buffer_lives() {
    let first = echo(false, 1, 64, A, B);
    let second = echo(false, 2, 64, A, B);
    let here = Some(device(0, 2));
    let returned = || EventKind::Return { function: "f".to_owned(), value: 0, meaning: None };
    let packets = of(
        vec![
            event(1, 0x100, here, &first, EventKind::Queue),
            event(2, 0x100, here, &[], returned()),
            event(3, 0x100, here, &[], EventKind::Consume { location: None }),
            event(4, 0x100, here, &[], returned()),
            event(5, 0x100, here, &second, EventKind::Queue),
            event(6, 0x100, here, &[], returned()),
        ],
        Vec::new(),
    );
    assert_eq!(events_of(&packets.packets[0]), [0, 1, 2].map(Pointer::Event));
    assert_eq!(events_of(&packets.packets[1]), [4, 5].map(Pointer::Event));
    assert_eq!(packets.unrelated, [Pointer::Event(3)]);
}

#[test]
fn a_pointer_with_another_packet_was_reused() {
    let here = Some(device(0, 2));
    let mut foreign = echo(false, 9, 64, A, B);
    foreign[38] = 0xee;
    let packets = of(
        vec![
            event(1, 0x100, here, &echo(false, 1, 64, A, B), EventKind::Queue),
            event(2, 0x100, here, &foreign, EventKind::Queue),
            event(3, 0x100, here, &[], EventKind::Receive),
        ],
        Vec::new(),
    );
    assert_eq!(packets.related(), 1);
    assert_eq!(packets.unrelated.len(), 2);
}

#[test]
fn a_pointer_with_a_datagram_too_short_to_carry_the_packet_was_reused() {
    let here = Some(device(0, 2));
    // 28 bytes of headers, and as many of payload as are asked for.
    let datagram = |payload: u16| {
        let mut bytes =
            vec![0x45, 0, 0, 0, 0, 1, 0, 0, 64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2, 1, 2, 3, 4, 0, 0, 0, 0];
        bytes[2..4].copy_from_slice(&(28 + payload).to_be_bytes());
        bytes[24..26].copy_from_slice(&(8 + payload).to_be_bytes());
        bytes.resize(usize::from(28 + payload), 0);
        [[2; 12].to_vec(), vec![8, 0], bytes].concat()
    };
    let request = echo(false, 1, 64, A, B);
    // Another's datagram of the same length; and one that holds the whole packet, as a tunnel would make of it.
    for (payload, related) in [(0, 1), (request.len() as u16 - 14, 3)] {
        let packets = of(
            vec![
                event(1, 0x100, here, &request, EventKind::Receive),
                event(2, 0x100, here, &datagram(payload), EventKind::Queue),
                event(3, 0x100, here, &[], dropped("NO_SOCKET", "__udp4_lib_rcv")),
            ],
            Vec::new(),
        );
        assert_eq!(packets.related(), related, "{payload}");
    }
}

#[test]
fn a_look_up_is_for_the_packet_before_it_only_at_once_and_in_its_own_family() {
    let here = Some(device(0, 2));
    let look_up = |src: &str, dst: &str| EventKind::FibLookup {
        table: 254,
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        iif: IfIndex(2),
        oif: IfIndex(0),
        error: 0,
        nexthop: None,
        gateway: None,
    };
    let packets = of(
        vec![
            event(1, 0x100, here, &echo(false, 1, 64, A, B), EventKind::Receive),
            event(2, 0x100, here, &[], look_up("10.0.0.1", "10.0.0.2")),
            event(3, 0x100, here, &[], look_up("fe80::1", "ff02::16")),
            event(60_000_000, 0x100, here, &[], look_up("10.0.0.1", "10.0.0.2")),
        ],
        Vec::new(),
    );
    assert_eq!(packets.related(), 2);
}

#[test]
fn clones_are_known_by_their_original_and_by_their_data() {
    let bytes = echo(true, 1, 64, A, B);
    let here = Some(device(0, 2));
    let by_data = Event { head: Some(0x101), ..event(4, 0x300, here, &[], dropped("X", "x")) };
    let packets = of(
        vec![
            event(1, 0x100, here, &bytes, EventKind::Receive),
            event(2, 0x200, here, &bytes, EventKind::Clone { of: SkbId(0x100) }),
            event(3, 0x200, here, &[], EventKind::Consume { location: None }),
            by_data,
        ],
        Vec::new(),
    );
    assert_eq!(packets.related(), 4);
    assert_eq!(packets.packets.len(), 1);
}

#[test]
fn a_question_asked_again_is_another_packet_and_one_that_circles_is_not() {
    let bytes = arp(1, A, B);
    let here = device(0, 2);
    let second = 1_000_000_000;
    let packets = of(
        Vec::new(),
        vec![
            frame(0, here, Direction::Out, &bytes),
            frame(10, device(0, 3), Direction::In, &bytes),
            frame(20, here, Direction::Out, &bytes),
            frame(second, here, Direction::Out, &bytes),
            frame(second + 10, device(0, 3), Direction::In, &bytes),
        ],
    );
    let counts: Vec<_> = packets.packets.iter().map(|packet| packet.visits.len()).collect();
    assert_eq!(counts, [3, 2]);
}

#[test]
fn a_route_look_up_belongs_to_the_buffer_that_was_at_hand() {
    let bytes = arp(1, A, B);
    let lookup = EventKind::FibLookup {
        table: 254,
        src: IpAddr::from(A),
        dst: IpAddr::from(B),
        iif: IfIndex(3),
        oif: IfIndex(0),
        error: 0,
        nexthop: None,
        gateway: None,
    };
    let packets = of(
        vec![
            event(1, 0x100, Some(device(1, 3)), &bytes, EventKind::Receive),
            event(2, 0x100, None, &[], lookup.clone()),
            event(3, 0x900, None, &[], lookup),
        ],
        Vec::new(),
    );
    assert_eq!(packets.packets[0].visits.len(), 1);
    assert_eq!(packets.packets[0].visits[0].sightings.len(), 2);
    assert_eq!(packets.unrelated, [Pointer::Event(2)]);
}

#[test]
fn an_answer_that_was_seen_nowhere_is_another_networks() {
    let used_up = || EventKind::Consume { location: Some("packet_recvmsg".to_owned()) };
    let stranger = event(5, 0x77, None, &arp(2, B, A), used_up());
    let packets = of(vec![stranger.clone()], vec![frame(1, device(0, 2), Direction::Out, &arp(1, A, B))]);
    assert_eq!(packets.packets.iter().map(|packet| packet.role).collect::<Vec<_>>(), [Role::ArpRequest]);
    assert_eq!(packets.unrelated, [Pointer::Event(0)]);
    // One that came in by a device of ours is ours, wherever else it is seen.
    let packets = of(vec![stranger], vec![frame(4, device(0, 2), Direction::In, &arp(2, B, A))]);
    assert_eq!(packets.packets.iter().map(|packet| packet.role).collect::<Vec<_>>(), [Role::ArpReply]);
}

#[test]
fn what_is_seen_in_an_unknown_namespace_is_not_seen_at_the_place_before() {
    let here = Some(device(0, 2));
    let sent = event(1, 0x100, here, &echo(false, 1, 64, A, B), EventKind::Xmit);
    let elsewhere = Event {
        netns: Some(NetnsId::ELSEWHERE),
        ..event(2, 0x100, None, &echo(false, 1, 64, A, B), dropped("X", "x"))
    };
    let packets = of(vec![sent, elsewhere], Vec::new());
    assert_eq!(packets.packets.len(), 1);
    assert_eq!(packets.related(), 1);
    assert_eq!(packets.unrelated, [Pointer::Event(1)]);
}
