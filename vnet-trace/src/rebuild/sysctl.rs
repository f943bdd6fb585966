//! Sysctls: those that differ from what a new namespace or a new device has.
//!
//! A new namespace copies the IPv4 switches of the machine's first one, which services change. So those that are changed
//! in practice are written even where they have the kernel's own value.

use std::collections::BTreeMap;

use crate::diagnose::case::quote;
use crate::model::id::{Device, NetnsId};
use crate::model::snapshot::Netns;

use super::Work;

/// Below `net.ipv4.conf.{all,default,lo}`: what services change.
const CHANGED: &[&str] = &["rp_filter", "arp_ignore", "arp_announce", "arp_filter", "accept_local", "route_localnet"];

/// What the kernel begins with, for keys that belong to no device. Other keys are not carried over: they belong to the
/// machine, or count things.
const GLOBAL: &[(&str, &str)] = &[
    ("net.ipv4.ip_default_ttl", "64"),
    ("net.ipv4.ip_no_pmtu_disc", "0"),
    ("net.ipv4.ip_forward_use_pmtu", "0"),
    ("net.ipv4.ip_nonlocal_bind", "0"),
    ("net.ipv4.icmp_echo_ignore_all", "0"),
    ("net.ipv4.icmp_echo_ignore_broadcasts", "1"),
    ("net.ipv4.fwmark_reflect", "0"),
    ("net.ipv4.raw_l3mdev_accept", "1"),
    ("net.ipv4.fib_multipath_hash_policy", "0"),
    ("net.ipv6.fwmark_reflect", "0"),
    ("net.ipv6.ip_nonlocal_bind", "0"),
    ("net.ipv6.fib_multipath_hash_policy", "0"),
    ("net.ipv6.icmp.echo_ignore_all", "0"),
    ("net.ipv6.icmp.echo_ignore_multicast", "0"),
    ("net.ipv6.icmp.echo_ignore_anycast", "0"),
    ("net.bridge.bridge-nf-call-iptables", "1"),
    ("net.bridge.bridge-nf-call-ip6tables", "1"),
    ("net.bridge.bridge-nf-call-arptables", "1"),
    ("net.bridge.bridge-nf-filter-vlan-tagged", "0"),
    ("net.bridge.bridge-nf-pass-vlan-input-dev", "0"),
];

/// `net.ipv4.conf` and `net.ipv6.conf`, `all` and `default`, as a kernel begins. The first writing of `forwarding`
/// sets all devices, so it comes first.
const CONF4: &[(&str, &str, &str)] = &[
    ("forwarding", "0", "0"),
    ("mc_forwarding", "0", "0"),
    ("proxy_arp", "0", "0"),
    ("accept_redirects", "1", "1"),
    ("send_redirects", "1", "1"),
    ("log_martians", "0", "0"),
    ("medium_id", "0", "0"),
    ("disable_xfrm", "0", "0"),
    ("disable_policy", "0", "0"),
    ("arp_accept", "0", "0"),
    ("src_valid_mark", "0", "0"),
    ("proxy_arp_pvlan", "0", "0"),
    ("ignore_routes_with_linkdown", "0", "0"),
    ("drop_unicast_in_l2_multicast", "0", "0"),
    ("drop_gratuitous_arp", "0", "0"),
    ("rp_filter", "0", "0"),
    ("arp_ignore", "0", "0"),
    ("arp_announce", "0", "0"),
    ("arp_filter", "0", "0"),
    ("accept_local", "0", "0"),
    ("route_localnet", "0", "0"),
];
const CONF6: &[(&str, &str, &str)] = &[
    ("forwarding", "0", "0"),
    ("disable_ipv6", "0", "0"),
    ("hop_limit", "64", "64"),
    ("accept_ra", "1", "1"),
    ("accept_redirects", "1", "1"),
    ("dad_transmits", "1", "1"),
    ("use_tempaddr", "0", "0"),
    ("proxy_ndp", "0", "0"),
    ("accept_dad", "0", "1"),
    ("ignore_routes_with_linkdown", "0", "0"),
    ("drop_unicast_in_l2_multicast", "0", "0"),
    ("drop_unsolicited_na", "0", "0"),
    ("seg6_enabled", "0", "0"),
    ("disable_policy", "0", "0"),
];

/// Cannot be written, or not by everybody.
const READ_ONLY: &[&str] = &["mc_forwarding"];

/// What lo has of its own.
const LO: &[&str] = &["disable_xfrm", "disable_policy"];

