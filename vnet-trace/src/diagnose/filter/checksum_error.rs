//! `checksum-error`: a checksum is wrong.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::Checksum { layer, rule, netns } = fault.loss.decision.as_ref()? else { return None };
    let layer = if layer == "ip" { "IP header" } else { "ICMP" };
    let summary = match (rule, netns) {
        (Some(rule), Some(netns)) => format!(
            "{} has a wrong {layer} checksum: a rule in {} rewrites its bytes and does not mend it ({})",
            case.packet_name(fault.role),
            case.netns_name(*netns),
            rule.text
        ),
        _ => format!("{} has a wrong {layer} checksum", case.packet_name(fault.role)),
    };
    let mut finding = case.finding(fault, "checksum-error", summary);
    if let (Some(rule), Some(netns)) = (rule, netns) {
        finding.evidence.push(case.state(
            *netns,
            &format!("rule in {} {} {}", rule.family.word(), rule.table, rule.chain),
            &rule.text,
        ));
        finding.fixes = super::netfilter_drop::remove(case, *netns, rule, "remove the rule that rewrites it");
    } else {
        finding.fixes.push(fix(
            "find out what rewrites the packet, or switch checksum offload off (ethtool -K DEV tx off)",
            Risk::NeedsChoice,
            Vec::new(),
            Vec::new(),
            "",
        ));
    }
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::{Decision, check};
    use crate::diagnose::bench::World;
    use crate::model::exchange::Role;

    #[test]
    fn fires_when_the_receiver_found_a_checksum_wrong() {
        let decision = Decision::Checksum { layer: "ip".to_owned(), rule: None, netns: None };
        let found = World::cable().fault(Role::Request, "b/veth2", decision).found(check);
        assert_eq!(found.at, "b/veth2");
        assert!(found.finding.summary.contains("IP header checksum"), "{}", found.finding.summary);
    }

    #[test]
    fn silent_when_the_packet_is_whole() {
        assert!(World::cable().is_silent(check));
    }
}
