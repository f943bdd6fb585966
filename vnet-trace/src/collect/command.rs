//! Runs a program that is asked something, and does not wait for ever.

use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// More output than this is not read.
const LARGEST: u64 = 64 << 20;

/// Why there is no output.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("cannot run `{program}`")]
    Start {
        /// The program.
        program: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// It did not end in time, and was ended.
    #[error("`{program}` did not answer within {milliseconds} ms")]
    Late {
        /// The program.
        program: String,
        /// How long it was given.
        milliseconds: u128,
    },
    /// It says that it could not do it.
    #[error("`{program}` says: {message}")]
    Failed {
        /// The program.
        program: String,
        /// The last line of its standard error.
        message: String,
    },
}

/// Standard output of `program`, started from the calling thread and so in its namespaces.
pub fn output(program: &str, arguments: &[&str], deadline: Duration) -> Result<String, CommandError> {
    let end = Instant::now() + deadline;
    let start = |source| CommandError::Start { program: program.into(), source };
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    let (sender, receiver) = channel();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let errors = std::thread::Builder::new().spawn(move || read(stderr));
    let reader = std::thread::Builder::new().spawn(move || {
        // Nobody listens any more if the program was late.
        let _ = sender.send(read(stdout));
    });
    let read = match &reader {
        Ok(_) => receiver.recv_timeout(end.saturating_duration_since(Instant::now())),
        Err(_) => Err(RecvTimeoutError::Disconnected),
    };
    let Ok(text) = read else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(CommandError::Late { program: program.into(), milliseconds: deadline.as_millis() });
    };
    // Its output has ended, so it is about to end as well.
    let status = child.wait().map_err(start)?;
    if status.success() {
        return Ok(text);
    }
    let errors = errors.ok().and_then(|thread| thread.join().ok()).unwrap_or_default();
    let message = errors.lines().next_back().unwrap_or("nothing").to_owned();
    Err(CommandError::Failed { program: program.into(), message })
}

fn read(from: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        // What came before an error still counts.
        let _ = from.take(LARGEST).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_output_failure_and_lateness() {
        let second = Duration::from_secs(1);
        assert_eq!(output("sh", &["-c", "echo a; echo b"], second).unwrap(), "a\nb\n");
        let failed = output("sh", &["-c", "echo no >&2; exit 3"], second).unwrap_err();
        assert_eq!(failed.to_string(), "`sh` says: no");
        let late = output("sleep", &["20"], Duration::from_millis(20)).unwrap_err();
        assert!(matches!(late, CommandError::Late { .. }));
        assert!(matches!(output("no-such-program", &[], second), Err(CommandError::Start { .. })));
    }
}
