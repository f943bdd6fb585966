//! Questions to an observed exchange: where a packet was seen, where it was seen last, where it was dropped.
//!
//! These are views on the steps of journeys; each answer carries the positions in the recording that it rests on.
//! Whether *not* having been seen somewhere means anything is the business of [`super::evidence::Absence`].

use super::diagnosis::Source;
use super::exchange::{Action, Exchange, Journey, Leg, Role, Step};
use super::frame::Direction;
use super::id::{Device, Nanos};

/// A device that a packet passed, in one direction.
#[derive(Debug, Clone, PartialEq)]
pub struct Sighting {
    /// Where.
    pub device: Device,
    /// Received or transmitted there. A packet that was only queued was not transmitted and is no sighting.
    pub direction: Direction,
    /// When it was there first.
    pub time: Option<Nanos>,
    /// Who says so.
    pub sources: Vec<Source>,
}

/// The kernel dropped a packet.
#[derive(Debug, Clone, PartialEq)]
pub struct Dropping<'a> {
    /// The step.
    pub step: &'a Step,
    /// The device, if the kernel said one.
    pub device: Option<Device>,
    /// Reason by name, if the kernel has reasons.
    pub reason: Option<&'a str>,
    /// The function that dropped it.
    pub location: Option<&'a str>,
    /// The event, by its position in the recording.
    pub event: Option<usize>,
    /// It ended the copy that mattered, as far as can be told; else a copy of it.
    pub main: bool,
}

impl Exchange {
    /// The devices that packets of this role passed on this leg, in order of time; all journeys and all their copies.
    pub fn sightings(&self, role: Role, leg: Leg) -> Vec<Sighting> {
        collect(self.with_role(role, leg).flat_map(Journey::branches))
    }

    /// Whether a packet of this role was seen at this device in this direction, and who says so.
    pub fn seen_at(&self, role: Role, leg: Leg, device: Device, direction: Direction) -> Option<Sighting> {
        let is_it = |step: &&Step| passes(step) == Some((device, direction));
        let mut steps =
            self.with_role(role, leg).flat_map(Journey::branches).flat_map(|branch| &branch.steps).filter(is_it);
        let first = steps.next()?;
        let mut sighting = Sighting { device, direction, time: first.time, sources: first.sources.clone() };
        for step in steps {
            sighting.time = sighting.time.min(step.time);
            sighting.sources.extend(step.sources.iter().cloned());
        }
        Some(sighting)
    }

    /// Where the kernel dropped packets of this role on this leg, in order of time.
    pub fn drops(&self, role: Role, leg: Leg) -> Vec<Dropping<'_>> {
        let mut drops: Vec<Dropping<'_>> = self.with_role(role, leg).flat_map(Journey::drops).collect();
        drops.sort_by_key(|drop| drop.step.time);
        drops
    }
}

impl Journey {
    /// The journey itself and its copies.
    pub fn branches(&self) -> impl Iterator<Item = &Journey> {
        let mut waiting = vec![self];
        std::iter::from_fn(move || {
            let next = waiting.pop()?;
            waiting.extend(next.copies.iter().rev());
            Some(next)
        })
    }

    /// The devices that it passed, copies included, in order of time.
    pub fn sightings(&self) -> Vec<Sighting> {
        collect(self.branches())
    }

    /// The devices that the main branch passed, in order: each reception and each transmission.
    pub fn path(&self) -> Vec<(Device, Direction)> {
        self.steps.iter().filter_map(passes).collect()
    }

    /// The last device that the main branch reached.
    pub fn last_device(&self) -> Option<(Device, Direction)> {
        self.steps.iter().rev().find_map(passes)
    }

    /// Where it and its copies were dropped.
    pub fn drops(&self) -> impl Iterator<Item = Dropping<'_>> {
        self.branches().flat_map(move |branch| {
            branch.steps.iter().filter_map(move |step| dropping(step, std::ptr::eq(self, branch)))
        })
    }
}

