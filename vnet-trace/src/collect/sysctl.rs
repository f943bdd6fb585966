//! The sysctls under `net.` that decide about packets, for the network namespace of the calling thread.
//!
//! /proc/sys/net shows the namespace of the thread that looks a name up. One file per value is slow where there are many
//! devices, so the values of devices come from the arrays that RTM_GETLINK carries ([`devices`]) and from the neighbour
//! tables ([`neighbour_tables`]); only `all`, `default` and what belongs to no device is read as files ([`namespace`]).
//! What the kernel does not have is left out: absence is not zero.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

use super::netlink::link::LinkRead;
use super::netlink::neigh::Parameters;
use crate::model::snapshot::Link;

/// Sysctls by name, as sysctl(8) prints them.
pub type Sysctls = BTreeMap<String, String>;

/// Those of no device, below /proc/sys/net.
const GLOBAL: &[&str] = &[
    "ipv4/ip_forward",
    "ipv4/ip_default_ttl",
    "ipv4/ip_no_pmtu_disc",
    "ipv4/ip_forward_use_pmtu",
    "ipv4/ip_nonlocal_bind",
    "ipv4/icmp_echo_ignore_all",
    "ipv4/icmp_echo_ignore_broadcasts",
    "ipv4/icmp_ratelimit",
    "ipv4/icmp_ratemask",
    "ipv4/fwmark_reflect",
    "ipv4/raw_l3mdev_accept",
    "ipv4/fib_multipath_hash_policy",
    "ipv4/ping_group_range",
    "ipv6/bindv6only",
    "ipv6/fwmark_reflect",
    "ipv6/ip_nonlocal_bind",
    "ipv6/fib_multipath_hash_policy",
    "ipv6/icmp/ratelimit",
    "ipv6/icmp/echo_ignore_all",
    "ipv6/icmp/echo_ignore_multicast",
    "ipv6/icmp/echo_ignore_anycast",
];

/// Those of modules: a missing directory is found once, not once per file.
const MODULES: &[(&str, &[&str])] = &[
    (
        "bridge",
        &[
            "bridge-nf-call-iptables",
            "bridge-nf-call-ip6tables",
            "bridge-nf-call-arptables",
            "bridge-nf-filter-vlan-tagged",
            "bridge-nf-pass-vlan-input-dev",
        ],
    ),
    (
        "netfilter",
        &[
            "nf_conntrack_max",
            "nf_conntrack_count",
            "nf_conntrack_checksum",
            "nf_conntrack_tcp_be_liberal",
            "nf_conntrack_acct",
        ],
    ),
];

/// IPV4_DEVCONF_* minus one (include/uapi/linux/ip.h), and the file's name below net/ipv4/conf/DEV.
pub const CONF4: &[(usize, &str)] = &[
    (0, "forwarding"),
    (1, "mc_forwarding"),
    (2, "proxy_arp"),
    (3, "accept_redirects"),
    (5, "send_redirects"),
    (7, "rp_filter"),
    (10, "log_martians"),
    (12, "arp_filter"),
    (13, "medium_id"),
    (14, "disable_xfrm"),
    (15, "disable_policy"),
    (17, "arp_announce"),
    (18, "arp_ignore"),
    (20, "arp_accept"),
    (22, "accept_local"),
    (23, "src_valid_mark"),
    (24, "proxy_arp_pvlan"),
    (25, "route_localnet"),
    (28, "ignore_routes_with_linkdown"),
    (29, "drop_unicast_in_l2_multicast"),
    (30, "drop_gratuitous_arp"),
];

/// DEVCONF_* (include/uapi/linux/ipv6.h), and the file's name below net/ipv6/conf/DEV.
pub const CONF6: &[(usize, &str)] = &[
    (0, "forwarding"),
    (1, "hop_limit"),
    (3, "accept_ra"),
    (4, "accept_redirects"),
    (6, "dad_transmits"),
    (10, "use_tempaddr"),
    (22, "proxy_ndp"),
    (26, "disable_ipv6"),
    (27, "accept_dad"),
    (39, "ignore_routes_with_linkdown"),
    (40, "drop_unicast_in_l2_multicast"),
    (41, "drop_unsolicited_na"),
    (44, "seg6_enabled"),
    (47, "addr_gen_mode"),
    (48, "disable_policy"),
];

/// The values of the calling thread's namespace that belong to no device, and those of `all` and `default`.
pub fn namespace() -> Sysctls {
    let mut sysctls = Sysctls::new();
    let mut path = String::from("/proc/sys/net/");
    let mut read = |directory: &str, file: &str| {
        path.truncate("/proc/sys/net/".len());
        path.push_str(directory);
        path.push_str(file);
        match value(&path) {
            Some(value) => {
                let name = path.trim_start_matches("/proc/sys/").replace('/', ".");
                sysctls.insert(name, value);
                true
            }
            None => false,
        }
    };
    for file in GLOBAL {
        read("", file);
    }
    for directory in ["ipv4/conf/all/", "ipv4/conf/default/"] {
        CONF4.iter().for_each(|(_, file)| _ = read(directory, file));
    }
    for directory in ["ipv6/conf/all/", "ipv6/conf/default/"] {
        // A kernel without IPv6 has none of them.
        if read(directory, "disable_ipv6") {
            CONF6.iter().for_each(|(_, file)| _ = read(directory, file));
        }
    }
    for (module, files) in MODULES {
        let directory = format!("{module}/");
        for file in *files {
            // Only netfilter's own files come and go with other modules than the directory.
            if !read(&directory, file) && *module == "bridge" {
                break;
            }
        }
    }
    sysctls
}

/// The first line of a file of /proc/sys.
fn value(path: &str) -> Option<String> {
    let mut buffer = [0; 128];
    let length = File::open(path).ok()?.read(&mut buffer).ok()?;
    let text = std::str::from_utf8(buffer.get(..length)?).ok()?;
    Some(text.lines().next().unwrap_or_default().to_owned())
}

/// A device's name as a part of a sysctl's name: sysctl(8) writes its dots as slashes.
fn part(device: &str) -> String {
    device.replace('.', "/")
}

/// Adds `net.ipv4.conf.DEV.…` and `net.ipv6.conf.DEV.…` of every device.
pub fn devices(sysctls: &mut Sysctls, links: &[LinkRead]) {
    for read in links {
        let device = part(&read.link.name);
        for (family, values, table) in [("ipv4", &read.conf4, CONF4), ("ipv6", &read.conf6, CONF6)] {
            for (index, name) in table {
                if let Some(value) = values.get(*index) {
                    sysctls.insert(format!("net.{family}.conf.{device}.{name}"), value.to_string());
                }
            }
        }
    }
}

/// Adds `net.ipv4.neigh.DEV.…` and `net.ipv6.neigh.DEV.…` of every device and of `default`.
pub fn neighbour_tables(sysctls: &mut Sysctls, tables: &[Parameters], links: &[Link]) {
    for table in tables {
        let device = match table.ifindex {
            None => "default".to_owned(),
            Some(index) => match links.iter().find(|link| link.index == index) {
                Some(link) => part(&link.name),
                None => continue,
            },
        };
        let prefix = format!("net.{}.neigh.{device}", table.family);
        for (name, value) in &table.values {
            sysctls.insert(format!("{prefix}.{name}"), value.to_string());
        }
    }
}
