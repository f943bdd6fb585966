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

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    /// A switch on a host whose FORWARD chain drops, which is or is not asked about bridged packets.
    fn world(called: i64) -> World {
        World::switch()
            .iptables(".", "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n")
            .sysctl(".", "net.bridge.bridge-nf-call-iptables", called)
    }

    #[test]
    fn fires_when_rules_for_routed_packets_drop_a_bridged_one() {
        let found = world(1).found(check);
        assert!(found.at.starts_with("./"), "{}", found.at);
        assert!(found.finding.summary.contains("although it is only bridged"), "{}", found.finding.summary);
    }

    #[test]
    fn silent_when_the_rules_are_not_asked() {
        assert!(world(0).is_silent(check));
    }
}
