//! Shows that a fix works before anybody touches the machine.
//!
//! The touched part of the network is built again in a sandbox of fresh namespaces ([`crate::rebuild`]), the same question
//! is asked there, and the same cause has to appear. Then a fix is carried out there and the question asked once more. What
//! else the fix changes is found by predicting the flows between all other addresses before and after it ([`flows`]).
//!
//! **Nothing is pretended.** A network that can't be rebuilt in what decides, a command that is not understood or reaches
//! beyond the rebuilt network, a rebuilt network that shows another cause: each is an outcome of its own.
//!
//! **Nothing is left.** All of it happens in a process of its own ([`inside`]), one for each fix that is tried, because a
//! network can be mended only once. That process ends with this one, and what it started ends with it ([`crate::lab::process`]).

pub mod flows;
pub mod inside;

use std::io::{Read, Seek, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::ask::Answer;
use crate::lab::export;
use crate::lab::process::{self, Ended};
use crate::lab::supervise::PARENT;
use crate::model::diagnosis::{Finding, Verdict};
use crate::model::id::NetnsId;
use crate::model::proof::{Attempt, AttemptResult, Proof, ProofOutcome, Shown};
use crate::model::question::Protocol;
use crate::rebuild::translate::Translator;
use crate::rebuild::{Rebuilt, rebuild};

use inside::{Job, Outcome};

/// One try, from its first namespace to its last.
const DEADLINE: Duration = Duration::from_secs(30);

/// Fixes that are tried at most.
const FIXES: usize = 3;

/// Adds a proof to an answer. The fix that was proven becomes the first.
pub fn add(answer: &mut Answer, executable: &Path) {
    let mut proof = prove(answer, executable);
    if let ProofOutcome::Proven { fix } | ProofOutcome::NextFault { fix, .. } = &mut proof.outcome
        && *fix > 0
        && let Some(primary) = &mut answer.diagnosis.primary
    {
        let moved = *fix;
        primary.fixes[..=moved].rotate_right(1);
        *fix = 0;
        for attempt in &mut proof.attempts {
            attempt.fix = if attempt.fix == moved { 0 } else { attempt.fix + usize::from(attempt.fix < moved) };
        }
    }
    answer.proof = Some(proof);
}

/// Tries to prove the answer's fix. `executable` is this program, which is started once for each fix that is tried.
pub fn prove(answer: &Answer, executable: &Path) -> Proof {
    let started = Instant::now();
    let mut proof = Proof {
        outcome: ProofOutcome::NotHelped,
        attempts: Vec::new(),
        effects: Vec::new(),
        pairs: 0,
        bounded: false,
        limits: Vec::new(),
        total_ms: 0,
    };
    proof.outcome = attempt(answer, executable, &mut proof).unwrap_or_else(|why| ProofOutcome::NotPossible { why });
    proof.total_ms = started.elapsed().as_millis() as u64;
    proof
}

/// Errors are reasons for which it is not possible here.
fn attempt(answer: &Answer, executable: &Path, proof: &mut Proof) -> Result<ProofOutcome, String> {
    let (Verdict::Lost, Some(primary)) = (answer.diagnosis.verdict, &answer.diagnosis.primary) else {
        return Err("there is no named cause to reproduce".to_owned());
    };
    if answer.recording.question.protocol != Protocol::Echo {
        return Err("only echo requests are asked in a rebuilt network".to_owned());
    }
    if !nix::unistd::geteuid().is_root() {
        return Err("network namespaces are made by root only".to_owned());
    }
    let scope = export::scope(&answer.recording);
    let rebuilt = rebuild(&answer.recording, &scope, Some(primary));
    let decisive = export::decisive(&rebuilt, &answer.diagnosis);
    if let Some(missing) = decisive.or_else(|| rebuilt.missing.iter().find(|missing| missing.stand_in)) {
        return Err(format!("{} can't be rebuilt: {}", missing.what, missing.why));
    }
    if let Some(missing) =
        rebuilt.missing.iter().find(|missing| missing.device.is_some_and(|device| is_on_the_way(answer, device)))
    {
        proof.limits.push(format!("{} is on the way and can't be rebuilt: {}", missing.what, missing.why));
    }
    let elsewhere = rebuilt.missing.iter().map(|missing| format!("{} is left out: {}", missing.what, missing.why));
    for limit in elsewhere {
        if !proof.limits.iter().any(|known| known.starts_with(limit.split(" is left out").next().unwrap_or_default())) {
            proof.limits.push(limit);
        }
    }
    let candidates: Vec<usize> =
        (0..primary.fixes.len()).filter(|at| !primary.fixes[*at].commands.is_empty()).take(FIXES).collect();
    if candidates.is_empty() {
        // Without a fix there is still something to show: that the loss is understood.
        let outcome = try_one(answer, executable, &rebuilt, Vec::new())?;
        return Ok(reproduced(primary, &rebuilt, &outcome).unwrap_or(ProofOutcome::NotHelped));
    }
    for at in candidates {
        let fix = &primary.fixes[at];
        let mut tried =
            Attempt { fix: at, title: fix.title.clone(), commands: Vec::new(), result: AttemptResult::Same };
        match Translator::new(&answer.recording.before, &rebuilt.names).all(&fix.commands) {
            Ok(commands) => tried.commands = commands,
            Err(refusal) => {
                tried.result = AttemptResult::Refused { why: refusal.to_string() };
                proof.attempts.push(tried);
                continue;
            }
        }
        let outcome = try_one(answer, executable, &rebuilt, tried.commands.clone())?;
        if let Some(instead) = reproduced(primary, &rebuilt, &outcome) {
            return Ok(instead);
        }
        tried.result = outcome.result.clone();
        let result = tried.result.clone();
        proof.attempts.push(tried);
        proof.effects = outcome.effects;
        proof.pairs = outcome.pairs;
        proof.bounded = outcome.bounded;
        match (result, outcome.after) {
            (AttemptResult::Answered, _) => return Ok(ProofOutcome::Proven { fix: at }),
            (AttemptResult::NextFault, Some(next)) => return Ok(ProofOutcome::NextFault { fix: at, next }),
            _ => {}
        }
    }
    Ok(ProofOutcome::NotHelped)
}

fn is_on_the_way(answer: &Answer, device: crate::model::id::Device) -> bool {
    let journeys = answer.predicted.iter().chain([&answer.observed]).flat_map(|exchange| &exchange.journeys);
    journeys
        .flat_map(|journey| &journey.steps)
        .any(|step| step.netns == device.netns && step.device == Some(device.ifindex))
}

/// What the rebuilt network showed, if it is something else than the original.
fn reproduced(primary: &Finding, rebuilt: &Rebuilt, outcome: &Outcome) -> Option<ProofOutcome> {
    let Some(shown) = &outcome.before else { return Some(ProofOutcome::NotReproduced { instead: None }) };
    let same_code = shown.code.as_deref() == Some(primary.code.as_str());
    let same_netns = shown.netns.as_deref() == Some(rebuilt.names.name(primary.place.netns));
    if same_code && same_netns { None } else { Some(ProofOutcome::NotReproduced { instead: Some(shown.clone()) }) }
}

/// Builds, asks, mends, asks, in a process of its own.
fn try_one(answer: &Answer, executable: &Path, rebuilt: &Rebuilt, fix: Vec<String>) -> Result<Outcome, String> {
    let question = &answer.recording.question;
    let job = Job {
        script: rebuilt.script.clone(),
        netns: (question.netns != NetnsId(0)).then(|| rebuilt.names.name(question.netns).to_owned()),
        question: question.clone(),
        fix,
    };
    let failed = |error: std::io::Error| format!("the process for it can't be run: {error}");
    let json = serde_json::to_vec(&job).map_err(|error| error.to_string())?;
    let mut input = tempfile::tempfile().map_err(failed)?;
    input.write_all(&json).and_then(|()| input.rewind()).map_err(failed)?;
    let mut output = tempfile::tempfile().map_err(failed)?;
    nix::sys::prctl::set_child_subreaper(true).map_err(|errno| failed(errno.into()))?;
    process::catch_interrupts().map_err(failed)?;
    let child = Command::new(executable)
        .args(["lab", "prove", "--inside"])
        .env(PARENT, std::process::id().to_string())
        .stdin(input)
        .stdout(output.try_clone().map_err(failed)?)
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let ended = process::wait_gently(child, DEADLINE).map_err(failed)?;
    process::end_descendants(&[]);
    let mut text = String::new();
    output.rewind().and_then(|()| output.read_to_string(&mut text)).map_err(failed)?;
    match ended {
        Ended::ByItself(_) => {}
        Ended::AtDeadline => return Err(format!("it took longer than {} s", DEADLINE.as_secs())),
        Ended::Interrupted => return Err("it was interrupted".to_owned()),
    }
    let outcome: Outcome =
        serde_json::from_str(&text).map_err(|_| "the process for it ended without a word".to_owned())?;
    match &outcome.unbuilt {
        Some(why) => Err(format!("the network can't be built again: {why}")),
        None => Ok(outcome),
    }
}

/// A cause as words without ids, which mean nothing in another network.
pub fn shown(answer: &Answer) -> Option<Shown> {
    if answer.diagnosis.verdict == Verdict::Delivered {
        return None;
    }
    let snapshot = &answer.recording.before;
    let primary = answer.diagnosis.primary.as_ref();
    Some(Shown {
        code: primary.map(|primary| primary.code.clone()),
        netns: primary.map(|primary| snapshot.netns_name(primary.place.netns).to_owned()),
        dev: primary.and_then(|primary| primary.place.device()).map(|device| snapshot.device_name(device)),
        summary: primary.map_or_else(|| "no cause can be named".to_owned(), |primary| primary.summary.clone()),
    })
}
