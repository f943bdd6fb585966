//! Child processes with a deadline, and the end of everything that a lab started.
//!
//! A lab's scripts start daemons that outlive their shell. They are found again because the lab's process is their
//! subreaper: an orphan becomes its child instead of init's. So "everything that this lab started" is exactly the
//! descendants of its process, whatever they did with sessions, process groups or file descriptors, and each is ended by
//! its id. Limit: a process started by somebody else on the lab's request (dockerd's containers) is no descendant; such a
//! lab ties its life to a pipe that closes with the lab.
//!
//! Output goes to unlinked files, not pipes: a daemon that keeps its standard output open would hold a pipe for ever.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// How often a waiting process looks whether it was asked to stop. The end of a child is noticed at once.
const LOOK_FOR_SIGNALS: Duration = Duration::from_millis(50);

/// A child that ended by itself.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output, invalid UTF-8 replaced.
    pub stdout: String,
    /// Its standard error, invalid UTF-8 replaced.
    pub stderr: String,
    /// From start to end.
    pub elapsed: Duration,
}

/// A child that did not.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// It could not be started, or its output not be kept.
    #[error("cannot run {program}")]
    Start {
        /// The program as asked for.
        program: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// It was killed at its deadline.
    #[error("{program} did not end within {} s{}", after.as_secs(), last_lines(output))]
    Deadline {
        /// The program as asked for.
        program: String,
        /// The deadline.
        after: Duration,
        /// Both its outputs so far.
        output: String,
    },
    /// This process was asked to stop, and the child was killed.
    #[error("interrupted")]
    Interrupted,
}

impl Finished {
    /// Both outputs, standard error last, for a message.
    pub fn output(&self) -> String {
        format!("{}{}", self.stdout, self.stderr).trim().to_owned()
    }

    /// "exit code 2", "signal 9".
    pub fn ending(&self) -> String {
        match (self.status.code(), self.status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "no status".to_owned(),
        }
    }
}

/// Runs `command` to its end or to the deadline, then kills it. Its standard input is empty.
pub fn run_to_deadline(command: &mut Command, deadline: Duration) -> Result<Finished, ProcessError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let failed = |source| ProcessError::Start { program: program.clone(), source };

    let mut stdout = tempfile::tempfile().map_err(failed)?;
    let mut stderr = tempfile::tempfile().map_err(failed)?;
    command
        .stdin(Stdio::null())
        .stdout(stdout.try_clone().map_err(failed)?)
        .stderr(stderr.try_clone().map_err(failed)?);
    let started = Instant::now();
    let child = command.spawn().map_err(failed)?;
    let ended = wait(child, Some(deadline)).map_err(failed)?;
    let elapsed = started.elapsed();
    let (stdout, stderr) = (text_of(&mut stdout), text_of(&mut stderr));
    match ended {
        Ended::ByItself(status) => Ok(Finished { status, stdout, stderr, elapsed }),
        Ended::AtDeadline => {
            Err(ProcessError::Deadline { program, after: deadline, output: format!("{stdout}{stderr}") })
        }
        Ended::Interrupted => Err(ProcessError::Interrupted),
    }
}

/// Why the wait for a child is over. The child has been reaped in each case.
#[derive(Debug)]
pub enum Ended {
    /// It ended.
    ByItself(ExitStatus),
    /// It was killed at the deadline.
    AtDeadline,
    /// It was killed because this process was asked to stop.
    Interrupted,
}

/// Waits for `child`, killing it at the deadline or when this process is asked to stop.
pub fn wait(child: Child, deadline: Option<Duration>) -> std::io::Result<Ended> {
    wait_then(child, deadline, Duration::ZERO)
}

/// As [`wait`], for a child that cleans up after itself: it gets SIGTERM first, and SIGKILL ten seconds later.
pub fn wait_gently(child: Child, deadline: Duration) -> std::io::Result<Ended> {
    wait_then(child, Some(deadline), Duration::from_secs(10))
}

