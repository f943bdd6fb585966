//! Where the configuration leaves a choice, what was seen tells which one the kernel made.
//!
//! The hash by which the kernel picks one of several next hops has a secret of its own, so a prediction can only take the
//! first. Once the packets have been seen, the next hop that carried them is known: it is put first.

use std::collections::BTreeSet;

use crate::model::exchange::{Action, Exchange, Journey, Role};
use crate::model::id::Device;
use crate::model::snapshot::Snapshot;

/// The configuration with the next hops that were used put first; None if nothing has to be changed.
pub fn as_seen(snapshot: &Snapshot, observed: &Exchange) -> Option<Snapshot> {
    let branches = |route: &crate::model::snapshot::Route| route.nexthops.len() > 1;
    if !snapshot.namespaces.iter().any(|netns| netns.routes.iter().any(branches)) {
        return None;
    }
    let mut used = BTreeSet::new();
    let mut asked = BTreeSet::new();
    for journey in &observed.journeys {
        sent(journey, &mut used, &mut asked);
    }
    let mut seen = snapshot.clone();
    let mut changed = false;
    for netns in &mut seen.namespaces {
        for route in netns.routes.iter_mut().filter(|route| branches(route)) {
            let taken = |hop: &crate::model::snapshot::Nexthop| {
                let by = hop.oif.map(|oif| Device::new(netns.id, oif));
                by.is_some_and(|by| {
                    used.contains(&by) || hop.gateway.is_some_and(|gateway| asked.contains(&(by, gateway)))
                })
            };
            let mut hops = (0..route.nexthops.len()).filter(|at| taken(&route.nexthops[*at]));
            // Two that were both used may have served two directions: then nothing is known.
            if let (Some(at), None) = (hops.next(), hops.next())
                && at > 0
            {
                route.nexthops.swap(0, at);
                changed = true;
            }
        }
    }
    changed.then_some(seen)
}

/// The devices that a packet left by, and the addresses that were asked for by which device.
fn sent(journey: &Journey, used: &mut BTreeSet<Device>, asked: &mut BTreeSet<(Device, std::net::IpAddr)>) {
    for step in journey.steps.iter().filter(|step| step.action == Action::Transmitted) {
        let Some(device) = step.device.map(|ifindex| Device::new(step.netns, ifindex)) else { continue };
        match journey.role {
            Role::Request | Role::Reply => {
                used.insert(device);
            }
            Role::ArpRequest => asked.extend(journey.headers.dst.map(|target| (device, target))),
            _ => {}
        }
    }
    for copy in &journey.copies {
        sent(copy, used, asked);
    }
}
