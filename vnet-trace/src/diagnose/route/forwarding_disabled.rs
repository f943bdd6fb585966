//! `forwarding-disabled`: it arrived at a host that must forward it, and forwarding is off there.

use crate::diagnose::case::Case;
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::NotForwarding { sysctl } = fault.loss.decision.as_ref()? else { return None };
    let device = fault.loss.place.device()?;
    let summary = format!(
        "{} arrives at {}, is for somebody else, and {} does not forward ({sysctl} = 0)",
        super::no_route::what(case, fault),
        case.place_name(device),
        case.netns_name(device.netns)
    );
    let mut finding = case.finding(fault, "forwarding-disabled", summary);
    finding.evidence.push(case.sysctl_state(device.netns, sysctl));
    let mut settings = vec![(sysctl.clone(), 1)];
    for other in &case.predicted.faults {
        // The way back needs it as well.
        if let Some(Decision::NotForwarding { sysctl: more }) = &other.loss.decision
            && other.loss.place.netns == device.netns
            && !settings.iter().any(|(key, _)| key == more)
        {
            settings.push((more.clone(), 1));
        }
    }
    finding.fixes.push(case.sysctl_fix(device.netns, "let it forward", Risk::ChangesPolicy, &settings));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    #[test]
    fn fires_when_a_host_on_the_way_does_not_forward() {
        let found = World::router().forwarding("r", 0).found(check);
        assert_eq!(found.at, "r/r1");
        assert!(found.commands[0].starts_with("ip netns exec r sysctl -w net.ipv4."), "{:?}", found.commands);
    }

    #[test]
    fn silent_when_the_packet_is_for_that_host() {
        assert!(World::router().forwarding("r", 0).ask("a", "10.0.2.1").is_silent(check));
    }

    #[test]
    fn silent_when_it_forwards() {
        assert!(World::router().is_silent(check));
    }
}
