//! `martian-other`: another source or destination that may not appear here.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Action, Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::MartianOther { address, source } = fault.loss.decision.as_ref()? else { return None };
    let word = if *source { "source" } else { "destination" };
    let summary = format!(
        "{} refuses {}: {address} may not be the {word} of a packet",
        case.at(&fault.loss.place),
        super::no_route::what(case, fault)
    );
    let mut finding = case.finding(fault, "martian-other", summary);
    finding.evidence.push(case.state(fault.loss.place.netns, &format!("{word} of the packet"), &address.to_string()));
    // Who wrote that address into it.
    let writer =
        case.predicted.journeys.iter().flat_map(|journey| &journey.steps).find_map(|step| match &step.action {
            Action::Rewritten { to, rule: Some(rule), .. } if to.0 == *address || to.1 == *address => {
                Some((step.netns, rule.clone()))
            }
            _ => None,
        });
    if let Some((netns, rule)) = writer {
        finding.evidence.push(case.state(
            netns,
            &format!("rule in {} {} {}", rule.family.word(), rule.table, rule.chain),
            &rule.text,
        ));
        finding.fixes =
            crate::diagnose::filter::netfilter_drop::remove(case, netns, &rule, "remove the rule that writes it");
    } else {
        finding.fixes.push(fix("find out who sends with that address", Risk::NeedsChoice, Vec::new(), Vec::new(), ""));
    }
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    /// a rewrites the source of what it sends.
    fn world(source: &str) -> World {
        World::cable().iptables(
            "a",
            &format!("*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -o veth1 -j SNAT --to-source {source}\nCOMMIT\n"),
        )
    }

    #[test]
    fn fires_when_the_source_is_a_multicast_address() {
        let found = world("224.0.0.9").found(check);
        assert_eq!(found.at, "b/veth2");
        assert!(found.finding.summary.contains("224.0.0.9 may not be the source"), "{}", found.finding.summary);
    }

    #[test]
    fn silent_when_the_source_is_an_ordinary_one() {
        assert!(world("10.0.0.7").is_silent(check));
    }
}
