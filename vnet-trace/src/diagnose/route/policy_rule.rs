//! `policy-rule`: an `ip rule` sent the look-up to a table or verdict that loses it.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};
use crate::model::snapshot::{Rule, RuleAction};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::PolicyRule { rule, route } = fault.loss.decision.as_ref()? else { return None };
    let netns = fault.loss.place.netns;
    let space = case.netns(netns);
    let entry = space.rules.get(*rule)?;
    let text = text(entry);
    let summary = match route.and_then(|route| space.routes.get(route)) {
        Some(route) => format!(
            "ip rule {} ({text}) sends {} in {} to table {}, whose {} route loses it",
            entry.priority,
            super::no_route::what(case, fault),
            case.netns_name(netns),
            route.table,
            super::kind_word(route.kind)
        ),
        None => format!(
            "ip rule {} ({text}) in {} loses {}",
            entry.priority,
            case.netns_name(netns),
            super::no_route::what(case, fault)
        ),
    };
    let mut finding = case.finding(fault, "policy-rule", summary);
    finding.evidence.push(case.state(netns, &format!("ip rule {}", entry.priority), &text));
    if let Some(route) = route.and_then(|route| space.routes.get(route)) {
        finding.evidence.push(case.state(
            netns,
            &format!("route {} table {}", route.dst, route.table),
            super::kind_word(route.kind),
        ));
    }
    let family = if entry.ipv6 { "-6 " } else { "" };
    finding.fixes.push(fix(
        "remove that rule",
        Risk::ChangesPolicy,
        vec![case.ip(netns, &format!("{family}rule del priority {} {text}", entry.priority))],
        vec![case.ip(netns, &format!("{family}rule add priority {} {text}", entry.priority))],
        "rules come from a VPN client, a CNI plugin or the network configuration: change it there",
    ));
    Some(finding)
}

/// A rule in the words of `ip rule`.
pub fn text(rule: &Rule) -> String {
    let mut words = Vec::new();
    if rule.invert {
        words.push("not".to_owned());
    }
    if let Some(src) = rule.src {
        words.push(format!("from {src}"));
    }
    if let Some(dst) = rule.dst {
        words.push(format!("to {dst}"));
    }
    if rule.src.is_none() && rule.dst.is_none() {
        words.push("from all".to_owned());
    }
    if let Some((value, mask)) = rule.fwmark {
        words.push(if mask == u32::MAX {
            format!("fwmark {value:#x}")
        } else {
            format!("fwmark {value:#x}/{mask:#x}")
        });
    }
    if let Some(iif) = &rule.iif {
        words.push(format!("iif {iif}"));
    }
    if let Some(oif) = &rule.oif {
        words.push(format!("oif {oif}"));
    }
    if rule.tos != 0 {
        words.push(format!("tos {:#x}", rule.tos));
    }
    if let Some(protocol) = rule.ip_protocol {
        words.push(format!("ipproto {protocol}"));
    }
    if let Some((from, to)) = rule.uid_range {
        words.push(format!("uidrange {from}-{to}"));
    }
    words.push(match rule.action {
        RuleAction::Table(_) if rule.l3mdev => "l3mdev".to_owned(),
        RuleAction::Table(table) => format!("lookup {table}"),
        RuleAction::Goto(priority) => format!("goto {priority}"),
        RuleAction::Nop => "nop".to_owned(),
        RuleAction::Blackhole => "blackhole".to_owned(),
        RuleAction::Unreachable => "unreachable".to_owned(),
        RuleAction::Prohibit => "prohibit".to_owned(),
    });
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;
    use crate::model::snapshot::{Rule, RuleAction};

    /// a has a rule for this destination.
    fn world(dst: &str) -> World {
        let rule = Rule { priority: 500, dst: dst.parse().ok(), action: RuleAction::Blackhole, ..Rule::default() };
        World::cable().rule("a", rule)
    }

    #[test]
    fn fires_when_a_rule_loses_it() {
        let found = world("10.0.0.2/32").found(check);
        assert!(found.at.starts_with('a'), "{}", found.at);
        assert_eq!(found.commands, ["ip -n a rule del priority 500 to 10.0.0.2/32 blackhole"]);
    }

    #[test]
    fn silent_when_the_rule_is_for_another_destination() {
        assert!(world("10.0.0.3/32").is_silent(check));
    }
}
