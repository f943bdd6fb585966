//! The evaluator on rule sets as other programs install them, and the parsers on everything else.
//!
//! The rule sets in `netfilter/` are modelled on what Docker, kube-proxy, flannel, Calico, firewalld and ufw set up, loaded into
//! a private network namespace and listed by `iptables-save -c` and `nft -j -a list ruleset`. Calico's is written by hand:
//! it needs ipset.

#![expect(clippy::expect_used, reason = "tests")]

use std::net::IpAddr;

use proptest::prelude::*;
use vnet_trace::collect::iptables::parse_iptables_save;
use vnet_trace::collect::nft::parse_nft_json;
use vnet_trace::model::netfilter::statement::{NatKind, Reject, Statement};
use vnet_trace::model::netfilter::{Backend, Family, Hook, Ruleset, RulesetGap};
use vnet_trace::predict::netfilter::context::{Answer, Device, HookContext, LocalAddresses, NoOracle, Oracle};
use vnet_trace::predict::netfilter::outcome::{Change, Evaluation, Outcome, Would};
use vnet_trace::predict::netfilter::packet::{CtState, NatBinding, Packet, Transport};
use vnet_trace::predict::netfilter::{counters_increased, evaluate, narrow_fix, owner_of};

fn iptables(text: &str) -> Ruleset {
    let (tables, gaps) = parse_iptables_save(text, Family::Ip, Backend::IptablesNft);
    Ruleset { tables, gaps, ..Ruleset::default() }
}

