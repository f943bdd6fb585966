//! `socket-overflow`: the receiving socket's queue is full.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    if fault.loss.decision != Some(Decision::SocketOverflow) {
        return None;
    }
    let netns = fault.loss.place.netns;
    let summary = format!(
        "the receiving socket in {} does not take packets as fast as they come: its queue is full",
        case.netns_name(netns)
    );
    let mut finding = case.finding(fault, "socket-overflow", summary);
    finding.evidence.push(case.state(netns, "receive queue", "full"));
    finding.fixes.push(fix(
        "make the program read faster, or its queue larger (SO_RCVBUF, listen backlog, net.core.somaxconn)",
        Risk::NeedsChoice,
        Vec::new(),
        Vec::new(),
        "",
    ));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::{Decision, check};
    use crate::diagnose::bench::World;
    use crate::model::exchange::Role;

    #[test]
    fn fires_when_the_queue_is_full() {
        let found = World::cable().fault(Role::Reply, "a/veth1", Decision::SocketOverflow).found(check);
        assert_eq!((found.at.as_str(), found.role), ("a/veth1", Role::Reply));
    }

    #[test]
    fn fires_when_more_connections_wait_than_the_backlog_holds() {
        let found = World::cable().connect(80).listen("b", "0.0.0.0", 80).waiting("b", 2, 1).found(check);
        assert_eq!((found.at.as_str(), found.role), ("b/veth2", Role::Request));
        assert!(World::cable().connect(80).listen("b", "0.0.0.0", 80).waiting("b", 1, 1).is_silent(check));
    }

    #[test]
    fn silent_when_nobody_listens() {
        assert!(World::cable().connect(80).listen("b", "127.0.0.1", 80).is_silent(check));
    }
}
