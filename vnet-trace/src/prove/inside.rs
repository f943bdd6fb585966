//! One try at a proof, in the process that is its sandbox: build, ask, mend, ask again.
//!
//! The job comes as JSON on standard input, the outcome goes as JSON to standard output. Called once per process, because
//! the calling thread moves into the sandbox for good.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::ask::{self, Answer, Patience, PingOptions};
use crate::collect::netns::Asked;
use crate::collect::ping::{Family, Manner};
use crate::lab::process::{last_lines, run_to_deadline};
use crate::lab::sandbox::Sandbox;
use crate::model::diagnosis::Verdict;
use crate::model::proof::{AttemptResult, Effect, Shown};
use crate::model::question::Question;
use crate::model::sight::Tier;

use super::flows;

/// Building a network of some dozens of namespaces.
const BUILDING: Duration = Duration::from_secs(15);
/// One command of a fix.
const COMMAND: Duration = Duration::from_secs(5);
/// How long a mended network may take to carry the first reply.
const MENDING: Duration = Duration::from_millis(1500);

/// What to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// The network, for `bash -eu`.
    pub script: String,
    /// Where it is asked; None is the sandbox's own namespace.
    pub netns: Option<String>,
    /// What is asked; the namespace's id in it means nothing here.
    pub question: Question,
    /// Commands of the fix, each for `sh -c`. Without any, the loss is only reproduced.
    pub fix: Vec<String>,
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Outcome {
    /// Why the network is not there.
    pub unbuilt: Option<String>,
    /// The cause that the rebuilt network showed; None if the packet arrived.
    pub before: Option<Shown>,
    /// What came of the fix.
    pub result: AttemptResult,
    /// The cause after the fix; None if the packet arrived.
    pub after: Option<Shown>,
    /// Other flows that the fix changes.
    pub effects: Vec<Effect>,
    /// Pairs compared for this.
    pub pairs: usize,
    /// There were more.
    pub bounded: bool,
}

impl Outcome {
    fn unbuilt(why: String) -> Self {
        Self {
            unbuilt: Some(why),
            before: None,
            result: AttemptResult::Same,
            after: None,
            effects: Vec::new(),
            pairs: 0,
            bounded: false,
        }
    }
}

/// Does the job. The calling thread is inside the sandbox afterwards.
pub fn run(job: &Job) -> Outcome {
    let sandbox = match Sandbox::enter() {
        Ok(sandbox) => sandbox,
        Err(error) => return Outcome::unbuilt(chain(&error)),
    };
    match run_to_deadline(&mut sandbox.script(&job.script), BUILDING) {
        Ok(done) if done.status.success() => {}
        Ok(done) => return Outcome::unbuilt(format!("{}{}", done.ending(), last_lines(&done.output()))),
        Err(error) => return Outcome::unbuilt(chain(&error)),
    }
    let first = match ask(job, None) {
        Ok(first) => first,
        Err(why) => return Outcome::unbuilt(why),
    };
    let mut outcome = Outcome { unbuilt: None, before: super::shown(&first), ..Outcome::unbuilt(String::new()) };
    outcome.unbuilt = None;
    if outcome.before.is_none() || job.fix.is_empty() {
        return outcome;
    }
    for command in &job.fix {
        let failed = match run_to_deadline(&mut sandbox.shell_line(command), COMMAND) {
            Ok(done) if done.status.success() => continue,
            Ok(done) => format!("{}{}", done.ending(), last_lines(&done.output())),
            Err(error) => chain(&error),
        };
        outcome.result = AttemptResult::Failed { command: command.clone(), said: failed };
        return outcome;
    }
    let over = Instant::now() + MENDING;
    // Whether it arrives is seen without probes, which take longer to load than the question itself.
    let second = loop {
        match ask(job, Some(Tier::Capture)) {
            Ok(second)
                if second.diagnosis.verdict != Verdict::Delivered
                    && Instant::now() < over
                    && !crate::lab::process::interrupted() => {}
            Ok(second) => break second,
            Err(why) => {
                outcome.result = AttemptResult::Failed { command: "the question after the fix".to_owned(), said: why };
                return outcome;
            }
        }
    };
    outcome.after = super::shown(&second);
    outcome.result = match (&outcome.before, &outcome.after) {
        (_, None) => AttemptResult::Answered,
        (Some(before), Some(after))
            if (&before.code, &before.netns, &before.dev) == (&after.code, &after.netns, &after.dev) =>
        {
            AttemptResult::Same
        }
        (_, Some(after)) if after.code.is_none() => AttemptResult::Same,
        _ => AttemptResult::NextFault,
    };
    let changes = flows::changes(&first.recording.question, &first.recording.before, &second.recording.before);
    outcome.effects = changes.effects;
    outcome.pairs = changes.pairs;
    outcome.bounded = changes.bounded;
    outcome
}

fn ask(job: &Job, tier: Option<Tier>) -> Result<Answer, String> {
    let question = &job.question;
    let options = PingOptions {
        netns: job.netns.clone().map_or(Asked::Own, Asked::Name),
        destination: match &question.zone {
            Some(zone) => format!("{}%{zone}", question.dst),
            None => question.dst.to_string(),
        },
        family: Family::Any,
        iface: question.iface.clone(),
        count: 1,
        interval_ms: 200,
        timeout_ms: 700,
        size: question.size,
        ttl: question.ttl,
        tos: question.tos,
        mark: question.mark,
        pmtu: question.pmtu,
        manner: Manner::default(),
        patience: Patience::Decisive,
        tier,
    };
    ask::run(&options).map_err(|error| chain(&error))
}

/// The error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
