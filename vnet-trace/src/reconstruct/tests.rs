//! Synthetic recordings and the way that must come of them.

use std::net::IpAddr;

use super::*;
use crate::correlate::correlate;
use crate::correlate::tests::{ID, arp, device, dropped, echo, event, frame};
use crate::model::event::{Event, EventKind};
use crate::model::exchange::{Action, Fate, Leg};
use crate::model::frame::{Direction, Frame};
use crate::model::id::{IfIndex, MacAddr};
use crate::model::question::Question;
use crate::model::recording::PingOutcome;
use crate::model::snapshot::{Address, BridgeInfo, Link, LinkKind, Netns, Snapshot};

mod random;

const ASKER: [u8; 4] = [10, 0, 0, 1];
const OWNER: [u8; 4] = [10, 0, 0, 2];

/// A recording of a question from 10.0.0.1 to 10.0.0.2 in which nothing was seen, of this network:
/// `ns0: 2 (veth) ── ns1: 2 (port of 10) … 3 (port of 10) ── ns2: 2 (veth)`.
pub fn recording() -> Recording {
    let veth = |index: u32, peer: (u32, u32), master: Option<u32>, mac: u8| Link {
        index: IfIndex(index),
        name: format!("v{index}"),
        kind: LinkKind::Veth,
        mac: Some(MacAddr([mac; 6])),
        master: master.map(IfIndex),
        link: Some(IfIndex(peer.1)),
        link_netns: Some(NetnsId(peer.0)),
        ..Link::default()
    };
    let bridge = Link {
        index: IfIndex(10),
        name: "br0".to_owned(),
        kind: LinkKind::Bridge(BridgeInfo::default()),
        ..Link::default()
    };
    let address = |address: [u8; 4]| Address {
        ifindex: IfIndex(2),
        address: IpAddr::from(address),
        prefix_len: 24,
        peer: None,
        scope: 0,
        flags: 0x80,
    };
    let netns = |id: u32, links: Vec<Link>, addresses: Vec<Address>| Netns {
        id: NetnsId(id),
        name: format!("ns{id}"),
        links,
        addresses,
        ..Netns::default()
    };
    let namespaces = vec![
        netns(0, vec![veth(2, (1, 2), None, 4)], vec![address(ASKER)]),
        netns(1, vec![veth(2, (0, 2), Some(10), 5), veth(3, (2, 2), Some(10), 6), bridge], Vec::new()),
        netns(2, vec![veth(2, (1, 3), None, 2)], vec![address(OWNER)]),
    ];
    let question = Question { icmp_id: ID, ..Question::echo(NetnsId(0), IpAddr::from(OWNER)) };
    Recording::of(question, Snapshot { namespaces, ..Snapshot::default() })
}

fn exchange(events: Vec<Event>, frames: Vec<Frame>, received: bool) -> Exchange {
    let ping = PingOutcome { rtt_us: if received { vec![(1, 100)] } else { Vec::new() }, ..PingOutcome::default() };
    let recording = Recording { events, frames, ping, ..recording() };
    reconstruct(&correlate(&recording), &recording)
}

/// The frames of one packet from device to device.
fn over(time: u64, bytes: &[u8], way: &[(u32, u32, Direction)]) -> Vec<Frame> {
    (time..)
        .zip(way)
        .map(|(time, (netns, index, direction))| frame(time, device(*netns, *index), *direction, bytes))
        .collect()
}

const THERE: [(u32, u32, Direction); 4] =
    [(0, 2, Direction::Out), (1, 2, Direction::In), (1, 3, Direction::Out), (2, 2, Direction::In)];
const BACK: [(u32, u32, Direction); 4] =
    [(2, 2, Direction::Out), (1, 3, Direction::In), (1, 2, Direction::Out), (0, 2, Direction::In)];

#[test]
fn a_delivered_exchange_is_told_from_frames_alone() {
    let mut frames = over(10, &arp(1, ASKER, OWNER), &THERE);
    frames.push(frame(11, device(1, 10), Direction::In, &arp(1, ASKER, OWNER)));
    frames.extend(over(20, &arp(2, OWNER, ASKER), &BACK));
    frames.extend(over(30, &echo(false, 1, 64, ASKER, OWNER), &THERE));
    frames.extend(over(40, &echo(true, 1, 64, OWNER, ASKER), &BACK));
    let exchange = exchange(Vec::new(), frames, true);
    let roles: Vec<_> = exchange.journeys.iter().map(|journey| (journey.role, journey.leg)).collect();
    let forward = Leg::Forward;
    let expected =
        [(Role::ArpRequest, forward), (Role::ArpReply, forward), (Role::Request, forward), (Role::Reply, Leg::Return)];
    assert_eq!(roles, expected);
    for (journey, netns) in exchange.journeys.iter().zip([2, 0, 2, 0]) {
        assert_eq!(journey.fate, Fate::Delivered { netns: NetnsId(netns), device: Some(IfIndex(2)) }, "{journey:#?}");
    }
    let path: Vec<_> = exchange.journeys[2].path();
    assert_eq!(path, THERE.map(|(netns, index, direction)| (device(netns, index), direction)));
    assert!(
        exchange.journeys[2]
            .steps
            .iter()
            .any(|step| step.action == Action::BridgeForwarded { bridge: IfIndex(10), flooded: false })
    );
    // The bridge's own copy of the broadcast is a branch.
    let copy = &exchange.journeys[0].copies[0];
    assert_eq!(copy.path(), [(device(1, 10), Direction::In)]);
    assert_eq!(copy.steps[0].action, Action::BridgeLocal { bridge: IfIndex(10) });
}

