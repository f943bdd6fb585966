//! What `--prove` showed, for people and for scripts.

use serde_json::{Value, json};

use super::Report;
use super::sheet::{Sheet, Span};
use super::style::{Detail, Tone};
use crate::model::proof::{Attempt, AttemptResult, Effect, Proof, ProofOutcome, Shown};

/// Effects that are listed unless everything is.
const LISTED: usize = 6;

/// The outcome as scripts know it.
pub fn word(outcome: &ProofOutcome) -> &'static str {
    match outcome {
        ProofOutcome::Proven { .. } => "proven",
        ProofOutcome::NextFault { .. } => "next-fault",
        ProofOutcome::NotHelped => "not-helped",
        ProofOutcome::NotReproduced { .. } => "not-reproduced",
        ProofOutcome::NotPossible { .. } => "not-possible",
    }
}

/// The outcome in one sentence.
pub fn sentence(proof: &Proof) -> String {
    match &proof.outcome {
        ProofOutcome::Proven { fix } if !between(proof, *fix).is_empty() => {
            let next: Vec<String> = between(proof, *fix).iter().map(shown).collect();
            format!(
                "in a rebuilt copy of the network the same loss appeared; once it is mended alone, the next fault is {}; with \
                 this fix the question was answered",
                next.join("; and then ")
            )
        }
        ProofOutcome::Proven { .. } => {
            "in a rebuilt copy of the network the same loss appeared, and with this fix the question was answered"
                .to_owned()
        }
        ProofOutcome::NextFault { next, .. } => {
            format!(
                "in a rebuilt copy of the network the same loss appeared and this fix ended it; the next fault is {}",
                shown(next)
            )
        }
        ProofOutcome::NotHelped if proof.attempts.is_empty() => {
            "in a rebuilt copy of the network the same loss appeared; there is no fix that could be tried".to_owned()
        }
        ProofOutcome::NotHelped => {
            "in a rebuilt copy of the network the same loss appeared, and no fix that could be tried ended it"
                .to_owned()
        }
        ProofOutcome::NotReproduced { instead: Some(instead) } => {
            format!("a rebuilt copy of the network shows something else: {}", shown(instead))
        }
        ProofOutcome::NotReproduced { instead: None } => {
            "in a rebuilt copy of the network the question is answered".to_owned()
        }
        ProofOutcome::NotPossible { why } => format!("not possible here: {why}"),
    }
}

/// What stopped the packet while the fix had been carried out in part.
fn between(proof: &Proof, fix: usize) -> &[Shown] {
    let tried = proof.attempts.iter().find(|attempt| attempt.fix == fix);
    tried.map_or(&[], |attempt| attempt.between.as_slice())
}

fn shown(shown: &Shown) -> String {
    match &shown.code {
        Some(code) => format!("{code}: {}", shown.summary),
        None => shown.summary.clone(),
    }
}

/// The section of the text.
pub fn write(sheet: &mut Sheet, report: Report<'_>, level: Detail) {
    let Some(proof) = report.proof else { return };
    let tone = match proof.outcome {
        ProofOutcome::Proven { .. } => Tone::Good,
        ProofOutcome::NextFault { .. } | ProofOutcome::NotPossible { .. } => Tone::Warn,
        ProofOutcome::NotHelped | ProofOutcome::NotReproduced { .. } => Tone::Bad,
    };
    sheet.blank().prose(
        0,
        7,
        &[
            Span::new(Tone::Strong, "Proof:"),
            " ".into(),
            Span::new(tone, word(&proof.outcome)),
            format!(" ({} ms): {}", proof.total_ms, sentence(proof)).into(),
        ],
    );
    for attempt in &proof.attempts {
        let told = matches!(attempt.result, AttemptResult::Answered | AttemptResult::NextFault);
        if !told || level == Detail::Full {
            sheet.item(2, &[format!("{}: {}", attempt.title, result(attempt)).into()]);
        }
    }
    let listed = if level == Detail::Full { proof.effects.len() } else { LISTED };
    for effect in proof.effects.iter().take(listed) {
        sheet.item(2, &[effect_text(effect).into()]);
    }
    if proof.effects.len() > listed {
        sheet.item(2, &[format!("and {} other flows change (-v lists them)", proof.effects.len() - listed).into()]);
    }
    let worked = matches!(proof.outcome, ProofOutcome::Proven { .. } | ProofOutcome::NextFault { .. });
    if worked && proof.effects.is_empty() {
        let more = if proof.bounded { ", and there are more" } else { "" };
        sheet.item(2, &[format!("no other flow changes ({} pairs of addresses compared{more})", proof.pairs).into()]);
    }
    for limit in &proof.limits {
        sheet.item(2, &[limit.clone().into()]);
    }
}

