//! Whose rule it is: by the name of its chain, its comment, or the file that it was loaded from.

use super::{is_machines, remade};
use crate::diagnose::case::Case;
use crate::model::id::NetnsId;
use crate::model::netfilter::{Backend, RuleRef};
use crate::model::provenance::Origin;
use crate::model::snapshot::EngineNetwork;
use crate::predict::netfilter::owner_of;

/// Files and the service that loads them.
const LOADERS: [(&str, &str); 6] = [
    ("/etc/iptables/", "netfilter-persistent"),
    ("/etc/sysconfig/iptables", "iptables"),
    ("/etc/sysconfig/ip6tables", "ip6tables"),
    ("/etc/sysconfig/nftables", "nftables"),
    ("/etc/nftables", "nftables"),
    ("/etc/ufw/", "ufw"),
];

/// Where a rule or policy comes from.
pub fn origin(case: &Case<'_>, netns: NetnsId, rule: &RuleRef) -> Origin {
    let what = if rule.policy { "the policy of chain" } else { "the rule in chain" };
    let setting = format!("{what} {}", rule.chain);
    let comment = comment(&rule.text).map_or_else(String::new, |comment| format!(", with the comment \"{comment}\""));
    if let Some(owner) = owner_of(&rule.table, &rule.chain) {
        let theirs = owner.restored_by.strip_prefix("nobody");
        let by = match theirs {
            Some(_) => format!("somebody here: {} leaves {} for {}", owner.name, rule.chain, owner.purpose),
            None => format!("{} ({}){comment}", owner.name, owner.purpose),
        };
        let zone = zone(case, &rule.chain);
        return Origin {
            setting,
            set_by: Some(by),
            at: zone,
            returns: theirs.is_none().then(|| owner.restored_by.to_owned()),
        };
    }
    let machines = is_machines(case, netns);
    let line = case.snapshot().provenance.rules.iter().find(|line| machines && is_it(rule, &line.text));
    if let Some(line) = line {
        let loader = LOADERS.iter().find(|(file, _)| line.at.file.starts_with(file)).map(|(_, service)| *service);
        let enabled = loader.filter(|loader| case.snapshot().provenance.services.iter().any(|name| name == loader));
        return Origin {
            setting,
            set_by: Some(format!("the rules that are loaded from there{comment}")),
            at: Some(line.at.clone()),
            returns: Some(match (enabled, loader) {
                (Some(service), _) => format!("a reboot, or a restart of {service}"),
                (None, Some(service)) => format!("a start of {service} (which is not started at boot)"),
                (None, None) => "the file being loaded again".to_owned(),
            }),
        };
    }
    if let Some(origin) = shy(case, &setting, rule) {
        return origin;
    }
    if rule.policy && docker_forwards(case, netns, rule) {
        return Origin {
            setting,
            set_by: Some("Docker, as it seems: it sets this policy to DROP when it switches ip_forward on".to_owned()),
            at: None,
            returns: Some("a restart of dockerd that finds ip_forward off, or a reboot".to_owned()),
        };
    }
    let by = (!comment.is_empty()).then(|| format!("whoever wrote it{comment}"));
    Origin { setting, set_by: by, at: None, returns: remade(case, netns) }
}

/// Whether a line of a file is this rule.
fn is_it(rule: &RuleRef, line: &str) -> bool {
    let text = rule.text.split_whitespace().collect::<Vec<_>>().join(" ");
    if rule.policy && rule.backend != Backend::Nft {
        // `:FORWARD DROP [0:0]` in a file, `-P FORWARD DROP` or the like as a rule.
        let verdict = text.rsplit(' ').next().unwrap_or("");
        return line.starts_with(&format!(":{} {verdict}", rule.chain));
    }
    !rule.policy && line == text
}

/// Whether it is the policy of FORWARD beside Docker's chains.
fn docker_forwards(case: &Case<'_>, netns: NetnsId, rule: &RuleRef) -> bool {
    rule.chain == "FORWARD"
        && rule.table == "filter"
        && case
            .netns(netns)
            .netfilter
            .tables
            .iter()
            .any(|table| table.name == "filter" && table.chains.iter().any(|chain| chain.name.starts_with("DOCKER")))
}

/// Docker's rule for a network whose containers may not talk to each other.
fn shy(case: &Case<'_>, setting: &str, rule: &RuleRef) -> Option<Origin> {
    let words: Vec<&str> = rule.text.split_whitespace().collect();
    let after = |flag: &str| words.iter().position(|word| *word == flag).and_then(|at| words.get(at + 1)).copied();
    let bridge = after("-i").filter(|bridge| after("-o") == Some(bridge))?;
    let off = |network: &&EngineNetwork| {
        network.bridge.as_deref() == Some(bridge)
            && network.options.get("com.docker.network.bridge.enable_icc").is_some_and(|value| value == "false")
    };
    let network = case.snapshot().engine_networks.iter().find(off)?;
    Some(Origin {
        setting: setting.to_owned(),
        set_by: Some(format!("Docker, for the network {}, which was made with enable_icc=false", network.name)),
        at: None,
        returns: Some("a restart of dockerd".to_owned()),
    })
}

