//! `udp-unanswered`: the datagram came to a socket that took it, and nothing was answered.

use crate::diagnose::case::Case;
use crate::diagnose::confirm::{self, Way};
use crate::model::diagnosis::Note;
use crate::model::exchange::{Action, Leg, Place, Role};
use crate::model::id::Device;
use crate::model::question::Protocol;
use crate::model::snapshot::Link;

/// The note, if it applies.
pub fn check(case: &Case<'_>) -> Option<Note> {
    let at = reached(case)?;
    Some(Note {
        code: "udp-unanswered".to_owned(),
        place: Some(Place { netns: at.netns, device: Some(at.ifindex), function: None }),
        summary: format!(
            "a socket in {} takes the datagrams and does not answer; UDP by itself acknowledges nothing",
            case.netns_name(at.netns)
        ),
    })
}

/// The device by which a datagram that nobody answered came to the socket it was meant for: the configuration brings it there,
/// a socket waits there, it was seen to arrive, nobody dropped it, and no error came back.
pub fn reached(case: &Case<'_>) -> Option<Device> {
    let recording = case.recording;
    let ping = &recording.ping;
    let silent = ping.sent > 0 && ping.received == 0 && ping.errors.is_empty();
    if !matches!(recording.question.protocol, Protocol::Udp { .. }) || !silent || !case.predicted.faults.is_empty() {
        return None;
    }
    let owner = case.predicted.owner.filter(|owner| case.netns(owner.netns).sockets_of == Some(17))?;
    let over_lo = case.link(owner).is_some_and(Link::is_loopback);
    let arrived = confirm::sightings(case, Role::Request, Leg::Forward, None)
        .iter()
        .any(|sighting| sighting.device == owner && sighting.way == Way::In);
    let dropped = confirm::steps(case, Role::Request, Leg::Forward)
        .iter()
        .any(|step| matches!(step.action, Action::Dropped { .. }));
    ((arrived || over_lo) && !dropped).then_some(owner)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;
    use crate::model::question::Protocol;

    /// b asks itself, where a socket takes datagrams on port 53.
    fn asked() -> World {
        World::cable()
            .ask("b", "10.0.0.2")
            .question(|question| question.protocol = Protocol::Udp { port: 53, sport: 40000 })
            .listen("b", "0.0.0.0", 53)
            .space("b", |space| {
                space.sockets_of = Some(17);
                space.sockets[0].protocol = 17;
            })
    }

    #[test]
    fn fires_when_a_socket_takes_it_and_says_nothing() {
        assert!(asked().sent(1).note(check).is_some_and(|said| said.contains("a socket in b")));
    }

    #[test]
    fn silent_when_nothing_was_sent() {
        assert_eq!(asked().note(check), None);
    }

    #[test]
    fn silent_when_it_was_not_seen_to_arrive() {
        assert_eq!(asked().ask("a", "10.0.0.2").sent(1).note(check), None);
    }

    #[test]
    fn silent_when_no_socket_takes_it() {
        assert_eq!(asked().space("b", |space| space.sockets.clear()).sent(1).note(check), None);
    }

    #[test]
    fn silent_when_connections_are_asked_for() {
        assert_eq!(asked().connect(53).sent(1).note(check), None);
    }
}