fn nft(text: &str) -> Ruleset {
    let (tables, gaps) = parse_nft_json(text);
    Ruleset { tables, gaps, ..Ruleset::default() }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn device(name: &str) -> Option<Device> {
    (!name.is_empty()).then(|| Device::named(0, name))
}

fn forward(input: &str, output: &str) -> HookContext {
    HookContext::ip(Hook::Forward, device(input), device(output))
}

fn tcp(from: &str, to: &str, port: u16) -> Packet {
    Packet::new(ip(from), ip(to), Transport::Tcp { source: 40000, destination: port, flags: 2 })
}

fn ping(from: &str, to: &str) -> Packet {
    Packet::echo_request(ip(from), ip(to), 7)
}

/// What the host of each rule set owns.
fn host() -> LocalAddresses {
    let own = [
        ("docker0", "172.17.0.1"),
        ("br-front", "172.18.0.1"),
        ("eth0", "192.0.2.10"),
        ("lan0", "192.168.1.1"),
        ("wan0", "203.0.113.9"),
    ];
    LocalAddresses { addresses: own.iter().map(|(name, address)| ((*name).to_owned(), ip(address))).collect() }
}

fn ask(ruleset: &Ruleset, context: &HookContext, packet: &mut Packet) -> Evaluation {
    evaluate(ruleset, context, packet, &host())
}

fn lost_in(evaluation: &Evaluation) -> String {
    match &evaluation.outcome {
        Outcome::Drop { loss, .. } => loss.at.chain.clone(),
        other => format!("{other:?}"),
    }
}

#[test]
fn docker_lets_containers_out_and_keeps_networks_apart() {
    let rules = iptables(include_str!("netfilter/docker.iptables-save"));
    assert_eq!(rules.gaps, []);
    let out = ask(&rules, &forward("docker0", "eth0"), &mut ping("172.17.0.2", "192.0.2.99"));
    assert!(out.accepted(), "{:?}", out.outcome);
    let across = ask(&rules, &forward("br-front", "docker0"), &mut ping("172.18.0.2", "172.17.0.2"));
    assert_eq!(lost_in(&across), "DOCKER-ISOLATION-STAGE-2");
    assert_eq!(owner_of("filter", "DOCKER-ISOLATION-STAGE-2").map(|owner| owner.name), Some("Docker"));
    let within = ask(&rules, &forward("docker0", "docker0"), &mut ping("172.17.0.2", "172.17.0.3"));
    assert!(within.accepted());
    let mut reply = ping("172.17.0.2", "192.0.2.99").reply();
    assert!(ask(&rules, &forward("eth0", "docker0"), &mut reply).accepted());
}

#[test]
fn docker_publishes_a_port_and_nothing_else() {
    let rules = iptables(include_str!("netfilter/docker.iptables-save"));
    let mut packet = tcp("192.0.2.99", "192.0.2.10", 8080);
    let prerouting = HookContext::ip(Hook::Prerouting, device("eth0"), None);
    let evaluation = ask(&rules, &prerouting, &mut packet);
    assert!(evaluation.accepted());
    assert_eq!((packet.destination, packet.ports()), (ip("172.17.0.2"), Some((40000, 80))));
    assert!(matches!(evaluation.effects.as_slice(), [effect] if effect.certain));
    assert!(ask(&rules, &forward("eth0", "docker0"), &mut packet).accepted());
    // Straight to the container, past the published port: raw drops it, and FORWARD would.
    let direct = ask(&rules, &prerouting, &mut tcp("192.0.2.99", "172.17.0.2", 80));
    assert_eq!(direct.loss().map(|loss| loss.at.table.as_str()), Some("raw"));
    let other = ask(&rules, &forward("eth0", "docker0"), &mut tcp("192.0.2.99", "172.17.0.2", 443));
    assert_eq!(lost_in(&other), "DOCKER");
}

#[test]
fn docker_masquerades_what_leaves() {
    let rules = iptables(include_str!("netfilter/docker.iptables-save"));
    let mut packet = ping("172.17.0.2", "192.0.2.99");
    let original = packet.tuple();
    let evaluation = ask(&rules, &HookContext::ip(Hook::Postrouting, None, device("eth0")), &mut packet);
    assert!(evaluation.accepted());
    assert_eq!(packet.source, ip("192.0.2.10"));
    let binding = NatBinding::new(original, packet.tuple());
    let reply = packet.reply();
    assert_eq!(binding.translate(reply.tuple()).map(|tuple| tuple.destination), Some(ip("172.17.0.2")));
    assert_eq!(binding.destination_first(reply.tuple()).map(|tuple| tuple.source), Some(ip("192.0.2.99")));
    // A subnet for which no rule was written.
    let other =
        ask(&rules, &HookContext::ip(Hook::Postrouting, None, device("eth0")), &mut ping("172.30.0.2", "192.0.2.99"));
    let missed: Vec<_> =
        other.near_misses.iter().filter(|miss| miss.would == Would::Nat(NatKind::Masquerade)).collect();
    assert_eq!(missed.len(), 2);
    assert_eq!(missed[0].failed.len(), 1);
}

#[test]
fn a_fix_for_docker_goes_to_docker_user() {
    let rules = iptables(include_str!("netfilter/docker.iptables-save"));
    let context = forward("br-front", "docker0");
    let packet = ping("172.18.0.2", "172.17.0.2");
    let drop = ask(&rules, &context, &mut packet.clone()).loss().expect("isolated").at.clone();
    let fixes = narrow_fix(&rules, &drop, &context, &packet, &host(), "ip netns exec h ");
    assert_eq!(
        fixes[0].commands,
        [
            "ip netns exec h iptables -t filter -A DOCKER-USER -s 172.18.0.2 -d 172.17.0.2 -p icmp -m icmp --icmp-type 8 -j ACCEPT",
        ]
    );
    assert_eq!(
        fixes[0].undo,
        [
            "ip netns exec h iptables -t filter -D DOCKER-USER -s 172.18.0.2 -d 172.17.0.2 -p icmp -m icmp --icmp-type 8 -j ACCEPT"
        ]
    );
}

#[test]
fn kube_proxy_sends_a_service_to_one_of_its_endpoints() {
    for rules in
        [iptables(include_str!("netfilter/kube-proxy.iptables-save")), nft(include_str!("netfilter/kube-proxy.json"))]
    {
        assert_eq!(rules.gaps, []);
        let mut packet = tcp("10.244.3.3", "10.96.0.20", 80);
        let evaluation = ask(&rules, &HookContext::ip(Hook::Prerouting, device("cni0"), None), &mut packet);
        assert!(evaluation.accepted(), "{:?}", evaluation.outcome);
        assert_eq!(packet.ports(), Some((40000, 8080)), "{evaluation:#?}");
        let targets: Vec<IpAddr> = evaluation
            .effects
            .iter()
            .filter_map(|effect| match &effect.change {
                Change::Nat { after: Some(after), .. } => Some(after.destination),
                _ => None,
            })
            .collect();
        assert!(targets.contains(&ip("10.244.1.5")), "{targets:?}");
        assert!(ask(&rules, &forward("cni0", "flannel.1"), &mut packet).accepted());
    }
}

#[test]
fn kube_proxy_rejects_a_service_without_endpoints() {
    for rules in
        [iptables(include_str!("netfilter/kube-proxy.iptables-save")), nft(include_str!("netfilter/kube-proxy.json"))]
    {
        let evaluation = ask(&rules, &forward("cni0", "eth0"), &mut tcp("10.244.3.3", "10.96.0.77", 80));
        let loss = evaluation.loss().expect("rejected");
        assert!(matches!(loss.reject, Some(Reject::Icmp(3) | Reject::Icmpx(1))));
    }
}

#[test]
fn kube_proxy_masquerades_marked_packets_only() {
    let rules = iptables(include_str!("netfilter/kube-proxy.iptables-save"));
    let postrouting = HookContext::ip(Hook::Postrouting, None, device("eth0"));
    let mut marked = tcp("198.51.100.7", "10.244.1.5", 8080);
    marked.mark = Some(0x4000);
    assert!(ask(&rules, &postrouting, &mut marked).accepted());
    assert_eq!((marked.source, marked.mark), (ip("192.0.2.10"), Some(0)));
    let mut plain = tcp("198.51.100.7", "10.244.1.5", 8080);
    assert!(ask(&rules, &postrouting, &mut plain).accepted());
    assert_eq!(plain.source, ip("198.51.100.7"));
    // Between pods nothing is rewritten; to the world it is, by flannel.
    let mut between = tcp("10.244.1.5", "10.244.2.6", 1);
    ask(&rules, &postrouting, &mut between);
    assert_eq!(between.source, ip("10.244.1.5"));
    let mut out = tcp("10.244.1.5", "198.51.100.7", 1);
    ask(&rules, &postrouting, &mut out);
    assert_eq!(out.source, ip("192.0.2.10"));
}

#[test]
fn an_unknown_mark_leaves_it_undecided_whether_kube_proxy_masquerades() {
    let rules = iptables(include_str!("netfilter/kube-proxy.iptables-save"));
    let mut packet = tcp("198.51.100.7", "10.244.1.5", 8080);
    packet.mark = None;
    let evaluation = ask(&rules, &HookContext::ip(Hook::Postrouting, None, device("eth0")), &mut packet);
    assert!(evaluation.accepted());
    assert!(evaluation.effects.iter().any(|effect| matches!(effect.change, Change::Nat { .. }) && !effect.certain));
    assert_eq!(packet.conntrack.snat, None);
}

#[test]
fn calico_s_ipset_rule_leaves_a_ping_undecided_and_tcp_decided() {
    let rules = iptables(include_str!("netfilter/calico.iptables-save"));
    let context = forward("calia1", "calib2");
    assert!(ask(&rules, &context, &mut tcp("10.1.0.1", "10.1.0.2", 80)).accepted());
    assert_eq!(lost_in(&ask(&rules, &context, &mut tcp("10.1.0.1", "10.1.0.2", 81))), "cali-tw-calib2");
    let icmp = ask(&rules, &context, &mut ping("10.1.0.1", "10.1.0.2"));
    let Outcome::Undecided { candidates, because } = icmp.outcome else { panic!("{:?}", icmp.outcome) };
    assert_eq!(candidates[0].at.chain, "cali-tw-calib2");
    assert!(!because.is_empty());
    assert!(
        rules
            .gaps
            .iter()
            .any(|gap| matches!(gap, RulesetGap::NotUnderstood { text, .. } if text.contains("cali40s:pods")))
    );
    // A device that Calico does not know.
    assert_eq!(
        lost_in(&ask(&rules, &forward("calizz", "eth0"), &mut ping("10.1.0.9", "10.9.9.9"))),
        "cali-from-wl-dispatch"
    );
    assert_eq!(owner_of("filter", "cali-tw-calib2").map(|owner| owner.purpose), Some("traffic to one workload"));
}

#[test]
fn ufw_answers_pings_and_drops_the_rest() {
    let (tables, gaps) =
        parse_iptables_save(include_str!("netfilter/ufw.iptables-save"), Family::Ip, Backend::IptablesLegacy);
    let rules = Ruleset { tables, gaps, ..Ruleset::default() };
    let input = HookContext::ip(Hook::Input, device("eth0"), None);
    assert!(ask(&rules, &input, &mut ping("198.51.100.7", "192.0.2.10")).accepted());
    assert!(ask(&rules, &input, &mut tcp("198.51.100.7", "192.0.2.10", 22)).accepted());
    let closed = ask(&rules, &input, &mut tcp("198.51.100.7", "192.0.2.10", 23));
    assert!(closed.loss().is_some_and(|loss| loss.at.policy && loss.at.chain == "INPUT"));
    let mut invalid = tcp("198.51.100.7", "192.0.2.10", 22);
    invalid.conntrack.state = Some(CtState::Invalid);
    assert!(ask(&rules, &input, &mut invalid).loss().is_some_and(|loss| loss.conntrack_invalid));
    let through = ask(&rules, &forward("eth0", "eth1"), &mut ping("198.51.100.7", "10.0.0.1"));
    let fixes = narrow_fix(
        &rules,
        &through.loss().expect("policy").at,
        &forward("eth0", "eth1"),
        &ping("198.51.100.7", "10.0.0.1"),
        &host(),
        "",
    );
    assert_eq!(
        fixes[0].commands,
        ["iptables-legacy -t filter -A FORWARD -s 198.51.100.7 -d 10.0.0.1 -p icmp -m icmp --icmp-type 8 -j ACCEPT"]
    );
}

#[test]
fn firewalld_s_zones_decide_by_device() {
    let rules = nft(include_str!("netfilter/firewalld.json"));
    assert_eq!(rules.gaps, []);
    assert!(ask(&rules, &forward("lan0", "wan0"), &mut tcp("192.168.1.5", "198.51.100.7", 443)).accepted());
    assert!(ask(&rules, &forward("lan0", "dmz0"), &mut ping("192.168.1.5", "10.0.0.1")).accepted());
    let inward = ask(&rules, &forward("wan0", "lan0"), &mut ping("198.51.100.7", "192.168.1.5"));
    assert_eq!(lost_in(&inward), "filter_FWD_external");
    assert_eq!(inward.loss().and_then(|loss| loss.reject), Some(Reject::Icmpx(3)));
    assert_eq!(owner_of("firewalld", "filter_FWD_external").map(|owner| owner.name), Some("firewalld"));
    let mut packet = tcp("192.168.1.5", "198.51.100.7", 443);
    ask(&rules, &HookContext::ip(Hook::Postrouting, None, device("wan0")), &mut packet);
    assert_eq!(packet.source, ip("203.0.113.9"));
    let elsewhere = ask(
        &rules,
        &HookContext::ip(Hook::Postrouting, None, device("wan1")),
        &mut tcp("192.168.1.5", "198.51.100.7", 443),
    );
    let miss = elsewhere.near_misses.iter().find(|miss| matches!(miss.would, Would::Nat(_))).expect("the zone's jump");
    assert!(miss.rule.text.contains("wan0"), "{miss:?}");
}

#[test]
fn what_is_known_of_a_connection_does_not_count_in_another_zone() {
    let rules = nft(r#"{"nftables": [
            {"table": {"family": "ip", "name": "t", "handle": 1}},
            {"chain": {"family": "ip", "table": "t", "name": "raw", "handle": 1,
                       "type": "filter", "hook": "prerouting", "prio": -300, "policy": "accept"}},
            {"rule": {"family": "ip", "table": "t", "chain": "raw", "handle": 2,
                      "expr": [{"mangle": {"key": {"ct": {"key": "zone"}}, "value": 5}}]}}]}"#);
    let arrived = HookContext::ip(Hook::Prerouting, device("r1"), None);
    // A new packet is new in every zone.
    let mut packet = ping("10.0.1.2", "10.0.2.2");
    assert!(ask(&rules, &arrived, &mut packet).accepted());
    assert_eq!((packet.conntrack.state, packet.conntrack.zoned), (Some(CtState::New), true));
    let mut answer = packet.reply();
    assert_eq!(answer.conntrack.state, Some(CtState::Established));
    assert!(ask(&rules, &arrived, &mut answer).accepted());
    assert_eq!((answer.conntrack.state, answer.conntrack.reply), (None, None));
}

