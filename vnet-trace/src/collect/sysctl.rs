//! The sysctls under `net.` that decide about packets, for the network namespace of the calling thread.
//!
//! /proc/sys/net shows the namespace of the thread that looks a name up. One file per value is slow where there are many
//! devices, so the values of devices come from the arrays that RTM_GETLINK carries ([`devices`]) and from the neighbour
//! tables ([`neighbour_tables`]); only `all`, `default` and what belongs to no device is read as files ([`namespace`]).
//! What the kernel does not have is left out: absence is not zero.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use super::netlink::link::LinkRead;
use super::netlink::neigh::Parameters;
use crate::model::snapshot::Link;

/// Sysctls by name, as sysctl(8) prints them.
pub type Sysctls = BTreeMap<String, String>;

/// Those of no device, by directory below /proc/sys/net. The directories of modules may be missing.
const GLOBAL: &[(&str, &[&str])] = &[
    (
        "ipv4",
        &[
            "ip_forward",
            "ip_default_ttl",
            "ip_no_pmtu_disc",
            "ip_forward_use_pmtu",
            "ip_nonlocal_bind",
            "icmp_echo_ignore_all",
            "icmp_echo_ignore_broadcasts",
            "icmp_ratelimit",
            "icmp_ratemask",
            "fwmark_reflect",
            "raw_l3mdev_accept",
            "fib_multipath_hash_policy",
            "ping_group_range",
        ],
    ),
    ("ipv6", &["bindv6only", "fwmark_reflect", "ip_nonlocal_bind", "fib_multipath_hash_policy"]),
    ("ipv6/icmp", &["ratelimit", "echo_ignore_all", "echo_ignore_multicast", "echo_ignore_anycast"]),
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
    for (directory, files) in GLOBAL {
        read(&mut sysctls, directory, files.iter().copied());
    }
    for (family, table) in [("ipv4", CONF4), ("ipv6", CONF6)] {
        for device in ["all", "default"] {
            read(&mut sysctls, &format!("{family}/conf/{device}"), table.iter().map(|(_, file)| *file));
        }
    }
    sysctls
}

/// Reads files of one directory below /proc/sys/net. The directory is looked up once: that is where all namespaces of
/// the machine are in each other's way, while its files are its own.
fn read<'a>(sysctls: &mut Sysctls, directory: &str, files: impl Iterator<Item = &'a str>) {
    let path = format!("/proc/sys/net/{directory}");
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let Ok(opened) = open(path.as_str(), flags, Mode::empty()) else { return };
    let prefix = format!("net.{}.", directory.replace('/', "."));
    for file in files {
        if let Some(value) = value(&opened, file) {
            sysctls.insert(format!("{prefix}{file}"), value);
        }
    }
}

/// The first line of a file of /proc/sys.
fn value(directory: &OwnedFd, file: &str) -> Option<String> {
    let mut buffer = [0; 128];
    let opened = openat(directory, file, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    let length = File::from(opened).read(&mut buffer).ok()?;
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
