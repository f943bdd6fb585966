//! One try at a proof, in the process that is its sandbox: build, ask, mend, ask again.
//!
//! ```text
//!   prove::try_one ──pipe──────────────────────────────► standard input: the job, one line of JSON; then nothing, until the end
//!        └─ lab prove --inside: makes the sandbox
//!               └─ lab prove --first: the first process of its PID namespace; does the job, writes the outcome
//!                     └─ bash, ip, nft, …
//! ```
//!
//! **Nothing outlives the proof**, whoever is killed and however. The kernel kills all processes of a PID namespace with
//! its first one. That one ends when its pipe does, which is when the process that wants the proof is gone, and by signal
//! when the process that made the sandbox is gone. Namespaces, mounts and the files in them go with the last process.

use std::io::{BufRead, Read, Write};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::ask::{self, Answer, Foretelling, Patience, PingOptions};
use crate::collect::netns::Asked;
use crate::collect::ping::{Family, Manner};
use crate::lab::process::{last_lines, run_to_deadline};
use crate::lab::sandbox::Sandbox;
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
    /// Commands of the fix, each for `sh -c`, and asked again behind each group. Without any, the loss is only reproduced.
    pub stages: Vec<Vec<String>>,
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
    /// Other causes that were shown behind groups of commands before the last.
    pub between: Vec<Shown>,
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
            between: Vec::new(),
            after: None,
            effects: Vec::new(),
            pairs: 0,
            bounded: false,
        }
    }
}

/// Makes the sandbox, and lets its first process do the job. Whether that one ended well.
pub fn enter() -> std::io::Result<bool> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    let sandbox = match Sandbox::enter_sealed() {
        Ok(sandbox) => sandbox,
        Err(error) => {
            let outcome = serde_json::to_string(&Outcome::unbuilt(chain(&error)))?;
            writeln!(std::io::stdout(), "{outcome}")?;
            return Ok(true);
        }
    };
    let mut first = sandbox.command("/proc/self/exe");
    first.args(["lab", "prove", "--first"]).env("TMPDIR", "/tmp");
    Ok(first.status()?.success())
}

/// In the first process of the sandbox: reads the job and does it.
pub fn first() -> std::io::Result<Outcome> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let job: Job = serde_json::from_str(&line)?;
    std::thread::Builder::new().name("leash".to_owned()).spawn(|| {
        // Nothing more is sent: reading ends when the other end of the pipe is gone.
        let _ = std::io::stdin().lock().read(&mut [0; 1]);
        std::process::exit(1);
    })?;
    Ok(match Sandbox::joined() {
        Ok(sandbox) => run(&job, &sandbox),
        Err(error) => Outcome::unbuilt(chain(&error)),
    })
}

fn run(job: &Job, sandbox: &Sandbox) -> Outcome {
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
    if outcome.before.is_none() || job.stages.is_empty() {
        return outcome;
    }
    let mut stopped = outcome.before.clone();
    let mut second = None;
    for (at, commands) in job.stages.iter().enumerate() {
        if let Err(failed) = carry_out(commands, sandbox) {
            outcome.result = failed;
            return outcome;
        }
        let last = at + 1 == job.stages.len();
        // Behind all commands a reply is waited for, or another cause that stays; before, anything else than what
        // stopped it so far.
        let mut earlier = None;
        let over = |answer: &Answer| match super::shown(answer) {
            None => true,
            Some(shown) if shown.code.is_none() || is_same(outcome.before.as_ref(), &shown) => false,
            Some(shown) if last => earlier.replace(shown.clone()).as_ref() == Some(&shown),
            Some(shown) => Some(&shown) != stopped.as_ref(),
        };
        let answer = match ask_until(job, over) {
            Ok(answer) => answer,
            Err(why) => {
                outcome.result = AttemptResult::Failed { command: "the question after the fix".to_owned(), said: why };
                return outcome;
            }
        };
        let shown = super::shown(&answer);
        if !last
            && let Some(next) =
                shown.clone().filter(|next| next.code.is_some() && !is_same(outcome.before.as_ref(), next))
            && !outcome.between.contains(&next)
        {
            outcome.between.push(next);
        }
        stopped = shown;
        second = Some(answer);
    }
    let Some(second) = second else { return outcome };
    outcome.after = super::shown(&second);
    outcome.result = match (&outcome.before, &outcome.after) {
        (_, None) => AttemptResult::Answered,
        (before, Some(after)) if after.code.is_none() || is_same(before.as_ref(), after) => AttemptResult::Same,
        _ => AttemptResult::NextFault,
    };
    let changes = flows::changes(&first.recording.question, &first.recording.before, &second.recording.before);
    outcome.effects = changes.effects;
    outcome.pairs = changes.pairs;
    outcome.bounded = changes.bounded;
    outcome
}

/// Whether it is the same cause at the same place.
fn is_same(before: Option<&Shown>, after: &Shown) -> bool {
    before.is_some_and(|before| (&before.code, &before.netns, &before.dev) == (&after.code, &after.netns, &after.dev))
}

fn carry_out(commands: &[String], sandbox: &Sandbox) -> Result<(), AttemptResult> {
    for command in commands {
        let said = match run_to_deadline(&mut sandbox.shell_line(command), COMMAND) {
            Ok(done) if done.status.success() => continue,
            Ok(done) => format!("{}{}", done.ending(), last_lines(&done.output())),
            Err(error) => chain(&error),
        };
        return Err(AttemptResult::Failed { command: command.clone(), said });
    }
    Ok(())
}

/// Asks until the answer is what was waited for, or for as long as a mended network may take.
fn ask_until(job: &Job, mut over: impl FnMut(&Answer) -> bool) -> Result<Answer, String> {
    let deadline = Instant::now() + MENDING;
    loop {
        // Whether it arrives is seen without probes, which take longer to load than the question itself.
        let answer = ask(job, Some(Tier::Capture))?;
        if over(&answer) || Instant::now() >= deadline || crate::lab::process::interrupted() {
            return Ok(answer);
        }
    }
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
    ask::connect(&Foretelling { options, protocol: question.protocol }).map_err(|error| chain(&error))
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
