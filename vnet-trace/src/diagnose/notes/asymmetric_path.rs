//! `asymmetric-path`: the reply took another path than the request.

use crate::diagnose::case::Case;
use crate::model::diagnosis::Note;
use crate::model::exchange::{Fate, Leg, Place, Role};
use crate::model::id::Device;

/// The note, if it applies: the reply goes by a device that the request did not.
pub fn check(case: &Case<'_>) -> Option<Note> {
    let lo = |device: &Device| case.link(*device).is_some_and(crate::model::snapshot::Link::is_loopback);
    let request = case.predicted.with_role(Role::Request, Leg::Forward).next()?;
    if !matches!(request.fate, Fate::Delivered { .. }) {
        return None;
    }
    // Which port of a bridge it takes does not make another path.
    let node = |device: Device| match case.link(device).and_then(|link| link.master) {
        Some(master) => Device::new(device.netns, master),
        None => device,
    };
    let there: Vec<Device> = case.forward_path().into_iter().map(node).collect();
    let back: Vec<Device> = case.return_path().into_iter().map(node).collect();
    // A reply that stays inside its namespace takes no path.
    let other = back.iter().find(|device| !lo(device) && !there.contains(device))?;
    Some(Note {
        code: "asymmetric-path".to_owned(),
        place: Some(Place { netns: other.netns, device: Some(other.ifindex), function: None }),
        summary: format!("the reply goes by {}, which the request did not pass", case.place_name(*other)),
    })
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    #[test]
    fn fires_when_the_reply_takes_the_other_cable() {
        assert!(
            World::two_cables().note(check).is_some_and(|said| said.contains("b2 in b") || said.contains("a2 in a"))
        );
    }

    #[test]
    fn silent_when_both_take_one_cable() {
        assert_eq!(World::cable().note(check), None);
    }
}