#[test]
fn every_expression_of_a_large_listing_is_parsed_and_named() {
    let rules = nft(include_str!("netfilter/expressions.json"));
    let unknown: Vec<&str> = rules
        .gaps
        .iter()
        .map(|gap| match gap {
            RulesetGap::NotUnderstood { text, .. } => text.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    // What the evaluator cannot answer, and nothing else.
    for known in ["ct state", "fib daddr", "iifname", "icmp type", "tcp flags", "meta mark", "limit rate", "vmap"] {
        assert!(!unknown.iter().any(|text| text.starts_with(known)), "{known} in {unknown:?}");
    }
    for text in ["rt ip nexthop", "meta day", "socket transparent", "esp spi"] {
        assert!(unknown.iter().any(|unknown| unknown.starts_with(text)), "{text} not in {unknown:?}");
    }
}

#[test]
fn a_rule_is_written_as_nft_writes_it() {
    let rules = nft(include_str!("netfilter/expressions.json"));
    let listing = include_str!("netfilter/expressions.txt");
    let (mut same, mut different) = (0, Vec::new());
    for rule in rules.tables.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules) {
        let handle = format!(" # handle {}", rule.handle.expect("listed with handles"));
        let line = listing.lines().find(|line| line.ends_with(&handle)).expect("in the text as well");
        let line = line.trim().trim_end_matches(&handle);
        if line == rule.text { same += 1 } else { different.push(format!("{line}\n{}", rule.text)) }
    }
    assert!(different.len() * 8 < same, "{} of {}:\n{}", different.len(), same, different.join("\n"));
}

#[test]
fn a_drop_that_only_an_unknown_rule_could_avert_is_undecided() {
    let unknown_before = "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -m u32 --u32 0=1 -j ACCEPT\nCOMMIT\n";
    let evaluation =
        evaluate(&iptables(unknown_before), &forward("a", "b"), &mut ping("10.0.0.1", "10.0.0.2"), &NoOracle);
    assert!(matches!(evaluation.outcome, Outcome::Undecided { .. }));
    // Both ways end the same: certain.
    let either_way = "*filter\n:FORWARD DROP [0:0]\n-A FORWARD -m u32 --u32 0=1 -j DROP\nCOMMIT\n";
    let evaluation = evaluate(&iptables(either_way), &forward("a", "b"), &mut ping("10.0.0.1", "10.0.0.2"), &NoOracle);
    let Outcome::Drop { loss, or_earlier } = evaluation.outcome else { panic!("{:?}", evaluation.outcome) };
    assert!(loss.at.policy);
    assert_eq!(or_earlier.len(), 1);
    // A later certain drop decides whatever the unknown rule does.
    let decided = "*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -m u32 --u32 0=1 -j LOG\n-A FORWARD -j DROP\nCOMMIT\n";
    let evaluation = evaluate(&iptables(decided), &forward("a", "b"), &mut ping("10.0.0.1", "10.0.0.2"), &NoOracle);
    assert!(evaluation.loss().is_some());
}

#[test]
fn a_loss_behind_a_possible_return_is_undecided() {
    let rules = "*filter\n:FORWARD ACCEPT [0:0]\n:X - [0:0]\n-A FORWARD -j X\n-A X -m u32 --u32 0=1 -j RETURN\n-A X -j DROP\nCOMMIT\n";
    let evaluation = evaluate(&iptables(rules), &forward("a", "b"), &mut ping("10.0.0.1", "10.0.0.2"), &NoOracle);
    assert!(matches!(evaluation.outcome, Outcome::Undecided { .. }), "{:?}", evaluation.outcome);
}

#[test]
fn an_address_of_which_nothing_is_known_is_not_taken_for_local() {
    let rules = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m addrtype ! --dst-type LOCAL -j DROP\nCOMMIT\n";
    let input = HookContext::ip(Hook::Input, device("eth0"), None);
    let unknown = evaluate(&iptables(rules), &input, &mut ping("10.0.0.1", "192.0.2.10"), &NoOracle);
    assert!(matches!(unknown.outcome, Outcome::Undecided { .. }));
    assert!(ask(&iptables(rules), &input, &mut ping("10.0.0.1", "192.0.2.10")).accepted());
}

#[test]
fn masquerading_without_an_address_loses_the_packet() {
    let rules = iptables("*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -j MASQUERADE\nCOMMIT\n");
    let context = HookContext::ip(Hook::Postrouting, None, device("bare0"));
    let evaluation = ask(&rules, &context, &mut ping("10.0.0.1", "198.51.100.1"));
    assert!(evaluation.loss().is_some_and(|loss| loss.no_address));
    assert_eq!(host().masquerade_address(&Device::named(0, "bare0"), ip("198.51.100.1")), Answer::None);
}

#[test]
fn a_counter_that_went_up_confirms_its_rule() {
    let text =
        |count: u32| format!("*filter\n:FORWARD ACCEPT [0:0]\n[{count}:84] -A FORWARD -p icmp -j DROP\nCOMMIT\n");
    let (before, after) = (iptables(&text(3)), iptables(&text(5)));
    let evaluation = evaluate(&before, &forward("a", "b"), &mut ping("10.0.0.1", "10.0.0.2"), &NoOracle);
    let at = &evaluation.loss().expect("dropped").at;
    assert_eq!(counters_increased(&before, &after, at), Some(2));
    assert_eq!(counters_increased(&before, &iptables(""), at), None);
}

#[test]
fn rewriting_bits_leaves_a_stale_checksum() {
    let json = r#"{"nftables": [
        {"chain": {"family": "ip", "table": "m", "name": "c", "type": "filter", "hook": "postrouting", "prio": 0, "policy": "accept"}},
        {"rule": {"family": "ip", "table": "m", "chain": "c", "handle": 2, "expr": [
            {"mangle": {"key": {"payload": {"base": "nh", "offset": 64, "len": 8}}, "value": 63}}]}},
        {"rule": {"family": "ip", "table": "m", "chain": "c", "handle": 3, "expr": [
            {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "protocol"}}, "right": "icmp"}},
            {"mangle": {"key": {"payload": {"protocol": "th", "field": "dport"}}, "value": 4660}}]}}]}"#;
    let mut packet = ping("10.0.0.1", "10.0.0.2");
    let evaluation =
        evaluate(&nft(json), &HookContext::ip(Hook::Postrouting, None, device("a")), &mut packet, &NoOracle);
    assert_eq!(packet.hop_limit, Some(63));
    let stale =
        evaluation.effects.iter().filter(|effect| matches!(effect.change, Change::Field { stale_checksum: true, .. }));
    assert_eq!(stale.count(), 2);
}

