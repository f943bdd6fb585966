//! Whatever was recorded: nothing panics, and no sighting is lost or told twice.

use std::collections::BTreeMap;

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;
use crate::correlate::{Packets, Pointer};
use crate::model::diagnosis::Source;
use crate::model::event::MacHeader;
use crate::model::frame::LinkLayer;
use crate::model::id::SkbId;

/// Packets of the exchange, packets that look like them, and rubbish.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let address = || prop_oneof![Just(ASKER), Just(OWNER), any::<[u8; 4]>()];
    prop_oneof![
        (any::<bool>(), 0..4u16, any::<u8>(), address(), address())
            .prop_map(|(reply, seq, ttl, src, dst)| echo(reply, seq, ttl, src, dst)),
        (1..3u16, address(), address()).prop_map(|(operation, sender, target)| arp(operation, sender, target)),
        (0..4u16, address()).prop_map(|(seq, src)| error(seq, src)),
        (0..4u16, address()).prop_map(|(seq, src)| wrapped(seq, src)),
        prop::collection::vec(any::<u8>(), 0..80),
    ]
}

fn error(seq: u16, src: [u8; 4]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let quoted = echo(false, seq, 1, ASKER, OWNER);
    PacketBuilder::ethernet2([1; 6], [2; 6])
        .ipv4(src, ASKER, 64)
        .icmpv4_raw(11, 0, [0; 4])
        .write(&mut bytes, &quoted[14..42])
        .unwrap();
    bytes
}

fn wrapped(seq: u16, src: [u8; 4]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut inner = vec![8, 0, 0, 0, 0, 0, 7, 0];
    inner.extend(echo(false, seq, 64, ASKER, OWNER));
    PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4(src, OWNER, 64).udp(5000, 4789).write(&mut bytes, &inner).unwrap();
    bytes
}

fn place() -> impl Strategy<Value = Device> {
    (0..4u32, prop_oneof![Just(1u32), Just(2), Just(3), Just(10), Just(77)])
        .prop_map(|(netns, index)| device(netns, index))
}

fn kind() -> impl Strategy<Value = EventKind> {
    let function = || {
        prop_oneof![
            Just("icmp_rcv"),
            Just("arp_process"),
            Just("ping_rcv"),
            Just("fib_validate_source"),
            Just("veth_xmit")
        ]
    };
    let reason = prop_oneof![Just("NO_SOCKET"), Just("NEIGH_FAILED"), Just("OTHERHOST"), Just("QUEUE_PURGE")];
    prop_oneof![
        4 => Just(EventKind::Queue),
        4 => Just(EventKind::Xmit),
        4 => Just(EventKind::NetifRx),
        4 => Just(EventKind::Receive),
        2 => (reason, function()).prop_map(|(reason, location)| dropped(reason, location)),
        2 => prop::option::of(function()).prop_map(|location| EventKind::Consume { location: location.map(str::to_owned) }),
        2 => (any::<bool>(), 0..2u32, any::<i8>()).prop_map(|(back, iif, error)| EventKind::FibLookup {
            table: 254,
            src: IpAddr::from(if back { OWNER } else { ASKER }),
            dst: IpAddr::from(if back { ASKER } else { OWNER }),
            iif: IfIndex(iif),
            oif: IfIndex(0),
            error: i32::from(error.min(0)),
            nexthop: None,
            gateway: None,
        }),
        1 => (function(), any::<i8>()).prop_map(|(function, value)| EventKind::Return {
            function: function.to_owned(),
            value: value.into(),
            meaning: None,
        }),
        1 => function().prop_map(|function| EventKind::Enter { function: function.to_owned() }),
        1 => any::<(u8, u8, i8)>().prop_map(|(pf, hook, verdict)| EventKind::Netfilter { pf, hook, verdict: verdict.into() }),
        1 => any::<(bool, u8)>().prop_map(|(known, state)| EventKind::Neigh {
            address: IpAddr::from(OWNER),
            lladdr: known.then_some(MacAddr([4; 6])),
            state: state.into(),
        }),
        1 => any::<(u8, u8)>().prop_map(|(kind, code)| EventKind::IcmpSend { kind, code }),
        1 => (0..4u64).prop_map(|of| EventKind::Clone { of: SkbId(of) }),
    ]
}

