//! `nat-rewritten`: addresses or ports were rewritten on the way.

use std::net::{IpAddr, SocketAddr};

use crate::diagnose::case::Case;
use crate::model::diagnosis::Note;
use crate::model::exchange::{Action, Place};

/// The note, if it applies.
pub fn check(case: &Case<'_>) -> Option<Note> {
    let step = case
        .predicted
        .journeys
        .iter()
        .flat_map(|journey| &journey.steps)
        .find(|step| matches!(step.action, Action::Rewritten { .. }))?;
    let Action::Rewritten { from, to, ports, .. } = &step.action else { return None };
    let (before, after) = ports.unwrap_or_default();
    let end = |address: IpAddr, port: u16, changed: bool| {
        if changed { SocketAddr::new(address, port).to_string() } else { address.to_string() }
    };
    let (source, destination) = (before.0 != after.0, before.1 != after.1);
    let sources = (end(from.0, before.0, source), end(to.0, after.0, source));
    let destinations = (end(from.1, before.1, destination), end(to.1, after.1, destination));
    let what = if sources.0 == sources.1 {
        format!("the destination {} becomes {}", destinations.0, destinations.1)
    } else if destinations.0 == destinations.1 {
        format!("the source {} becomes {}", sources.0, sources.1)
    } else {
        format!("{} → {} becomes {} → {}", sources.0, destinations.0, sources.1, destinations.1)
    };
    Some(Note {
        code: "nat-rewritten".to_owned(),
        place: Some(Place { netns: step.netns, device: step.device, function: None }),
        summary: format!("in {} {what}", case.netns_name(step.netns)),
    })
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    #[test]
    fn fires_when_the_source_is_masqueraded() {
        let world = World::container().iptables(
            ".",
            "*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -s 172.17.0.0/16 -o eth0 -j MASQUERADE\nCOMMIT\n",
        );
        assert!(world.note(check).is_some_and(|said| said.contains("the source 172.17.0.2 becomes 192.0.2.1")));
    }

    #[test]
    fn silent_when_nothing_is_rewritten() {
        assert_eq!(World::container().note(check), None);
    }
}
