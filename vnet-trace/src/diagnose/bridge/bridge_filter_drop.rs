//! `bridge-filter-drop`: a rule of nftables family bridge or of ebtables dropped it.

use crate::diagnose::case::Case;
use crate::model::diagnosis::Finding;
use crate::model::exchange::{Decision, Fault};
use crate::model::netfilter::Family;

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::Netfilter { rule, bridged: false, .. } = fault.loss.decision.as_ref()? else { return None };
    if rule.family != Family::Bridge {
        return None;
    }
    Some(crate::diagnose::filter::netfilter_drop::judged(case, fault, "bridge-filter-drop"))
}

#[cfg(test)]
mod tests {
    use super::{Family, check};
    use crate::diagnose::bench::World;
    use crate::model::netfilter::Backend;

    /// A switch with the policies of ebtables.
    fn world(input: &str, forward: &str) -> World {
        let text = format!("*filter\n:INPUT {input}\n:FORWARD {forward}\n:OUTPUT ACCEPT\n");
        World::switch().rules_of(".", &text, Family::Bridge, Backend::EbtablesNft)
    }

    #[test]
    fn fires_when_ebtables_forwards_nothing() {
        assert!(world("ACCEPT", "DROP").found(check).at.starts_with("./"));
    }

    #[test]
    fn silent_when_only_frames_for_the_host_are_dropped() {
        assert!(world("DROP", "ACCEPT").is_silent(check));
    }
}
