//! Packets of a stream, told apart and put together again.

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::way::{Ground, Outcome};
use super::*;
use crate::correlate::tests::{arp, device, dropped, echo, event, frame};
use crate::correlate::{Visit, Way};
use crate::model::event::EventKind;
use crate::model::frame::Direction::{In, Out};
use crate::model::id::{Device, SkbId};
use crate::model::sight::{Sight, Tier};
use crate::reconstruct::tests::recording;

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];

/// A datagram with an identification that routers and NAT leave alone.
fn udp(id: u16, src: ([u8; 4], u16), dst: ([u8; 4], u16), ttl: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(src.0, dst.0, ttl)
        .udp(src.1, dst.1)
        .write(&mut bytes, payload)
        .unwrap();
    bytes[18..20].copy_from_slice(&id.to_be_bytes());
    bytes
}

fn follow(frames: Vec<Frame>, events: Vec<Event>) -> (Vec<Followed>, Counts) {
    let mut follower = Follower::new(Limits::default());
    let mut all: Vec<(Nanos, Result<Frame, Event>)> = frames.into_iter().map(|frame| (frame.time, Ok(frame))).collect();
    all.extend(events.into_iter().map(|event| (event.time, Err(event))));
    all.sort_by_key(|(time, _)| *time);
    for (_, one) in all {
        match one {
            Ok(frame) => follower.frame(frame, true),
            Err(event) => follower.event(event, true),
        }
    }
    follower.close();
    let mut done: Vec<Followed> = std::iter::from_fn(|| follower.pop()).collect();
    done.sort_by_key(|followed| followed.packet.begun());
    (done, follower.counts())
}

fn places(followed: &Followed) -> Vec<(Option<Device>, Way)> {
    followed.packet.visits.iter().map(|visit: &Visit| (visit.at(), visit.way)).collect()
}

#[test]
fn a_datagram_is_followed_through_nat() {
    let inside = udp(7, (A, 4000), (B, 53), 64, b"question");
    let outside = udp(7, ([192, 0, 2, 1], 61000), (B, 53), 63, b"question");
    let other = udp(8, (A, 4000), (B, 53), 64, b"question");
    let frames = vec![
        frame(1, device(0, 2), Out, &inside),
        frame(2, device(1, 2), In, &inside),
        frame(3, device(1, 3), Out, &outside),
        frame(4, device(2, 2), In, &outside),
        frame(5, device(0, 2), Out, &other),
    ];
    let (done, _) = follow(frames, Vec::new());
    let counts: Vec<_> = done.iter().map(|followed| followed.packet.visits.len()).collect();
    assert_eq!(counts, [4, 1]);
    let way = Ground::new(recording().before, Sight::default()).tell(done.into_iter().next().unwrap());
    let ends: Vec<_> = way.ends.iter().map(|ends| (ends.device, ends.ports)).collect();
    assert_eq!(ends, [(Some(device(0, 2)), Some((4000, 53))), (Some(device(1, 3)), Some((61000, 53)))]);
    assert!(matches!(way.outcome, Outcome::Arrived { .. }), "{:?}", way.outcome);
}

#[test]
fn packets_that_are_alike_are_as_many_as_there_were() {
    let bytes = udp(0, (A, 4000), (B, 53), 64, b"same");
    let mut frames = Vec::new();
    for round in 0..100u64 {
        frames.push(frame(round * 1000, device(0, 2), Out, &bytes));
        frames.push(frame(round * 1000 + 5, device(1, 2), In, &bytes));
    }
    let (done, _) = follow(frames, Vec::new());
    assert_eq!(done.len(), 100);
    assert!(done.iter().all(|followed| places(followed).len() == 2));
}

#[test]
fn a_packet_that_circles_is_one_packet() {
    let mut frames = Vec::new();
    for ttl in (1..=64u8).rev() {
        let bytes = udp(9, (A, 4000), (B, 53), ttl, b"around");
        frames.push(frame(u64::from(64 - ttl) * 10, device(0, 2), Out, &bytes));
        frames.push(frame(u64::from(64 - ttl) * 10 + 5, device(1, 2), In, &bytes));
    }
    let (done, _) = follow(frames, Vec::new());
    assert_eq!(done.len(), 1);
    assert_eq!(done[0].packet.visits.len(), 128);
}

#[test]
fn a_segment_that_is_sent_again_is_another_packet() {
    let segment = |id: u16| {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4(A, B, 64)
            .tcp(4000, 80, 77, 64240)
            .syn()
            .write(&mut bytes, &[])
            .unwrap();
        bytes[18..20].copy_from_slice(&id.to_be_bytes());
        bytes
    };
    let frames = vec![
        frame(1, device(0, 2), Out, &segment(1)),
        frame(1_000_000_000, device(0, 2), Out, &segment(2)),
        frame(1_000_000_005, device(1, 2), In, &segment(2)),
    ];
    let (done, _) = follow(frames, Vec::new());
    let counts: Vec<_> = done.iter().map(|followed| followed.packet.visits.len()).collect();
    assert_eq!(counts, [1, 2]);
}

