//! `local-delivery`: the destination is local, so the packet never left by the device that was asked for.

use crate::diagnose::case::Case;
use crate::model::diagnosis::Note;
use crate::model::exchange::{Action, Leg, Place, Role};

/// The note, if it applies.
pub fn check(case: &Case<'_>) -> Option<Note> {
    let question = &case.recording.question;
    let request = case.predicted.with_role(Role::Request, Leg::Forward).next()?;
    let own = request.steps.iter().find_map(|step| match step.action {
        Action::Routed { local, .. } if step.netns == question.netns => Some(local),
        _ => None,
    })?;
    if !own || question.dst.is_loopback() {
        return None;
    }
    let holder = case.netns(question.netns).owns(question.dst)?;
    let name = case.netns(question.netns).link(holder.ifindex)?.name.clone();
    Some(Note {
        code: "local-delivery".to_owned(),
        place: Some(Place { netns: question.netns, device: Some(holder.ifindex), function: None }),
        summary: format!(
            "{} is the asker's own address (on {name}): the packets stay inside, over lo, and no device carries them",
            question.dst
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    #[test]
    fn fires_when_the_destination_is_the_askers_own() {
        assert!(World::cable().ask("a", "10.0.0.1").note(check).is_some_and(|said| said.contains("over lo")));
    }

    #[test]
    fn silent_when_it_is_somebody_elses() {
        assert_eq!(World::cable().note(check), None);
    }
}
