//! `netfilter-drop`: an iptables or nftables rule or policy dropped or rejected it.

use crate::diagnose::case::{Case, fix};
use crate::diagnose::counters::counted;
use crate::model::diagnosis::{Finding, Fix, Risk};
use crate::model::exchange::{Decision, Fault, Role};
use crate::model::id::NetnsId;
use crate::model::netfilter::{Backend, Family, RuleRef};
use crate::predict::filter::Host;
use crate::predict::netfilter::{counters_increased, narrow_fix, owner_of};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::Netfilter { rule, invalid: false, bridged: false, .. } = fault.loss.decision.as_ref()? else {
        return None;
    };
    if rule.family == Family::Bridge {
        return None;
    }
    Some(judged(case, fault, "netfilter-drop"))
}

/// A finding about a rule that decided.
pub fn judged(case: &Case<'_>, fault: &Fault, code: &str) -> Finding {
    let Some(Decision::Netfilter { hook, rule, reject, certain, .. }) = fault.loss.decision.as_ref() else {
        return case.finding(fault, code, String::new());
    };
    let netns = fault.loss.place.netns;
    let verb = if *reject { "rejects" } else { "drops" };
    let what = crate::diagnose::route::no_route::what(case, fault);
    let owner = owner_of(&rule.table, &rule.chain);
    let whose = owner.as_ref().map_or_else(String::new, |owner| format!(" ({}: {})", owner.name, owner.purpose));
    let at = match case.netns(netns).name.as_str() {
        "." => String::new(),
        name => format!(" in {name}"),
    };
    let summary = if rule.policy {
        format!(
            "the policy of chain {} (table {} {}){at} {verb} {what}{whose}",
            rule.chain,
            rule.family.word(),
            rule.table
        )
    } else {
        format!(
            "a rule of chain {} (table {} {}){at} {verb} {what}{whose}: {}",
            rule.chain,
            rule.family.word(),
            rule.table,
            rule.text
        )
    };
    let mut finding = case.finding(fault, code, summary);
    let handle = rule.handle.map_or_else(String::new, |handle| format!(" handle {handle}"));
    finding.evidence.push(case.state(
        netns,
        &format!("{} {} chain {} at {}{handle}", program(rule.backend), rule.table, rule.chain, hook.word()),
        &rule.text,
    ));
    let risen = case.recording.after.as_ref().and_then(|after| {
        let after = after.namespaces.iter().find(|space| space.id == netns)?;
        counters_increased(&case.netns(netns).netfilter, &after.netfilter, rule).filter(|packets| *packets > 0)
    });
    if let Some(packets) = risen {
        finding.evidence.push(counted(case, netns, "the rule's counter".to_owned(), packets));
    }
    if !certain && risen.is_none() {
        finding.grade = crate::model::diagnosis::Grade::Suspected;
    }
    finding.owner = owner.map(|owner| match owner.restored_by.strip_prefix("nobody") {
        Some(_) => format!("somebody here: {} is for {}", rule.chain, owner.purpose),
        None => format!("{}; what sets it again: {}", owner.name, owner.restored_by),
    });
    finding.fixes = fixes(case, fault, rule);
    finding
}

/// What lets the packet through.
pub fn fixes(case: &Case<'_>, fault: &Fault, rule: &RuleRef) -> Vec<Fix> {
    let netns = fault.loss.place.netns;
    let space = case.netns(netns);
    let resolution = matches!(fault.role, Role::ArpRequest | Role::ArpReply);
    let here = || case.refusals.iter().filter(|refusal| refusal.netns == netns && refusal.rule == *rule);
    // The outer packet of a tunnel is no address resolution, even if what it carries is.
    let refusal = here()
        .find(|refusal| refusal.leg == fault.leg && refusal.resolution == resolution)
        .or_else(|| here().find(|refusal| refusal.leg == fault.leg))
        .or_else(|| here().next());
    let Some(refusal) = refusal else { return remove(case, netns, rule, "remove that rule") };
    let mut fixes =
        narrow_fix(&space.netfilter, rule, &refusal.context, &refusal.packet, &Host::new(space), &case.prefix(netns));
    if fixes.is_empty() {
        fixes = remove(case, netns, rule, "remove that rule");
    }
    fixes
}

/// Takes a rule away: for rules that do harm by what they write rather than by what they drop.
pub fn remove(case: &Case<'_>, netns: NetnsId, rule: &RuleRef, title: &str) -> Vec<Fix> {
    let family = rule.family.word();
    let (command, undo) = match (rule.backend, rule.handle, rule.position) {
        (Backend::Nft, Some(handle), _) => (
            format!("nft delete rule {family} {} {} handle {handle}", rule.table, rule.chain),
            format!("nft add rule {family} {} {} '{}'", rule.table, rule.chain, rule.text),
        ),
        (backend, _, Some(position)) => {
            let program = program(backend);
            let program =
                if rule.family == Family::Ip6 { program.replace("iptables", "ip6tables") } else { program.to_owned() };
            (
                format!("{program} -t {} -D {} {position}", rule.table, rule.chain),
                format!("{program} -t {} {}", rule.table, rule.text),
            )
        }
        _ => return Vec::new(),
    };
    vec![fix(
        title,
        Risk::ChangesPolicy,
        vec![case.cmd(netns, &command)],
        vec![case.cmd(netns, &undo)],
        "remove it where the rules are kept, or it comes back",
    )]
}

/// The program whose rules these are.
pub fn program(backend: Backend) -> &'static str {
    match backend {
        Backend::Nft => "nft",
        Backend::IptablesNft => "iptables",
        Backend::IptablesLegacy => "iptables-legacy",
        Backend::EbtablesNft | Backend::EbtablesLegacy => "ebtables",
        Backend::ArptablesNft | Backend::ArptablesLegacy => "arptables",
    }
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;
    use crate::model::exchange::Role;

    #[test]
    fn fires_when_the_policy_of_the_owners_chain_drops() {
        let found = World::cable()
            .iptables("b", "*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n")
            .found(check);
        assert_eq!((found.at.as_str(), found.role), ("b/veth2", Role::Request));
        assert!(found.finding.summary.starts_with("the policy of chain INPUT"), "{}", found.finding.summary);
    }

    #[test]
    fn fires_when_a_rule_drops_the_reply() {
        let rules = "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A INPUT -p icmp -m icmp --icmp-type 0 -j DROP\nCOMMIT\n";
        assert_eq!(World::cable().iptables("a", rules).found(check).role, Role::Reply);
    }

    #[test]
    fn silent_when_the_chain_does_not_see_the_packet() {
        assert!(
            World::cable()
                .iptables("b", "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD DROP [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n")
                .is_silent(check)
        );
    }

    #[test]
    fn silent_when_a_rule_before_the_policy_accepts() {
        let rules = "*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A INPUT -p icmp -m icmp --icmp-type 8 -j ACCEPT\nCOMMIT\n";
        assert!(World::cable().iptables("b", rules).is_silent(check));
    }
}
