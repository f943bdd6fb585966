//! A shell script in the making: commands for `ip`, `bridge`, `tc` and others, each in its namespace.
//!
//! Neighbouring commands of one program in one namespace become one batch, which costs one process instead of many.

use crate::diagnose::case::quote;
use crate::model::id::NetnsId;

use super::names::Names;

/// Ends a text for a program. Whatever has it on a line of its own is refused ([`super::plain`]).
pub const END: &str = "END_OF_RULES";

/// From so many commands on, a batch is easier to read than lines.
const BATCH: usize = 3;

/// A program that takes batches, or one line of shell.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Speaker {
    Ip(NetnsId),
    Ip6(NetnsId),
    Bridge(NetnsId),
    Tc(NetnsId),
    Shell,
}

/// The script.
#[derive(Debug, Clone)]
pub struct Script {
    names: Names,
    lines: Vec<(Speaker, String)>,
}

impl Script {
    /// An empty one.
    pub fn new(names: Names) -> Self {
        Self { names, lines: Vec::new() }
    }

    /// How a namespace is called in the script.
    pub fn name(&self, netns: NetnsId) -> &str {
        self.names.name(netns)
    }

    /// The names.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// `ip ARGUMENTS` there.
    pub fn ip(&mut self, netns: NetnsId, arguments: impl Into<String>) {
        self.lines.push((Speaker::Ip(netns), arguments.into()));
    }

    /// `ip -6 ARGUMENTS` there.
    pub fn ip6(&mut self, netns: NetnsId, arguments: impl Into<String>) {
        self.lines.push((Speaker::Ip6(netns), arguments.into()));
    }

    /// `ip -4` or `ip -6` there.
    pub fn ip_of(&mut self, ipv6: bool, netns: NetnsId, arguments: impl Into<String>) {
        if ipv6 {
            self.ip6(netns, arguments);
        } else {
            self.ip(netns, arguments);
        }
    }

    /// `bridge ARGUMENTS` there.
    pub fn bridge(&mut self, netns: NetnsId, arguments: impl Into<String>) {
        self.lines.push((Speaker::Bridge(netns), arguments.into()));
    }

    /// `tc ARGUMENTS` there.
    pub fn tc(&mut self, netns: NetnsId, arguments: impl Into<String>) {
        self.lines.push((Speaker::Tc(netns), arguments.into()));
    }

    /// Any command there.
    pub fn run(&mut self, netns: NetnsId, command: &str) {
        let line = match netns {
            NetnsId(0) => command.to_owned(),
            other => format!("ip netns exec {} {command}", self.name(other)),
        };
        self.line(&line);
    }

    /// A program there that reads `text` from its standard input.
    pub fn feed(&mut self, netns: NetnsId, command: &str, text: &str) {
        self.run(netns, &format!("{command} <<'{END}'\n{}\n{END}", text.trim_end()));
    }

    /// A line as it is.
    pub fn line(&mut self, line: &str) {
        self.lines.push((Speaker::Shell, line.to_owned()));
    }

    /// A comment, cut into lines.
    pub fn comment(&mut self, text: &str) {
        for line in text.lines() {
            self.line(&format!("# {line}"));
        }
    }

    /// The whole.
    pub fn finish(self) -> String {
        let mut text = String::new();
        let mut at = 0;
        while let Some((speaker, _)) = self.lines.get(at) {
            let run = self.lines[at..].iter().take_while(|(other, _)| other == speaker).count();
            self.write(speaker, &self.lines[at..at + run], &mut text);
            at += run;
        }
        text
    }

    fn write(&self, speaker: &Speaker, lines: &[(Speaker, String)], text: &mut String) {
        let (program, netns) = match speaker {
            Speaker::Shell => {
                for (_, line) in lines {
                    text.push_str(line);
                    text.push('\n');
                }
                return;
            }
            Speaker::Ip(netns) => ("ip", *netns),
            Speaker::Ip6(netns) => ("ip -6", *netns),
            Speaker::Bridge(netns) => ("bridge", *netns),
            Speaker::Tc(netns) => ("tc", *netns),
        };
        let there = match netns {
            NetnsId(0) => program.to_owned(),
            other => format!("{program} -n {}", quote(self.name(other))),
        };
        if lines.len() < BATCH {
            for (_, arguments) in lines {
                text.push_str(&format!("{there} {arguments}\n"));
            }
            return;
        }
        text.push_str(&format!("{there} -batch - <<END\n"));
        for (_, arguments) in lines {
            text.push_str(arguments);
            text.push('\n');
        }
        text.push_str("END\n");
    }
}
