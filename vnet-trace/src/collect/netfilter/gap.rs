//! What of the rules could not be read, as gaps of the snapshot.
//!
//! Expressions that the evaluator does not understand are not among them: they matter only to a packet that meets them, and
//! its evaluation names them.

use crate::model::netfilter::{Backend, Ruleset, RulesetGap};
use crate::model::sight::Gap;

/// The gaps in the rules of a namespace, by the name that people know it by.
pub fn gaps(ruleset: &Ruleset, netns: &str) -> Vec<Gap> {
    ruleset.gaps.iter().filter_map(|gap| words(gap, netns)).collect()
}

fn words(gap: &RulesetGap, netns: &str) -> Option<Gap> {
    let of = |what: &str| format!("{what} of netns {netns}");
    let (what, why, help) = match gap {
        RulesetGap::ProgramMissing { program, backend } => {
            let package = match backend {
                Backend::Nft => "nftables",
                Backend::EbtablesNft | Backend::EbtablesLegacy => "ebtables",
                Backend::ArptablesNft | Backend::ArptablesLegacy => "arptables",
                Backend::IptablesNft | Backend::IptablesLegacy => "iptables",
            };
            (
                of("packet-filter rules"),
                format!("there are rules that only {program} can list, and it is not installed"),
                format!("install {program} (package {package})"),
            )
        }
        RulesetGap::ProgramFailed { program, reason } => {
            (of("packet-filter rules"), format!("{program} failed: {reason}"), format!("run {program} there by hand"))
        }
        RulesetGap::Deadline { program, milliseconds } => {
            (of("packet-filter rules"), format!("{program} did not finish in {milliseconds} ms"), String::new())
        }
        RulesetGap::Malformed { program, place, reason } => (
            of("packet-filter rules"),
            format!("what {program} printed is not understood at {place}: {reason}"),
            String::new(),
        ),
        RulesetGap::SetTruncated { table, set, kept, total } => (
            of(&format!("set {set} of table {table}")),
            format!("only {kept} of its {total} elements were kept"),
            String::new(),
        ),
        RulesetGap::KernelRefused { errno, .. } => (
            of("packet-filter rules"),
            format!("the kernel does not say whether there are any (error {errno})"),
            if *errno == 1 { "run as root".to_owned() } else { String::new() },
        ),
        RulesetGap::NotUnderstood { .. } | RulesetGap::MoreNotUnderstood { .. } => return None,
    };
    Some(Gap { what, why, help })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_a_gap_with_help() {
        let missing = RulesetGap::ProgramMissing { program: "nft".to_owned(), backend: Backend::Nft };
        let ruleset = Ruleset { tables: Vec::new(), gaps: vec![missing], listings: Vec::new() };
        let gaps = gaps(&ruleset, "ns1");
        assert_eq!(gaps.len(), 1);
        assert_eq!(gaps[0].help, "install nft (package nftables)");
    }
}
