//! Commands of a fix, said for the namespaces where they are rebuilt, and only if they stay inside.
//!
//! A fix is a list of shell lines that somebody else's machine will run. Here each is taken apart: a known program, in a
//! namespace that is rebuilt, without anything that the shell would read as more than words. Whatever else it is, it is
//! refused; what each program may be told is in [`confine`]. Two things are said differently: a namespace that was reached by a path is reached by its name, and a rule's
//! handle, which the kernel gave to the original, is looked up by the rule's place in its chain.

mod confine;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::diagnose::case::quote;
use crate::model::id::NetnsId;
use crate::model::netfilter::Family;
use crate::model::snapshot::Snapshot;

use confine::{Known, confine};

use super::names::Names;

/// Programs that change networks and nothing else, given plain arguments.
const PROGRAMS: &[&str] = &[
    "ip",
    "tc",
    "bridge",
    "sysctl",
    "nft",
    "iptables",
    "ip6tables",
    "iptables-nft",
    "ip6tables-nft",
    "iptables-legacy",
    "ip6tables-legacy",
    "ebtables",
    "ebtables-nft",
    "ebtables-legacy",
    "arptables",
    "arptables-nft",
    "arptables-legacy",
    "ovs-vsctl",
    "ovs-ofctl",
];

/// Words that stand for something that a person has to choose.
const CHOICES: &[&str] = &["GATEWAY", "ADDRESS", "DEVICE", "PREFIX", "REMOTE"];

/// Why a command is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The shell would do more with it than run one program.
    #[error("`{command}` is more than one program with its arguments")]
    Shell {
        /// The line.
        command: String,
    },
    /// Not a program that only changes networks.
    #[error("`{program}` is not one of the programs that are carried out")]
    Program {
        /// Its name.
        program: String,
    },
    /// It would work in a namespace that is not rebuilt.
    #[error("`{netns}` is no namespace of the rebuilt network")]
    Netns {
        /// As the command has it.
        netns: String,
    },
    /// An argument that reaches beyond the network.
    #[error("`{argument}` of {program} reaches beyond the network")]
    Argument {
        /// The program.
        program: String,
        /// The argument.
        argument: String,
    },
    /// It changes a device that is not there.
    #[error("`{device}` is no device of the rebuilt network there")]
    Device {
        /// Its name.
        device: String,
    },
    /// It leaves something to be filled in.
    #[error("`{command}` leaves something to be chosen")]
    Choice {
        /// The line.
        command: String,
    },
}

/// Where commands are said for.
pub struct Translator<'a> {
    snapshot: &'a Snapshot,
    names: &'a Names,
    /// Namespaces that earlier commands have made.
    namespaces: BTreeSet<String>,
    /// Devices that earlier commands have made; where they are by now is not followed.
    devices: BTreeSet<String>,
}

/// What a command may name that works in one of the namespaces.
struct At<'a> {
    translator: &'a Translator<'a>,
    netns: String,
}

impl Known for At<'_> {
    fn netns(&self, name: &str) -> Option<String> {
        self.translator.known(name).ok()
    }

    fn device(&self, name: &str) -> bool {
        let Translator { snapshot, names, devices, .. } = self.translator;
        let space = names.id(&self.netns).and_then(|id| snapshot.netns(id));
        devices.contains(name) || space.is_some_and(|space| space.link_by_name(name).is_some())
    }
}

impl<'a> Translator<'a> {
    /// For a rebuilt network.
    pub fn new(snapshot: &'a Snapshot, names: &'a Names) -> Self {
        Self { snapshot, names, namespaces: BTreeSet::new(), devices: BTreeSet::new() }
    }

    /// All commands of a fix, in order.
    pub fn all(mut self, commands: &[String]) -> Result<Vec<String>, Refusal> {
        commands.iter().map(|command| self.one(command)).collect()
    }

