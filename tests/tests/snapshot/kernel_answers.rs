//! Route look-ups, connections, counters: what the kernel answers, in our words.

use libtest_mimic::Failed;
use vnet_trace::collect::route_get::{RouteLookup, ask};
use vnet_trace::collect::snapshot::{Request, take};
use vnet_trace::model::id::NetnsId;
use vnet_trace::model::recording::RouteResult;

use super::net::{cable, pair_in_one, sh};
use super::{Case, same, snapshot, snapshot_of};

pub const CASES: &[Case] = &[
    ("routes_and_refusals_of_the_kernel", "", refusals),
    ("source_validation_answers_with_its_error", "", validation),
    ("many_namespaces_are_asked_at_once", "", many),
    ("path_mtus_that_were_learned", "", path_mtus),
    ("connections_of_the_question", "", connections),
    ("counters_and_groups", "", counters),
];

fn answers(lookups: &[RouteLookup]) -> Result<Vec<RouteResult>, Failed> {
    let taken = snapshot()?;
    let answers = ask(&taken, lookups);
    same("gaps", answers.gaps.as_slice(), &[])?;
    answers.answers.into_iter().map(|answer| Ok(answer.ok_or("no answer")?.answer)).collect()
}

fn refusals() -> Result<(), Failed> {
    pair_in_one()?;
    sh("ip addr add 10.1.1.11/24 dev veth0
        ip addr add 10.1.1.12/24 dev veth1
        ip route add 10.2.0.0/16 via 10.1.1.99
        ip route add blackhole 10.3.0.0/16
        ip route add unreachable 10.4.0.0/16
        ip route add prohibit 10.5.0.0/16
        ip route add 10.6.0.0/16 via 10.1.1.98 table 66
        ip rule add fwmark 6 table 66
        ip -6 addr add fd01::1/64 dev veth0 nodad
        ip -6 route add fd02::/64 via fd01::9")?;
    let to = |dst: &str| Ok::<_, Failed>(RouteLookup::to(NetnsId(0), dst.parse()?));
    let answers = answers(&[
        to("10.1.1.12")?,
        to("10.2.0.1")?,
        to("10.3.0.1")?,
        to("10.4.0.1")?,
        to("10.5.0.1")?,
        RouteLookup { mark: 6, ..to("10.6.0.1")? },
        to("10.6.0.1")?,
        to("fd02::5")?,
        to("fd03::5")?,
    ])?;
    let route = |index: usize| match &answers[index] {
        RouteResult::Route { kind, table, gateway, .. } => {
            (*kind, *table, gateway.map(|gateway| gateway.to_string()).unwrap_or_default())
        }
        RouteResult::Errno(errno) => (0, 0, format!("errno {errno}")),
    };
    same("local", route(0), (2, 255, String::new()))?;
    same("gateway", route(1), (1, 254, "10.1.1.99".to_owned()))?;
    same("blackhole", route(2).2, format!("errno {}", nix::libc::EINVAL))?;
    same("unreachable", route(3).2, format!("errno {}", nix::libc::EHOSTUNREACH))?;
    same("prohibit", route(4).2, format!("errno {}", nix::libc::EACCES))?;
    same("by mark", route(5), (1, 66, "10.1.1.98".to_owned()))?;
    same("no route", route(6).2, format!("errno {}", nix::libc::ENETUNREACH))?;
    same("IPv6", route(7), (1, 254, "fd01::9".to_owned()))?;
    same("IPv6, no route", route(8).2, format!("errno {}", nix::libc::ENETUNREACH))
}

fn validation() -> Result<(), Failed> {
    pair_in_one()?;
    sh("ip addr add 10.1.1.11/24 dev veth0
        ip addr add 10.1.1.12/24 dev veth1
        sysctl -qw net.ipv4.conf.veth1.accept_local=0 net.ipv4.conf.all.accept_local=0
        sysctl -qw net.ipv4.conf.veth0.rp_filter=1")?;
    let taken = snapshot()?;
    let index = |name: &str| taken.snapshot.namespaces[0].link_by_name(name).map(|link| link.index);
    let lookup = |src: &str, iif: &str| {
        Ok::<_, Failed>(RouteLookup {
            src: Some(src.parse()?),
            iif: index(iif),
            ..RouteLookup::to(NetnsId(0), "10.1.1.12".parse()?)
        })
    };
    let answers =
        answers(&[lookup("10.1.1.11", "veth1")?, lookup("10.77.0.1", "veth0")?, lookup("10.1.1.50", "veth0")?])?;
    same("own source", answers[0].clone(), RouteResult::Errno(nix::libc::EINVAL))?;
    // Kernels from 6.13 on answer with EINVAL whatever the reason was.
    let no_way_back = [nix::libc::EXDEV, nix::libc::EINVAL].map(RouteResult::Errno);
    same("no way back", no_way_back.contains(&answers[1]), true)?;
    same("fine", matches!(answers[2], RouteResult::Route { kind: 2, .. }), true)
}

fn many() -> Result<(), Failed> {
    cable()?;
    let taken = snapshot_of("a")?;
    let lookups: Vec<_> = (1..=2)
        .flat_map(|netns| (1..=100_u8).map(move |last| RouteLookup::to(NetnsId(netns), [10, 0, 0, last].into())))
        .collect();
    let answers = ask(&taken, &lookups);
    let kinds: Vec<_> = answers
        .answers
        .iter()
        .flatten()
        .filter_map(|answer| match answer.answer {
            RouteResult::Route { kind, .. } => Some((answer.netns.0, kind)),
            RouteResult::Errno(_) => None,
        })
        .collect();
    same("answers", kinds.len(), 200)?;
    // 10.0.0.1 is local in the first, 10.0.0.2 in the second.
    same("own addresses", (kinds[0], kinds[101]), ((1, 2), (2, 2)))?;
    same("others", kinds.iter().filter(|(_, kind)| *kind == 1).count(), 198)
}

fn path_mtus() -> Result<(), Failed> {
    cable()?;
    sh("ip netns add r
        ip link add out netns b type veth peer name eth0 netns r
        ip -n b link set out up mtu 1300
        ip -n r link set eth0 up mtu 1300
        ip -n b addr add 10.1.0.1/24 dev out
        ip -n r addr add 10.1.0.2/24 dev eth0
        ip -n r route add default via 10.1.0.1
        ip -n a route add default via 10.0.0.2
        ip netns exec b sysctl -qw net.ipv4.ip_forward=1
        ! ip netns exec a ping -M do -s 1372 -c 2 -i 0.2 -W 1 10.1.0.2")?;
    let taken = snapshot_of("a")?;
    let learned: Vec<_> = taken.snapshot.namespaces[1].routes.iter().filter(|route| route.cached).collect();
    let [route] = learned.as_slice() else { return Err(format!("{learned:?}").into()) };
    same("learned", (route.dst.to_string(), route.mtu), ("10.1.0.2/32".to_owned(), Some(1300)))
}

fn connections() -> Result<(), Failed> {
    cable()?;
    sh("ip netns exec a nft 'table ip t { chain c { type nat hook postrouting priority 100; ip daddr 10.0.0.2 snat to 10.0.0.9; }; }'
        ip -n a addr add 10.0.0.9/24 dev eth0
        ip netns exec a ping -c 1 -W 2 10.0.0.2")?;
    let request = Request {
        asked: vnet_trace::collect::netns::Asked::parse("a"),
        addresses: vec!["10.0.0.2".parse()?],
        ..Request::default()
    };
    let taken = take(&request)?;
    let [entry] = taken.snapshot.namespaces[1].conntrack.as_slice() else {
        return Err(format!("{:?}", taken.snapshot.namespaces[1].conntrack).into());
    };
    same("protocol", entry.protocol, 1)?;
    same(
        "original",
        (entry.orig_src.to_string(), entry.orig_dst.to_string()),
        ("10.0.0.1".to_owned(), "10.0.0.2".to_owned()),
    )?;
    same(
        "reply",
        (entry.reply_src.to_string(), entry.reply_dst.to_string()),
        ("10.0.0.2".to_owned(), "10.0.0.9".to_owned()),
    )?;
    same("status", entry.state.as_str(), "SRC_NAT")
}

fn counters() -> Result<(), Failed> {
    cable()?;
    sh("ip netns exec a ping -c 3 -i 0.1 -W 2 10.0.0.2")?;
    let taken = snapshot_of("a")?;
    let there = &taken.snapshot.namespaces[2];
    same("echoes", there.counters.get("Icmp.InEchos"), Some(&3))?;
    same("all hosts", there.multicast.iter().any(|(_, group)| group.to_string() == "224.0.0.1"), true)?;
    same("all nodes", there.multicast.iter().any(|(_, group)| group.to_string() == "ff02::1"), true)?;
    let received = there.link_by_name("eth0").map_or(0, |link| link.stats.rx_packets);
    same("device counters", received > 3, true)
}