/// firewalld's file of the zone whose chain it is.
fn zone(case: &Case<'_>, chain: &str) -> Option<crate::model::provenance::FileLine> {
    let zones = &case.snapshot().provenance.zones;
    let prefixes =
        ["filter_FWD_", "filter_FWDI_", "filter_FWDO_", "filter_IN_", "FWDI_", "FWDO_", "IN_", "PRE_", "POST_"];
    let rest = prefixes.iter().find_map(|prefix| chain.strip_prefix(prefix))?;
    let longest = zones.iter().filter(|zone| rest == zone.name || rest.starts_with(&format!("{}_", zone.name)));
    let zone = longest.max_by_key(|zone| zone.name.len())?;
    Some(crate::model::provenance::FileLine { file: zone.file.clone(), line: 0 })
}

/// What somebody wrote beside the rule: `--comment "…"` of iptables, `comment "…"` of nft.
pub fn comment(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("--comment ").or_else(|| text.split_once("comment "))?;
    match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => rest.split_whitespace().next(),
    }
}

#[cfg(test)]
mod tests {
    use super::comment;
    use crate::diagnose::bench::World;
    use crate::diagnose::filter::netfilter_drop::check;
    use crate::model::provenance::{FileLine, Provenance, RuleLine, Zone};

    const DROP: &str =
        "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p icmp -m comment --comment \"keep out\" -j DROP\nCOMMIT\n";

    fn origin(world: &World) -> crate::model::provenance::Origin {
        world.origins(check).into_iter().next().expect("an origin")
    }

    #[test]
    fn a_comment_is_read_from_either_language() {
        assert_eq!(
            comment("-A KUBE-SVC-X -m comment --comment \"default/web:http\" -j DROP"),
            Some("default/web:http")
        );
        assert_eq!(comment("-A INPUT -m comment --comment mine -j DROP"), Some("mine"));
        assert_eq!(comment("ip daddr 10.0.0.2 drop comment \"theirs\""), Some("theirs"));
        assert_eq!(comment("-A INPUT -j DROP"), None);
    }

    #[test]
    fn a_rule_is_found_in_the_file_that_is_loaded_at_boot() {
        let at = FileLine { file: "/etc/iptables/rules.v4".to_owned(), line: 7 };
        let text = "-A INPUT -p icmp -m comment --comment \"keep out\" -j DROP".to_owned();
        let files = Provenance {
            rules: vec![RuleLine { text, at: at.clone() }],
            services: vec!["netfilter-persistent".to_owned()],
            ..Provenance::default()
        };
        let found = origin(&World::cable().iptables("b", DROP).files("b", files.clone()));
        assert_eq!(found.at, Some(at));
        assert_eq!(found.returns.as_deref(), Some("a reboot, or a restart of netfilter-persistent"));
        // The file is for the machine's own namespace, not for others.
        let found = origin(&World::cable().iptables("b", DROP).files("a", files));
        assert_eq!((found.at, found.returns), (None, None));
        assert_eq!(found.set_by.as_deref(), Some("whoever wrote it, with the comment \"keep out\""));
    }

    #[test]
    fn a_zone_of_firewalld_is_named_with_its_file() {
        let rules = "*filter\n:INPUT ACCEPT [0:0]\n:IN_public_deny - [0:0]\n-A INPUT -j IN_public_deny\n-A IN_public_deny -j DROP\nCOMMIT\n";
        let zones = vec![Zone { name: "public".to_owned(), file: "/etc/firewalld/zones/public.xml".to_owned() }];
        let found =
            origin(&World::cable().iptables("b", rules).files("b", Provenance { zones, ..Provenance::default() }));
        assert!(found.set_by.is_some_and(|by| by.starts_with("firewalld")));
        assert_eq!(found.at.map(|at| at.file).as_deref(), Some("/etc/firewalld/zones/public.xml"));
        assert_eq!(found.returns.as_deref(), Some("firewall-cmd --reload"));
    }

    #[test]
    fn nobody_is_named_where_nothing_tells() {
        let rules = "*filter\n:INPUT DROP [0:0]\nCOMMIT\n";
        let found = origin(&World::cable().iptables("b", rules).files("b", Provenance::default()));
        assert_eq!((found.set_by, found.at, found.returns), (None, None, None));
    }
}
