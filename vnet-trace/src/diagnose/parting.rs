//! Where reality leaves the plan: the first place at which what was seen of the packets is not what the configuration gives.
//!
//! | the configuration | what was seen | it parts |
//! | --- | --- | --- |
//! | lets the packet pass | it is not seen at the next place that was watched | between the last place and that one |
//! | loses the packet | it is seen behind the place, or the question was answered | at that place |
//! | takes it one way | it is seen on another | where it was seen |
//!
//! In between may stand things that no model covers: programs, user-space switches, rules that are not understood. If there
//! is just one, it is what decided. If there is none, the model is wrong; so a healthy lab that parts is a defect of ours.
//!
//! Limits: copies of a flood go many ways, and are not followed; what passes only devices that nobody listens on parts unseen.

use crate::model::diagnosis::{Parting, Verdict};
use crate::model::exchange::{Decision, Fault, Journey, Loss, Place, Role};
use crate::model::id::Device;

use super::case::Case;
use super::confirm::{Sighting, Way, collect, passes, quiet, sightings};
use super::unexplained::{Part, opaques, parting, word};

/// The first parting; `fault` is the one that the named cause rests on.
pub fn find(case: &Case<'_>, verdict: Verdict, fault: Option<&Fault>) -> Option<Parting> {
    if case.recording.is_foretold() || case.observed.journeys.is_empty() {
        return None;
    }
    let mut at_its_end = None;
    for journey in &case.predicted.journeys {
        // What nobody can foretell parts from nothing, nor does what comes after it.
        if journey.loss().is_some_and(|loss| is_guessed(case, loss)) {
            return None;
        }
        let seen = sightings_of(case, journey);
        if let Some(parting) = passed(case, journey, &seen, verdict) {
            return Some(parting);
        }
        let ends = fault.is_some_and(|fault| {
            journey.role == fault.role
                && journey.leg == fault.leg
                && journey.loss().is_some_and(|loss| loss.decision == fault.loss.decision)
        });
        if ends {
            return None;
        }
        if let Some(parting) = elsewhere(case, journey, &seen) {
            return Some(parting);
        }
        if seen.is_empty() {
            // Nobody asks for a neighbour to which the packet itself did not come.
            if matches!(journey.role, Role::ArpRequest | Role::ArpReply) {
                continue;
            }
            if at_its_end.is_some() {
                break;
            }
        }
        if let Some(part) = parting(case, journey, &seen) {
            let end = passes(&journey.steps).last().copied();
            let reached = end.is_some_and(|end| seen.iter().any(|sighting| (sighting.device, sighting.way) == end));
            if !reached {
                return Some(vanished(case, journey, &part));
            }
            // It came to its end, and the answer to it has a journey of its own.
            at_its_end = Some(vanished(case, journey, &part));
        }
    }
    at_its_end.filter(|_| fault.is_none() && verdict != Verdict::Delivered)
}

/// That nobody answers for an address is only known where everybody can be seen who could.
fn is_guessed(case: &Case<'_>, loss: &Loss) -> bool {
    match loss.decision {
        Some(Decision::RemoteSilent) => true,
        Some(Decision::NoOwner { .. }) => !case.sees_all(),
        _ => false,
    }
}

/// Sightings of the packets that a predicted journey stands for.
fn sightings_of<'a>(case: &Case<'a>, journey: &Journey) -> Vec<Sighting<'a>> {
    if journey.role != Role::ArpReply {
        let target = journey.headers.dst.filter(|_| journey.role == Role::ArpRequest);
        return sightings(case, journey.role, journey.leg, target);
    }
    // Of several answers that of the same owner to the same asker.
    let mut found = Vec::new();
    let replies = case.observed.journeys.iter().filter(|other| other.role == Role::ArpReply);
    let same = |other: &&Journey| (other.headers.src, other.headers.dst) == (journey.headers.src, journey.headers.dst);
    for reply in replies.filter(same) {
        collect(reply, &mut found);
    }
    found
}

