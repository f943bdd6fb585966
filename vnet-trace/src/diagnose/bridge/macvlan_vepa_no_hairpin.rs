//! `macvlan-vepa-no-hairpin`: macvlan VEPA: frames between siblings must be reflected by the adjacent switch, and it does not.

use crate::diagnose::case::{Case, NETWORK_CONFIG, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};
use crate::model::id::Device;

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::MacvlanVepa { child, lower, reflector } = fault.loss.decision.as_ref()? else { return None };
    let low = case.place_name(*lower);
    let summary = match reflector {
        Some(port) => format!(
            "macvlan {} is in VEPA mode and sends {} out of {low}; the switch port {} has hairpin off and does not send it back",
            case.name(*child),
            case.packet_name(fault.role),
            case.place_name(*port)
        ),
        None => format!(
            "macvlan {} is in VEPA mode and sends {} out of {low}, where no switch reflects it to its sibling",
            case.name(*child),
            case.packet_name(fault.role)
        ),
    };
    let mut finding = case.finding(fault, "macvlan-vepa-no-hairpin", summary);
    finding.place.device = Some(lower.ifindex);
    finding.place.netns = lower.netns;
    finding.evidence.push(case.state(child.netns, &format!("mode of {}", case.name(*child)), "vepa"));
    if let Some(port) = reflector {
        let dev = case.name(*port);
        finding.evidence.push(case.state(port.netns, &format!("bridge link {dev} hairpin"), "off"));
        finding.fixes.push(fix(
            &format!("let the switch port {dev} reflect frames"),
            Risk::Safe,
            vec![case.cmd(port.netns, &format!("bridge link set dev {dev} hairpin on"))],
            vec![case.cmd(port.netns, &format!("bridge link set dev {dev} hairpin off"))],
            "set hairpin where the switch is configured",
        ));
    }
    finding.fixes.push(bridge_mode(case, *lower));
    Some(finding)
}

/// Lets the children of a lower device talk directly.
pub fn bridge_mode(case: &Case<'_>, lower: Device) -> crate::model::diagnosis::Fix {
    let children = case.snapshot().uppers(lower);
    let set = |mode: &str| {
        children
            .iter()
            .map(|child| case.ip(child.netns, &format!("link set {} type macvlan mode {mode}", case.name(*child))))
            .collect()
    };
    fix("let the siblings talk directly (bridge mode)", Risk::ChangesPolicy, set("bridge"), set("vepa"), NETWORK_CONFIG)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;
    use crate::model::snapshot::MacvlanMode;

    #[test]
    fn fires_when_the_switch_does_not_reflect() {
        let found = World::siblings(MacvlanMode::Vepa, false).found(check);
        assert_eq!(found.at, "./up0");
        assert_eq!(found.commands, ["ip netns exec s bridge link set dev port0 hairpin on"]);
    }

    #[test]
    fn silent_when_the_switch_reflects() {
        assert!(World::siblings(MacvlanMode::Vepa, true).is_silent(check));
    }

    #[test]
    fn silent_when_the_siblings_talk_directly() {
        assert!(World::siblings(MacvlanMode::Bridge, false).is_silent(check));
    }
}
