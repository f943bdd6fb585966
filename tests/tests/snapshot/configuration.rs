//! What the snapshot says of one namespace is what the administrator's programs say.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use libtest_mimic::Failed;
use serde_json::Value;
use vnet_trace::model::snapshot::{Address, IpvlanFlag, IpvlanMode, LinkKind, MacvlanMode, Netns};

use super::net::sh;
use super::{Case, json, same, snapshot};

pub const CASES: &[Case] = &[
    ("devices_are_those_of_ip_link", "", devices),
    ("addresses_are_those_of_ip_addr_in_their_order", "", addresses),
    ("forwarding_databases_are_those_of_bridge_fdb", "", fdb),
    ("sysctls_of_devices_are_those_of_proc", "", sysctls),
    ("qdiscs_are_those_of_tc", "", qdiscs),
    ("ipsec_policies_are_those_of_ip_xfrm", "", ipsec),
    ("vlan_devices", "link:vlan", vlans),
    ("ipvlan_modes_and_flags", "link:ipvlan", ipvlan),
    ("bridge_vlans_are_those_of_bridge_vlan", "config:BRIDGE_VLAN_FILTERING", bridge_vlans),
    ("netem_in_the_words_of_tc", "config:NET_SCH_NETEM", netem),
];

/// A bridge with ports of all settings, a macvlan, a VXLAN, addresses of all kinds.
pub const RICH: &str = "
    ip link set lo up
    ip link add br0 type bridge ageing_time 7700 forward_delay 1100
    for n in 1 2; do
      ip link add p$n type veth peer name q$n
      ip link set p$n master br0
      ip link set p$n up
      ip link set q$n up
    done
    ip link set br0 up mtu 1400
    bridge link set dev p1 hairpin on learning off flood off mcast_flood off isolated on
    bridge link set dev p2 bcast_flood off neigh_suppress on guard on
    ip link add mv0 link q1 type macvlan mode private
    ip link add vx0 type vxlan id 42 dstport 8472 remote 10.9.0.2 local 10.9.0.1 ttl 5 nolearning
    ip link set vx0 up
    ip link set q2 arp off group 9 alias 'the other end'
    ip addr add 10.9.0.1/24 dev br0
    ip addr add 10.9.0.3/24 dev br0
    ip addr add 10.9.1.1 peer 10.9.1.2/32 dev q1
    ip addr add 10.9.2.1/25 dev q2 scope link
    ip -6 addr add fd09::1/64 dev br0 nodad
    ip -6 addr add fd09::2/64 dev br0 nodad preferred_lft 0
";

pub fn own() -> Result<Netns, Failed> {
    let mut taken = snapshot()?;
    same("gaps", taken.snapshot.gaps.as_slice(), &[])?;
    Ok(taken.snapshot.namespaces.swap_remove(0))
}

/// A snapshot and what a program says, of a network that has come to rest: links settle for some time after the
/// commands that made them.
pub fn still(command: &str) -> Result<(Netns, Vec<Value>), Failed> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        let before = json(command)?;
        let netns = own()?;
        let after = json(command)?;
        if before == after || Instant::now() > end {
            return Ok((netns, after));
        }
    }
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

pub fn name_of(netns: &Netns, index: Option<vnet_trace::model::id::IfIndex>) -> String {
    index.and_then(|index| netns.link(index)).map(|link| link.name.clone()).unwrap_or_default()
}

