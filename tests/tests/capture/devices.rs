//! `collect::pcap` on real devices: what it sees, in which direction, when, and what it costs.

use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use vnet_trace::collect::clock;
use vnet_trace::collect::netns::Asked;
use vnet_trace::collect::pcap::{Capture, Captured, Filter, Target};
use vnet_trace::collect::ping::{Asker, Manner, Patient};
use vnet_trace::model::exchange::Role;
use vnet_trace::model::frame::{Direction, Frame, LinkLayer};
use vnet_trace::model::id::{Device, IfIndex, NetnsId};
use vnet_trace::model::question::Question;
use vnet_trace::model::snapshot::Snapshot;
use vnet_trace::packet::identity::{Key, identify};
use vnet_trace::packet::{Packet, parse_frame};

use super::Case;
use super::asker::question;
use super::net::{cable, sh};

pub const CASES: &[Case] = &[
    ("devices/both_ends_see_both_ways", both_ends_see_both_ways),
    ("devices/times_are_on_the_clock_of_the_events", times_are_on_the_clock_of_the_events),
    ("devices/lo_is_seen_once", lo_is_seen_once),
    ("devices/vlan_tags_are_kept", vlan_tags_are_kept),
    ("devices/tunnels_are_seen_through", tunnels_are_seen_through),
    ("devices/tun_has_no_link_layer", tun_has_no_link_layer),
    ("devices/fragments_belong_to_their_first", fragments_belong_to_their_first),
    ("devices/other_pings_are_left_out", other_pings_are_left_out),
    ("devices/a_device_that_vanishes_is_a_gap", a_device_that_vanishes_is_a_gap),
    ("devices/a_device_that_is_down_is_no_gap", a_device_that_is_down_is_no_gap),
    ("devices/a_device_that_goes_down_is_heard_again", a_device_that_goes_down_is_heard_again),
    ("devices/a_device_that_never_was_is_a_gap", a_device_that_never_was_is_a_gap),
    ("devices/without_cap_net_raw_one_gap_names_all", without_cap_net_raw_one_gap_names_all),
    ("devices/a_namespace_that_vanishes_does_no_harm", a_namespace_that_vanishes_does_no_harm),
    ("devices/forty_open_and_close_quickly", forty_open_and_close_quickly),
];

/// The devices by `namespace/device`; the namespace `.` is the caller's.
fn targets(names: &[&str]) -> Result<Vec<Target>, Failed> {
    names
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let (netns_name, name) = name.split_once('/').unwrap_or((".", name));
            Ok(Target {
                device: Device::new(NetnsId(0), IfIndex(at as u32)),
                name: name.to_owned(),
                netns: Asked::parse(netns_name).open()?,
                netns_name: netns_name.to_owned(),
                loopback: name == "lo",
                up: true,
            })
        })
        .collect()
}

/// Asks from a namespace while the devices are captured.
pub fn asked(netns: &str, question: &Question, names: &[&str], filter: Filter) -> Result<Captured, Failed> {
    let handle = Asked::parse(netns).open()?;
    let asker = vnet_trace::collect::netns::run_in(&handle, || Asker::open(question, Manner::default()))??;
    let key = Key { icmp_id: asker.icmp_id(), ..Key::of(question, &Snapshot::default()) };
    let (capture, gaps) = Capture::start(&targets(names)?, &filter, key, || {})?;
    if !gaps.is_empty() {
        return Err(format!("{gaps:?}").into());
    }
    asker.run(&mut Patient);
    Ok(capture.stop())
}

fn packet(frame: &Frame) -> Result<Packet, Failed> {
    Ok(parse_frame(frame.link, &frame.bytes)?)
}

/// Device number, direction and role of every frame, in order.
fn story(captured: &Captured) -> Result<Vec<(u32, Direction, Role)>, Failed> {
    captured
        .frames
        .iter()
        .map(|frame| {
            let any = Key {
                icmp_id: 0,
                protocol: vnet_trace::model::question::Protocol::Echo,
                addresses: [].into(),
                own: None,
            };
            let packet = packet(frame)?;
            let inner = packet.tunnel().map_or(&packet, |tunnel| &tunnel.inner);
            let id = match inner.icmp().map(|icmp| &icmp.message) {
                Some(
                    vnet_trace::packet::IcmpMessage::EchoRequest(echo)
                    | vnet_trace::packet::IcmpMessage::EchoReply(echo),
                ) => echo.id,
                _ => 0,
            };
            let identity = identify(&packet, &Key { icmp_id: id, ..any }).ok_or("not of the exchange")?;
            Ok((frame.device.ifindex.0, frame.direction, identity.role))
        })
        .collect()
}

