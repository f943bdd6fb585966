//! The tools that are compared: how each is started, when it is ready, how it ends and what it says then.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// What looks on while packets are sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// Nothing.
    Nothing,
    /// `vnet-trace watch` with an expression.
    Watch(&'static str),
    /// `tcpdump -i any` with an expression, which writes to nowhere.
    Tcpdump(&'static str),
    /// bpftrace, counting.
    Bpftrace,
    /// pwru with an expression.
    Pwru(&'static str),
}

/// Three counted tracepoints.
const COUNTED: &str = "tracepoint:skb:kfree_skb { @freed = count(); } \
    tracepoint:net:netif_receive_skb { @received = count(); } \
    tracepoint:net:net_dev_start_xmit { @sent = count(); }";

impl Tool {
    /// Whether this machine has it.
    pub fn is_there(self) -> bool {
        match self {
            Self::Nothing | Self::Watch(_) => true,
            Self::Tcpdump(_) => crate::shell::has("tcpdump"),
            Self::Bpftrace => crate::shell::has("bpftrace"),
            Self::Pwru(_) => crate::shell::has("pwru"),
        }
    }

    /// Starts it and waits until it is ready. None if it is nothing.
    pub fn start(self, program: &Path) -> Result<Option<Running>> {
        let (mut command, mark) = match self {
            Self::Nothing => return Ok(None),
            Self::Watch(expression) => {
                let mut command = Command::new(program);
                command.args(["watch", "--quiet", "--summary", "--json", expression]);
                (command, "watching with")
            }
            Self::Tcpdump(expression) => {
                let mut command = Command::new("tcpdump");
                // As root it would become a user who may not write.
                command.args(["-n", "-i", "any", "-w", "/dev/null", "-Z", "root", expression]);
                (command, "listening on")
            }
            Self::Bpftrace => {
                let mut command = Command::new("bpftrace");
                command.args(["-e", COUNTED]);
                (command, "Attaching")
            }
            Self::Pwru(expression) => {
                let mut command = Command::new("pwru");
                command.arg(expression);
                (command, "Listening for events")
            }
        };
        let begun = Instant::now();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
        if self == Self::Bpftrace {
            let out = child.stdout.take().context("no standard output")?;
            let reader = await_line(out, mark)?;
            settle(child.id())?;
            return Ok(Some(Running { child, rest: Box::new(reader), ready: begun.elapsed() }));
        }
        let errors = child.stderr.take().context("no standard error")?;
        let reader = await_line(errors, mark)?;
        Ok(Some(Running { child, rest: Box::new(reader), ready: begun.elapsed() }))
    }
}

/// Reads up to the line that says that it is ready.
fn await_line<R: std::io::Read + Send + 'static>(from: R, mark: &str) -> Result<BufReader<R>> {
    let mut reader = BufReader::new(from);
    let mut said = String::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            bail!("it ended instead of being ready: {}", said.trim());
        }
        if line.contains(mark) {
            return Ok(reader);
        }
        said.push_str(&line);
    }
}

/// bpftrace says when it begins to attach, not when it has done so: it has when it opens no more files.
fn settle(pid: u32) -> Result<()> {
    let open = || Ok::<_, anyhow::Error>(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count());
    let (mut before, mut since) = (open()?, Instant::now());
    while since.elapsed() < Duration::from_millis(300) {
        std::thread::sleep(Duration::from_millis(20));
        let now = open()?;
        if now != before {
            (before, since) = (now, Instant::now());
        }
    }
    Ok(())
}

/// A tool at work.
pub struct Running {
    child: Child,
    rest: Box<dyn std::io::Read + Send>,
    /// From its start until it was ready.
    pub ready: Duration,
}

/// What a tool was like.
pub struct Ended {
    /// From the signal to its end.
    pub stop: Duration,
    /// The peak of its resident memory until then, in KiB.
    pub peak_kib: f64,
    /// The summary, if it was a watch.
    pub summary: Value,
}

impl Running {
    /// Asks it to end and waits for its end.
    pub fn stop(mut self) -> Result<Ended> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak_kib = peak.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok()).context("no VmHWM")?;
        let begun = Instant::now();
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM)?;
        let mut out = String::new();
        if let Some(mut stdout) = self.child.stdout.take() {
            stdout.read_to_string(&mut out)?;
        }
        let mut said = String::new();
        self.rest.read_to_string(&mut said)?;
        let status = self.child.wait()?;
        let stop = begun.elapsed();
        if !status.success() {
            bail!("it ended with {status}: {}", said.trim());
        }
        let summary = out.lines().rev().find_map(|line| serde_json::from_str(line).ok()).unwrap_or(Value::Null);
        Ok(Ended { stop, peak_kib, summary })
    }
}
