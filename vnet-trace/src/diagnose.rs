//! Names the cause of a loss. The vocabulary is [`registry`]; [`rules`] says which rule belongs to which code.
//!
//! Takes a [`Case`]: what was recorded, what was seen of the packets, and what the configuration says should have happened.
//! Gives a [`Diagnosis`]. The faults of the prediction are held against what was seen ([`confirm`]): a fault that was
//! contradicted is not named, one that the kernel reported is *witnessed*, one that fits the last sighting is *deduced*.

pub mod arp;
#[cfg(test)]
pub mod bench;
pub mod bridge;
pub mod case;
pub mod confirm;
mod counters;
pub mod filter;
pub mod foretell;
pub mod link;
pub mod mended;
pub mod notes;
pub mod parting;
pub mod provenance;
mod quoting;
pub mod registry;
mod reported;
pub mod route;
pub mod rules;
pub mod toward;
pub mod twin;
pub mod unexplained;
pub mod unread;

use crate::model::diagnosis::{Diagnosis, Finding, Fix, Grade, Note, Risk, Source, Verdict};
use crate::model::exchange::Fault;

use case::Case;
use confirm::Judgement;

/// Judges a case.
pub fn diagnose(case: &Case<'_>) -> Diagnosis {
    if case.recording.is_foretold() {
        return foretell::foretell(case);
    }
    let delivered = case.recording.is_delivered() || notes::udp_unanswered::reached(case).is_some();
    let mut diagnosis = Diagnosis {
        verdict: if delivered { Verdict::Delivered } else { Verdict::Undecided },
        primary: None,
        also: Vec::new(),
        notes: notes(case),
        gaps: gaps(case),
        leads: Vec::new(),
        parting: None,
    };
    if delivered {
        diagnosis.parting = parting::find(case, Verdict::Delivered, None);
        return diagnosis;
    }
    let mut later: Vec<Finding> = Vec::new();
    let mut refuted = false;
    let mut twin = false;
    let mut at = None;
    for (index, fault) in case.predicted.faults.iter().enumerate() {
        let mut named = name(case, fault);
        if named.is_empty() {
            continue;
        }
        let mut first = named.remove(0);
        if diagnosis.primary.is_some() {
            later.push(first);
            continue;
        }
        match confirm::judge(case, fault) {
            // Where an earlier claim was refuted, one that nobody has seen is no better.
            Judgement::Holds(Grade::Suspected, _) if refuted => {}
            Judgement::Holds(grade, evidence) => {
                first.grade = graded(first.grade, grade);
                // What the kernel said comes before what the configuration says.
                first.evidence.splice(0..0, evidence.into_iter().chain(foretell::kernel_says(case, fault)));
                at = Some(index);
                // At the wrong one of two owners of an address, that there are two is the cause.
                if let Some(mut other) = twin::behind(case, fault) {
                    let odd = quoting::odd_names(case.snapshot());
                    other.fixes.iter_mut().for_each(|fix| quoting::quote_names(fix, &odd));
                    other.grade = first.grade;
                    other.evidence.splice(0..0, first.evidence.iter().cloned());
                    named.insert(0, std::mem::replace(&mut first, other));
                    twin = true;
                }
                diagnosis.primary = Some(first);
                diagnosis.also.extend(named);
            }
            Judgement::Refuted(why) => {
                refuted = true;
                diagnosis.leads.push(format!("not {}: {why}", first.code));
            }
        }
    }
    if diagnosis.primary.is_none() {
        let (fault, leads) = unexplained::explain(case);
        diagnosis.leads.extend(leads);
        if let Some(fault) = fault {
            let mut named = name(case, &fault);
            if !named.is_empty() {
                let mut first = named.remove(0);
                match confirm::judge(case, &fault) {
                    Judgement::Holds(grade, evidence) => {
                        first.grade = graded(first.grade, grade);
                        first.evidence.splice(0..0, evidence);
                        diagnosis.primary = Some(first);
                    }
                    Judgement::Refuted(why) => diagnosis.leads.push(format!("not {}: {why}", first.code)),
                }
            }
        }
        if diagnosis.primary.is_none() {
            diagnosis.primary = reported::find(case, &mut diagnosis.leads);
        }
    }
    if let Some(primary) = &mut diagnosis.primary {
        if twin {
            // What would bite at the wrong one does not matter once it is not asked.
            later.clear();
        } else {
            mend_on(case, primary, at, &mut later);
        }
        later.retain(|finding| finding.code != primary.code);
        for finding in later {
            if !diagnosis.also.iter().any(|also| also.code == finding.code && also.place == finding.place) {
                diagnosis.also.push(finding);
            }
        }
        diagnosis.verdict = Verdict::Lost;
    }
    diagnosis.parting = parting::find(case, diagnosis.verdict, at.and_then(|at| case.predicted.faults.get(at)));
    diagnosis
}

/// A rule that is not sure of itself stays so; else what was seen decides.
fn graded(own: Grade, seen: Grade) -> Grade {
    if own == Grade::Suspected { own } else { seen }
}