#[test]
fn pointers_keep_apart_what_is_alike_and_end_packets() {
    let bytes = udp(0, (A, 4000), (B, 53), 64, b"same");
    let mut events = Vec::new();
    // Two at a time, one behind the other, and the first is dropped.
    for (skb, start) in [(0x100, 0), (0x200, 1)] {
        events.push(event(start, skb, Some(device(0, 2)), &bytes, EventKind::Queue));
        events.push(event(start + 10, skb, Some(device(0, 2)), &bytes, EventKind::Xmit));
    }
    events.push(event(30, 0x100, Some(device(1, 2)), &[], dropped("NETFILTER_DROP", "nft_do_chain")));
    events.push(event(31, 0x200, Some(device(2, 2)), &bytes, EventKind::Receive));
    events.push(event(32, 0x200, Some(device(2, 2)), &[], EventKind::Consume { location: None }));
    // The same pointer again, soon after: another packet.
    events.push(event(40, 0x100, Some(device(0, 2)), &bytes, EventKind::Queue));
    let (done, _) = follow(Vec::new(), events);
    let seen: Vec<_> = done.iter().map(|followed| followed.events.len()).collect();
    assert_eq!(seen, [3, 4, 1]);
    let mut ground = Ground::new(recording().before, Sight::default());
    let ways: Vec<_> = done.into_iter().map(|followed| ground.tell(followed)).collect();
    assert!(matches!(&ways[0].outcome, Outcome::Dropped { reason: Some(reason), .. } if reason == "NETFILTER_DROP"));
    assert!(matches!(ways[1].outcome, Outcome::Delivered { .. }), "{:?}", ways[1].outcome);
}

#[test]
fn a_packet_ends_soon_after_its_buffers_are_freed() {
    let bytes = udp(0, (A, 4000), (B, 53), 64, b"same");
    let mut follower = Follower::new(Limits::default());
    follower.event(event(0, 0x100, Some(device(0, 2)), &bytes, EventKind::Queue), true);
    follower.event(event(5, 0x200, Some(device(0, 2)), &bytes, EventKind::Clone { of: SkbId(0x100) }), true);
    follower.event(event(10, 0x100, Some(device(0, 2)), &[], EventKind::Consume { location: None }), true);
    follower.tick(Nanos(1_000_000_000));
    assert!(follower.pop().is_none(), "a clone lives");
    follower.event(event(1_000_000_001, 0x200, Some(device(1, 2)), &[], EventKind::Consume { location: None }), true);
    follower.tick(Nanos(1_000_000_002 + Limits::default().linger.0));
    assert_eq!(follower.pop().map(|followed| followed.events.len()), Some(4));
}

#[test]
fn address_resolution_knows_whether_it_was_answered() {
    let frames = vec![
        frame(1, device(0, 2), Out, &arp(1, A, B)),
        frame(2, device(1, 2), In, &arp(1, A, B)),
        frame(3, device(2, 2), In, &arp(1, A, B)),
        frame(4, device(2, 2), Out, &arp(2, B, A)),
        frame(5, device(0, 2), In, &arp(2, B, A)),
        frame(1_000_000_000, device(0, 2), Out, &arp(1, A, [10, 0, 0, 9])),
    ];
    let (done, _) = follow(frames, Vec::new());
    let sight = Sight { captured: vec![device(0, 2), device(1, 2), device(2, 2)], ..Sight::default() };
    let mut ground = Ground::new(recording().before, sight);
    let outcomes: Vec<_> = done.into_iter().map(|followed| ground.tell(followed).outcome).collect();
    assert!(matches!(outcomes[0], Outcome::Delivered { netns: NetnsId(2), .. }), "{outcomes:?}");
    assert!(matches!(outcomes[1], Outcome::Arrived { netns: NetnsId(0), .. }), "{outcomes:?}");
    assert!(matches!(outcomes[2], Outcome::Vanished { .. }), "{outcomes:?}");
}

#[test]
fn memory_is_bounded_and_what_that_costs_is_counted() {
    let limits = Limits { open: 100, sightings: 10, ..Limits::default() };
    let mut follower = Follower::new(limits);
    for number in 0..10_000u64 {
        let bytes = echo(false, number as u16, 64, A, B);
        follower.frame(frame(number, device(0, 2), Out, &bytes), true);
        assert!(follower.open() <= 100);
    }
    for ttl in (1..=64u8).rev() {
        follower.frame(frame(20_000, device(0, 2), Out, &udp(1, (A, 1), (B, 2), ttl, b"x")), true);
    }
    follower.close();
    let done: Vec<_> = std::iter::from_fn(|| follower.pop()).collect();
    assert_eq!(done.len(), 10_001);
    assert!(done.iter().all(|followed| followed.frames.len() <= 10));
    let counts = follower.counts();
    assert_eq!((counts.packets, counts.too_many), (10_001, 54));
    assert_eq!(counts.cut_short, done.iter().filter(|followed| followed.cut_short).count() as u64);
    assert!(counts.cut_short >= 9_900);
}