fn expect<T: std::fmt::Debug>(what: bool, shown: &T) -> Result<(), Failed> {
    if what { Ok(()) } else { Err(format!("{shown:#?}").into()) }
}

const IN: Direction = Direction::In;
const OUT: Direction = Direction::Out;

fn both_ends_see_both_ways() -> Result<(), Failed> {
    cable()?;
    for dst in ["10.0.0.2", "fd00::2"] {
        let asked = asked("a", &Question { count: 1, ..question(dst) }, &["a/eth0", "b/eth0"], Filter::default())?;
        let expected = [
            (0, OUT, Role::ArpRequest),
            (1, IN, Role::ArpRequest),
            (1, OUT, Role::ArpReply),
            (0, IN, Role::ArpReply),
            (0, OUT, Role::Request),
            (1, IN, Role::Request),
            (1, OUT, Role::Reply),
            (0, IN, Role::Reply),
        ];
        let mut seen = story(&asked)?;
        // b answers at once, and asks for a's link-layer address only some seconds later.
        seen.truncate(expected.len());
        expect(seen == expected && asked.lost == 0, &(seen, asked.gaps))?;
    }
    Ok(())
}

fn times_are_on_the_clock_of_the_events() -> Result<(), Failed> {
    cable()?;
    let before = clock::monotonic();
    let captured = asked("a", &question("10.0.0.2"), &["a/eth0"], Filter::default())?;
    let after = clock::monotonic();
    let all_within = captured.frames.iter().all(|frame| before < frame.time && frame.time < after);
    let not_rounded = captured.frames.iter().any(|frame| frame.time.0 % 1000 != 0);
    expect(!captured.frames.is_empty() && all_within && not_rounded, &captured.frames)
}

fn lo_is_seen_once() -> Result<(), Failed> {
    sh("ip link set lo up")?;
    let captured = asked(".", &Question { count: 1, ..question("127.0.0.1") }, &["lo"], Filter::default())?;
    expect(story(&captured)? == [(0, IN, Role::Request), (0, IN, Role::Reply)], &captured)
}

/// The tags are put in by hand, because not every kernel here has VLAN devices. The receiving side takes the outer one out of
/// the frame and keeps it beside it, as a network card would.
fn vlan_tags_are_kept() -> Result<(), Failed> {
    cable()?;
    let asked = asked("a", &Question { count: 1, ..question("10.0.0.2") }, &["a/eth0"], Filter::default())?;
    let request = asked.frames.iter().find(|frame| frame.bytes.len() == 98).ok_or("no request was captured")?;
    let Some(vnet_trace::packet::IcmpMessage::EchoRequest(echo)) =
        packet(request)?.icmp().map(|icmp| icmp.message.clone())
    else {
        return Err("the first frame of that length is no request".into());
    };
    let tagged = |vids: &[u16]| {
        let tags = vids.iter().flat_map(|vid| [0x81, 0x00, 0x20, *vid as u8]);
        [request.bytes[..12].to_vec(), tags.collect(), request.bytes[12..].to_vec()].concat()
    };
    let key = Key { icmp_id: echo.id, ..Key::of(&question("10.0.0.2"), &Snapshot::default()) };
    let (capture, _) = Capture::start(&targets(&["a/eth0", "b/eth0"])?, &Filter::default(), key, || {})?;
    let handle = Asked::parse("a").open()?;
    vnet_trace::collect::netns::run_in(&handle, || {
        let mut sender = pcap::Capture::from_device("eth0")?.open()?;
        sender.sendpacket(tagged(&[7]))?;
        sender.sendpacket(tagged(&[7, 9]))
    })??;
    let captured = capture.stop();
    let mut seen = Vec::new();
    for frame in &captured.frames {
        seen.push((frame.device.ifindex.0, frame.direction, packet(frame)?.vlans));
    }
    expect(
        seen == [(0, OUT, vec![7]), (1, IN, vec![7]), (0, OUT, vec![7, 9]), (1, IN, vec![7, 9])],
        &(seen.clone(), captured.received),
    )
}

