//! `scope-missing`: a link-local destination was asked for without a zone (`%dev`), and the kernel chose a device.

use crate::diagnose::case::Case;
use crate::model::diagnosis::Note;
use crate::model::exchange::Place;
use std::net::IpAddr;

/// The note, if it applies.
pub fn check(case: &Case<'_>) -> Option<Note> {
    let question = &case.recording.question;
    let IpAddr::V6(dst) = question.dst else { return None };
    if !dst.is_unicast_link_local() || question.zone.is_some() || question.device().is_some() {
        return None;
    }
    let netns = case.netns(question.netns);
    let found = crate::predict::fib::lookup(netns, &crate::predict::fib::Flow::to(question.dst)).ok();
    let device = found.and_then(|found| found.nexthop.oif);
    let name = device.and_then(|device| netns.link(device)).map_or_else(|| "none".to_owned(), |link| link.name.clone());
    Some(Note {
        code: "scope-missing".to_owned(),
        place: Some(Place { netns: netns.id, device, function: None }),
        summary: format!("{dst} exists on every link; without a zone ({dst}%{name}) the kernel chose {name}"),
    })
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    /// b's link-local address, asked for with or without a zone.
    fn world(zone: Option<&str>) -> World {
        World::cable6()
            .route("a", "fe80::/64 dev veth1")
            .ask("a", "fe80::3:2")
            .question(|question| question.zone = zone.map(str::to_owned))
    }

    #[test]
    fn fires_when_no_zone_is_given() {
        assert!(world(None).note(check).is_some_and(|said| said.contains("the kernel chose veth1")));
    }

    #[test]
    fn silent_when_the_zone_is_given() {
        assert_eq!(world(Some("veth1")).note(check), None);
    }

    #[test]
    fn silent_when_the_address_needs_none() {
        assert_eq!(World::cable6().note(check), None);
    }
}
