//! `collect::ping` against what ping(8) says in the same networks.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use vnet_trace::collect::netns::{Asked, run_in};
use vnet_trace::collect::ping::{Asker, Control, Decision, Kind, Manner, Patient};
use vnet_trace::model::id::NetnsId;
use vnet_trace::model::question::{Iface, PmtuDiscovery, Protocol, Question};
use vnet_trace::model::recording::PingOutcome;

use super::Case;
use super::net::{cable, pair_in_one, sh};

pub const CASES: &[Case] = &[
    ("asker/answered_in_both_families", answered_in_both_families),
    ("asker/no_route_is_said_by_connect", no_route_is_said_by_connect),
    ("asker/foreign_source_is_said_by_bind", foreign_source_is_said_by_bind),
    ("asker/unknown_device_is_said_by_setsockopt", unknown_device_is_said_by_setsockopt),
    ("asker/blackhole_is_said_by_sendmsg", blackhole_is_said_by_sendmsg),
    ("asker/output_rule_is_said_by_sendmsg", output_rule_is_said_by_sendmsg),
    ("asker/too_large_is_said_with_the_mtu", too_large_is_said_with_the_mtu),
    ("asker/nobody_home_is_said_by_icmp", nobody_home_is_said_by_icmp),
    ("asker/router_is_named_as_offender", router_is_named_as_offender),
    ("asker/bound_device_gets_reply_over_lo", bound_device_gets_reply_over_lo),
    ("asker/bound_device_misses_reply_of_lo", bound_device_misses_reply_of_lo),
    ("asker/bound_device_misses_reply_over_lo_in_ipv6", bound_device_misses_reply_over_lo_in_ipv6),
    ("asker/link_local_with_zone", link_local_with_zone),
    ("asker/options_reach_the_wire", options_reach_the_wire),
    ("asker/stops_when_told", stops_when_told),
    ("asker/waits_as_long_as_asked", waits_as_long_as_asked),
    ("asker/deadline_ends_it", deadline_ends_it),
    ("asker/duplicates_are_counted_apart", duplicates_are_counted_apart),
    ("asker/ping_socket_without_cap_net_raw", ping_socket_without_cap_net_raw),
];

pub fn question(dst: &str) -> Question {
    Question {
        netns: NetnsId(0),
        dst: dst.parse::<IpAddr>().expect("an address"),
        iface: None,
        zone: None,
        count: 2,
        interval_ms: 20,
        timeout_ms: 300,
        size: 56,
        ttl: None,
        tos: 0,
        mark: 0,
        pmtu: PmtuDiscovery::Default,
        icmp_id: 0,
        protocol: Protocol::Echo,
    }
}

fn through(device: &str, question: Question) -> Question {
    Question { iface: Some(Iface::Device(device.to_owned())), ..question }
}

/// Asks in the caller's namespace.
fn ask(question: &Question) -> Result<PingOutcome, Failed> {
    Ok(Asker::open(question, Manner::default())?.run(&mut Patient))
}

fn ask_in(netns: &str, question: &Question) -> Result<PingOutcome, Failed> {
    ask_in_manner(netns, question, Manner::default())
}

fn ask_in_manner(netns: &str, question: &Question, manner: Manner) -> Result<PingOutcome, Failed> {
    let handle = Asked::Name(netns.to_owned()).open()?;
    let asker = run_in(&handle, || Asker::open(question, manner))??;
    Ok(asker.run(&mut Patient))
}

fn expect(what: bool, outcome: &PingOutcome) -> Result<(), Failed> {
    if what { Ok(()) } else { Err(format!("{outcome:#?}").into()) }
}

fn texts(outcome: &PingOutcome) -> Vec<&str> {
    outcome.errors.iter().map(|error| error.text.as_str()).collect()
}

