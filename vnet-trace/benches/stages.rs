//! How fast the pure stages are, in events per second and core: `cargo bench -p vnet-trace`.
//!
//! Two recordings, made up here: a question with many requests, which is decoded, correlated and reconstructed, and other people's
//! datagrams, which are decoded, followed and told. Each packet goes from one namespace through a router to another, and is
//! seen 14 times, as the probes see it.

#![expect(missing_docs, reason = "criterion's macro makes a function without")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use etherparse::PacketBuilder;
use vnet_trace::collect::recording_file;
use vnet_trace::collect::recording_file::stream::{Part, Parts};
use vnet_trace::correlate::correlate;
use vnet_trace::follow::way::Ground;
use vnet_trace::follow::{Follower, Limits};
use vnet_trace::model::event::{Event, EventKind, MacHeader};
use vnet_trace::model::id::{Device, IfIndex, MacAddr, Nanos, NetnsId, SkbId};
use vnet_trace::model::question::Question;
use vnet_trace::model::recording::{PingOutcome, Recording};
use vnet_trace::model::sight::{Sight, Tier};
use vnet_trace::model::snapshot::{Address, Link, LinkKind, Netns, Snapshot};
use vnet_trace::reconstruct::reconstruct;

const ASKER: [u8; 4] = [10, 0, 1, 2];
const OWNER: [u8; 4] = [10, 0, 2, 2];

/// Packets of one recording; an echo's sequence number has 16 bits.
const PACKETS: u16 = 20_000;

/// `ns1: 2 ── r: 2 · 3 ── ns2: 2`.
fn network() -> Snapshot {
    let veth = |index: u32, peer: (u32, u32)| Link {
        index: IfIndex(index),
        name: format!("veth{index}"),
        kind: LinkKind::Veth,
        mac: Some(MacAddr([2, 0, 0, 0, peer.0 as u8, index as u8])),
        link: Some(IfIndex(peer.1)),
        link_netns: Some(NetnsId(peer.0)),
        ..Link::default()
    };
    let address = |index: u32, address: [u8; 4]| Address {
        ifindex: IfIndex(index),
        address: address.into(),
        prefix_len: 24,
        peer: None,
        scope: 0,
        flags: 0x80,
    };
    let netns = |id: u32, name: &str, links: Vec<Link>, addresses: Vec<Address>| Netns {
        id: NetnsId(id),
        name: name.to_owned(),
        links,
        addresses,
        ..Netns::default()
    };
    let namespaces = vec![
        netns(0, "ns1", vec![veth(2, (1, 2))], vec![address(2, ASKER)]),
        netns(
            1,
            "r",
            vec![veth(2, (0, 2)), veth(3, (2, 2))],
            vec![address(2, [10, 0, 1, 1]), address(3, [10, 0, 2, 1])],
        ),
        netns(2, "ns2", vec![veth(2, (1, 3))], vec![address(2, OWNER)]),
    ];
    Snapshot { namespaces, ..Snapshot::default() }
}

/// What the probes see of one packet that is routed once and arrives.
fn way(events: &mut Vec<Event>, time: &mut u64, skb: u64, near: &[u8], far: &[u8]) {
    let mut see = |device: Option<(u32, u32)>, bytes: &[u8], kind: EventKind| {
        *time += 700;
        events.push(Event {
            time: Nanos(*time),
            cpu: 1,
            skb: Some(SkbId(0xffff_8880_0000_0000 + skb)),
            head: Some(0xffff_8880_1000_0000 + skb),
            device: device.map(|(netns, index)| Device::new(NetnsId(netns), IfIndex(index))),
            netns: None,
            mac: Some(MacHeader {
                dst: MacAddr([2, 0, 0, 0, 0, 1]),
                src: MacAddr([2, 0, 0, 0, 0, 2]),
                ethertype: 0x0800,
            }),
            bytes: bytes.into(),
            len: bytes.len() as u32,
            pkt_type: 0,
            mark: 0,
            kind,
        });
    };
    let lookup = |src: [u8; 4], iif: u32| EventKind::FibLookup {
        table: 254,
        src: src.into(),
        dst: OWNER.into(),
        iif: IfIndex(iif),
        oif: IfIndex(0),
        error: 0,
        nexthop: None,
        gateway: None,
    };
    let entered = |function: &str| EventKind::Enter { function: function.to_owned() };
    see(Some((0, 2)), near, EventKind::Queue);
    see(Some((0, 2)), near, EventKind::Xmit);
    see(Some((1, 2)), near, EventKind::NetifRx);
    see(Some((1, 2)), near, EventKind::Receive);
    see(Some((1, 2)), near, EventKind::Netfilter { pf: 2, hook: 0, verdict: 1 });
    see(Some((1, 2)), near, lookup(ASKER, 2));
    see(Some((1, 2)), near, EventKind::Netfilter { pf: 2, hook: 2, verdict: 1 });
    see(Some((1, 3)), far, EventKind::Queue);
    see(Some((1, 3)), far, EventKind::Xmit);
    see(Some((2, 2)), far, EventKind::NetifRx);
    see(Some((2, 2)), far, EventKind::Receive);
    see(Some((2, 2)), far, lookup(ASKER, 2));
    see(Some((2, 2)), far, entered("icmp_rcv"));
    see(Some((2, 2)), &[], EventKind::Consume { location: Some("icmp_rcv".to_owned()) });
}

