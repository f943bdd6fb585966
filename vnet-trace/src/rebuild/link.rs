//! Devices: made in the order in which they need each other, brought up, and down again where they were down.

use crate::model::id::{Device, NetnsId};
use crate::model::snapshot::{BridgeInfo, IpvlanFlag, IpvlanMode, Link, LinkKind, MacvlanMode, VxlanInfo};

use super::{Work, outside, ovs, route};

/// Makes every device of the scope.
pub fn make(work: &mut Work<'_>) {
    let all: Vec<Device> =
        work.namespaces().flat_map(|netns| work.links(netns).map(|(device, _)| device).collect::<Vec<_>>()).collect();
    // Pairs first, then what is stacked on them; bridges early, so that ports find them.
    for device in &all {
        if work
            .snapshot
            .link(*device)
            .is_some_and(|link| matches!(link.kind, LinkKind::Bridge(_) | LinkKind::Vrf { .. }))
        {
            one(work, *device);
        }
    }
    for device in &all {
        one(work, *device);
    }
    for device in all {
        if let Some(link) = work.snapshot.link(device)
            && work.made.contains(&device)
            && !ovs::owns(work.snapshot, device)
        {
            settings(work, device, link);
        }
    }
}

fn one(work: &mut Work<'_>, device: Device) {
    let Some(link) = work.snapshot.link(device) else { return };
    if !work.has(device) || !work.made.insert(device) || ovs::owns(work.snapshot, device) {
        return;
    }
    if let LinkKind::Loopback = link.kind {
        return;
    }
    let lower = work.snapshot.lower(device).filter(|lower| work.has(*lower));
    if let Some(lower) = lower.filter(|_| !matches!(link.kind, LinkKind::Veth | LinkKind::Netkit { .. })) {
        one(work, lower);
    }
    match &link.kind {
        LinkKind::Veth | LinkKind::Netkit { .. } => match lower {
            Some(peer) => pair(work, device, link, peer),
            None => outside::stub(work, device, link),
        },
        LinkKind::Physical | LinkKind::Tun { .. } => outside::stub(work, device, link),
        LinkKind::Openvswitch => {
            work.made.remove(&device);
        }
        kind => {
            if let Some(words) = kind_words(work, device, link, kind, lower) {
                let home = home(work, device, link, lower);
                work.needs.insert(format!("link:{}", words.split(' ').next().unwrap_or_default()));
                let on = match (&link.kind, lower) {
                    (
                        LinkKind::Vlan { .. } | LinkKind::Macvlan(_) | LinkKind::Macvtap(_) | LinkKind::Ipvlan { .. },
                        Some(lower),
                    ) => {
                        format!("link {} ", work.snapshot.device_name(lower))
                    }
                    _ => String::new(),
                };
                let to =
                    if home == device.netns { String::new() } else { format!("netns {} ", target(work, device.netns)) };
                work.script
                    .ip(home, format!("link add {on}name {} index {} {to}type {words}", link.name, link.index.0));
            } else {
                work.made.remove(&device);
                let what = format!("{} ({})", work.place(device), kind_name(&link.kind));
                work.miss(Some(device), what, "devices of this kind can't be made from what was recorded");
            }
        }
    }
}

/// The namespace as `netns` takes it from any other: the sandbox's own has no name, but a process.
fn target(work: &Work<'_>, netns: NetnsId) -> String {
    if netns == NetnsId(0) { "$$".to_owned() } else { work.script.name(netns).to_owned() }
}

/// Where a device has to be made: that of its lower device, or of its tunnel's outer packets.
fn home(work: &Work<'_>, device: Device, link: &Link, lower: Option<Device>) -> NetnsId {
    let known = |id: &NetnsId| work.scope.namespaces.contains(id);
    match link.kind {
        LinkKind::Vxlan(_) | LinkKind::Geneve { .. } | LinkKind::Tunnel { .. } => {
            link.link_netns.filter(known).unwrap_or(device.netns)
        }
        _ => lower.map_or(device.netns, |lower| lower.netns),
    }
}

/// Both ends of a pair.
fn pair(work: &mut Work<'_>, device: Device, link: &Link, peer: Device) {
    let Some(other) = work.snapshot.link(peer) else { return };
    work.made.insert(peer);
    let there = |work: &Work<'_>, netns: NetnsId| {
        if netns == NetnsId(0) { String::new() } else { format!(" netns {}", work.script.name(netns)) }
    };
    let (here, far) = (there(work, device.netns), there(work, peer.netns));
    let (kind, mode) = match &link.kind {
        LinkKind::Netkit { mode, .. } => ("netkit", format!(" mode {mode}")),
        _ => ("veth", String::new()),
    };
    work.needs.insert(format!("link:{kind}"));
    work.script.ip(
        NetnsId(0),
        format!(
            "link add {} index {}{here} type {kind}{mode} peer name {} index {}{far}",
            link.name, link.index.0, other.name, other.index.0
        ),
    );
}

