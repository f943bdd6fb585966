//! `port-closed`: no socket listens on the destination port.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::PortClosed { port, elsewhere } = fault.loss.decision.as_ref()? else { return None };
    let netns = fault.loss.place.netns;
    let but = elsewhere.map_or_else(String::new, |address| format!("; a socket listens there, but on {address} only"));
    let summary = format!("nothing listens on port {port} in {}{but}", case.netns_name(netns));
    let mut finding = case.finding(fault, "port-closed", summary);
    finding.evidence.push(case.state(
        netns,
        &format!("sockets on port {port}"),
        &elsewhere.map_or_else(|| "none".to_owned(), |address| address.to_string()),
    ));
    finding.fixes.push(fix(
        "start the service, or let it listen on 0.0.0.0 (::)",
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
    fn fires_when_nothing_listens() {
        let decision = Decision::PortClosed { port: 80, elsewhere: None };
        let found = World::cable().fault(Role::Request, "b/veth2", decision).found(check);
        assert!(found.finding.summary.contains("port 80 in b"), "{}", found.finding.summary);
    }

    #[test]
    fn fires_when_the_socket_listens_on_another_address() {
        let decision = Decision::PortClosed { port: 80, elsewhere: Some([127, 0, 0, 1].into()) };
        let found = World::cable().fault(Role::Request, "b/veth2", decision).found(check);
        assert!(found.finding.summary.contains("on 127.0.0.1 only"), "{}", found.finding.summary);
    }

    #[test]
    fn silent_when_the_question_is_a_ping() {
        assert!(World::cable().is_silent(check));
    }
}
