//! Judges a question that nobody sent: what would become of it, from the configuration and the kernel's own answers.
//!
//! A prediction that ends in a fault is a *lost* whose grade is at best *deduced*: no packet confirms it. It is only
//! *suspected* where a rule that is not understood stands before the place, because that rule may be the one that bites.
//! What can't be read at all (a program, a user-space switch) may send the packet elsewhere, so behind it nothing is
//! claimed: the verdict is *undecided*, and the faults behind it are named as what to look at next. So it is with parts of a
//! namespace on the way that could not be read ([`unread`]). A prediction without a fault is *delivered* only if nothing on
//! the way can't be read and the packet stays in sight to its end.

use std::collections::BTreeSet;

use crate::model::diagnosis::{Diagnosis, Evidence, Finding, Grade, Source, Verdict};
use crate::model::exchange::{Action, Decision, Fate, Fault, Journey, Opaque, Place};
use crate::model::id::{Device, NetnsId};
use crate::model::recording::RouteResult;
use crate::model::snapshot::Part;

use super::case::Case;
use super::{gaps, name, notes, unexplained, unread};

/// Judges a case by its prediction alone.
pub fn foretell(case: &Case<'_>) -> Diagnosis {
    let mut diagnosis = Diagnosis {
        verdict: Verdict::Undecided,
        primary: None,
        also: Vec::new(),
        notes: notes(case),
        gaps: gaps(case),
        leads: Vec::new(),
        parting: None,
    };
    let Some(first) = case.predicted.faults.first() else {
        without_fault(case, &mut diagnosis);
        return diagnosis;
    };
    let doubts = doubts(case, Some(first));
    let mut findings = case.predicted.faults.iter().map(|fault| name(case, fault));
    let mut named = findings.next().unwrap_or_default();
    let mut later: Vec<Finding> = findings.filter_map(|named| named.into_iter().next()).collect();
    if named.is_empty() {
        diagnosis.leads.push(format!(
            "the configuration loses {} at {}, for a reason that has no name",
            case.packet_name(first.role),
            case.at(&first.loss.place)
        ));
        diagnosis.also.extend(later);
        return diagnosis;
    }
    let mut primary = named.remove(0);
    primary.grade = grade(first, &doubts);
    primary.evidence.splice(0..0, kernel_says(case, first));
    super::mend_on(case, &mut primary, Some(0), &mut later);
    let known: Vec<Finding> = named.into_iter().chain(later).collect();
    if doubts.iter().any(Doubt::may_divert) {
        tell_doubts(case, &doubts, &mut diagnosis);
        diagnosis.leads.push(format!("if it is let pass there: {}", primary.summary));
        diagnosis.also.push(primary);
    } else {
        diagnosis.verdict = Verdict::Lost;
        diagnosis.primary = Some(primary);
    }
    let code = diagnosis.primary.as_ref().map(|primary| primary.code.clone());
    for finding in known {
        let again = diagnosis.also.iter().any(|also| also.code == finding.code && also.place == finding.place);
        if !again && code.as_ref() != Some(&finding.code) {
            diagnosis.also.push(finding);
        }
    }
    diagnosis
}

/// Nothing in the configuration stops it.
fn without_fault(case: &Case<'_>, diagnosis: &mut Diagnosis) {
    let doubts = doubts(case, None);
    tell_doubts(case, &doubts, diagnosis);
    for journey in &case.predicted.journeys {
        match journey.fate {
            Fate::OutOfSight { last } => {
                diagnosis.leads.push(format!(
                    "{} leaves our sight by {}, as it should: only asking shows what answers there",
                    case.packet_name(journey.role),
                    case.place_name(last)
                ));
                return;
            }
            Fate::Cut { netns, device } => {
                let place = Place { netns, device, function: None };
                diagnosis.leads.push(format!(
                    "the way of {} can't be told beyond {}",
                    case.packet_name(journey.role),
                    case.at(&place)
                ));
                return;
            }
            Fate::Delivered { .. } | Fate::Lost(_) => {}
        }
    }
    if doubts.is_empty() && !case.predicted.journeys.is_empty() {
        diagnosis.verdict = Verdict::Delivered;
    }
}

/// Something on the way that decides, and of which it is not known how.
enum Doubt<'a> {
    /// It can't be read.
    Opaque(Place, &'a Opaque),
    /// It was not read.
    Unread(NetnsId, Part),
}