/// The configuration loses it, and it passed.
fn passed(case: &Case<'_>, journey: &Journey, seen: &[Sighting<'_>], verdict: Verdict) -> Option<Parting> {
    let loss = journey.loss()?;
    let place = loss.place.device();
    let beyond = passes(&journey.beyond);
    let steps = passes(&journey.steps);
    let behind = seen.iter().find(|sighting| {
        let pass = (sighting.device, sighting.way);
        journey.role != Role::ArpRequest
            && beyond.contains(&pass)
            && !steps.contains(&pass)
            && Some(sighting.device) != place
    });
    let packet = case.packet_name(journey.role);
    let how = match (behind, verdict) {
        (Some(sighting), _) => format!("it was seen at {}, behind it", case.place_name(sighting.device)),
        (None, Verdict::Delivered) => "the question was answered".to_owned(),
        _ => return None,
    };
    let text = format!("the configuration loses {packet} at {}, and {how}", case.at(&loss.place));
    Some(Parting { role: journey.role, place: loss.place.clone(), text, suspects: Vec::new() })
}

/// The configuration takes it another way.
fn elsewhere(case: &Case<'_>, journey: &Journey, seen: &[Sighting<'_>]) -> Option<Parting> {
    if matches!(journey.role, Role::ArpRequest | Role::ArpReply | Role::IcmpError) {
        return None;
    }
    let known: Vec<Device> = ways(case, journey).into_iter().map(|(device, _)| device).collect();
    // The bridge of a port and the lower device of a macvlan are no other way, though the packet need not be seen there.
    let near = |device: Device| {
        let master = |other: Device| case.link(other)?.master.map(|master| Device::new(other.netns, master));
        let under = |other: Device| case.snapshot().lower(other).filter(|_| case.snapshot().peer(other).is_none());
        known.iter().any(|known| [Some(*known), master(*known), under(*known)].contains(&Some(device)))
    };
    let other = seen.iter().find(|sighting| !near(sighting.device) && !quiet(case, sighting.device))?;
    let text = format!(
        "{} was seen at {}, which is not on the way that the configuration gives it",
        case.packet_name(journey.role),
        case.place_name(other.device)
    );
    let place = Place { netns: other.device.netns, device: Some(other.device.ifindex), function: None };
    Some(Parting { role: journey.role, place, text, suspects: Vec::new() })
}

/// Everywhere that packets of its role may pass, copies and mended ways included.
fn ways(case: &Case<'_>, journey: &Journey) -> Vec<(Device, Way)> {
    fn walk(journey: &Journey, found: &mut Vec<(Device, Way)>) {
        found.extend(passes(&journey.steps));
        found.extend(passes(&journey.beyond));
        for copy in &journey.copies {
            walk(copy, found);
        }
    }
    let mut found = Vec::new();
    for other in case.predicted.journeys.iter().filter(|other| other.role == journey.role && other.leg == journey.leg) {
        walk(other, &mut found);
    }
    found
}

/// The configuration lets it pass, and it vanished.
fn vanished(case: &Case<'_>, journey: &Journey, part: &Part) -> Parting {
    let packet = case.packet_name(journey.role);
    let next =
        journey.steps.get(part.to.saturating_sub(1)).and_then(|step| Some(Device::new(step.netns, step.device?)));
    let mut text = match (part.last, next) {
        (Some(last), Some(next)) if last != next => format!(
            "the configuration brings {packet} from {} to {}, where it was not seen",
            case.place_name(last),
            case.place_name(next)
        ),
        (Some(last), _) => {
            format!("the configuration lets {packet} pass behind {}, where it was last seen", case.place_name(last))
        }
        (None, Some(next)) => {
            format!("the configuration brings {packet} to {}, where it was not seen", case.place_name(next))
        }
        (None, None) => format!("the configuration lets {packet} pass, and it was not seen"),
    };
    let between = opaques(journey, part);
    let suspects: Vec<String> =
        between.iter().map(|(place, opaque)| format!("{} at {}", word(opaque), case.at(place))).collect();
    match suspects.as_slice() {
        [] => text.push_str("; nothing in the configuration in between drops it"),
        [only] => text.push_str(&format!(": {only} is the only thing in between that is not modelled")),
        several => text.push_str(&format!("; in between are {}, which are not modelled", several.join(" and "))),
    }
    let device = part.last.or(next);
    let place = device.map_or_else(
        || Place { netns: case.recording.question.netns, device: None, function: None },
        |device| Place { netns: device.netns, device: Some(device.ifindex), function: None },
    );
    Parting { role: journey.role, place, text, suspects }
}