fn result(attempt: &Attempt) -> String {
    match &attempt.result {
        AttemptResult::Answered => "answered".to_owned(),
        AttemptResult::NextFault => "another cause appears".to_owned(),
        AttemptResult::Same => "the same loss again".to_owned(),
        AttemptResult::Failed { command, said } => format!("`{command}` failed: {said}"),
        AttemptResult::Refused { why } => format!("not carried out: {why}"),
    }
}

fn effect_text(effect: &Effect) -> String {
    let Effect { netns, src, dst, arrives } = effect;
    let at = if netns == "." { String::new() } else { format!(" ({netns})") };
    let what = if *arrives { "arrives as well" } else { "is lost by it" };
    format!("{src}{at} to {dst} {what}")
}

/// The `proof` object of the document.
pub fn json(proof: &Proof) -> Value {
    let mut value = json!({
        "outcome": word(&proof.outcome),
        "summary": sentence(proof),
        "attempts": proof.attempts.iter().map(attempt_json).collect::<Vec<_>>(),
        "effects": proof.effects.iter().map(|effect| json!({
            "from": {"netns": effect.netns, "address": effect.src},
            "to": effect.dst,
            "after": if effect.arrives { "delivered" } else { "lost" },
        })).collect::<Vec<_>>(),
        "pairs": proof.pairs,
        "pairs_bounded": proof.bounded,
        "limits": proof.limits,
        "total_ms": proof.total_ms,
    });
    let more = match &proof.outcome {
        ProofOutcome::Proven { fix } => vec![("fix", json!(fix))],
        ProofOutcome::NextFault { fix, next } => vec![("fix", json!(fix)), ("next", shown_json(next))],
        ProofOutcome::NotReproduced { instead: Some(instead) } => vec![("instead", shown_json(instead))],
        ProofOutcome::NotPossible { why } => vec![("why", json!(why))],
        ProofOutcome::NotHelped | ProofOutcome::NotReproduced { instead: None } => Vec::new(),
    };
    for (key, more) in more {
        value[key] = more;
    }
    value
}

fn attempt_json(attempt: &Attempt) -> Value {
    let word = match attempt.result {
        AttemptResult::Answered => "answered",
        AttemptResult::NextFault => "next-fault",
        AttemptResult::Same => "same",
        AttemptResult::Failed { .. } => "failed",
        AttemptResult::Refused { .. } => "refused",
    };
    json!({
        "fix": attempt.fix,
        "title": attempt.title,
        "commands": attempt.commands,
        "between": attempt.between.iter().map(shown_json).collect::<Vec<_>>(),
        "result": word,
        "text": result(attempt),
    })
}

fn shown_json(shown: &Shown) -> Value {
    json!({"code": shown.code, "place": {"netns": shown.netns, "dev": shown.dev}, "summary": shown.summary})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::present::json::SCHEMA;

    #[test]
    fn every_outcome_is_what_the_schema_says() {
        let mut schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
        let definitions = schema["$defs"].take();
        let mut own = definitions["proof"].clone();
        own["$defs"] = definitions;
        let schema = jsonschema::draft202012::options().build(&own).expect("the schema is a schema");
        let next = Shown {
            code: Some("no-route".to_owned()),
            netns: Some(".".to_owned()),
            dev: None,
            summary: "there is no route".to_owned(),
        };
        for outcome in [
            ProofOutcome::Proven { fix: 0 },
            ProofOutcome::NextFault { fix: 0, next: next.clone() },
            ProofOutcome::NotHelped,
            ProofOutcome::NotReproduced { instead: Some(next.clone()) },
            ProofOutcome::NotReproduced { instead: None },
            ProofOutcome::NotPossible { why: "a reason".to_owned() },
        ] {
            let result = AttemptResult::Failed { command: "false".to_owned(), said: "exit code 1".to_owned() };
            let proof = Proof {
                outcome,
                attempts: vec![Attempt {
                    fix: 0,
                    title: "a fix".to_owned(),
                    commands: vec!["false".to_owned()],
                    between: vec![next.clone()],
                    result,
                }],
                effects: vec![Effect {
                    netns: "ns1".to_owned(),
                    src: [10, 0, 0, 1].into(),
                    dst: [10, 0, 0, 2].into(),
                    arrives: true,
                }],
                pairs: 2,
                bounded: false,
                limits: Vec::new(),
                total_ms: 900,
            };
            let value = json(&proof);
            let errors: Vec<String> = schema.iter_errors(&value).map(|error| error.to_string()).collect();
            assert!(errors.is_empty(), "{value}: {errors:?}");
        }
    }
}