impl Doubt<'_> {
    /// Whether it can do something else with a packet than let it pass or drop it.
    fn may_divert(&self) -> bool {
        match self {
            Self::Opaque(_, opaque) => {
                matches!(opaque, Opaque::Xdp { .. } | Opaque::Tc { .. } | Opaque::Switch { .. } | Opaque::Outside)
            }
            Self::Unread(..) => true,
        }
    }
}

/// What is not known on the way before a fault; on the whole way if there is none.
fn doubts<'a>(case: &Case<'a>, before: Option<&Fault>) -> Vec<Doubt<'a>> {
    let ends = |journey: &Journey| {
        before.is_some_and(|fault| {
            journey.leg == fault.leg
                && journey
                    .loss()
                    .is_some_and(|loss| loss.decision == fault.loss.decision && loss.place == fault.loss.place)
        })
    };
    let mut found = Vec::new();
    let mut passed = BTreeSet::from([case.recording.question.netns]);
    passed.extend(before.map(|fault| fault.loss.place.netns));
    for journey in &case.predicted.journeys {
        for step in &journey.steps {
            passed.insert(step.netns);
            if let Action::Opaque(opaque) = &step.action {
                found.push(Doubt::Opaque(Place { netns: step.netns, device: step.device, function: None }, opaque));
            }
        }
        if ends(journey) {
            break;
        }
    }
    let unread =
        passed.into_iter().flat_map(|netns| unread::parts(case, netns).into_iter().map(move |part| (netns, part)));
    found.extend(unread.map(|(netns, part)| Doubt::Unread(netns, part)));
    found
}

fn tell_doubts(case: &Case<'_>, doubts: &[Doubt<'_>], diagnosis: &mut Diagnosis) {
    for doubt in doubts {
        let lead = match doubt {
            Doubt::Opaque(place, opaque) => format!(
                "{} at {} decides as well, and can't be read: only asking shows what it does",
                unexplained::word(opaque),
                case.at(place)
            ),
            Doubt::Unread(_, part @ (Part::Everything | Part::Addresses)) => {
                format!("{} of a network namespace could not be read", unread::word(*part))
            }
            Doubt::Unread(netns, part) => format!(
                "{} of {} could not be read: what they decide is not known",
                unread::word(*part),
                match case.snapshot().netns_name(*netns) {
                    "." => "this namespace",
                    name => name,
                }
            ),
        };
        if !diagnosis.leads.contains(&lead) {
            diagnosis.leads.push(lead);
        }
    }
}

fn grade(fault: &Fault, doubts: &[Doubt<'_>]) -> Grade {
    let unsure = !fault.loss.certain || matches!(fault.loss.decision, Some(Decision::Netfilter { certain: false, .. }));
    if unsure || !doubts.is_empty() { Grade::Suspected } else { Grade::Deduced }
}

/// The kernel's own answer at the place of the loss, where it was asked for the route of this very packet and refused.
pub fn kernel_says(case: &Case<'_>, fault: &Fault) -> Option<Evidence> {
    let routing = matches!(
        fault.loss.decision,
        Some(
            Decision::NoRoute { .. }
                | Decision::RouteKind { .. }
                | Decision::PolicyRule { .. }
                | Decision::NotForwarding { .. }
                | Decision::RpFilter { .. }
                | Decision::LocalSource { .. }
                | Decision::MartianLoopback { .. }
                | Decision::MartianOther { .. }
        )
    );
    let place = &fault.loss.place;
    let (index, answer, errno) =
        case.recording.answers.iter().enumerate().find_map(|(index, answer)| match answer.answer {
            RouteResult::Errno(errno)
                if routing && answer.netns == place.netns && Some(answer.dst) == fault.headers.dst =>
            {
                Some((index, answer, errno))
            }
            _ => None,
        })?;
    let from = answer.src.map_or_else(String::new, |src| format!(" from {src}"));
    let by = answer
        .iif
        .map_or_else(String::new, |iif| format!(" coming in by {}", case.place_name(Device::new(answer.netns, iif))));
    let said = match errno {
        13 => "permission denied (EACCES)".to_owned(),
        18 => "invalid cross-device link (EXDEV)".to_owned(),
        22 => "invalid argument (EINVAL)".to_owned(),
        101 => "network is unreachable (ENETUNREACH)".to_owned(),
        113 => "no route to host (EHOSTUNREACH)".to_owned(),
        other => format!("error {other}"),
    };
    Some(Evidence {
        source: Source::Answer(index),
        text: format!("asked for the route to {}{from}{by}, the kernel answers: {said}", answer.dst),
    })
}
