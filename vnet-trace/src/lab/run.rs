//! One run of one lab, in the process that is its sandbox.
//!
//! ```text
//!   needs ─► setup ─► the tool ─► [plain ping] ─► commands of its fixes[0] ─► plain ping      Part::Question
//!   needs ─► setup ─► the lab's fix ─► plain ping                                             Part::OwnFix
//! ```
//!
//! The tool is a child process in the lab's root, as a person would start it; what it says is judged by [`super::answer`].
//! The tool comes first: a ping before it would leave resolved neighbours and learned MTUs, and the tool would rightly tell
//! of those. A plain ping stops at its first reply, so a mended network costs no waiting.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::answer::Answer;
use super::needs;
use super::process::{Finished, ProcessError, last_lines, run_to_deadline};
use super::report::{LabReport, Miss, Outcome, Phase};
use super::sandbox::{Sandbox, SandboxError};
use super::silence::Silence;
use super::spec::{Lab, Probe, Proto, Verdict};

/// A lab's own scripts start daemons and wait for containers.
const SCRIPT_DEADLINE: Duration = Duration::from_mins(1);
/// The tool decides within seconds; under emulation within tens.
const TOOL_DEADLINE: Duration = Duration::from_secs(90);
/// Runs its arguments in the network namespace of the container that is its name.
const ENTER_CONTAINER: &str = r#"format='{{.State.Pid}}'
pid=$(docker inspect -f "$format" "$0" 2>/dev/null || podman inspect -f "$format" "$0") && exec nsenter -t "$pid" -n "$@""#;
/// Opens a TCP connection by a program that knows nothing of us; `$0` is the address, `$1` the port.
const CONNECT: &str = r#"timeout 3 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$0" "$1""#;
/// Sends a datagram, and succeeds when one comes back, or when nobody refuses it within two seconds.
const SEND: &str = r#"exec 3<>"/dev/udp/$0/$1"; echo hello >&3
LC_ALL=C; said=$( { read -r -t 2 -u 3; echo "status $?"; } 2>&1 )
case $said in *refused*|*unreachable*|*"No route"*) echo "$said" >&2; exit 1;; esac"#;
/// One command of a fix.
const FIX_DEADLINE: Duration = Duration::from_secs(20);

/// Which of a lab's two runs. Each needs a network that nobody has mended yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Ask the tool, judge its answer, carry out its fix.
    Question,
    /// Carry out the lab's own fix.
    OwnFix,
}

/// What the tool is told to do with the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Manner {
    /// `ping`.
    #[default]
    Ask,
    /// `predict`: nothing may be sent.
    Foretell,
}

/// How thoroughly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// The tool under test; it gets `ping --json …`.
    pub program: PathBuf,
    /// Check as well that a plain ping does what the lab's verdict says. Costs a second or two.
    pub plain_ping: bool,
    /// Carry out the tool's first fix and ping again.
    pub tool_fix: bool,
    /// How long a mended network may take to carry the first reply: a bridge port with STP takes up to 30 s to forward.
    pub reply_within: Duration,
    /// How many times longer than usual the tool and the scripts may take.
    pub slow: u32,
    /// Let the tool foretell instead of ask, and see that it sends nothing.
    pub manner: Manner,
    /// Write each phase's start and the tool's command to standard error.
    pub verbose: bool,
}

/// Runs one part of `lab`. The calling thread is inside the lab's namespaces afterwards, so this is called once per process.
pub fn run(lab: &Lab, part: Part, options: &Options) -> Result<LabReport, SandboxError> {
    let sandbox = Sandbox::enter()?;
    let mut run = Run { lab, options, sandbox: &sandbox, report: LabReport::new(lab) };
    run.part(part);
    let mut report = run.report;
    let started = Instant::now();
    drop(sandbox);
    report.phases.push(Phase { name: "end".to_owned(), ms: milliseconds(started) });
    Ok(report)
}

/// Builds `lab` and gives an interactive shell in it; what was built ends with the shell. Returns the shell's exit code.
pub fn shell(lab: &Lab, shell: &Path) -> Result<i32, ShellError> {
    let sandbox = Sandbox::enter()?;
    let unmet = needs::unmet(lab, &sandbox);
    if !unmet.is_empty() {
        return Err(ShellError::Unmet { unmet });
    }
    let setup = run_to_deadline(&mut sandbox.script(&lab.setup), SCRIPT_DEADLINE)?;
    if !setup.status.success() {
        return Err(ShellError::Setup { ending: setup.ending(), output: last_lines(&setup.output()) });
    }
    let mut command = sandbox.command(shell);
    command.env("PS1", format!("{}# ", lab.id)).env("VNET_TRACE_LAB", &lab.id);
    if shell.ends_with("bash") {
        // The user's own start-up files would replace the prompt that says where one is.
        command.arg("--norc");
    }
    let program = shell.display().to_string();
    let ended = command.spawn().and_then(|child| super::process::wait(child, None));
    match ended.map_err(|source| ProcessError::Start { program, source })? {
        super::process::Ended::ByItself(status) => Ok(status.code().unwrap_or(1)),
        super::process::Ended::AtDeadline | super::process::Ended::Interrupted => Err(ProcessError::Interrupted.into()),
    }
}