/// What stands behind `type`.
fn kind_words(work: &Work<'_>, device: Device, link: &Link, kind: &LinkKind, lower: Option<Device>) -> Option<String> {
    Some(match kind {
        LinkKind::Bridge(info) => bridge(info, link),
        LinkKind::Vlan { id, protocol } => {
            lower?;
            let protocol = if *protocol == 0x88a8 { " protocol 802.1ad" } else { "" };
            format!("vlan{protocol} id {id}")
        }
        LinkKind::Macvlan(mode) => {
            lower?;
            format!("macvlan mode {}", macvlan_word(*mode))
        }
        LinkKind::Macvtap(mode) => {
            lower?;
            format!("macvtap mode {}", macvlan_word(*mode))
        }
        LinkKind::Ipvlan { mode, flag } => {
            lower?;
            let mode = match mode {
                IpvlanMode::L2 => "l2",
                IpvlanMode::L3 => "l3",
                IpvlanMode::L3s => "l3s",
            };
            let flag = match flag {
                IpvlanFlag::Bridge => "bridge",
                IpvlanFlag::Private => "private",
                IpvlanFlag::Vepa => "vepa",
            };
            format!("ipvlan mode {mode} {flag}")
        }
        LinkKind::Vxlan(info) => vxlan(work, device, link, info)?,
        LinkKind::Geneve { vni, remote, port } => {
            let remote = (*remote)?;
            format!("geneve id {vni} remote {remote} dstport {port}")
        }
        LinkKind::Dummy => "dummy".to_owned(),
        LinkKind::Vrf { table } => format!("vrf table {table}"),
        LinkKind::Bond { mode, .. } => format!("bond mode {mode}"),
        LinkKind::Tunnel { kind, local, remote }
            if matches!(kind.as_str(), "gre" | "gretap" | "ipip" | "sit" | "ip6gre" | "ip6gretap" | "vti" | "vti6") =>
        {
            let mut words = kind.clone();
            if let Some(local) = local {
                words.push_str(&format!(" local {local}"));
            }
            if let Some(remote) = remote {
                words.push_str(&format!(" remote {remote}"));
            }
            words
        }
        _ => return None,
    })
}

fn macvlan_word(mode: MacvlanMode) -> &'static str {
    match mode {
        MacvlanMode::Private => "private",
        MacvlanMode::Vepa => "vepa",
        MacvlanMode::Bridge => "bridge",
        MacvlanMode::Passthru => "passthru",
        MacvlanMode::Source => "source",
    }
}

/// The kernel's word for a kind that can't be made.
fn kind_name(kind: &LinkKind) -> String {
    match kind {
        LinkKind::Tunnel { kind, .. } | LinkKind::Other(kind) => kind.clone(),
        LinkKind::Wireguard => "wireguard".to_owned(),
        LinkKind::Team => "team".to_owned(),
        _ => "without what it stands on".to_owned(),
    }
}

/// A bridge with what differs from a new one. Spanning tree comes later ([`super::port`]).
fn bridge(info: &BridgeInfo, link: &Link) -> String {
    let mut words = "bridge".to_owned();
    let mut add = |name: &str, value: u64, usual: u64| {
        if value != usual {
            words.push_str(&format!(" {name} {value}"));
        }
    };
    add("forward_delay", u64::from(info.forward_delay), 1500);
    add("ageing_time", u64::from(info.ageing_time), 30_000);
    add("vlan_filtering", u64::from(info.vlan_filtering), 0);
    // Without VLAN filtering in the kernel it reads 0 and can't be set.
    if info.vlan_filtering || info.vlan_default_pvid != 0 {
        add("vlan_default_pvid", u64::from(info.vlan_default_pvid), 1);
    }
    add("mcast_snooping", u64::from(info.mcast_snooping), 1);
    add("mcast_querier", u64::from(info.mcast_querier), 0);
    add("group_fwd_mask", u64::from(info.group_fwd_mask), 0);
    add("nf_call_iptables", u64::from(info.nf_call_iptables), 0);
    add("nf_call_ip6tables", u64::from(info.nf_call_ip6tables), 0);
    add("nf_call_arptables", u64::from(info.nf_call_arptables), 0);
    if info.vlan_protocol == 0x88a8 {
        words.push_str(" vlan_protocol 802.1ad");
    }
    let _ = link;
    words
}