fn answered_in_both_families() -> Result<(), Failed> {
    cable()?;
    for (dst, source) in [("10.0.0.2", "10.0.0.1"), ("fd00::2", "fd00::1")] {
        let start = Instant::now();
        let outcome = ask_in("a", &question(dst))?;
        expect(outcome.sent == 2 && outcome.received == 2 && outcome.errors.is_empty(), &outcome)?;
        expect(outcome.source == Some(source.parse::<IpAddr>()?), &outcome)?;
        expect(outcome.rtt_us.len() == 2 && outcome.rtt_us.iter().all(|(_, rtt)| *rtt < 100_000), &outcome)?;
        // The last answer ends it.
        expect(start.elapsed() < Duration::from_millis(250), &outcome)?;
    }
    Ok(())
}

fn no_route_is_said_by_connect() -> Result<(), Failed> {
    cable()?;
    for dst in ["192.0.2.1", "2001:db8::1"] {
        let outcome = ask_in("a", &question(dst))?;
        expect(outcome.sent == 0 && texts(&outcome) == ["connect: Network is unreachable"], &outcome)?;
        expect(outcome.errors[0].call == "connect", &outcome)?;
    }
    Ok(())
}

fn foreign_source_is_said_by_bind() -> Result<(), Failed> {
    cable()?;
    let asked = Question { iface: Some(Iface::Address("10.9.9.9".parse()?)), ..question("10.0.0.2") };
    let outcome = ask_in("a", &asked)?;
    expect(texts(&outcome) == ["bind: Cannot assign requested address"], &outcome)
}

fn unknown_device_is_said_by_setsockopt() -> Result<(), Failed> {
    let outcome = ask(&through("nodev", question("10.0.0.2")))?;
    expect(texts(&outcome) == ["SO_BINDTODEVICE nodev: No such device"], &outcome)
}

fn blackhole_is_said_by_sendmsg() -> Result<(), Failed> {
    cable()?;
    sh("ip -n a route add blackhole 192.0.2.0/24")?;
    let bound = Question { iface: Some(Iface::Address("10.0.0.1".parse()?)), ..question("192.0.2.1") };
    let outcome = ask_in("a", &bound)?;
    expect(outcome.sent == 0 && outcome.errors.len() == 2, &outcome)?;
    expect(texts(&outcome)[0] == "sendmsg: Invalid argument" && outcome.errors[1].seq == Some(2), &outcome)?;
    let outcome = ask_in("a", &question("192.0.2.1"))?;
    expect(texts(&outcome) == ["connect: Invalid argument"], &outcome)
}

fn output_rule_is_said_by_sendmsg() -> Result<(), Failed> {
    cable()?;
    sh(
        "ip netns exec a nft 'table ip t { chain o { type filter hook output priority 0; ip daddr 10.0.0.2 drop; }; }'",
    )?;
    let outcome = ask_in("a", &question("10.0.0.2"))?;
    expect(outcome.sent == 0 && texts(&outcome)[0] == "sendmsg: Operation not permitted", &outcome)
}

fn too_large_is_said_with_the_mtu() -> Result<(), Failed> {
    cable()?;
    for dst in ["10.0.0.2", "fd00::2"] {
        let large = Question { size: 3000, pmtu: PmtuDiscovery::Do, ..question(dst) };
        let outcome = ask_in("a", &large)?;
        expect(outcome.sent == 0 && texts(&outcome)[0] == "local error: message too long, mtu=1500", &outcome)?;
        let fragmented = ask_in("a", &Question { size: 3000, ..question(dst) })?;
        expect(fragmented.received == 2 && fragmented.corrupted.is_empty(), &fragmented)?;
    }
    Ok(())
}