/// Every rule's word on a fault, the one that wins first.
fn name(case: &Case<'_>, fault: &Fault) -> Vec<Finding> {
    let found = rules::RULES.iter().filter_map(|(_, check)| check(case, fault));
    let counted = counters::evidence(case, fault);
    let odd = quoting::odd_names(case.snapshot());
    found
        .map(|mut finding| {
            // Where nothing was read, that nothing is there is no evidence.
            finding
                .evidence
                .retain(|evidence| !matches!(&evidence.source, Source::State { netns, .. } if case.is_closed(*netns)));
            finding.origins = provenance::origins(case, fault, &finding);
            finding.evidence.extend(counted.iter().cloned());
            for fix in &mut finding.fixes {
                quoting::quote_names(fix, &odd);
            }
            finding
        })
        .collect()
}

/// Codes whose fix mends both directions at once, or chooses one of two ends: another place of the same fault is the same fault.
const MENDED_AT_ONCE: &[&str] = &[
    "vxlan-vni-mismatch",
    "vxlan-port-mismatch",
    "vlan-mismatch",
    "bridge-port-isolated",
    "macvlan-vepa-no-hairpin",
    "macvlan-private",
    "macvlan-parent-isolation",
    "ipvlan-mode-isolation",
    "mtu-exceeded",
    "peer-down",
    "no-carrier",
    "link-down",
    "not-attached",
    "duplicate-address",
    "duplicate-mac",
    "address-on-port",
    "mac-mismatch",
    "routing-loop",
    "arp-no-owner",
    "gateway-unreachable",
];

/// What nobody can mend without a choice keeps the exchange from succeeding whatever the first fix does.
fn keep_open(primary: &mut Finding, later: &[Finding]) {
    let open = later.iter().any(|finding| {
        finding.code != primary.code && finding.fixes.first().is_none_or(|fix| fix.risk == Risk::NeedsChoice)
    });
    if let Some(first) = primary.fixes.first_mut().filter(|_| open) {
        first.risk = Risk::NeedsChoice;
    }
}

/// The same fault at another place is mended by the same fix: its commands are added to the first one's.
fn complete(primary: &mut Finding, later: &[Finding]) {
    if MENDED_AT_ONCE.contains(&primary.code.as_str()) {
        return;
    }
    let Some(first) = primary.fixes.first_mut() else { return };
    for other in later.iter().filter(|finding| finding.code == primary.code) {
        let Some(more) = other.fixes.iter().find(|fix| fix.risk == first.risk).or(other.fixes.first()) else {
            continue;
        };
        add(&mut first.commands, &more.commands);
        add(&mut first.undo, &more.undo);
    }
}

/// Makes the first fix one that makes the exchange succeed, as far as that is known; what else bites goes to `later`.
/// `at` is the position of the primary's fault in the prediction, if it is one of its.
fn mend_on(case: &Case<'_>, primary: &mut Finding, at: Option<usize>, later: &mut Vec<Finding>) {
    if let Some(behind) = at.and_then(|at| mended::behind(case, at)) {
        // Each of these was found with the ones before it repaired: none is mended by another's fix.
        for other in &behind {
            carry(primary, other);
        }
        *later = behind;
    } else {
        complete(primary, later);
        go_on(primary, later);
    }
    keep_open(primary, later);
}

/// What bites once the first fix is carried out: the first fix brings the remedies of other faults behind it along, so that
/// carrying it out makes the exchange succeed.
fn go_on(primary: &mut Finding, later: &[Finding]) {
    let mut named = vec![primary.code.clone()];
    for other in later {
        if !named.contains(&other.code) {
            named.push(other.code.clone());
            carry(primary, other);
        }
    }
}

/// The first fix takes the remedy of another fault along, if that needs no choice.
fn carry(primary: &mut Finding, other: &Finding) {
    let Some(first) = primary.fixes.first_mut() else { return };
    let Some(more) = other.fixes.first().filter(|fix| fix.risk != Risk::NeedsChoice && !fix.commands.is_empty()) else {
        return;
    };
    if more.commands.iter().all(|command| first.commands.contains(command)) {
        return;
    }
    add(&mut first.commands, &more.commands);
    add(&mut first.undo, &more.undo);
    first.title = format!("{}; then {}", first.title, more.title);
    if more.risk == Risk::ChangesPolicy && first.risk == Risk::Safe {
        first.risk = Risk::ChangesPolicy;
    }
}

fn add(to: &mut Vec<String>, more: &[String]) {
    for command in more {
        if !to.contains(command) {
            to.push(command.clone());
        }
    }
}

fn notes(case: &Case<'_>) -> Vec<Note> {
    notes::NOTES.iter().filter_map(|(_, check)| check(case)).collect()
}

fn gaps(case: &Case<'_>) -> Vec<crate::model::sight::Gap> {
    let mut gaps = case.recording.before.gaps.clone();
    gaps.extend(case.recording.sight.gaps.iter().cloned());
    gaps.sort();
    gaps.dedup();
    gaps
}

/// A fix's first line, for lists.
pub fn headline(fix: &Fix) -> &str {
    &fix.title
}