fn devices() -> Result<(), Failed> {
    sh(RICH)?;
    let (netns, theirs) = still("ip -j -d link")?;
    same("number of devices", netns.links.len(), theirs.len())?;
    for (ours, theirs) in netns.links.iter().zip(&theirs) {
        let name = &ours.name;
        same("name", name, &text(&theirs["ifname"]))?;
        same(name, u64::from(ours.index.0), theirs["ifindex"].as_u64().unwrap_or(0))?;
        same(name, u64::from(ours.mtu), theirs["mtu"].as_u64().unwrap_or(0))?;
        same(name, ours.mac.map(|mac| mac.to_string()).unwrap_or_default(), text(&theirs["address"]))?;
        same(name, name_of(&netns, ours.master), text(&theirs["master"]))?;
        same(name, name_of(&netns, ours.link), text(&theirs["link"]))?;
        same(name, format!("{:?}", ours.operstate).to_uppercase(), text(&theirs["operstate"]))?;
        let flags: Vec<_> = theirs["flags"].as_array().into_iter().flatten().map(text).collect();
        same(name, ours.is_up(), flags.contains(&"UP".to_owned()))?;
        same(name, ours.is_noarp(), flags.contains(&"NOARP".to_owned()))?;
        if ours.is_up() {
            same(name, !ours.carrier, flags.contains(&"NO-CARRIER".to_owned()))?;
        }
        same(name, ours.alias.clone().unwrap_or_default(), text(&theirs["ifalias"]))?;
        let port = &theirs["linkinfo"]["info_slave_data"];
        let Some(ours) = &ours.bridge_port else {
            same(name, port, &Value::Null)?;
            continue;
        };
        same(
            name,
            ["disabled", "listening", "learning", "forwarding", "blocking"][ours.state as usize].to_owned(),
            text(&port["state"]),
        )?;
        for (key, ours) in [
            ("hairpin", ours.hairpin),
            ("guard", ours.guard),
            ("learning", ours.learning),
            ("flood", ours.flood),
            ("proxy_arp", ours.proxyarp),
            ("proxy_arp_wifi", ours.proxyarp_wifi),
            ("mcast_flood", ours.mcast_flood),
            ("bcast_flood", ours.bcast_flood),
            ("neigh_suppress", ours.neigh_suppress),
            ("isolated", ours.isolated),
            ("locked", ours.locked),
            ("vlan_tunnel", ours.vlan_tunnel),
        ] {
            same(&format!("{name} {key}"), ours, port[key].as_bool().unwrap_or(false))?;
        }
    }
    let kind = |name: &str| netns.link_by_name(name).map(|link| link.kind.clone());
    same("lo", kind("lo"), Some(LinkKind::Loopback))?;
    same("p1", kind("p1"), Some(LinkKind::Veth))?;
    same("mv0", kind("mv0"), Some(LinkKind::Macvlan(MacvlanMode::Private)))?;
    let Some(LinkKind::Bridge(bridge)) = kind("br0") else { return Err("br0 is no bridge".into()) };
    same("br0", (bridge.ageing_time, bridge.forward_delay, bridge.mcast_snooping), (7700, 1100, true))?;
    let Some(LinkKind::Vxlan(vxlan)) = kind("vx0") else { return Err("vx0 is no VXLAN".into()) };
    same("vx0", (vxlan.vni, vxlan.port, vxlan.ttl, vxlan.learning), (42, 8472, 5, false))?;
    same("vx0", (vxlan.remote, vxlan.local), ("10.9.0.2".parse().ok(), "10.9.0.1".parse().ok()))?;
    same("q2", netns.link_by_name("q2").map(|link| link.group), Some(9))
}

fn addresses() -> Result<(), Failed> {
    sh(RICH)?;
    let (netns, devices) = still("ip -j addr")?;
    for theirs in devices {
        let device = text(&theirs["ifname"]);
        let scope = |scope: u8| match scope {
            0 => "global",
            253 => "link",
            254 => "host",
            _ => "?",
        };
        let index = netns.link_by_name(&device).map(|link| link.index);
        let ours: Vec<_> = netns
            .addresses
            .iter()
            .filter(|address| Some(address.ifindex) == index)
            .map(|address| {
                let peer = address.peer.map(|peer| peer.to_string()).unwrap_or_default();
                (
                    address.address.to_string(),
                    u64::from(address.prefix_len),
                    scope(address.scope).to_owned(),
                    peer,
                    address.is_deprecated(),
                )
            })
            .collect();
        let theirs: Vec<_> = theirs["addr_info"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|address| {
                let peer = text(&address["address"]);
                let deprecated = address["deprecated"].as_bool().unwrap_or(false);
                (
                    text(&address["local"]),
                    address["prefixlen"].as_u64().unwrap_or(0),
                    text(&address["scope"]),
                    peer,
                    deprecated,
                )
            })
            .collect();
        same(&device, ours, theirs)?;
    }
    same("secondary", netns.owns(IpAddr::from([10, 9, 0, 3])).map(Address::is_secondary), Some(true))
}

