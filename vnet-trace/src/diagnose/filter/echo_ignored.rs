//! `echo-ignored`: the host ignores ICMP echo.

use crate::diagnose::case::Case;
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::EchoIgnored { sysctl } = fault.loss.decision.as_ref()? else { return None };
    let device = fault.loss.place.device()?;
    let summary =
        format!("the echo request reaches {}, which ignores it ({sysctl} = 1)", case.netns_name(device.netns));
    let mut finding = case.finding(fault, "echo-ignored", summary);
    finding.evidence.push(case.sysctl_state(device.netns, sysctl));
    finding.fixes.push(case.sysctl_fix(
        device.netns,
        "answer echo requests",
        Risk::ChangesPolicy,
        &[(sysctl.clone(), 0)],
    ));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    const KEY: &str = "net.ipv4.icmp_echo_ignore_all";

    #[test]
    fn fires_when_the_owner_ignores_echo() {
        let found = World::cable().sysctl("b", KEY, 1).found(check);
        assert_eq!(found.at, "b/veth2");
        assert_eq!(found.commands, [format!("ip netns exec b sysctl -w {KEY}=0")]);
    }

    #[test]
    fn silent_when_the_asker_ignores_echo() {
        assert!(World::cable().sysctl("a", KEY, 1).is_silent(check));
    }

    #[test]
    fn silent_when_the_question_is_the_other_family() {
        assert!(World::cable6().sysctl("b", KEY, 1).is_silent(check));
    }
}
