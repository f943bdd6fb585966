//! Addresses: in the kernel's order, without duplicate address detection unless that is what matters.

use std::net::IpAddr;

use crate::model::id::Device;
use crate::model::snapshot::{Address, Link, Netns};

use super::{Work, route};

const NOPREFIXROUTE: u32 = 0x200;

/// Adds addresses of all devices that will be up. Before they go up, so that nothing is made by itself.
pub fn add(work: &mut Work<'_>) {
    for (netns, device, link, entry) in entries(work) {
        let later = entry.address.is_ipv6() && !link.is_up();
        if !later && !is_automatic(link, entry) && !entry.is_dad_failed() {
            one(work, netns, device, link, entry);
        }
    }
}

/// IPv6 forgets the addresses of a device that goes down, so those come when it is down.
pub fn on_down_devices(work: &mut Work<'_>) {
    for (netns, device, link, entry) in entries(work) {
        if entry.address.is_ipv6() && !link.is_up() {
            one(work, netns, device, link, entry);
        }
    }
}

/// Addresses whose detection failed: it is made to fail again, by somebody who has the address for a moment.
pub fn settle(work: &mut Work<'_>) {
    for (netns, device, link, entry) in entries(work) {
        if !entry.is_dad_failed() {
            continue;
        }
        let Some(peer) = work.snapshot.peer(device).filter(|peer| work.made.contains(peer)) else {
            one(work, netns, device, link, entry);
            continue;
        };
        let (rival, address) = (work.snapshot.device_name(peer), entry.address);
        work.script.comment(&format!(
            "{address} on {} has failed duplicate address detection: a rival has it meanwhile",
            link.name
        ));
        // A port of a bridge hears no solicitation; its bridge does.
        let master = work
            .snapshot
            .link(peer)
            .and_then(|link| link.master)
            .map(|master| work.snapshot.device_name(Device::new(peer.netns, master)));
        let rival = master.unwrap_or(rival);
        work.script.ip(peer.netns, format!("addr add {address}/128 dev {rival} nodad"));
        work.script.ip(peer.netns, format!("link set {rival} up"));
        work.script.ip(device.netns, format!("addr add {address}/{} dev {}", entry.prefix_len, link.name));
        let there = if device.netns.0 == 0 { String::new() } else { format!(" -n {}", work.script.name(device.netns)) };
        work.script.line(&format!(
            "for t in $(seq 50); do ip{there} -6 addr show dev {} dadfailed | grep -q . && break; sleep 0.1; done",
            link.name
        ));
        work.script.ip(peer.netns, format!("addr del {address}/128 dev {rival}"));
    }
}

fn entries<'a>(work: &Work<'a>) -> Vec<(&'a Netns, Device, &'a Link, &'a Address)> {
    let mut found = Vec::new();
    for netns in work.namespaces() {
        for entry in &netns.addresses {
            let device = Device::new(netns.id, entry.ifindex);
            if let Some(link) = netns.link(entry.ifindex).filter(|_| work.made.contains(&device)) {
                found.push((netns, device, link, entry));
            }
        }
    }
    found
}

/// lo gets these when it goes up.
fn is_automatic(link: &Link, entry: &Address) -> bool {
    link.is_loopback()
        && link.is_up()
        && entry.address.is_loopback()
        && (entry.address.is_ipv6() || entry.prefix_len == 8)
}

fn one(work: &mut Work<'_>, netns: &Netns, device: Device, link: &Link, entry: &Address) {
    let mut words = match entry.peer {
        Some(peer) => format!("{} peer {peer}/{}", entry.address, entry.prefix_len),
        None => format!("{}/{}", entry.address, entry.prefix_len),
    };
    words.push_str(&format!(" dev {}", link.name));
    match (entry.scope, entry.address) {
        (253, IpAddr::V4(_)) => words.push_str(" scope link"),
        (254, IpAddr::V4(_)) => words.push_str(" scope host"),
        _ => {}
    }
    if entry.flags & NOPREFIXROUTE != 0 || route::lacks_prefix_route(netns, entry) {
        words.push_str(" noprefixroute");
    }
    // Detection that is still running matters only where it is the fault; elsewhere it has ended since.
    let detects = work.cause.is_some_and(|cause| cause.code == "nd-dad-failed" && cause.place.netns == netns.id);
    if entry.address.is_ipv6() && !(entry.is_tentative() && detects) {
        words.push_str(" nodad");
    }
    if entry.is_deprecated() {
        words.push_str(" preferred_lft 0");
    }
    work.script.ip(device.netns, format!("addr add {words}"));
}