#[test]
fn a_drop_that_counts_is_a_loss_with_its_place() {
    let bytes = echo(false, 1, 64, ASKER, OWNER);
    let frames = over(30, &bytes, &THERE[..2]);
    let events = vec![
        event(30, 0x100, Some(device(0, 2)), &bytes, EventKind::Xmit),
        event(31, 0x100, Some(device(1, 2)), &bytes, EventKind::Receive),
        event(32, 0x100, Some(device(1, 2)), &bytes, dropped("NETFILTER_DROP", "nft_do_chain")),
    ];
    let exchange = exchange(events, frames, false);
    let loss = exchange.journeys[0].loss().unwrap();
    assert_eq!(
        (loss.place.device(), loss.place.function.as_deref(), loss.certain),
        (Some(device(1, 2)), Some("nft_do_chain"), true)
    );
    let drops = exchange.drops(Role::Request, Leg::Forward);
    assert_eq!((drops[0].event, drops[0].reason, drops[0].main), (Some(2), Some("NETFILTER_DROP"), true));
    let seen = exchange.seen_at(Role::Request, Leg::Forward, device(1, 2), Direction::In).unwrap();
    assert_eq!(seen.sources.len(), 2);
}

#[test]
fn what_a_capture_does_with_its_copy_is_not_what_became_of_the_packet() {
    let bytes = echo(false, 1, 64, ASKER, OWNER);
    let here = Some(device(1, 2));
    for end in
        [EventKind::Consume { location: Some("tpacket_rcv".to_owned()) }, dropped("PACKET_SOCK_ERROR", "packet_rcv")]
    {
        let events = vec![
            event(30, 0x100, Some(device(0, 2)), &bytes, EventKind::Xmit),
            event(31, 0x100, here, &bytes, EventKind::Receive),
            event(32, 0x100, here, &bytes, end),
        ];
        let exchange = exchange(events, over(30, &bytes, &THERE[..2]), false);
        let journey = &exchange.journeys[0];
        assert_eq!(journey.fate, Fate::Cut { netns: NetnsId(1), device: Some(IfIndex(2)) });
        assert!(
            !journey.steps.iter().any(|step| matches!(step.action, Action::Consumed { .. } | Action::Dropped { .. }))
        );
    }
}

#[test]
fn the_ping_socket_look_up_after_a_raw_socket_got_the_reply_is_no_loss() {
    let bytes = echo(true, 1, 64, OWNER, ASKER);
    let events = |received| {
        exchange(
            vec![
                event(41, 0x100, Some(device(0, 2)), &bytes, EventKind::Receive),
                event(42, 0x100, Some(device(0, 2)), &bytes, dropped("NO_SOCKET", "ping_rcv")),
            ],
            over(40, &bytes, &BACK[..3]),
            received,
        )
    };
    assert!(matches!(events(true).journeys[0].fate, Fate::Delivered { netns: NetnsId(0), .. }));
    assert!(
        matches!(&events(false).journeys[0].fate, Fate::Lost(loss) if loss.place.function.as_deref() == Some("ping_rcv"))
    );
}

#[test]
fn a_packet_that_waited_in_vain_is_lost_by_another_packets_loss() {
    let request = echo(false, 1, 64, ASKER, OWNER);
    let who_has = arp(1, ASKER, OWNER);
    let second = 1_000_000_000;
    let mut frames = over(10, &who_has, &THERE[..2]);
    frames.extend(over(second, &who_has, &THERE[..2]));
    let failed = EventKind::Neigh { address: IpAddr::from(OWNER), lladdr: None, state: 0x20 };
    let events = vec![
        event(5, 0x100, None, &request, EventKind::Netfilter { pf: 2, hook: 3, verdict: 1 }),
        event(3 * second, 0x200, Some(device(0, 2)), &[], failed),
        event(3 * second + 1, 0x100, Some(device(0, 2)), &request, dropped("NEIGH_FAILED", "neigh_invalidate")),
    ];
    let events = events.into_iter().map(|event| Event { netns: Some(NetnsId(0)), ..event }).collect();
    let exchange = exchange(events, frames, false);
    let roles: Vec<_> = exchange.journeys.iter().map(|journey| journey.role).collect();
    assert_eq!(roles, [Role::ArpRequest, Role::ArpRequest, Role::Request]);
    assert!(matches!(exchange.journeys[0].fate, Fate::Cut { netns: NetnsId(1), .. }));
    let loss = exchange.journeys[2].loss().unwrap();
    assert_eq!((loss.place.device(), loss.certain), (Some(device(0, 2)), false));
    assert!(
        exchange.journeys[2]
            .steps
            .iter()
            .any(|step| matches!(&step.action, Action::Seen { note, .. } if note.ends_with("FAILED")))
    );
}

#[test]
fn rewritten_addresses_are_a_step() {
    let mut frames = over(30, &echo(false, 1, 64, [192, 0, 2, 9], OWNER), &THERE[..2]);
    frames.extend(over(32, &echo(false, 1, 63, ASKER, OWNER), &THERE[2..]));
    let exchange = exchange(Vec::new(), frames, false);
    let rewritten: Vec<_> =
        exchange.journeys[0].steps.iter().filter(|step| matches!(step.action, Action::Rewritten { .. })).collect();
    assert_eq!(rewritten.len(), 1);
    assert_eq!(rewritten[0].sources.len(), 2);
}

#[test]
fn a_hole_in_our_sight_does_not_cut_the_packet_in_two() {
    let exchange = exchange(Vec::new(), over(30, &echo(false, 1, 64, ASKER, OWNER), &[THERE[0], THERE[3]]), false);
    assert_eq!(exchange.journeys.len(), 1);
    assert_eq!(exchange.journeys[0].last_device(), Some((device(2, 2), Direction::In)));
    assert!(matches!(exchange.journeys[0].fate, Fate::Cut { netns: NetnsId(2), .. }));
}
