//! `remote-silent`: it left this machine correctly, and nothing came back.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    if fault.loss.decision != Some(Decision::RemoteSilent) {
        return None;
    }
    let place = &fault.loss.place;
    let summary = format!(
        "{} leaves by {} correctly, and nothing comes back: what happens beyond can't be seen from here",
        case.packet_name(fault.role),
        case.at(place)
    );
    let mut finding = case.finding(fault, "remote-silent", summary);
    finding.fixes.push(fix(
        "look at the other side: does the packet arrive there, and where does its reply go?",
        Risk::NeedsChoice,
        Vec::new(),
        Vec::new(),
        "",
    ));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::{Decision, check};
    use crate::diagnose::bench::World;
    use crate::model::exchange::Role;

    #[test]
    fn fires_when_it_left_correctly() {
        let found = World::cable().fault(Role::Request, "a/veth1", Decision::RemoteSilent).found(check);
        assert_eq!(found.at, "a/veth1");
        assert!(found.commands.is_empty());
    }

    #[test]
    fn silent_when_everybody_who_could_have_the_address_is_in_sight() {
        assert!(World::cable().ask("a", "10.0.0.7").is_silent(check));
    }
}
