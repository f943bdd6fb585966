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
//! network can be mended only once. That process ends with this one, and what it started ends with it, whoever is killed.

pub mod flows;
pub mod inside;

use std::io::{Read, Seek, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::ask::Answer;
use crate::lab::export;
use crate::lab::process::{self, Ended};
use crate::model::diagnosis::{Diagnosis, Finding, Verdict};
use crate::model::exchange::Decision;
use crate::model::id::NetnsId;
use crate::model::proof::{Attempt, AttemptResult, Proof, ProofOutcome, Shown};
use crate::model::question::Protocol;
use crate::rebuild::socket;
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
    if !nix::unistd::geteuid().is_root() {
        return Err("network namespaces are made by root only".to_owned());
    }
    let scope = export::scope(&answer.recording);
    let rebuilt = rebuild(&answer.recording, &scope, Some(primary)).map_err(|error| error.to_string())?;
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
    let mut asked = false;
    for at in candidates {
        let fix = &primary.fixes[at];
        let mut tried = Attempt {
            fix: at,
            title: fix.title.clone(),
            commands: Vec::new(),
            between: Vec::new(),
            result: AttemptResult::Same,
        };
        let stages = stages(&fix.commands, &answer.diagnosis);
        let in_order: Vec<String> = stages.concat();
        let said = match Translator::new(&answer.recording.before, &rebuilt.names).all(&in_order) {
            Ok(commands) => commands,
            Err(refusal) => {
                tried.result = AttemptResult::Refused { why: refusal.to_string() };
                proof.attempts.push(tried);
                continue;
            }
        };
        tried.commands.clone_from(&said);
        let mut left = said.into_iter();
        let stages = stages.iter().map(|stage| left.by_ref().take(stage.len()).collect()).collect();
        let outcome = try_one(answer, executable, &rebuilt, stages)?;
        asked = true;
        if let Some(instead) = reproduced(answer, primary, &rebuilt, &outcome) {
            return Ok(instead);
        }
        tried.result = outcome.result.clone();
        tried.between.clone_from(&outcome.between);
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
    if !asked && let Some(tried) = stand_in(answer, primary, &rebuilt) {
        let outcome = try_one(answer, executable, &rebuilt, vec![tried.commands.clone()])?;
        if let Some(instead) = reproduced(answer, primary, &rebuilt, &outcome) {
            return Ok(instead);
        }
        let at = tried.fix;
        proof.attempts.push(Attempt { result: outcome.result.clone(), ..tried });
        if outcome.result == AttemptResult::Answered {
            proof.limits.push("the service is not rebuilt: socat stands for it".to_owned());
            proof.effects = outcome.effects;
            proof.pairs = outcome.pairs;
            proof.bounded = outcome.bounded;
            return Ok(ProofOutcome::Proven { fix: at });
        }
        return Ok(ProofOutcome::NotHelped);
    }
    if !asked {
        // Without a fix that can be tried there is still something to show: that the loss is understood.
        let outcome = try_one(answer, executable, &rebuilt, Vec::new())?;
        return Ok(reproduced(answer, primary, &rebuilt, &outcome).unwrap_or(ProofOutcome::NotHelped));
    }
    Ok(ProofOutcome::NotHelped)
}

/// The commands of a fix in the order in which the faults bite: those for the first fault alone, then what it takes along
/// for each of the next ones.
fn stages(commands: &[String], diagnosis: &Diagnosis) -> Vec<Vec<String>> {
    let of_next = |finding: &Finding| -> Vec<String> {
        let own = finding.fixes.first().map(|fix| fix.commands.clone()).unwrap_or_default();
        own.into_iter().filter(|command| commands.contains(command)).collect()
    };
    let mut later: Vec<Vec<String>> = Vec::new();
    for finding in &diagnosis.also {
        let mut own = of_next(finding);
        own.retain(|command| !later.iter().flatten().any(|placed| placed == command));
        if !own.is_empty() {
            later.push(own);
        }
    }
    let first: Vec<String> =
        commands.iter().filter(|command| !later.iter().flatten().any(|placed| placed == *command)).cloned().collect();
    if first.is_empty() { vec![commands.to_vec()] } else { std::iter::once(first).chain(later).collect() }
}

/// Where a service has to be started, which only its owner can do: somebody listens there in its stead, which shows whether
/// that is all that is missing.
fn stand_in(answer: &Answer, primary: &Finding, rebuilt: &Rebuilt) -> Option<Attempt> {
    let at = primary.fixes.iter().position(|fix| fix.commands.is_empty()).filter(|_| primary.code == "port-closed")?;
    let faults = answer.predicted.as_ref().map(|exchange| exchange.faults.as_slice()).unwrap_or_default();
    let (address, port) = faults.iter().find_map(|fault| match fault.loss.decision {
        Some(Decision::PortClosed { port, .. }) if fault.loss.place.netns == primary.place.netns => {
            Some((fault.headers.dst?, port))
        }
        _ => None,
    })?;
    let protocol = match answer.recording.question.protocol {
        Protocol::Tcp { sport, .. } => Protocol::Tcp { port, sport },
        Protocol::Udp { sport, .. } => Protocol::Udp { port, sport },
        Protocol::Echo => return None,
    };
    let command = socket::listener(protocol, rebuilt.names.name(primary.place.netns), address)?;
    let (title, result) = (primary.fixes[at].title.clone(), AttemptResult::Same);
    Some(Attempt { fix: at, title, commands: vec![command], between: Vec::new(), result })
}

fn is_on_the_way(answer: &Answer, device: crate::model::id::Device) -> bool {
    let journeys = answer.predicted.iter().chain([&answer.observed]).flat_map(|exchange| &exchange.journeys);
    journeys
        .flat_map(|journey| &journey.steps)
        .any(|step| step.netns == device.netns && step.device == Some(device.ifindex))
}

/// What the rebuilt network showed, if it is something else than the original.
fn reproduced(answer: &Answer, primary: &Finding, rebuilt: &Rebuilt, outcome: &Outcome) -> Option<ProofOutcome> {
    let Some(shown) = &outcome.before else { return Some(ProofOutcome::NotReproduced { instead: None }) };
    let same_code = shown.code.as_deref() == Some(primary.code.as_str());
    let same_netns = shown.netns.as_deref() == Some(rebuilt.names.name(primary.place.netns));
    let dev = primary.place.device().map(|device| answer.recording.before.device_name(device));
    if same_code && same_netns && shown.dev == dev {
        None
    } else {
        Some(ProofOutcome::NotReproduced { instead: Some(shown.clone()) })
    }
}

/// Builds, asks, mends, asks, in a process of its own.
fn try_one(answer: &Answer, executable: &Path, rebuilt: &Rebuilt, stages: Vec<Vec<String>>) -> Result<Outcome, String> {
    let question = &answer.recording.question;
    let job = Job {
        script: rebuilt.script.clone(),
        netns: (question.netns != NetnsId(0)).then(|| rebuilt.names.name(question.netns).to_owned()),
        question: question.clone(),
        stages,
    };
    let failed = |error: std::io::Error| format!("the process for it can't be run: {error}");
    let mut line = serde_json::to_vec(&job).map_err(|error| error.to_string())?;
    line.push(b'\n');
    let mut output = tempfile::tempfile().map_err(failed)?;
    process::catch_interrupts().map_err(failed)?;
    let mut child = Command::new(executable)
        .args(["lab", "prove", "--inside"])
        .stdin(Stdio::piped())
        .stdout(output.try_clone().map_err(failed)?)
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let leash = child.stdin.take();
    let ended = std::thread::scope(|scope| {
        // The pipe stays open until the process has ended: what is inside ends with it.
        let writing = scope.spawn(move || {
            let mut leash = leash;
            // Nobody reads a job for which no sandbox could be made; the outcome says so.
            let _ = leash.as_mut().map(|leash| leash.write_all(&line));
            leash
        });
        let ended = process::wait(child, Some(DEADLINE));
        drop(writing.join());
        ended
    })
    .map_err(failed)?;
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
