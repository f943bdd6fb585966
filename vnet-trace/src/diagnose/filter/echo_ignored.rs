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