fn fdb() -> Result<(), Failed> {
    sh(RICH)?;
    sh("bridge fdb add 02:00:00:00:00:21 dev p1 master static
        bridge fdb add 02:00:00:00:00:22 dev p2 master local
        bridge fdb append 00:00:00:00:00:00 dev vx0 dst 10.9.0.7
        bridge fdb add 02:00:00:00:00:23 dev vx0 dst 10.9.0.8 port 4790 vni 43 via br0")?;
    let (netns, theirs) = still("bridge -j -d fdb")?;
    let ours: BTreeSet<_> = netns
        .fdb
        .iter()
        .map(|entry| {
            (
                entry.mac.to_string(),
                name_of(&netns, Some(entry.ifindex)),
                name_of(&netns, entry.master),
                entry.dst.map(|dst| dst.to_string()).unwrap_or_default(),
                (entry.vni, entry.port, name_of(&netns, entry.via)),
                if entry.is_local() {
                    "permanent"
                } else if entry.is_static() {
                    "static"
                } else {
                    ""
                }
                .to_owned(),
            )
        })
        .collect();
    let wanted =
        |entry: &&Value| entry["master"].is_string() || matches!(entry["ifname"].as_str(), Some("vx0" | "br0"));
    let number = |value: &Value| value.as_u64();
    let theirs: BTreeSet<_> = theirs
        .iter()
        .filter(wanted)
        .map(|entry| {
            let state = text(&entry["state"]);
            (
                text(&entry["mac"]),
                text(&entry["ifname"]),
                text(&entry["master"]),
                text(&entry["dst"]),
                (
                    number(&entry["vni"]).map(|vni| vni as u32),
                    number(&entry["port"]).map(|port| port as u16),
                    text(&entry["viaIf"]) + &text(&entry["via"]),
                ),
                if state == "permanent" || state == "static" { state } else { String::new() },
            )
        })
        .collect();
    same("entries", ours, theirs)
}

fn sysctls() -> Result<(), Failed> {
    sh(RICH)?;
    // Every value differs from its default, so that a wrong position in the kernel's arrays shows.
    sh("cd /proc/sys/net/ipv4/conf/p1
        n=2
        for f in *; do echo $n > $f 2>/dev/null || true; n=$((n+1)); done
        cd /proc/sys/net/ipv6/conf/p2
        for f in hop_limit accept_ra accept_redirects dad_transmits use_tempaddr proxy_ndp accept_dad \\
                 ignore_routes_with_linkdown drop_unicast_in_l2_multicast drop_unsolicited_na seg6_enabled \\
                 addr_gen_mode disable_policy; do
          test ! -e $f || echo 1 > $f 2>/dev/null || true
        done
        echo 7 > hop_limit
        echo 5 > dad_transmits
        echo 3 > use_tempaddr
        echo 2 > accept_dad
        sysctl -qw net.ipv4.neigh.p1.mcast_solicit=9 net.ipv4.neigh.p1.ucast_solicit=8 net.ipv4.neigh.p1.app_solicit=7
        sysctl -qw net.ipv4.neigh.p1.base_reachable_time_ms=12000 net.ipv4.neigh.p1.retrans_time_ms=700
        sysctl -qw net.ipv4.neigh.p1.locktime=50 net.ipv6.neigh.p2.unres_qlen=11
        sysctl -qw net.ipv4.icmp_echo_ignore_all=1 net.ipv4.ping_group_range='3 9' net.ipv6.icmp.echo_ignore_all=1
        sysctl -qw net.ipv4.ip_default_ttl=33 net.ipv4.conf.all.rp_filter=2 net.ipv6.conf.default.accept_ra=0")?;
    let netns = own()?;
    let mut compared = 0;
    for (name, ours) in &netns.sysctls {
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        match std::fs::read_to_string(&path) {
            Ok(theirs) => {
                same(name, ours.as_str(), theirs.trim_end())?;
                compared += 1;
            }
            // Only the machine's first namespace shows those in /proc.
            Err(_) if name.contains(".neigh.default.") => {}
            Err(error) => return Err(format!("{path}: {error}").into()),
        }
    }
    for name in [
        "net.ipv4.conf.p1.accept_local",
        "net.ipv6.conf.p2.addr_gen_mode",
        "net.ipv4.neigh.p1.locktime",
        "net.ipv4.neigh.default.gc_thresh3",
    ] {
        same(name, netns.sysctls.contains_key(name), true)?;
    }
    if compared > 300 { Ok(()) } else { Err(format!("only {compared} sysctls").into()) }
}

fn qdiscs() -> Result<(), Failed> {
    sh(RICH)?;
    sh("tc qdisc add dev q1 root handle 1: tbf rate 1mbit burst 32k limit 60k
        tc qdisc add dev q2 clsact
        tc qdisc add dev br0 root pfifo limit 7")?;
    let netns = own()?;
    let ours: Vec<_> =
        netns.qdiscs.iter().map(|qdisc| (name_of(&netns, Some(qdisc.ifindex)), qdisc.kind.clone())).collect();
    let theirs = json("tc -j qdisc show")?;
    same("qdiscs", ours, theirs.iter().map(|qdisc| (text(&qdisc["dev"]), text(&qdisc["kind"]))).collect())?;
    let options = |kind: &str| {
        let qdisc = netns.qdiscs.iter().find(|qdisc| qdisc.kind == kind);
        qdisc.map(|qdisc| {
            qdisc.options.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(" ")
        })
    };
    same("tbf", options("tbf").as_deref(), Some("rate 1000000bit burst 32768b limit 61440b"))?;
    same("pfifo", options("pfifo").as_deref(), Some("limit 7"))
}

fn ipsec() -> Result<(), Failed> {
    sh(RICH)?;
    sh("ip xfrm policy add src 10.0.0.0/24 dst 10.2.0.0/16 dir out action block priority 5
        ip xfrm policy add src 10.0.0.0/24 dst 10.1.0.0/24 proto udp dir in priority 9 \
          tmpl src 10.1.0.1 dst 10.0.0.1 proto esp mode tunnel level required tmpl proto ah mode transport level use")?;
    let netns = own()?;
    let Some(block) = netns.xfrm_policies.iter().find(|policy| policy.block) else { return Err("no policy".into()) };
    same("block", (block.dir.as_str(), block.priority, block.dst.to_string()), ("out", 5, "10.2.0.0/16".to_owned()))?;
    let Some(other) = netns.xfrm_policies.iter().find(|policy| !policy.block) else { return Err("no policy".into()) };
    same("allow", (other.dir.as_str(), other.priority, other.protocol), ("in", 9, 17))?;
    same("src", other.src.to_string(), "10.0.0.0/24".to_owned())?;
    let templates: Vec<_> = other
        .templates
        .iter()
        .map(|template| (template.protocol.as_str(), template.mode.as_str(), template.optional))
        .collect();
    same("templates", templates, vec![("esp", "tunnel", false), ("ah", "transport", true)])
}

fn vlans() -> Result<(), Failed> {
    sh(RICH)?;
    sh("ip link add link q1 name q1.7 type vlan id 7
        ip link add link q1 name s1 type vlan id 8 protocol 802.1ad")?;
    let netns = own()?;
    let kind = |name: &str| netns.link_by_name(name).map(|link| link.kind.clone());
    same("802.1Q", kind("q1.7"), Some(LinkKind::Vlan { id: 7, protocol: 0x8100 }))?;
    same("802.1ad", kind("s1"), Some(LinkKind::Vlan { id: 8, protocol: 0x88a8 }))?;
    same("sysctl", netns.conf("ipv4", "q1.7", "rp_filter").is_some(), true)
}

fn ipvlan() -> Result<(), Failed> {
    sh(RICH)?;
    sh("ip link del mv0
        ip link add link q1 name a type ipvlan mode l2 private
        ip link add link q2 name b type ipvlan mode l3s vepa")?;
    let netns = own()?;
    let kind = |name: &str| netns.link_by_name(name).map(|link| link.kind.clone());
    same("a", kind("a"), Some(LinkKind::Ipvlan { mode: IpvlanMode::L2, flag: IpvlanFlag::Private }))?;
    same("b", kind("b"), Some(LinkKind::Ipvlan { mode: IpvlanMode::L3s, flag: IpvlanFlag::Vepa }))
}

fn bridge_vlans() -> Result<(), Failed> {
    sh(RICH)?;
    sh("ip link set br0 type bridge vlan_filtering 1 vlan_default_pvid 0
        bridge vlan add vid 5 dev p1 pvid untagged
        bridge vlan add vid 10-13 dev p1
        bridge vlan add vid 7 dev p2 untagged
        bridge vlan add vid 7 dev br0 self")?;
    let netns = own()?;
    let ours: BTreeSet<_> = netns
        .bridge_vlans
        .iter()
        .map(|vlan| (name_of(&netns, Some(vlan.ifindex)), u64::from(vlan.vid), vlan.pvid, vlan.untagged))
        .collect();
    let mut theirs = BTreeSet::new();
    for port in json("bridge -j vlan")? {
        for vlan in port["vlans"].as_array().into_iter().flatten() {
            let first = vlan["vlan"].as_u64().unwrap_or(0);
            let flags: Vec<_> = vlan["flags"].as_array().into_iter().flatten().map(text).collect();
            let has = |flag: &str| flags.iter().any(|known| known == flag);
            for vid in first..=vlan["vlanEnd"].as_u64().unwrap_or(first) {
                theirs.insert((text(&port["ifname"]), vid, has("PVID"), has("Egress Untagged")));
            }
        }
    }
    same("VLANs", ours, theirs)?;
    let bridge = netns.link_by_name("br0").map(|link| link.kind.clone());
    let filters =
        matches!(bridge, Some(LinkKind::Bridge(bridge)) if bridge.vlan_filtering && bridge.vlan_protocol == 0x8100);
    same("filtering", filters, true)
}

fn netem() -> Result<(), Failed> {
    sh(RICH)?;
    sh("tc qdisc add dev q1 root netem limit 50 delay 20ms 3ms loss 25% duplicate 1% corrupt 2%
        tc qdisc add dev q2 root netem loss 100% rate 1mbit")?;
    let netns = own()?;
    let options = |device: &str| {
        let index = netns.link_by_name(device).map(|link| link.index);
        let qdisc = netns.qdiscs.iter().find(|qdisc| Some(qdisc.ifindex) == index && qdisc.kind == "netem");
        qdisc.map(|qdisc| {
            qdisc.options.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(" ")
        })
    };
    let first = "limit 50 delay 20ms jitter 3ms loss 25% duplicate 1% corrupt 2%";
    same("q1", options("q1").as_deref(), Some(first))?;
    same("q2", options("q2").as_deref(), Some("limit 1000 loss 100% rate 1000000bit"))
}
