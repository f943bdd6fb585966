//! Counters before and after: the kernel's own word on which rule met the packet.

use crate::model::netfilter::{RuleRef, Ruleset};

/// How many packets a rule's (or policy's) counter went up by. None if it has no counter, or is not in both.
///
/// A rule is found by its handle; without one by position and text, so that a rule inserted in between is not taken for it.
pub fn counters_increased(before: &Ruleset, after: &Ruleset, rule: &RuleRef) -> Option<u64> {
    let packets = |ruleset: &Ruleset| -> Option<u64> {
        if rule.policy {
            let counter = ruleset.table(rule)?.chain(&rule.chain)?.policy_counter?;
            return Some(counter.packets);
        }
        let found = ruleset.rule(rule).filter(|found| same_text(&found.text, &rule.text))?;
        Some(found.counter()?.packets)
    };
    Some(packets(after)?.saturating_sub(packets(before)?))
}

/// Whether two texts name one rule: what they count may differ.
fn same_text(left: &str, right: &str) -> bool {
    let mut left = left.split_whitespace();
    let mut right = right.split_whitespace();
    loop {
        match (left.next(), right.next()) {
            (None, None) => return true,
            (Some("packets"), Some("packets")) => {
                // `packets N bytes N`: the numbers are what is to be compared later.
                for _ in 0..3 {
                    left.next();
                    right.next();
                }
            }
            (a, b) if a == b => {}
            _ => return false,
        }
    }
}
