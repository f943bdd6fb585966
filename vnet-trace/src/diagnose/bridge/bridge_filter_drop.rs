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
