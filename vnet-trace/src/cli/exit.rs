//! Every exit code, documented once. They are an interface: scripts rely on them.

use std::process::ExitCode;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: delivered; for `lab run`: as the lab says; for other commands: done.
    Good,
    /// 1: lost, whether a cause is named or not; for `lab run`: not as the lab says.
    Lost,
    /// 2: anything else: usage, rights, the kernel.
    Trouble,
    /// 77: `lab run`: every lab asked for was skipped, for an unmet need.
    Skipped,
    /// `lab shell`: the shell's own exit code.
    Shell(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Good => 0,
            Exit::Lost => 1,
            Exit::Trouble => 2,
            Exit::Skipped => 77,
            Exit::Shell(code) => code,
        })
    }
}