fn recording(events: Vec<Event>, question: Question) -> Recording {
    Recording {
        events,
        ping: PingOutcome { sent: 1, ..PingOutcome::default() },
        sight: Sight { tier: Tier::Tracepoint, ..Sight::default() },
        ..Recording::of(question, network())
    }
}

fn question() -> Question {
    Question { icmp_id: 7, ..Question::echo(NetnsId(0), OWNER.into()) }
}

fn bytes(ttl: u8, build: impl FnOnce(etherparse::PacketBuilderStep<etherparse::IpHeaders>, &mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    build(PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(ASKER, OWNER, ttl), &mut bytes);
    bytes.split_off(14)
}

/// Echo requests.
fn asked() -> Vec<u8> {
    let (mut events, mut time) = (Vec::new(), 1_000_000_000);
    for seq in 0..PACKETS {
        let packet =
            |ttl| bytes(ttl, |ip, out| ip.icmpv4_echo_request(7, seq).write(out, &[0x5a; 56]).unwrap_or_default());
        way(&mut events, &mut time, u64::from(seq % 64) * 256, &packet(64), &packet(63));
    }
    written(&recording(events, question()))
}

/// Datagrams of several flows.
fn watched() -> Vec<u8> {
    let (mut events, mut time) = (Vec::new(), 1_000_000_000);
    for number in 0..PACKETS {
        let packet = |ttl| {
            let payload = [&number.to_be_bytes()[..], &[0x5a; 62]].concat();
            let mut packet =
                bytes(ttl, |ip, out| ip.udp(4000 + number % 8, 53).write(out, &payload).unwrap_or_default());
            packet[4..6].copy_from_slice(&number.to_be_bytes());
            packet
        };
        way(&mut events, &mut time, u64::from(number % 64) * 256, &packet(64), &packet(63));
    }
    written(&recording(events, question()))
}

fn written(recording: &Recording) -> Vec<u8> {
    let mut file = Vec::new();
    let done = recording_file::write(recording, &mut file);
    assert!(done.is_ok(), "{done:?}");
    file
}

fn stages(criterion: &mut Criterion) {
    let events = u64::from(PACKETS) * 14;
    let (asked, watched) = (asked(), watched());
    let mut group = criterion.benchmark_group("events");
    group.throughput(Throughput::Elements(events)).sample_size(10);

    group
        .bench_function("decode", |bencher| bencher.iter(|| recording_file::read(black_box(asked.as_slice())).is_ok()));
    let Ok(read) = recording_file::read(asked.as_slice()) else { return };
    group.bench_function("correlate", |bencher| bencher.iter(|| correlate(black_box(&read)).packets.len()));
    let packets = correlate(&read);
    assert_eq!((packets.packets.len(), packets.unrelated.len()), (usize::from(PACKETS), 0));
    group.bench_function("reconstruct", |bencher| {
        bencher.iter(|| reconstruct(black_box(&packets), &read).journeys.len());
    });
    group.bench_function("decode, correlate, reconstruct", |bencher| {
        bencher.iter(|| {
            let Ok(recording) = recording_file::read(black_box(asked.as_slice())) else { return 0 };
            reconstruct(&correlate(&recording), &recording).journeys.len()
        });
    });
    group.bench_function("decode, follow, tell", |bencher| {
        bencher.iter(|| {
            let Ok(mut parts) = Parts::new(black_box(watched.as_slice())) else { return 0 };
            let mut follower = Follower::new(Limits::default());
            let mut ground: Option<Ground> = None;
            let mut told = 0;
            while let Ok(Some(part)) = parts.next_part() {
                match part {
                    Part::Question(head) => ground = Some(Ground::new(head.before, head.sight)),
                    Part::Events(events) => {
                        for event in events {
                            follower.event(event, true);
                        }
                    }
                    _ => {}
                }
                while let (Some(ground), Some(followed)) = (&mut ground, follower.pop()) {
                    told += black_box(ground.tell(followed)).journey.steps.len();
                }
            }
            told
        });
    });
    group.finish();
}

criterion_group!(benches, stages);
criterion_main!(benches);