    fn one(&mut self, command: &str) -> Result<String, Refusal> {
        let shell = || Refusal::Shell { command: command.to_owned() };
        let mut words = split(command).ok_or_else(shell)?;
        let mut netns = ".".to_owned();
        loop {
            let inside = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                ["ip", "netns", "exec", name, _, ..] => Some((self.known(name)?, 4)),
                ["nsenter", net, _, ..] if net.starts_with("--net=") => {
                    Some((self.by_path(net.trim_start_matches("--net="))?, 2))
                }
                _ => None,
            };
            let Some((name, taken)) = inside else { break };
            netns = name;
            words.drain(..taken);
        }
        if words.is_empty() {
            return Err(shell());
        }
        let program = words.remove(0);
        if !PROGRAMS.contains(&program.as_str()) {
            return Err(Refusal::Program { program });
        }
        if words.iter().any(|word| CHOICES.contains(&word.as_str())) {
            return Err(Refusal::Choice { command: command.to_owned() });
        }
        let there = if netns == "." { String::new() } else { format!("ip netns exec {} ", quote(&netns)) };
        let handle = self.handle(&program, &words, &netns, &there);
        // `-n` moves where devices are looked for.
        let at = match words.as_slice() {
            [option, name, ..] if matches!(option.as_str(), "-n" | "-netns") => self.known(name)?,
            _ => netns,
        };
        let made = confine(&program, &mut words, &At { translator: self, netns: at })?;
        self.namespaces.extend(made.netns);
        self.devices.extend(made.devices);
        let mut line = format!("{there}{program}");
        for (at, word) in words.iter().enumerate() {
            line.push(' ');
            match &handle {
                Some((place, text)) if *place == at => line.push_str(text),
                _ => line.push_str(&quote(word)),
            }
        }
        Ok(line)
    }

    /// A namespace under /run/netns, as it is called here.
    fn known(&self, name: &str) -> Result<String, Refusal> {
        let here = self.names.renamed(self.snapshot, name).or_else(|| self.namespaces.get(name).map(String::as_str));
        here.map(str::to_owned).ok_or_else(|| Refusal::Netns { netns: name.to_owned() })
    }

    fn by_path(&self, path: &str) -> Result<String, Refusal> {
        let found = self.snapshot.namespaces.iter().find(|space| space.path.as_deref() == Some(path));
        let name = found.map(|space| (space.id, self.names.name(space.id)));
        match name {
            Some((id, name)) if name != "." || id == NetnsId(0) => Ok(name.to_owned()),
            _ => Err(Refusal::Netns { netns: path.to_owned() }),
        }
    }

    /// `handle N` or `position N` of an nft command: where the number stands, and how to find out what it is there.
    fn handle(&self, program: &str, arguments: &[String], netns: &str, there: &str) -> Option<(usize, String)> {
        if program != "nft" {
            return None;
        }
        let at = arguments.iter().position(|argument| argument == "handle" || argument == "position")? + 1;
        let number: u64 = arguments.get(at)?.parse().ok()?;
        let rule = arguments.iter().position(|argument| argument == "rule")?;
        let [family, table, chain] = arguments.get(rule + 1..rule + 4)? else { return None };
        let tables = &self.snapshot.netns(self.names.id(netns)?)?.netfilter.tables;
        let known =
            tables.iter().find(|known| Some(known.family) == Family::from_word(family) && known.name == *table)?;
        let place = known.chain(chain)?.rules.iter().position(|rule| rule.handle == Some(number))? + 1;
        let list = format!("{there}nft -a list chain {family} {} {}", quote(table), quote(chain));
        // Rules are what is indented twice and has a handle.
        Some((at, format!("$({list} | sed -n 's/^\\t\\t.* # handle \\([0-9]*\\)$/\\1/p' | sed -n {place}p)")))
    }
}

/// Words of a plain command: quotes are taken away, and anything that makes the shell do more is refused.
fn split(command: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = command.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next()? {
                        '\'' => break,
                        inner => word.push(inner),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next()? {
                        '"' => break,
                        '\\' | '$' | '`' => return None,
                        inner => word.push(inner),
                    }
                }
            }
            '\\' => word.get_or_insert_default().push(characters.next()?),
            '$' | '`' | ';' | '&' | '|' | '<' | '>' | '(' | ')' | '{' | '}' | '*' | '?' | '[' | ']' | '#' | '\n'
            | '!' => return None,
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    (!words.is_empty()).then_some(words)
}