#[test]
fn what_is_not_json_is_a_gap_that_names_the_place() {
    let (tables, gaps) = parse_nft_json("{\"nftables\": [\n{\"table\": ");
    assert!(tables.is_empty());
    assert!(matches!(gaps.as_slice(), [RulesetGap::Malformed { place, .. }] if place.starts_with("line 2")));
    let (_, gaps) = parse_nft_json("{\"nftables\": [{\"chain\": {\"family\": \"ip\"}}]}");
    assert!(matches!(gaps.as_slice(), [RulesetGap::Malformed { place, .. }] if place == "object 0"));
    let (tables, gaps) = parse_iptables_save(
        "*filter\n:INPUT ACCEPT [0:0]\nnonsense\n-A INPUT -j DROP\n",
        Family::Ip,
        Backend::IptablesNft,
    );
    assert_eq!(tables[0].chains[0].rules.len(), 1);
    assert!(matches!(gaps.as_slice(), [RulesetGap::Malformed { place, .. }] if place == "line 3"));
}

#[test]
fn ten_thousand_rules_are_parsed_and_evaluated_in_time() {
    use std::fmt::Write as _;
    let mut json = String::from(
        r#"{"nftables": [{"chain": {"family": "inet", "table": "t", "name": "c", "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}}"#,
    );
    for index in 0..10_000 {
        let (high, low) = (index / 250, index % 250);
        write!(
            json,
            r#", {{"rule": {{"family": "inet", "table": "t", "chain": "c", "handle": {handle}, "expr": [
            {{"match": {{"op": "==", "left": {{"payload": {{"protocol": "ip", "field": "saddr"}}}}, "right": "10.{high}.{low}.1"}}}},
            {{"match": {{"op": "==", "left": {{"payload": {{"protocol": "tcp", "field": "dport"}}}}, "right": {port}}}}},
            {{"counter": {{"packets": 0, "bytes": 0}}}}, {{"accept": null}}]}}}}"#,
            handle = index + 2,
            port = index + 1,
        )
        .expect("a string");
    }
    json.push_str("]}");
    let begun = std::time::Instant::now();
    let rules = nft(&json);
    let evaluation = evaluate(&rules, &forward("a", "b"), &mut ping("11.0.0.1", "10.0.0.2"), &NoOracle);
    let spent = begun.elapsed();
    assert!(evaluation.loss().is_some_and(|loss| loss.at.policy));
    assert_eq!(rules.tables[0].chains[0].rules.len(), 10_000);
    // An optimised build takes a tenth of it; this one shares the machine with other tests.
    assert!(spent < std::time::Duration::from_secs(10), "{spent:?}");
}

