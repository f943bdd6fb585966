//! `neigh-table-full`: the neighbour table overflowed.

use crate::diagnose::case::Case;
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    if fault.loss.decision != Some(Decision::NeighTableFull) {
        return None;
    }
    let netns = fault.loss.place.netns;
    let family = case.family();
    let key = format!("net.{family}.neigh.default.gc_thresh3");
    let entries =
        case.netns(netns).neighbours.iter().filter(|entry| entry.address.is_ipv4() == (family == "ipv4")).count();
    let limit = case.netns(netns).sysctl(&key).unwrap_or(1024);
    let summary = format!(
        "the neighbour table of {} is full ({entries} of {limit} entries): no entry can be made for {}",
        case.netns_name(netns),
        case.packet_name(fault.role)
    );
    let mut finding = case.finding(fault, "neigh-table-full", summary);
    finding.evidence.push(case.sysctl_state(netns, &key));
    finding.fixes.push(case.sysctl_fix(netns, "make the table larger", Risk::Safe, &[(key, (limit * 4).max(4096))]));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::{Decision, check};
    use crate::diagnose::bench::World;
    use crate::model::exchange::Role;

    #[test]
    fn fires_when_the_table_is_full() {
        let key = "net.ipv4.neigh.default.gc_thresh3";
        let found =
            World::cable().sysctl("a", key, 8).fault(Role::Request, "a/veth1", Decision::NeighTableFull).found(check);
        assert_eq!(found.commands, [format!("ip netns exec a sysctl -w {key}=4096")]);
    }

    #[test]
    fn silent_when_there_is_nobody_to_put_into_it() {
        assert!(World::cable().ask("a", "10.0.0.7").is_silent(check));
    }
}
