//! `macvlan-private`: macvlan private mode: siblings may not talk.

use crate::diagnose::case::{Case, NETWORK_CONFIG, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::MacvlanPrivate { child } = fault.loss.decision.as_ref()? else { return None };
    let lower = case.snapshot().lower(*child)?;
    let summary = format!(
        "macvlan {} is in private mode: {} does not get from one child of {} to another",
        case.place_name(*child),
        case.packet_name(fault.role),
        case.name(lower)
    );
    let mut finding = case.finding(fault, "macvlan-private", summary);
    finding.evidence.push(case.state(child.netns, &format!("mode of {}", case.name(*child)), "private"));
    let children = case.snapshot().uppers(lower);
    let set = |mode: &str| {
        children
            .iter()
            .map(|child| case.ip(child.netns, &format!("link set {} type macvlan mode {mode}", case.name(*child))))
            .collect()
    };
    finding.fixes.push(fix(
        "let the siblings talk (bridge mode)",
        Risk::ChangesPolicy,
        set("bridge"),
        set("private"),
        NETWORK_CONFIG,
    ));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;
    use crate::model::snapshot::MacvlanMode;

    #[test]
    fn fires_when_the_children_are_private() {
        let found = World::siblings(MacvlanMode::Private, true).found(check);
        assert_eq!(found.commands[0], "ip -n a link set mv1 type macvlan mode bridge");
    }

    #[test]
    fn silent_when_the_children_are_bridged() {
        assert!(World::siblings(MacvlanMode::Bridge, true).is_silent(check));
    }

    #[test]
    fn silent_when_it_is_the_switch_that_does_not_reflect() {
        assert_eq!(World::siblings(MacvlanMode::Vepa, false).first().as_deref(), Some("macvlan-vepa-no-hairpin"));
    }
}
