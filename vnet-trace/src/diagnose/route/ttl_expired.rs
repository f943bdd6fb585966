//! `ttl-expired`: its TTL or hop limit ran out, without a loop.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::TtlExpired { circle } = fault.loss.decision.as_ref()? else { return None };
    if !circle.is_empty() {
        return None;
    }
    let device = fault.loss.place.device()?;
    let asker = case.recording.question.netns;
    let word = if case.family() == "ipv6" { "hop limit" } else { "TTL" };
    let summary = format!(
        "the {word} of {} runs out at {}: it set out with too small a one",
        case.packet_name(fault.role),
        case.place_name(device)
    );
    let mut finding = case.finding(fault, "ttl-expired", summary);
    if case.recording.question.ttl.is_some() {
        finding.evidence.push(case.state(asker, "ping -t", &case.recording.question.ttl.unwrap_or(0).to_string()));
        finding.fixes.push(fix("ask with a larger one: leave -t away", Risk::NeedsChoice, Vec::new(), Vec::new(), ""));
    } else {
        let sender = if fault.leg == crate::model::exchange::Leg::Return {
            case.predicted.owner.map_or(asker, |owner| owner.netns)
        } else {
            asker
        };
        let key = if case.family() == "ipv6" { "net.ipv6.conf.all.hop_limit" } else { "net.ipv4.ip_default_ttl" };
        finding.evidence.push(case.sysctl_state(sender, key));
        finding.fixes.push(case.sysctl_fix(
            sender,
            &format!("send with the usual {word} of 64"),
            Risk::Safe,
            &[(key.to_owned(), 64)],
        ));
    }
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    #[test]
    fn fires_when_the_ttl_ends_at_a_router() {
        assert_eq!(World::router().question(|question| question.ttl = Some(1)).found(check).at, "r/r1");
    }

    #[test]
    fn silent_when_the_ttl_is_just_enough() {
        assert!(World::router().question(|question| question.ttl = Some(2)).is_silent(check));
    }
}