fn vxlan(work: &Work<'_>, device: Device, link: &Link, info: &VxlanInfo) -> Option<String> {
    let home = link.link_netns.unwrap_or(device.netns);
    let lower = info.link.map(|lower| Device::new(home, lower));
    let mut words = "vxlan".to_owned();
    if info.collect_metadata {
        words.push_str(" external");
    } else {
        words.push_str(&format!(" id {}", info.vni));
    }
    if let Some(remote) = info.remote {
        let word = if remote.is_multicast() { "group" } else { "remote" };
        words.push_str(&format!(" {word} {remote}"));
    }
    if let Some(local) = info.local {
        words.push_str(&format!(" local {local}"));
    }
    if let Some(lower) = lower {
        words.push_str(&format!(" dev {}", work.snapshot.link(lower)?.name));
    }
    words.push_str(&format!(" dstport {}", info.port));
    if info.ttl != 0 {
        words.push_str(&format!(" ttl {}", info.ttl));
    }
    match info.df {
        1 => words.push_str(" df set"),
        2 => words.push_str(" df inherit"),
        _ => {}
    }
    let flags = [
        (!info.learning, " nolearning"),
        (info.proxy, " proxy"),
        (info.l2miss, " l2miss"),
        (info.l3miss, " l3miss"),
        (info.gbp, " gbp"),
    ];
    words.extend(flags.iter().filter(|(set, _)| *set).map(|(_, word)| *word));
    Some(words)
}

/// MAC, MTU and flags that a new device does not have.
fn settings(work: &mut Work<'_>, device: Device, link: &Link) {
    if link.is_loopback() {
        if link.mtu != 65_536 {
            work.script.ip(device.netns, format!("link set {} mtu {}", link.name, link.mtu));
        }
        return;
    }
    let mut words = String::new();
    let has_own_mac =
        !matches!(link.kind, LinkKind::Ipvlan { .. } | LinkKind::Tunnel { .. } | LinkKind::Tun { tap: false });
    if let Some(mac) = link.mac.filter(|mac| has_own_mac && mac.0 != [0; 6]) {
        words.push_str(&format!(" address {mac}"));
    }
    let lower_mtu = match link.kind {
        LinkKind::Vlan { .. } | LinkKind::Macvlan(_) | LinkKind::Macvtap(_) | LinkKind::Ipvlan { .. } => {
            work.snapshot.lower(device).and_then(|lower| work.snapshot.link(lower)).map(|lower| lower.mtu)
        }
        LinkKind::Vxlan(_) | LinkKind::Geneve { .. } | LinkKind::Tunnel { .. } | LinkKind::Vrf { .. } => None,
        _ => Some(1500),
    };
    if lower_mtu != Some(link.mtu) && !matches!(link.kind, LinkKind::Vrf { .. }) {
        words.push_str(&format!(" mtu {}", link.mtu));
    }
    let arp_is_usual = !matches!(
        link.kind,
        LinkKind::Dummy
            | LinkKind::Vrf { .. }
            | LinkKind::Ipvlan { .. }
            | LinkKind::Tunnel { .. }
            | LinkKind::Tun { tap: false }
    );
    if arp_is_usual && link.is_noarp() {
        words.push_str(" arp off");
    } else if matches!(link.kind, LinkKind::Dummy) && !link.is_noarp() {
        words.push_str(" arp on");
    }
    if link.is_promisc() {
        words.push_str(" promisc on");
    }
    if !link.is_multicast() && matches!(link.kind, LinkKind::Veth | LinkKind::Bridge(_)) {
        words.push_str(" multicast off");
    }
    if link.group != 0 {
        words.push_str(&format!(" group {}", link.group));
    }
    if !words.is_empty() {
        work.script.ip(device.netns, format!("link set {}{words}", link.name));
    }
}

/// Brings up what was up, and for a while also what only lost its place in the end: routes are made on devices that are up.
pub fn up(work: &mut Work<'_>) {
    let mut wanted = Vec::new();
    for netns in work.namespaces() {
        for (device, link) in work.links(netns) {
            if work.made.contains(&device) && (link.is_up() || route::uses(netns, device)) {
                wanted.push((device, link));
            }
        }
    }
    for (device, link) in wanted {
        work.script.ip(device.netns, format!("link set {} up", link.name));
    }
    outside::up(work);
}

/// Takes down again what was down.
pub fn down(work: &mut Work<'_>) {
    let mut wanted = Vec::new();
    for netns in work.namespaces() {
        for (device, link) in work.links(netns) {
            if work.made.contains(&device) && !link.is_up() && route::uses(netns, device) {
                wanted.push((device, link));
            }
        }
    }
    for (device, link) in wanted {
        work.script.ip(device.netns, format!("link set {} down", link.name));
    }
}