#[test]
fn chains_that_call_each_other_without_end_are_given_up() {
    let rules = iptables(
        "*filter\n:FORWARD ACCEPT [0:0]\n:A - [0:0]\n:B - [0:0]\n-A FORWARD -j A\n-A A -j B\n-A A -j B\n-A B -j A\n-A B -j A\nCOMMIT\n",
    );
    let evaluation = evaluate(&rules, &forward("a", "b"), &mut ping("10.0.0.1", "10.0.0.2"), &NoOracle);
    assert!(!evaluation.trace.is_empty());
}

/// Words of which a rule may be made, in any order.
fn words() -> impl Strategy<Value = String> {
    let known = proptest::sample::select(vec![
        "-A",
        "FORWARD",
        "-p",
        "tcp",
        "icmp",
        "-m",
        "multiport",
        "--dports",
        "80,443",
        "!",
        "-s",
        "10.0.0.0/8",
        "-j",
        "DROP",
        "ACCEPT",
        "conntrack",
        "--ctstate",
        "NEW,INVALID",
        "\"",
        "\\",
        "comment",
        "--comment",
        "--tcp-flags",
        "SYN",
        "--icmp-type",
        "8/0",
        "mark",
        "--mark",
        "1/2",
        "-i",
        "eth+",
        "DNAT",
        "--to-destination",
        "1.2.3.4:5-6",
        "[::1]:80",
        "limit",
        "--limit",
        "3/s",
        "-g",
        "X",
        "addrtype",
        "--dst-type",
        "LOCAL",
        "statistic",
        "--mode",
        "MARK",
        "--set-xmark",
        "0x1/0xff",
        "*filter",
        ":FORWARD",
        "[1:2]",
    ]);
    proptest::collection::vec(prop_oneof![known.prop_map(str::to_owned), ".{0,6}"], 0..24)
        .prop_map(|words| words.join(" "))
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        proptest::sample::select(vec![
            "ip",
            "==",
            "saddr",
            "10.0.0.1",
            "meta",
            "@s",
            "veth*",
            "established",
            "0x5",
            "th",
            "state",
            "inet"
        ])
        .prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, |inner| {
        let key = proptest::sample::select(vec![
            "match", "left", "right", "op", "payload", "meta", "key", "ct", "set", "concat", "prefix", "addr", "len",
            "range", "map", "data", "vmap", "drop", "jump", "target", "&", "|", "fib", "flags", "result", "dnat",
            "port", "mangle", "value", "elem", "val", "numgen", "mod", "base", "offset", "counter", "xt", "limit",
            "quota", "reject", "type", "expr", "log", "protocol", "field",
        ]);
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
            proptest::collection::vec((key, inner), 0..4).prop_map(|pairs| pairs
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect::<serde_json::Map<_, _>>()
                .into()),
        ]
    })
}

