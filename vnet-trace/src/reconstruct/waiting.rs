//! Who waited for a neighbour or a route.
//!
//! A socket looks for a route before there is a packet. The look-up belongs to the next packet that is made in its
//! namespace with these addresses.
//!
//! The kernel's neighbour entries report what happens to them, not for whose sake. The packet that waits is the next one to leave by
//! the entry's device: the kernel sends what an entry holds back as soon as the address is known. If none left, it is the one that was
//! dropped there for want of an address. What is told to nobody who waits stays out of the journeys.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::correlate::{Packets, Pointer};
use crate::model::event::{Event, EventKind};
use crate::model::exchange::{Action, Journey, Role, Step};
use crate::model::id::{Device, Nanos, NetnsId};
use crate::model::recording::Recording;

use super::steps::source;

/// Gives each event without a packet to the journey of the packet that waited for it.
pub fn tell(recording: &Recording, packets: &Packets, journeys: &mut [Journey]) {
    let leaving = index(journeys, |action| matches!(action, Action::Queued | Action::Transmitted));
    let starved = index(journeys, is_starved);
    let made = made(journeys);
    for &pointer in &packets.awaited {
        let Pointer::Event(at) = pointer else { continue };
        let Some(event) = recording.events.get(at as usize) else { continue };
        if let EventKind::FibLookup { .. } = event.kind {
            tell_route(pointer, event, journeys, &made);
            continue;
        }
        let (Some(device), Some(step)) = (event.device, step(pointer, event)) else { continue };
        let next = |index: &Index| {
            let there = index.get(&device)?;
            there.get(there.partition_point(|(time, _)| *time < event.time)).map(|(_, journey)| *journey)
        };
        let Some(journey) = next(&leaving).or_else(|| next(&starved)).and_then(|at| journeys.get_mut(at)) else {
            continue;
        };
        let end = |other: &Step| {
            other.at() == Some(device)
                && (matches!(other.action, Action::Queued | Action::Transmitted) || is_starved(&other.action))
        };
        let place = journey.steps.iter().position(end).unwrap_or(journey.steps.len());
        match journey.steps.get_mut(..place).and_then(<[Step]>::last_mut) {
            Some(before) if before.action == step.action && before.device == step.device => {
                before.sources.extend(step.sources);
            }
            _ => journey.steps.insert(place, step),
        }
    }
}

/// By namespace, source and destination: when a socket made a packet, and which journey it is.
type Made = BTreeMap<(NetnsId, Option<IpAddr>), Vec<(Nanos, usize)>>;

fn made(journeys: &[Journey]) -> Made {
    let mut made = Made::new();
    for (at, journey) in journeys.iter().enumerate() {
        if let Some(step) = journey.steps.first()
            && matches!(step.action, Action::Sent)
            && let Some(time) = step.time
        {
            made.entry((step.netns, journey.headers.dst)).or_default().push((time, at));
        }
    }
    for there in made.values_mut() {
        there.sort_unstable();
    }
    made
}

fn tell_route(pointer: Pointer, event: &Event, journeys: &mut [Journey], made: &Made) {
    let EventKind::FibLookup { table, src, dst, error: 0, nexthop, gateway, .. } = &event.kind else { return };
    let Some(netns) = event.netns.or(event.device.map(|device| device.netns)) else { return };
    let journey = made
        .get(&(netns, Some(*dst)))
        .and_then(|there| there.get(there.partition_point(|(time, _)| *time < event.time)))
        .and_then(|(_, at)| journeys.get_mut(*at));
    let Some(journey) = journey.filter(|journey| src.is_unspecified() || journey.headers.src == Some(*src)) else {
        return;
    };
    let oif = nexthop.map(|device| device.ifindex);
    let action = Action::Routed { table: *table, oif, gateway: *gateway, local: false };
    let sources = vec![source(pointer)];
    match journey.steps.get_mut(1) {
        Some(step) if step.action == action => step.sources.extend(sources),
        // A later look-up takes the place of an earlier one: sockets ask first for a source, then for the route with it.
        Some(step) if matches!(step.action, Action::Routed { .. }) => {
            step.sources.extend(sources);
            (step.action, step.time) = (action, Some(event.time));
        }
        _ => journey.steps.insert(1, Step { time: Some(event.time), netns, device: None, action, sources }),
    }
}

/// By device: when a journey does something there for the first time, and which one it is.
type Index = BTreeMap<Device, Vec<(Nanos, usize)>>;

fn index(journeys: &[Journey], does: impl Fn(&Action) -> bool) -> Index {
    let mut index = Index::new();
    for (at, journey) in journeys.iter().enumerate() {
        if matches!(journey.role, Role::ArpRequest | Role::ArpReply) {
            continue;
        }
        let mut known = BTreeSet::new();
        for step in journey.steps.iter().filter(|step| does(&step.action)) {
            if let (Some(device), Some(time)) = (step.at(), step.time)
                && known.insert(device)
            {
                index.entry(device).or_default().push((time, at));
            }
        }
    }
    for there in index.values_mut() {
        there.sort_unstable();
    }
    index
}

/// Dropped for want of an address.
fn is_starved(action: &Action) -> bool {
    match action {
        Action::Dropped { reason, location } => {
            reason.as_deref() == Some("NEIGH_FAILED") || location.as_deref() == Some("neigh_invalidate")
        }
        _ => false,
    }
}

fn step(pointer: Pointer, event: &Event) -> Option<Step> {
    let EventKind::Neigh { address, lladdr, state } = &event.kind else { return None };
    let device = event.device?;
    let action = match lladdr {
        Some(lladdr) => Action::NeighbourKnown { address: *address, lladdr: Some(*lladdr) },
        None if *state == NUD_FAILED => {
            Action::Seen { site: "neigh_update".to_owned(), note: format!("{address} FAILED") }
        }
        None => Action::NeighbourAsked { address: *address },
    };
    let sources = vec![source(pointer)];
    Some(Step { time: Some(event.time), netns: device.netns, device: Some(device.ifindex), action, sources })
}

/// include/uapi/linux/neighbour.h.
const NUD_FAILED: u16 = 0x20;
