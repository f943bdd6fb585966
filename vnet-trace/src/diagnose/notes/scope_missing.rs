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