#[test]
fn a_buffer_that_carries_another_packet_has_left_the_first() {
    // As the kernel frees what a UDP socket has read: without a word.
    let mut follower = Follower::new(Limits::default());
    let mut open = 0;
    for number in 1..1000u16 {
        let time = u64::from(number) * 1_000_000;
        let bytes = udp(number, (A, 4000), (B, 53), 64, b"x");
        follower.event(event(time, 0x100, Some(device(0, 2)), &bytes, EventKind::Xmit), true);
        follower.event(event(time + 9, 0x100, Some(device(1, 2)), &bytes, EventKind::Receive), true);
        open = open.max(follower.open());
    }
    assert!(open < 10, "{open} at a time, where each lingers for 5 ms");
    follower.close();
    let counts = follower.counts();
    assert_eq!((counts.packets, counts.cut_short), (999, 0));
}

/// Any sightings: bytes of a few packets and rubbish, at a few places.
fn sighting() -> impl Strategy<Value = (u64, u32, bool, Vec<u8>, Option<u64>, u8)> {
    let bytes = prop_oneof![
        (0..3u16, 0..3u8).prop_map(|(id, ttl)| udp(id, (A, 1), (B, 2), ttl, b"payload")),
        (any::<bool>(), 0..3u16).prop_map(|(reply, seq)| echo(reply, seq, 64, A, B)),
        (1..3u16).prop_map(|operation| arp(operation, A, B)),
        prop::collection::vec(any::<u8>(), 0..60),
    ];
    (0..2_000_000_000u64, 2..5u32, any::<bool>(), bytes, prop::option::of(0..5u64), 0..5u8)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_sighting_is_told_once_or_counted(all in prop::collection::vec(sighting(), 0..150)) {
        let limits = Limits { open: 20, sightings: 12, ..Limits::default() };
        let mut follower = Follower::new(limits);
        let mut ground = Ground::new(recording().before, Sight::default());
        let mut all = all;
        all.sort_by_key(|sighting| sighting.0);
        let total = all.len() as u64;
        let mut told = 0;
        for (time, index, out, bytes, skb, kind) in all {
            let at = device(index % 3, 2);
            match skb {
                Some(skb) => {
                    let kind = match kind {
                        0 => EventKind::Queue,
                        1 => EventKind::Receive,
                        2 => EventKind::Clone { of: SkbId(skb + 1) },
                        3 => EventKind::Consume { location: None },
                        _ => dropped("X", "x"),
                    };
                    follower.event(event(time, skb, Some(at), &bytes, kind), true);
                }
                None => follower.frame(frame(time, at, if out { Out } else { In }, &bytes), true),
            }
            while let Some(followed) = follower.pop() {
                told += (followed.events.len() + followed.frames.len()) as u64;
                let _ = ground.tell(followed);
            }
        }
        follower.close();
        while let Some(followed) = follower.pop() {
            told += (followed.events.len() + followed.frames.len()) as u64;
            let _ = ground.tell(followed);
        }
        let counts = follower.counts();
        prop_assert_eq!(told + counts.nameless + counts.too_many, total);
        prop_assert_eq!(follower.open(), 0);
    }
}

#[test]
fn an_echo_reply_that_only_a_raw_socket_wanted_is_not_lost() {
    let reply = echo(true, 1, 64, B, A);
    for (reason, location, is_lost) in [
        (Some("NO_SOCKET"), "ping_rcv", false),
        (None, "icmp_rcv", false),
        (Some("ICMP_CSUM"), "icmp_rcv", true),
        (Some("NETFILTER_DROP"), "nft_do_chain", true),
    ] {
        let drop = EventKind::Drop { reason: reason.map(str::to_owned), location: Some(location.to_owned()) };
        let events = vec![
            event(1, 0x100, Some(device(1, 2)), &reply, EventKind::Xmit),
            event(2, 0x100, Some(device(0, 2)), &reply, EventKind::Receive),
            event(3, 0x100, Some(device(0, 2)), &reply, drop),
        ];
        let (done, _) = follow(Vec::new(), events);
        let sight = Sight { tier: Tier::Tracepoint, ..Sight::default() };
        let way = Ground::new(recording().before, sight).tell(done.into_iter().next().unwrap());
        let found = matches!(way.outcome, Outcome::Dropped { .. });
        assert_eq!(found, is_lost, "{reason:?} in {location}: {:?}", way.outcome);
    }
}