/// Why there is no shell in the lab.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// No namespaces.
    #[error("cannot build the lab's root")]
    Sandbox(#[from] SandboxError),
    /// The machine lacks something.
    #[error("this machine lacks {}", unmet.join(", "))]
    Unmet {
        /// The unmet needs.
        unmet: Vec<String>,
    },
    /// The setup script failed.
    #[error("the lab's setup failed with {ending}{output}")]
    Setup {
        /// How it ended.
        ending: String,
        /// What it said.
        output: String,
    },
    /// A process could not be run or did not end.
    #[error(transparent)]
    Process(#[from] ProcessError),
}

struct Run<'a> {
    lab: &'a Lab,
    options: &'a Options,
    sandbox: &'a Sandbox,
    report: LabReport,
}

impl Run<'_> {
    fn part(&mut self, part: Part) {
        let unmet = self.timed("needs", |run| needs::unmet(run.lab, run.sandbox));
        if !unmet.is_empty() {
            self.report.outcome = Outcome::Skipped { unmet };
            return;
        }
        if self.timed("setup", |run| run.script("setup", &run.lab.setup)).is_none() {
            return;
        }
        match part {
            Part::Question => self.question(),
            Part::OwnFix => self.own_fix(),
        }
    }

    fn question(&mut self) {
        let Some(answer) = self.timed("tool", Self::ask) else { return };
        if self.options.plain_ping {
            self.timed("plain ping", Self::check_verdict_by_plain_ping);
        }
        for miss in answer.misses(&self.lab.expect) {
            self.report.miss(miss);
        }
        let fix = answer.primary.as_ref().and_then(|primary| primary.fixes.first()).cloned();
        self.report.given = Some(answer);

        // The fix of a wrong answer is not carried out: that it helps or not would say nothing.
        if self.lab.expect.verdict == Verdict::Delivered || !self.options.tool_fix || self.cause_is_wrong() {
            return;
        }
        let Some(fix) = fix else {
            self.report.miss(Miss::ToolFix { detail: "there is none".to_owned() });
            return;
        };
        if fix.risk == "needs-choice" {
            return;
        }
        self.timed("tool fix", |run| {
            for command in &fix.commands {
                match run_to_deadline(&mut run.sandbox.shell_line(command), FIX_DEADLINE) {
                    Ok(done) if done.status.success() => {}
                    Ok(done) => {
                        return run.report.miss(Miss::ToolFix {
                            detail: format!("`{command}`: {}{}", done.ending(), last_lines(&done.output())),
                        });
                    }
                    Err(error) => return run.report.miss(Miss::ToolFix { detail: format!("`{command}`: {error}") }),
                }
            }
            run.check_reply("finds no reply after the tool's fix");
        });
    }

    fn own_fix(&mut self) {
        if self.lab.fix.trim().is_empty() {
            return;
        }
        self.timed("own fix", |run| {
            if run.script("fix", &run.lab.fix).is_some() {
                run.check_reply("finds no reply after the lab's own fix");
            }
        });
    }

    fn ask(&mut self) -> Option<Answer> {
        let Probe { netns, dst, count, proto, port, .. } = &self.lab.probe;
        let mut command = self.sandbox.command(&self.options.program);
        let port = port.map(|port| port.to_string());
        match (self.options.manner, proto, &port) {
            (Manner::Ask, Some(Proto::Udp), _) => command.args(["connect", "-u", "--json", "-c", &count.to_string()]),
            (Manner::Ask, Some(Proto::Tcp), _) => command.args(["connect", "--json", "-c", &count.to_string()]),
            (Manner::Ask, None, _) => command.args(["ping", "--json", "-c", &count.to_string()]),
            (Manner::Foretell, Some(Proto::Udp), Some(port)) => command.args(["predict", "--json", "--udp", port]),
            (Manner::Foretell, Some(Proto::Tcp), Some(port)) => command.args(["predict", "--json", "--tcp", port]),
            (Manner::Foretell, ..) => command.args(["predict", "--json"]),
        };
        if let Some(netns) = netns {
            command.args(["-N", netns]);
        }
        command.args(self.lab.probe.shaping_args()).arg(dst);
        command.args(port.filter(|_| self.options.manner == Manner::Ask));
        self.say(|| format!("{command:?}"));

        let no_answer = |detail| Miss::NoAnswer { detail };
        let listening = (self.options.manner == Manner::Foretell).then(|| Silence::listen(self.lab.probe.port));
        let asked = match run_to_deadline(&mut command, TOOL_DEADLINE * self.options.slow) {
            Ok(asked) => asked,
            Err(error) => {
                self.report.miss(no_answer(chain(&error)));
                return None;
            }
        };
        self.say(|| asked.stderr.clone());
        if let Some(listening) = listening {
            for heard in listening.heard() {
                self.report.miss(Miss::Heard { frame: heard });
            }
        }
        let answer: Answer = match serde_json::from_str(&asked.stdout) {
            Ok(answer) => answer,
            Err(error) => {
                self.report.miss(no_answer(format!("{}{}; {error}", asked.ending(), last_lines(&asked.stderr))));
                return None;
            }
        };
        let want = i32::from(answer.verdict != "delivered");
        if asked.status.code() != Some(want) {
            self.report.miss(Miss::Differs {
                what: "exit code".to_owned(),
                want: format!("exit code {want}"),
                got: asked.ending(),
            });
        }
        Some(answer)
    }

    fn check_verdict_by_plain_ping(&mut self) {
        let lost = self.lab.expect.verdict == Verdict::Lost;
        match self.plain_ping(self.lab.probe.count, 3) {
            Ok(pinged) if pinged.status.success() == lost => {
                let when = if lost {
                    "gets a reply, but the lab says lost"
                } else {
                    "gets no reply, but the lab says delivered"
                };
                self.report.miss(Miss::PlainPing { when: when.to_owned(), detail: pinged.output() });
            }
            Ok(_) => {}
            Err(error) => self.report.miss(Miss::Runner { detail: chain(&error) }),
        }
    }

    /// Pings until the first reply.
    fn check_reply(&mut self, when: &str) {
        let over = Instant::now() + self.options.reply_within;
        loop {
            match self.plain_ping(1, 5.min(self.options.reply_within.as_secs().max(1) as u32)) {
                Ok(pinged) if pinged.status.success() => return,
                // With -w ping itself goes on until the first reply; but it gives up at once on a local error such as
                // "Network is unreachable", which a route that is just being learnt cures.
                Ok(_) if Instant::now() < over => std::thread::sleep(Duration::from_millis(200)),
                Ok(pinged) => {
                    return self.report.miss(Miss::PlainPing { when: when.to_owned(), detail: pinged.output() });
                }
                Err(error) => return self.report.miss(Miss::Runner { detail: chain(&error) }),
            }
        }
    }

    /// `count` replies or `seconds`, whichever comes first. Busybox's ping takes -c as a number of requests.
    fn plain_ping(&self, count: u32, seconds: u32) -> Result<Finished, ProcessError> {
        let probe = &self.lab.probe;
        let mut args: Vec<String> = match &probe.netns {
            Some(netns) => match netns.strip_prefix("container:") {
                Some(container) => ["sh", "-c", ENTER_CONTAINER, container].map(str::to_owned).into(),
                None => ["ip", "netns", "exec", netns].map(str::to_owned).into(),
            },
            None => Vec::new(),
        };
        if let (Some(proto), Some(port)) = (probe.proto, probe.port) {
            let script = match proto {
                Proto::Tcp => CONNECT,
                Proto::Udp => SEND,
            };
            args.extend(["bash", "-c", script, &probe.dst, &port.to_string()].map(str::to_owned));
            let mut command: Command = self.sandbox.command(&args[0]);
            command.args(&args[1..]);
            return run_to_deadline(&mut command, Duration::from_secs(u64::from(seconds) + 10));
        }
        if probe.bind {
            args.extend(["busybox", "ping", "-c", &count.to_string(), "-W", "1"].map(str::to_owned));
        } else {
            args.extend(
                ["ping", "-n", "-i", "0.2", "-c", &count.to_string(), "-w", &seconds.to_string()].map(str::to_owned),
            );
        }
        args.extend(probe.shaping_args());
        args.push(probe.dst.clone());
        let mut command: Command = self.sandbox.command(&args[0]);
        command.args(&args[1..]);
        run_to_deadline(&mut command, Duration::from_secs(u64::from(seconds) + 10))
    }

    fn script(&mut self, name: &str, text: &str) -> Option<Finished> {
        let detail = match run_to_deadline(&mut self.sandbox.script(text), SCRIPT_DEADLINE * self.options.slow) {
            Ok(done) if done.status.success() => return Some(done),
            Ok(done) => format!("{}{}", done.ending(), last_lines(&done.output())),
            Err(error) => chain(&error),
        };
        self.report.miss(Miss::Script { script: name.to_owned(), detail });
        None
    }

    fn cause_is_wrong(&self) -> bool {
        self.report
            .misses()
            .iter()
            .any(|miss| matches!(miss, Miss::Differs { what, .. } if what == "cause" || what == "verdict"))
    }

    fn timed<T>(&mut self, phase: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        self.say(|| format!("{}: {phase}", self.lab.id));
        let started = Instant::now();
        let done = work(self);
        self.report.phases.push(Phase { name: phase.to_owned(), ms: milliseconds(started) });
        done
    }

    fn say(&self, text: impl FnOnce() -> String) {
        if self.options.verbose {
            let text = text();
            if !text.trim().is_empty() {
                eprintln!("{}", text.trim_end());
            }
        }
    }
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

fn milliseconds(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1e5).round() / 100.0
}