fn wait_then(mut child: Child, deadline: Option<Duration>, grace: Duration) -> std::io::Result<Ended> {
    let pid = Pid::from_raw(child.id() as i32);
    let over = deadline.map(|deadline| Instant::now() + deadline);
    let (ended, end) = mpsc::channel();
    // Not joined on purpose: it ends with the child, which is killed below at the latest.
    std::thread::Builder::new().name("wait".into()).spawn(move || ended.send(child.wait()))?;
    let why = loop {
        match end.recv_timeout(LOOK_FOR_SIGNALS) {
            Ok(status) => return status.map(Ended::ByItself),
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err(std::io::Error::other("the waiting thread ended")),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
        }
        if interrupted() {
            break Ended::Interrupted;
        }
        if over.is_some_and(|over| Instant::now() >= over) {
            break Ended::AtDeadline;
        }
    };
    // The waiting thread reaps the child and says so at once; until it has said so, the id is taken to be the child's.
    let mut signals =
        if grace.is_zero() { [None, Some(Signal::SIGKILL)] } else { [Some(Signal::SIGTERM), Some(Signal::SIGKILL)] }
            .into_iter()
            .flatten();
    let mut patience = Duration::ZERO;
    while let Err(mpsc::RecvTimeoutError::Timeout) = end.recv_timeout(patience) {
        if let Some(signal) = signals.next() {
            let _ = kill(pid, signal);
        }
        patience = grace.max(LOOK_FOR_SIGNALS);
    }
    Ok(why)
}

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on SIGINT, SIGTERM and SIGHUP end waits instead of this process, so that it can clean up.
pub fn catch_interrupts() -> std::io::Result<()> {
    let flag = INTERRUPTED.get_or_init(Arc::default);
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(flag))?;
    }
    Ok(())
}

/// Whether one of those signals has come.
pub fn interrupted() -> bool {
    INTERRUPTED.get().is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// Kills every descendant of this process but those in `spare` (and theirs), and reaps the adopted ones. Returns the ids of
/// processes that would not die within five seconds (stuck in the kernel).
///
/// The process must be a subreaper, and no other thread may be waiting for children of its own that are not in `spare`.
pub fn end_descendants(spare: &[u32]) -> Vec<i32> {
    let over = Instant::now() + Duration::from_secs(5);
    loop {
        // Scan again each time: what is being killed may just have forked.
        let left = descendants_of(std::process::id() as i32, spare);
        for pid in &left {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        let mut reaped = false;
        for pid in &left {
            if let Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) =
                waitpid(Pid::from_raw(*pid), Some(WaitPidFlag::WNOHANG))
            {
                reaped = true;
            }
        }
        if left.is_empty() || Instant::now() >= over {
            return left;
        }
        if !reaped {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Whether the process is there, a zombie included.
pub fn exists(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH)
}

fn descendants_of(root: i32, spare: &[u32]) -> Vec<i32> {
    let parents: Vec<(i32, i32)> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: i32| Some((pid, parent_in(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?)))
        .collect();
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        next += 1;
        found.extend(
            parents.iter().filter(|(pid, of)| *of == parent && !spare.contains(&(*pid as u32))).map(|(pid, _)| *pid),
        );
    }
    found.split_off(1)
}

/// The parent's id in a line of /proc/PID/stat. The program's name is in parentheses and may contain any character.
fn parent_in(stat: &str) -> Option<i32> {
    stat.get(stat.rfind(')')? + 1..)?.split_whitespace().nth(1)?.parse().ok()
}

fn text_of(file: &mut File) -> String {
    let mut bytes = Vec::new();
    // The file is ours and unlinked; if it cannot be read, an empty output is the truth that we have.
    let _ = file.rewind().and_then(|()| file.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The last lines of an output, to end a message with.
pub fn last_lines(output: &str) -> String {
    let lines: Vec<&str> = output.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines[lines.len().saturating_sub(4)..].join(" | ");
    if last.is_empty() { last } else { format!(": {last}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, deadline: Duration) -> Result<Finished, ProcessError> {
        run_to_deadline(Command::new("sh").args(["-c", script]), deadline)
    }

    #[test]
    fn keeps_output_and_status() {
        let finished = sh("echo out; echo err >&2; exit 3", Duration::from_secs(10)).unwrap();
        assert_eq!(
            (finished.stdout.as_str(), finished.stderr.as_str(), finished.ending().as_str()),
            ("out\n", "err\n", "exit code 3")
        );
    }

    #[test]
    fn is_not_held_by_a_background_process_that_keeps_the_output_open() {
        let finished = sh("sleep 3 & echo done", Duration::from_secs(2)).unwrap();
        assert_eq!(finished.stdout, "done\n");
    }

    #[test]
    fn kills_at_the_deadline_and_keeps_what_was_said() {
        let error = sh("echo before; exec sleep 60", Duration::from_millis(200)).unwrap_err();
        assert!(matches!(&error, ProcessError::Deadline { output, .. } if output == "before\n"), "{error}");
    }

    #[test]
    fn says_which_program_is_missing() {
        let error = run_to_deadline(&mut Command::new("no-such-program"), Duration::from_secs(1)).unwrap_err();
        assert_eq!(error.to_string(), "cannot run no-such-program");
    }

    #[test]
    fn reads_the_parent_behind_an_odd_name() {
        assert_eq!(parent_in("7 (a) b) (c) S 42 7 7 0"), Some(42));
        assert_eq!(parent_in("7 (a"), None);
        assert_eq!(parent_in(""), None);
    }
}
