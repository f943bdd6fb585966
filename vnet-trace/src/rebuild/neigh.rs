//! Neighbour entries and forwarding databases.

use std::collections::BTreeSet;

use crate::model::id::Device;
use crate::model::snapshot::{FdbEntry, LinkKind, Neighbour, Netns};

use super::{Work, ovs};

/// Neighbour entries that say something: set by hand, learned, or to be answered for.
pub fn entries(work: &mut Work<'_>) {
    let all: Vec<&Netns> = work.namespaces().collect();
    for netns in all {
        for entry in &netns.neighbours {
            let device = Device::new(netns.id, entry.ifindex);
            let Some(link) = netns.link(entry.ifindex).filter(|_| work.made.contains(&device)) else { continue };
            if entry.is_proxy() {
                work.script.ip(netns.id, format!("neigh add proxy {} dev {}", entry.address, link.name));
                continue;
            }
            // Of these the kernel makes its own.
            if entry.is_noarp() && (entry.address.is_multicast() || link.is_noarp() || link.is_loopback()) {
                continue;
            }
            let (Some(lladdr), Some(state)) = (entry.lladdr, state(entry)) else { continue };
            if link.is_up() {
                let learned = if entry.flags & 16 != 0 { " extern_learn" } else { "" };
                work.script.ip(
                    netns.id,
                    format!("neigh replace {} lladdr {lladdr} dev {} nud {state}{learned}", entry.address, link.name),
                );
            }
        }
    }
}

fn state(entry: &Neighbour) -> Option<&'static str> {
    Some(match entry.state {
        state if state & 0x80 != 0 => "permanent",
        state if state & 0x40 != 0 => "noarp",
        state if state & 0x02 != 0 => "reachable",
        // Delayed and probed entries have been stale before.
        state if state & (0x04 | 0x08 | 0x10) != 0 => "stale",
        _ => return None,
    })
}

/// Entries of bridges and of VXLAN devices that the kernel does not make by itself.
pub fn fdb(work: &mut Work<'_>) {
    let all: Vec<&Netns> = work.namespaces().collect();
    for netns in all {
        let mut ready = BTreeSet::new();
        for entry in &netns.fdb {
            let device = Device::new(netns.id, entry.ifindex);
            let Some(link) = netns.link(entry.ifindex).filter(|_| work.made.contains(&device)) else { continue };
            let words = match (&link.kind, entry.master) {
                (LinkKind::Vxlan(info), None) => {
                    let Some(dst) = entry.dst else { continue };
                    if entry.mac.0 == [0; 6] && info.remote == Some(dst) {
                        continue;
                    }
                    let mut words = format!("fdb append {} dev {} dst {dst} self", entry.mac, link.name);
                    words.push_str(if entry.state & 0x80 != 0 { " permanent" } else { " dynamic" });
                    for (name, value) in [("vni", entry.vni), ("port", entry.port.map(u32::from))] {
                        if let Some(value) = value {
                            words.push_str(&format!(" {name} {value}"));
                        }
                    }
                    words
                }
                (_, Some(master)) if !is_automatic(netns, entry, master) && !ovs::owns(work.snapshot, device) => {
                    let bridge = Device::new(netns.id, master);
                    if !work.made.contains(&bridge) || !link.is_up() && !entry.is_local() {
                        continue;
                    }
                    // An entry of the bridge itself is given to the bridge.
                    let place = if entry.ifindex == master { "self" } else { "master" };
                    let kind = match entry.state {
                        state if state & 0x80 != 0 => "permanent",
                        state if state & 0x40 != 0 => "static",
                        _ => "dynamic",
                    };
                    if kind == "dynamic" && link.bridge_port.as_ref().is_none_or(|port| port.state != 3) {
                        continue;
                    }
                    // Only a port that forwards may have learned; it takes a moment after its link is up.
                    if kind == "dynamic" && ready.insert(entry.ifindex) {
                        let there =
                            if netns.id.0 == 0 { String::new() } else { format!(" -n {}", work.script.name(netns.id)) };
                        work.script.line(&format!(
                            "for t in $(seq 100); do bridge{there} link show dev {} | grep -q 'state forwarding' && break; sleep 0.02; done",
                            link.name
                        ));
                    }
                    let sticky = if entry.flags & 0x40 != 0 { " sticky" } else { "" };
                    let vlan = entry.vlan.map(|vlan| format!(" vlan {vlan}")).unwrap_or_default();
                    format!("fdb replace {} dev {} {place} {kind}{sticky}{vlan}", entry.mac, link.name)
                }
                _ => continue,
            };
            work.script.bridge(netns.id, words);
        }
    }
}

/// A bridge takes the addresses of its ports, and its own, for local by itself.
fn is_automatic(netns: &Netns, entry: &FdbEntry, master: crate::model::id::IfIndex) -> bool {
    let own = |index| netns.link(index).and_then(|link| link.mac) == Some(entry.mac);
    entry.mac.0[0] & 1 != 0 || entry.is_local() && (own(entry.ifindex) || own(master) && entry.ifindex == master)
}
