//! `source-unusable`: the source asked for is not one of the sender's, or is unusable.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault, SourceProblem};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::SourceUnusable { src, why } = fault.loss.decision.as_ref()? else { return None };
    let netns = fault.loss.place.netns;
    let reason = match why {
        SourceProblem::NotOwn => "no device there has it",
        SourceProblem::Loopback => "a loopback address may not leave the host",
        SourceProblem::Tentative => "duplicate address detection has not passed it",
        SourceProblem::WrongScope => "its scope does not reach that far",
    };
    let summary = format!("{} can't send from {src}: {reason}", case.netns_name(netns));
    let mut finding = case.finding(fault, "source-unusable", summary);
    finding.evidence.push(case.state(netns, &format!("source {src}"), reason));
    // The outer packet of a tunnel goes to the tunnel's far end.
    let tunnel = fault.loss.place.device().filter(|_| fault.underlay).and_then(|device| case.link(device));
    let far = tunnel.and_then(crate::diagnose::toward::remote);
    if let Some(tunnel) = tunnel {
        finding.summary = format!("{} on {} is to send from {src}: {reason}", tunnel.name, case.netns_name(netns));
    }
    let dst = far.unwrap_or(case.recording.question.dst);
    let route = crate::predict::fib::lookup(case.netns(netns), &crate::predict::fib::Flow::to(dst)).ok();
    let out = route.and_then(|found| found.nexthop.oif).and_then(|oif| case.netns(netns).link(oif));
    if let (SourceProblem::NotOwn, Some(link)) = (why, out) {
        let address: Option<std::net::IpAddr> = src.parse().ok();
        let length = address.map_or(32, |address| case.prefix_len(netns, link.index, address));
        finding.fixes.push(fix(
            &format!("give {} the address {src}", link.name),
            Risk::Safe,
            vec![case.ip(netns, &format!("addr add {src}/{length} dev {}", link.name))],
            vec![case.ip(netns, &format!("addr del {src}/{length} dev {}", link.name))],
            crate::diagnose::case::NETWORK_CONFIG,
        ));
    }
    let advice = match tunnel {
        Some(tunnel) => format!("give {} a local address that the host has", tunnel.name),
        None => "ask without -I, or with an address that the host has and the other side can answer".to_owned(),
    };
    finding.fixes.push(fix(&advice, Risk::NeedsChoice, Vec::new(), Vec::new(), ""));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;
    use crate::model::question::Iface;

    /// Asked with this source address.
    fn world(source: [u8; 4]) -> World {
        World::cable().question(|question| question.iface = Some(Iface::Address(source.into())))
    }

    #[test]
    fn fires_when_the_source_is_nobodys() {
        let found = world([10, 9, 9, 9]).found(check);
        assert!(found.at.starts_with('a'), "{}", found.at);
        assert_eq!(found.commands, ["ip -n a addr add 10.9.9.9/32 dev veth1"]);
    }

    #[test]
    fn fires_when_a_loopback_address_would_leave() {
        assert!(world([127, 0, 0, 1]).found(check).finding.summary.contains("loopback"));
    }

    #[test]
    fn silent_when_the_source_is_an_own_address() {
        assert!(world([10, 0, 0, 1]).is_silent(check));
    }
}
