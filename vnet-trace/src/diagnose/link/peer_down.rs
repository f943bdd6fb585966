//! `peer-down`: the device is up, but the other end of its veth pair is down.

use crate::diagnose::case::{Case, NETWORK_CONFIG, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};
use crate::model::id::Device;
use crate::model::snapshot::LinkKind;

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::NoCarrier { culprit } = fault.loss.decision.as_ref()? else { return None };
    let device = fault.loss.place.device()?;
    let Some(culprit) = culprit else { return hidden(case, fault, device) };
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

/// A veth end has carrier exactly while its other end is up (veth_open, veth_close), whether that can be seen or not.
fn hidden(case: &Case<'_>, fault: &Fault, device: Device) -> Option<Finding> {
    let link = case.link(device)?;
    if !matches!(link.kind, LinkKind::Veth) || case.snapshot().peer(device).is_some() {
        return None;
    }
    let name = case.place_name(device);
    let summary = format!(
        "the other end of {name} is down, so that {name} has no carrier and drops {}; {}",
        case.packet_name(fault.role),
        case.hidden_end(device)
    );
    let mut finding = case.finding(fault, "peer-down", summary);
    finding.evidence.push(case.state(
        device.netns,
        &format!("link {}", case.name(device)),
        "LOWERLAYERDOWN, NO-CARRIER",
    ));
    let number = link.link.map_or_else(String::new, |index| format!(", number {} there", index.0));
    let title = format!("set the other end of {name} up{number}");
    finding.fixes.push(fix(&title, Risk::NeedsChoice, Vec::new(), Vec::new(), NETWORK_CONFIG));
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
    fn fires_when_the_other_end_cannot_be_seen() {
        let hidden = World::cable().change("a/veth1", |link| {
            (link.link_nsid, link.link_netns, link.carrier) = (Some(4), None, false);
        });
        let found = hidden.found(check);
        assert_eq!(found.at, "a/veth1");
        assert!(found.commands.is_empty());
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
