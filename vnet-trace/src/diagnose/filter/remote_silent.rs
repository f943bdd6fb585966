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
    // The other end of a pair is on this machine: it did not leave.
    if !place.device().is_some_and(|device| case.leads_out(device)) {
        return None;
    }
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
    use crate::model::snapshot::LinkKind;

    #[test]
    fn fires_when_it_left_correctly() {
        let uplink = World::cable().link("a/eth0", LinkKind::Physical);
        let found = uplink.fault(Role::Request, "a/eth0", Decision::RemoteSilent).found(check);
        assert_eq!(found.at, "a/eth0");
        assert!(found.commands.is_empty());
    }

    #[test]
    fn silent_when_the_other_end_is_on_this_machine() {
        let hidden = || World::cable().change("a/veth1", |link| (link.link_nsid, link.link_netns) = (Some(4), None));
        let closed = hidden().machine(|snapshot| snapshot.hidden_processes = 3);
        assert!(closed.fault(Role::Request, "a/veth1", Decision::RemoteSilent).is_silent(check));
        // Where nothing was closed to us, it is what can be seen that it left.
        let found = hidden().fault(Role::Request, "a/veth1", Decision::RemoteSilent).found(check);
        assert_eq!(found.at, "a/veth1");
    }

    #[test]
    fn silent_when_everybody_who_could_have_the_address_is_in_sight() {
        assert!(World::cable().ask("a", "10.0.0.7").is_silent(check));
    }
}