/// What belongs to namespaces, before there is any device.
pub fn namespaces(work: &mut Work<'_>) {
    let all: Vec<&Netns> = work.namespaces().collect();
    for netns in all {
        let mut settings: Vec<(String, String)> = Vec::new();
        for (family, table) in [("ipv4", CONF4), ("ipv6", CONF6)] {
            for (place, second) in [("all", false), ("default", true)] {
                for (key, all, default) in table {
                    let name = format!("net.{family}.conf.{place}.{key}");
                    let usual = if second { default } else { all };
                    let Some(value) = netns.sysctls.get(&name).filter(|_| !READ_ONLY.contains(key)) else { continue };
                    let apart = family == "ipv4" && CHANGED.contains(key);
                    // A router accepts no redirects (inet_forward_change); that comes by itself.
                    let router = *key == "accept_redirects" && netns.conf(family, "all", "forwarding") == Some(1);
                    let always = family == "ipv4" && *key == "forwarding";
                    if !apart && !router && (value != usual || always) {
                        settings.push((name, value.clone()));
                    }
                }
            }
        }
        // Written even where they are usual, most of them at once.
        changed(work, netns);
        for (name, usual) in GLOBAL {
            if let Some(value) = netns.sysctls.get(*name).filter(|value| value != usual) {
                settings.push(((*name).to_owned(), value.clone()));
            }
        }
        // Addresses are given one by one; none is to come by itself.
        settings.push(("net.ipv6.conf.default.addr_gen_mode".to_owned(), "1".to_owned()));
        if settings.iter().any(|(name, _)| name.starts_with("net.bridge.")) {
            work.needs.insert("sysctl:net.bridge.bridge-nf-call-iptables".to_owned());
        }
        write(work, netns.id, &settings);
    }
}

/// `net.ipv4.conf.{all,default,lo}` of what services change: one command for each value.
fn changed(work: &mut Work<'_>, netns: &Netns) {
    const PLACES: [&str; 3] = ["all", "default", "lo"];
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut single: Vec<(String, String)> = Vec::new();
    for key in CHANGED {
        let values = PLACES.map(|place| netns.sysctls.get(&format!("net.ipv4.conf.{place}.{key}")).map(String::as_str));
        match values {
            [Some(first), Some(second), Some(third)] if first == second && second == third => {
                groups.entry(first).or_default().push(key);
            }
            other => {
                for (place, value) in PLACES.iter().zip(other) {
                    single.extend(value.map(|value| (format!("net.ipv4.conf.{place}.{key}"), value.to_owned())));
                }
            }
        }
    }
    for (value, keys) in groups {
        let keys = if let [one] = keys.as_slice() { (*one).to_owned() } else { format!("{{{}}}", keys.join(",")) };
        work.script
            .run(netns.id, &format!("sysctl -qw net.ipv4.conf.{{{}}}.{keys}={}", PLACES.join(","), quote(value)));
    }
    write(work, netns.id, &single);
}

/// What belongs to devices, where it is not what their namespace gives to new ones.
pub fn devices(work: &mut Work<'_>) {
    let all: Vec<&Netns> = work.namespaces().collect();
    for netns in all {
        let mut settings: Vec<(String, String)> = Vec::new();
        for (device, link) in work.links(netns) {
            if !work.made.contains(&device) {
                continue;
            }
            let name = link.name.replace('.', "/");
            for (family, table) in [("ipv4", CONF4), ("ipv6", CONF6)] {
                for (key, ..) in table {
                    let get = |place: &str| netns.sysctls.get(&format!("net.{family}.conf.{place}.{key}"));
                    let (Some(value), Some(default)) = (get(&name), get("default")) else { continue };
                    // Negative values are the kernel's own word for devices without such a thing.
                    let special = value.starts_with('-')
                        || READ_ONLY.contains(key)
                        || link.is_loopback() && LO.contains(key)
                        || link.is_loopback() && family == "ipv6" && *key != "disable_ipv6";
                    let known = link.is_loopback() && family == "ipv4" && CHANGED.contains(key);
                    if value != default && !special && !known {
                        settings.push((format!("net.{family}.conf.{name}.{key}"), value.clone()));
                    }
                }
            }
            solicitations(netns, device, &name, &mut settings);
        }
        write(work, netns.id, &settings);
    }
}

/// How often a neighbour is asked for.
fn solicitations(netns: &Netns, _device: Device, name: &str, settings: &mut Vec<(String, String)>) {
    for family in ["ipv4", "ipv6"] {
        for key in ["mcast_solicit", "ucast_solicit", "app_solicit"] {
            let get = |place: &str| netns.sysctls.get(&format!("net.{family}.neigh.{place}.{key}"));
            if let (Some(value), Some(default)) = (get(name), get("default"))
                && value != default
            {
                settings.push((format!("net.{family}.neigh.{name}.{key}"), value.clone()));
            }
        }
    }
}

/// One command for each namespace, values side by side.
fn write(work: &mut Work<'_>, netns: NetnsId, settings: &[(String, String)]) {
    if settings.is_empty() {
        return;
    }
    // A key given twice counts as it stands last.
    let mut last: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, (name, _)) in settings.iter().enumerate() {
        last.insert(name, at);
    }
    let kept = settings.iter().enumerate().filter(|(at, (name, _))| last.get(name.as_str()) == Some(at));
    let words: Vec<String> = kept.map(|(_, (name, value))| quote(&format!("{name}={value}"))).collect();
    for some in words.chunks(8) {
        work.script.run(netns, &format!("sysctl -qw {}", some.join(" ")));
    }
}
