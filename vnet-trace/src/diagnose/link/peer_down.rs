//! `peer-down`: the device is up, but the other end of its veth pair is down.

use crate::diagnose::case::Case;
use crate::model::diagnosis::Finding;
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::NoCarrier { culprit: Some(culprit) } = fault.loss.decision.as_ref()? else { return None };
    let device = fault.loss.place.device()?;
    if case.snapshot().peer(device) != Some(*culprit) {
        return None;
    }
    let (name, peer) = (case.place_name(device), case.place_name(*culprit));
    let summary = format!(
        "{peer}, the other end of {name}, is down: {name} has no carrier and drops {}",
        case.packet_name(fault.role)
    );
    let mut finding = case.finding(fault, "peer-down", summary);
    finding.evidence.push(case.state(
        device.netns,
        &format!("link {}", case.name(device)),
        "LOWERLAYERDOWN, NO-CARRIER",
    ));
    finding.evidence.push(case.state(
        culprit.netns,
        &format!("link {}", case.name(*culprit)),
        "state DOWN (administratively)",
    ));
    finding.fixes.push(super::link_down::up(case, *culprit));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    #[test]
    fn fires_when_the_other_end_is_down() {
        let found = World::cable().down("b/veth2").found(check);
        assert_eq!(found.at, "a/veth1");
        assert_eq!(found.commands, ["ip -n b link set veth2 up"]);
    }

    #[test]
    fn silent_when_the_own_end_is_down() {
        assert_eq!(World::cable().down("a/veth1").first().as_deref(), Some("link-down"));
    }

    #[test]
    fn silent_when_both_ends_are_up() {
        assert!(World::cable().is_silent(check));
    }
}
