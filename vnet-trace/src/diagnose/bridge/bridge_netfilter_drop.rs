//! `bridge-netfilter-drop`: br_netfilter hands bridged packets to IP rules, and one dropped it.

use crate::diagnose::case::Case;
use crate::model::diagnosis::Finding;
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::Netfilter { bridged: true, invalid: false, .. } = fault.loss.decision.as_ref()? else { return None };
    let mut finding = crate::diagnose::filter::netfilter_drop::judged(case, fault, "bridge-netfilter-drop");
    let key = if case.family() == "ipv6" {
        "net.bridge.bridge-nf-call-ip6tables"
    } else {
        "net.bridge.bridge-nf-call-iptables"
    };
    finding.summary = format!("{}, although it is only bridged ({key} = 1)", finding.summary);
    finding.evidence.push(case.sysctl_state(fault.loss.place.netns, key));
    Some(finding)
}