impl Step {
    /// The device with its namespace.
    pub fn at(&self) -> Option<Device> {
        Some(Device::new(self.netns, self.device?))
    }

    /// The first event that it rests on.
    pub fn event(&self) -> Option<usize> {
        self.sources.iter().find_map(|source| match source {
            Source::Event(at) => Some(*at),
            _ => None,
        })
    }
}

/// The device that a step passes, if it does.
fn passes(step: &Step) -> Option<(Device, Direction)> {
    let direction = match step.action {
        Action::Received => Direction::In,
        Action::Transmitted => Direction::Out,
        _ => return None,
    };
    Some((step.at()?, direction))
}

fn dropping(step: &Step, main: bool) -> Option<Dropping<'_>> {
    let Action::Dropped { reason, location } = &step.action else { return None };
    Some(Dropping {
        step,
        device: step.at(),
        reason: reason.as_deref(),
        location: location.as_deref(),
        event: step.event(),
        main,
    })
}

fn collect<'a>(branches: impl Iterator<Item = &'a Journey>) -> Vec<Sighting> {
    let mut places = std::collections::BTreeMap::new();
    let mut all: Vec<Sighting> = Vec::new();
    for step in branches.flat_map(|branch| &branch.steps) {
        let Some((device, direction)) = passes(step) else { continue };
        let at = *places.entry((device, direction == Direction::In)).or_insert(all.len());
        match all.get_mut(at) {
            Some(known) => {
                known.time = known.time.min(step.time);
                known.sources.extend(step.sources.iter().cloned());
            }
            None => all.push(Sighting { device, direction, time: step.time, sources: step.sources.clone() }),
        }
    }
    all.sort_by_key(|sighting| sighting.time);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::exchange::{Fate, Headers};
    use crate::model::id::{IfIndex, NetnsId};

    fn step(time: u64, device: u32, action: Action) -> Step {
        let sources = vec![Source::Frame(time as usize)];
        Step { time: Some(Nanos(time)), netns: NetnsId(0), device: Some(IfIndex(device)), action, sources }
    }

    fn journey(steps: Vec<Step>, copies: Vec<Journey>) -> Journey {
        let fate = Fate::Cut { netns: NetnsId(0), device: None };
        Journey {
            role: Role::ArpRequest,
            leg: Leg::Forward,
            seq: None,
            headers: Headers::default(),
            steps,
            copies,
            fate,
            beyond: Vec::new(),
        }
    }

    fn device(index: u32) -> Device {
        Device::new(NetnsId(0), IfIndex(index))
    }

    #[test]
    fn sightings_are_places_with_all_their_witnesses() {
        let copy = journey(
            vec![step(3, 3, Action::Received), step(4, 3, Action::Dropped { reason: None, location: None })],
            vec![],
        );
        let main = journey(vec![step(1, 1, Action::Transmitted), step(2, 2, Action::Received)], vec![copy]);
        let again = journey(vec![step(5, 1, Action::Queued), step(6, 1, Action::Transmitted)], vec![]);
        let exchange = Exchange { journeys: vec![main, again], ..Exchange::default() };
        let seen = exchange.sightings(Role::ArpRequest, Leg::Forward);
        let places: Vec<_> = seen.iter().map(|sighting| (sighting.device, sighting.direction)).collect();
        assert_eq!(places, [(device(1), Direction::Out), (device(2), Direction::In), (device(3), Direction::In)]);
        assert_eq!(seen[0].sources, [Source::Frame(1), Source::Frame(6)]);
        assert!(exchange.seen_at(Role::ArpRequest, Leg::Forward, device(1), Direction::In).is_none());
        assert_eq!(exchange.journeys[0].last_device(), Some((device(2), Direction::In)));
        let drops = exchange.drops(Role::ArpRequest, Leg::Forward);
        assert_eq!(drops.len(), 1);
        assert!(!drops[0].main);
    }
}