fn tunnels_are_seen_through() -> Result<(), Failed> {
    cable()?;
    sh("ip -n a link add tun5 type vxlan id 5 remote 10.0.0.2 dstport 4790 dev eth0
        ip -n b link add tun5 type vxlan id 5 remote 10.0.0.1 dstport 4790 dev eth0
        ip -n a addr add 10.5.0.1/24 dev tun5
        ip -n b addr add 10.5.0.2/24 dev tun5
        ip -n a addr add fd05::1/64 dev tun5 nodad
        ip -n b addr add fd05::2/64 dev tun5 nodad
        ip -n a link set tun5 up
        ip -n b link set tun5 up")?;
    let filter = Filter { udp_tunnels: true, ..Filter::default() };
    for dst in ["10.5.0.2", "fd05::2"] {
        let captured = asked("a", &Question { count: 1, ..question(dst) }, &["a/eth0", "a/tun5"], filter)?;
        let outside = captured.frames.iter().filter(|frame| frame.device.ifindex.0 == 0);
        let mut inner = Vec::new();
        for frame in outside {
            inner.extend(packet(frame)?.tunnel().map(|tunnel| tunnel.vni));
        }
        expect(inner.len() >= 4 && inner.iter().all(|vni| *vni == Some(5)), &captured)?;
    }
    Ok(())
}

fn tun_has_no_link_layer() -> Result<(), Failed> {
    sh("ip tuntap add mode tun name tun0
        ip addr add 10.3.0.1/24 dev tun0
        ip link set tun0 up")?;
    // Nobody reads the tun device, so it has no carrier; a dummy that routes into nothing would not be one.
    let (capture, gaps) = Capture::start(
        &targets(&["tun0"])?,
        &Filter::default(),
        Key::of(&question("10.3.0.2"), &Snapshot::default()),
        || {},
    )?;
    expect(gaps.is_empty() && capture.devices().len() == 1, &gaps)?;
    let captured = capture.stop();
    expect(captured.frames.iter().all(|frame| frame.link == LinkLayer::Ip), &captured)
}

fn fragments_belong_to_their_first() -> Result<(), Failed> {
    cable()?;
    for dst in ["10.0.0.2", "fd00::2"] {
        let large = Question { count: 1, size: 4000, ..question(dst) };
        let captured = asked("a", &large, &["b/eth0"], Filter::default())?;
        let mut parts = 0;
        for frame in &captured.frames {
            parts += usize::from(packet(frame)?.ip().is_some_and(|ip| ip.fragment.is_some()));
        }
        // Three fragments each way.
        expect(parts == 6, &captured)?;
    }
    Ok(())
}

fn other_pings_are_left_out() -> Result<(), Failed> {
    cable()?;
    let other = Question { count: 1, ..question("10.0.0.2") };
    let key = Key { icmp_id: 1, ..Key::of(&other, &Snapshot::default()) };
    let (capture, _) = Capture::start(&targets(&["a/eth0"])?, &Filter::default(), key, || {})?;
    let handle = Asked::parse("a").open()?;
    vnet_trace::collect::netns::run_in(&handle, || {
        Asker::open(&Question { icmp_id: 2, ..other }, Manner::default()).map(|asker| asker.run(&mut Patient))
    })??;
    let captured = capture.stop();
    expect(captured.received >= 4 && story(&captured)?.iter().all(|(_, _, role)| *role < Role::Request), &captured)
}

fn a_device_that_vanishes_is_a_gap() -> Result<(), Failed> {
    cable()?;
    let (capture, gaps) = Capture::start(
        &targets(&["a/eth0", "a/lo"])?,
        &Filter::default(),
        Key::of(&question("10.0.0.2"), &Snapshot::default()),
        || {},
    )?;
    expect(gaps.is_empty(), &gaps)?;
    sh("ip -n a link del eth0")?;
    let captured = capture.stop();
    expect(captured.gaps.len() == 1 && captured.gaps[0].what == "frames on a/eth0", &captured)
}

fn a_device_that_is_down_is_no_gap() -> Result<(), Failed> {
    cable()?;
    sh("ip -n b link set eth0 down")?;
    let mut targets = targets(&["a/eth0", "b/eth0"])?;
    targets[1].up = false;
    let (capture, gaps) =
        Capture::start(&targets, &Filter::default(), Key::of(&question("10.0.0.2"), &Snapshot::default()), || {})?;
    let devices: Vec<_> = capture.devices().iter().map(|device| device.ifindex.0).collect();
    expect(gaps.is_empty() && devices == [0], &(gaps, devices))
}

fn a_device_that_goes_down_is_heard_again() -> Result<(), Failed> {
    cable()?;
    let asked = Question { icmp_id: 77, ..question("10.0.0.2") };
    let (capture, _) =
        Capture::start(&targets(&["a/eth0"])?, &Filter::default(), Key::of(&asked, &Snapshot::default()), || {})?;
    sh("ip -n a link set eth0 down; ip -n a link set eth0 up")?;
    let handle = Asked::parse("a").open()?;
    vnet_trace::collect::netns::run_in(&handle, || {
        Asker::open(&asked, Manner::default()).map(|asker| asker.run(&mut Patient))
    })??;
    let captured = capture.stop();
    expect(captured.gaps.is_empty() && captured.frames.len() >= 4, &captured)
}

fn a_device_that_never_was_is_a_gap() -> Result<(), Failed> {
    sh("ip link set lo up")?;
    let (capture, gaps) = Capture::start(
        &targets(&["lo", "nodev"])?,
        &Filter::default(),
        Key::of(&question("127.0.0.1"), &Snapshot::default()),
        || {},
    )?;
    expect(gaps.len() == 1 && gaps[0].what == "frames on nodev" && !gaps[0].why.is_empty(), &gaps)?;
    expect(capture.devices().len() == 1, &capture.devices())
}

fn without_cap_net_raw_one_gap_names_all() -> Result<(), Failed> {
    cable()?;
    // Of this thread, and of those that it starts.
    caps::drop(None, caps::CapSet::Effective, caps::Capability::CAP_NET_RAW)?;
    let all = targets(&["a/eth0", "a/lo", "b/eth0", "b/lo"])?;
    let (capture, gaps) =
        Capture::start(&all, &Filter::default(), Key::of(&question("10.0.0.2"), &Snapshot::default()), || {})?;
    let named = gaps.len() == 1 && gaps[0].what == "frames on a/eth0, a/lo and 2 other devices";
    expect(named && gaps[0].help.contains("CAP_NET_RAW") && capture.devices().is_empty(), &gaps)
}

fn a_namespace_that_vanishes_does_no_harm() -> Result<(), Failed> {
    cable()?;
    let (capture, gaps) = Capture::start(
        &targets(&["a/eth0", "b/eth0"])?,
        &Filter::default(),
        Key::of(&question("10.0.0.2"), &Snapshot::default()),
        || {},
    )?;
    expect(gaps.is_empty(), &gaps)?;
    sh("ip netns del b")?;
    // Our handle keeps the namespace alive, so nothing breaks; the name is gone.
    let captured = capture.stop();
    expect(captured.gaps.is_empty(), &captured)
}

fn forty_open_and_close_quickly() -> Result<(), Failed> {
    sh("for i in $(seq 20); do
          ip link add a$i type veth peer name b$i
          ip link set a$i up
          ip link set b$i up
        done")?;
    let names: Vec<_> = (1..=20).flat_map(|at| [format!("a{at}"), format!("b{at}")]).collect();
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    let start = Instant::now();
    let (capture, gaps) = Capture::start(
        &targets(&names)?,
        &Filter::default(),
        Key::of(&question("10.0.0.2"), &Snapshot::default()),
        || {},
    )?;
    let opened = start.elapsed();
    expect(gaps.is_empty() && capture.devices().len() == 40, &gaps)?;
    let start = Instant::now();
    capture.stop();
    let closed = start.elapsed();
    eprintln!("40 devices: opened in {opened:?}, closed in {closed:?}");
    // An order of magnitude above what it takes, so that a busy machine does not fail it; one after the other would take seconds.
    expect(opened < Duration::from_millis(900) && closed < Duration::from_millis(900), &(opened, closed))
}