proptest! {
    #[test]
    fn no_listing_of_iptables_makes_us_panic(lines in proptest::collection::vec(words(), 0..12)) {
        for backend in [Backend::IptablesNft, Backend::EbtablesNft, Backend::ArptablesNft] {
            let text = format!("*filter\n:FORWARD DROP [0:0]\n{}", lines.iter().map(|line| format!("-A FORWARD {line}")).collect::<Vec<_>>().join("\n"));
            let (tables, gaps) = parse_iptables_save(&text, Family::Ip, backend);
            let rules = Ruleset { tables, gaps, ..Ruleset::default() };
            evaluate(&rules, &forward("a", "b"), &mut ping("10.0.0.1", "10.0.0.2"), &NoOracle);
            parse_iptables_save(&lines.join("\n"), Family::Ip6, backend);
        }
    }

    #[test]
    fn no_listing_of_nft_makes_us_panic(statements in proptest::collection::vec(json(), 0..6), text in ".{0,200}") {
        parse_nft_json(&text);
        let listing = serde_json::json!({"nftables": [
            {"chain": {"family": "ip", "table": "t", "name": "c", "type": "filter", "hook": "forward", "prio": 0, "policy": "drop"}},
            {"set": {"family": "ip", "table": "t", "name": "s", "type": "ipv4_addr", "elem": statements.clone()}},
            {"rule": {"family": "ip", "table": "t", "chain": "c", "handle": 1, "expr": statements}},
        ]});
        let rules = nft(&listing.to_string());
        prop_assert_eq!(rules.tables[0].chains[0].rules.len(), 1);
        let context = forward("a", "b");
        let packet = ping("10.0.0.1", "10.0.0.2");
        let evaluation = evaluate(&rules, &context, &mut packet.clone(), &NoOracle);
        if let Some(loss) = evaluation.loss() {
            narrow_fix(&rules, &loss.at, &context, &packet, &NoOracle, "");
        }
    }

    #[test]
    fn a_ruleset_survives_being_saved(lines in proptest::collection::vec(words(), 0..8)) {
        let text = format!("*filter\n:FORWARD DROP [0:0]\n{}", lines.iter().map(|line| format!("-A FORWARD {line}")).collect::<Vec<_>>().join("\n"));
        let rules = iptables(&text);
        let saved = serde_json::to_string(&rules).expect("plain data");
        prop_assert_eq!(serde_json::from_str::<Ruleset>(&saved).expect("as saved"), rules);
    }
}

#[test]
fn a_rule_counts_what_it_matched() {
    let rules = nft(include_str!("netfilter/expressions.json"));
    let chain = rules.tables.iter().find_map(|table| table.chain("in")).expect("a chain");
    let counted = chain
        .rules
        .iter()
        .find(|rule| rule.statements.iter().any(|statement| matches!(statement, Statement::Counter(_))));
    assert!(counted.is_some_and(vnet_trace::model::netfilter::Rule::counts_matches));
}