fn nobody_home_is_said_by_icmp() -> Result<(), Failed> {
    cable()?;
    sh("ip netns exec a sysctl -qw net.ipv4.neigh.eth0.retrans_time_ms=50 net.ipv6.neigh.eth0.retrans_time_ms=50")?;
    let v4 = Question { timeout_ms: 3000, ..question("10.0.0.9") };
    let outcome = ask_in("a", &v4)?;
    let text = "From 10.0.0.1 icmp_seq=1 Destination Host Unreachable";
    expect(outcome.sent == 2 && outcome.errors.len() == 2 && texts(&outcome)[0] == text, &outcome)?;
    expect(outcome.errors[0].icmp == Some((3, 1)) && outcome.errors[0].seq == Some(1), &outcome)?;
    let v6 = Question { timeout_ms: 3000, ..question("fd00::9") };
    let outcome = ask_in("a", &v6)?;
    let text = "From fd00::1 icmp_seq=1 Destination unreachable: Address unreachable";
    expect(outcome.errors.len() == 2 && texts(&outcome)[0] == text, &outcome)
}

fn router_is_named_as_offender() -> Result<(), Failed> {
    cable()?;
    sh("ip -n a route add default via 10.0.0.2
        ip -n a route add default via fd00::2
        ip netns exec b sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")?;
    let outcome = ask_in("a", &question("192.0.2.1"))?;
    expect(outcome.errors[0].offender == Some("10.0.0.2".parse()?), &outcome)?;
    expect(outcome.errors[0].icmp == Some((3, 0)), &outcome)?;
    let outcome = ask_in("a", &question("2001:db8::1"))?;
    expect(outcome.errors[0].offender == Some("fd00::2".parse()?), &outcome)?;
    expect(outcome.errors[0].icmp == Some((1, 0)), &outcome)
}

fn bound_device_gets_reply_over_lo() -> Result<(), Failed> {
    pair_in_one()?;
    sh("ip addr add 10.1.1.11/24 dev veth0; ip addr add 10.1.1.12/24 dev veth1")?;
    let outcome = ask(&through("veth0", question("10.1.1.12")))?;
    expect(outcome.received == 2 && outcome.source == Some("10.1.1.11".parse()?), &outcome)
}

fn bound_device_misses_reply_of_lo() -> Result<(), Failed> {
    pair_in_one()?;
    sh("ip addr add 10.1.1.50/32 dev lo
        ip addr add 10.1.1.12/24 dev veth1
        ip route add 10.1.1.12/32 dev veth0 src 10.1.1.50")?;
    let outcome = ask(&through("veth0", question("10.1.1.12")))?;
    expect(outcome.sent == 2 && outcome.received == 0 && outcome.errors.is_empty(), &outcome)
}

fn bound_device_misses_reply_over_lo_in_ipv6() -> Result<(), Failed> {
    pair_in_one()?;
    sh("ip addr add fd00::1/64 dev veth0 nodad; ip addr add fd00::2/64 dev veth1 nodad")?;
    let outcome = ask(&through("veth0", question("fd00::2")))?;
    expect(outcome.sent == 2 && outcome.received == 0, &outcome)?;
    expect(outcome.source == Some("fd00::2".parse()?), &outcome)
}

fn link_local_with_zone() -> Result<(), Failed> {
    cable()?;
    sh("ip -n a addr add fe80::a/64 dev eth0 nodad; ip -n b addr add fe80::b/64 dev eth0 nodad")?;
    let outcome = ask_in("a", &Question { zone: Some("eth0".into()), ..question("fe80::b") })?;
    expect(outcome.received == 2, &outcome)?;
    let outcome = ask_in("a", &through("eth0", question("fe80::b")))?;
    expect(outcome.received == 2, &outcome)?;
    let nowhere = ask_in("a", &Question { zone: Some("nodev".into()), ..question("fe80::b") });
    match nowhere {
        Err(error) if error.message().is_some_and(|text| text.contains("nodev")) => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

fn options_reach_the_wire() -> Result<(), Failed> {
    cable()?;
    sh("ip netns exec a nft 'table inet t { chain o { type filter hook output priority 0;
          ip ttl 9 ip dscp cs1 meta mark 5 counter accept;
          ip6 hoplimit 9 ip6 dscp cs1 meta mark 5 counter accept;
          icmp type echo-request drop;
          icmpv6 type echo-request drop; }; }'")?;
    for dst in ["10.0.0.2", "fd00::2"] {
        let outcome = ask_in("a", &Question { ttl: Some(9), tos: 32, mark: 5, ..question(dst) })?;
        expect(outcome.received == 2, &outcome)?;
        let outcome = ask_in("a", &question(dst))?;
        expect(outcome.received == 0, &outcome)?;
    }
    Ok(())
}

fn stops_when_told() -> Result<(), Failed> {
    /// Stops after the first request.
    struct AfterOne;
    impl Control for AfterOne {
        fn decide(&mut self, so_far: &PingOutcome) -> Decision {
            if so_far.sent > 0 { Decision::Stop } else { Decision::GoOn }
        }
    }
    cable()?;
    let endless = Question { count: 5, timeout_ms: 10_000, ..question("10.0.0.9") };
    let handle = Asked::Name("a".into()).open()?;
    let asker = run_in(&handle, || Asker::open(&endless, Manner::default()))??;
    let start = Instant::now();
    let outcome = asker.run(&mut AfterOne);
    expect(outcome.sent == 1 && outcome.cut_short && start.elapsed() < Duration::from_millis(200), &outcome)
}

fn waits_as_long_as_asked() -> Result<(), Failed> {
    cable()?;
    sh("ip netns exec b sysctl -qw net.ipv4.icmp_echo_ignore_all=1")?;
    let start = Instant::now();
    let outcome = ask_in("a", &question("10.0.0.2"))?;
    let took = start.elapsed();
    expect(outcome.sent == 2 && outcome.received == 0 && !outcome.cut_short, &outcome)?;
    expect((Duration::from_millis(320)..Duration::from_millis(900)).contains(&took), &outcome)
}

fn deadline_ends_it() -> Result<(), Failed> {
    cable()?;
    sh("ip netns exec b sysctl -qw net.ipv4.icmp_echo_ignore_all=1")?;
    let manner = Manner { deadline: Some(Duration::from_millis(200)), ..Manner::default() };
    let outcome = ask_in_manner("a", &Question { timeout_ms: 10_000, ..question("10.0.0.2") }, manner)?;
    // With a deadline the count is one of replies.
    expect(outcome.sent > 4 && outcome.received == 0, &outcome)?;
    expect(outcome.ended.0 - outcome.started.0 < 400_000_000, &outcome)
}

fn duplicates_are_counted_apart() -> Result<(), Failed> {
    cable()?;
    // The asker hears its own broadcast, and answers as well.
    sh("for n in a b; do ip netns exec $n sysctl -qw net.ipv4.icmp_echo_ignore_broadcasts=0; done")?;
    let refused = ask_in("a", &question("10.0.0.255"))?;
    expect(texts(&refused) == ["connect: Permission denied"], &refused)?;
    let manner = Manner { broadcast: true, ..Manner::default() };
    let outcome = ask_in_manner("a", &Question { count: 3, ..question("10.0.0.255") }, manner)?;
    expect(outcome.received == 3 && outcome.duplicates >= 2, &outcome)
}

fn ping_socket_without_cap_net_raw() -> Result<(), Failed> {
    cable()?;
    sh("ip netns exec a sysctl -qw net.ipv4.ping_group_range='0 0'")?;
    for dst in ["10.0.0.2", "fd00::2"] {
        let handle = Asked::Name("a".into()).open()?;
        let asker = run_in(&handle, || {
            // Of this thread only.
            caps::drop(None, caps::CapSet::Effective, caps::Capability::CAP_NET_RAW)
                .expect("capabilities can be dropped");
            Asker::open(&question(dst), Manner::default())
        })??;
        let (id, kind) = (asker.icmp_id(), asker.kind());
        let outcome = asker.run(&mut Patient);
        expect(kind == Kind::Ping && id != 0 && outcome.received == 2, &outcome)?;
    }
    Ok(())
}