/// Times within a millisecond, and now and then seconds later.
fn time() -> impl Strategy<Value = u64> {
    (0..4u64, 0..1000u64).prop_map(|(seconds, rest)| seconds * 1_000_000_000 + rest)
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let one = (
        time(),
        prop::option::of(0..4u64),
        prop::option::of(place()),
        prop::option::of(0..4u32),
        bytes(),
        any::<bool>(),
        kind(),
    );
    let one = one.prop_map(|(time, skb, device, netns, bytes, silent, kind)| {
        let mac = MacHeader { dst: MacAddr([bytes.len() as u8; 6]), src: MacAddr([4; 6]), ethertype: 0x800 };
        Event {
            skb: skb.map(SkbId),
            netns: netns.map(NetnsId),
            mac: (!silent).then_some(mac),
            ..event(time, 0, device, if silent { &[] } else { &bytes }, kind)
        }
    });
    prop::collection::vec(one, 0..120)
}

fn frames() -> impl Strategy<Value = Vec<Frame>> {
    let direction = prop_oneof![Just(Direction::In), Just(Direction::Out), Just(Direction::Unknown)];
    let one =
        (time(), place(), direction, bytes(), any::<bool>()).prop_map(|(time, device, direction, bytes, bare)| {
            let link = if bare { LinkLayer::Ip } else { LinkLayer::Ethernet };
            let bytes = if bare { bytes.get(14..).unwrap_or_default().to_vec() } else { bytes };
            Frame { link, ..frame(time, device, direction, &bytes) }
        });
    prop::collection::vec(one, 0..120)
}

/// In how many journeys each sighting is told.
fn told(exchange: &Exchange) -> BTreeMap<(bool, usize), usize> {
    let mut all = BTreeMap::new();
    for journey in &exchange.journeys {
        let sources = journey.branches().flat_map(|branch| &branch.steps).flat_map(|step| &step.sources);
        let here: std::collections::BTreeSet<_> = sources
            .map(|source| match source {
                Source::Event(at) => (false, *at),
                Source::Frame(at) => (true, *at),
                other => panic!("{other:?}"),
            })
            .collect();
        for name in here {
            *all.entry(name).or_default() += 1;
        }
    }
    all
}

fn name(pointer: Pointer) -> (bool, usize) {
    match pointer {
        Pointer::Event(at) => (false, at as usize),
        Pointer::Frame(at) => (true, at as usize),
    }
}

fn check(recording: &Recording, packets: &Packets) -> Result<(), TestCaseError> {
    let exchange = reconstruct(packets, recording);
    let mut told = told(&exchange);
    for pointer in &packets.unrelated {
        *told.entry(name(*pointer)).or_default() += 1;
    }
    for pointer in &packets.awaited {
        // Nobody may have waited for it.
        told.entry(name(*pointer)).or_insert(1);
    }
    let all = (0..recording.events.len()).map(|at| (false, at)).chain((0..recording.frames.len()).map(|at| (true, at)));
    prop_assert_eq!(told, all.map(|name| (name, 1)).collect::<BTreeMap<_, _>>());
    for journey in &exchange.journeys {
        let Fate::Lost(loss) = &journey.fate else { continue };
        prop_assert!(loss.decision.is_none());
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_is_lost_and_nothing_told_twice(events in events(), frames in frames(), received in any::<bool>()) {
        let ping = PingOutcome { rtt_us: if received { vec![(1, 100)] } else { Vec::new() }, ..PingOutcome::default() };
        let recording = Recording { events, frames, ping, ..recording() };
        check(&recording, &correlate(&recording))?;
    }
}

#[test]
fn a_long_loop_is_no_long_work() {
    let mut frames = Vec::new();
    for round in 0..20_000u64 {
        let bytes = echo(false, 1, 64, ASKER, OWNER);
        frames.extend(over(round * 8, &bytes, &THERE[..2]));
        frames.extend(over(round * 8 + 4, &bytes, &[(1, 2, Direction::Out), (0, 2, Direction::In)]));
    }
    let recording = Recording { frames, ..recording() };
    let exchange = reconstruct(&correlate(&recording), &recording);
    assert_eq!(exchange.journeys.len(), 1);
    assert_eq!(exchange.journeys[0].path().len(), 80_000);
}
