//! The packet filter of one network namespace, as plain data.
//!
//! nftables, iptables (both back ends), ebtables and arptables say the same few things: at this hook, in this order, if the
//! packet looks like this, do that. One model holds them all, so that one evaluator can answer for them all, and so that a
//! recording can be replayed on a machine without any of these programs.
//!
//! What it takes: nothing; `collect::nft` and `collect::iptables` fill it. What it gives: the [`Ruleset`] in a snapshot.
//! What it deliberately does not do: evaluate (`predict::netfilter`), read (`collect`), print (`present`).
//!
//! The vocabulary is nftables' own, because it is the larger language: an iptables match becomes the nftables expression that
//! asks the same question (`-i veth+` is `iifname "veth*"`). What neither we nor nftables can express stays as text in an
//! `Unknown` variant. Such an expression is never guessed at: it may match and it may not.
//!
//! Read first: [`Ruleset`], then [`Rule`], then [`statement::Statement`] and [`expression::Match`].

pub mod expression;
pub mod statement;

use serde::{Deserialize, Serialize};

use expression::{Kind, Pattern};
use statement::{Counter, Statement, Verdict};

/// Every table that one network namespace holds, whichever program made it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ruleset {
    /// In the order in which the kernel lists them, nftables first, then the legacy tables.
    pub tables: Vec<Table>,
    /// What could not be read or understood. Empty means that the picture is complete.
    pub gaps: Vec<RulesetGap>,
    /// What the programs printed, from which the rules can be made again elsewhere.
    #[serde(default)]
    pub listings: Vec<Listing>,
}

/// What one program printed about its rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Listing {
    /// The program that printed it: `nft`, `iptables-nft-save`, …
    pub program: String,
    /// Whose rules these are.
    pub backend: Backend,
    /// As printed: nft's JSON, or the lines of a `-save` program.
    pub text: String,
}

impl Ruleset {
    /// Whether nothing at all filters here: no table and nothing that we failed to read.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.gaps.is_empty()
    }

    /// Whose rules are there and were not read. What was read and is not understood is not among them: it is named by the
    /// evaluation that meets it.
    pub fn unread(&self) -> impl Iterator<Item = Backend> {
        self.gaps.iter().filter_map(|gap| match gap {
            RulesetGap::ProgramMissing { backend, .. } | RulesetGap::KernelRefused { backend, .. } => Some(*backend),
            RulesetGap::ProgramFailed { program, .. }
            | RulesetGap::Deadline { program, .. }
            | RulesetGap::Malformed { program, .. } => Some(Backend::of_program(program)),
            RulesetGap::SetTruncated { .. }
            | RulesetGap::NotUnderstood { .. }
            | RulesetGap::MoreNotUnderstood { .. } => None,
        })
    }

    /// The table that a reference points into.
    pub fn table(&self, at: &RuleRef) -> Option<&Table> {
        self.tables
            .iter()
            .find(|table| table.backend == at.backend && table.family == at.family && table.name == at.table)
    }

    /// The rule that a reference points at: by handle where there is one, else by position. None for a policy.
    pub fn rule(&self, at: &RuleRef) -> Option<&Rule> {
        let chain = self.table(at)?.chain(&at.chain)?;
        match (at.handle, at.position) {
            (Some(handle), _) => chain.rules.iter().find(|rule| rule.handle == Some(handle)),
            (None, Some(position)) => chain.rules.iter().find(|rule| rule.position == position),
            (None, None) => None,
        }
    }
}

/// Why a part of the rules is missing from a [`Ruleset`] or cannot be evaluated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum RulesetGap {
    /// The kernel has rules of this kind, but the program that lists them is not installed.
    ProgramMissing {
        /// As looked for on PATH.
        program: String,
        /// Whose rules stay unread.
        backend: Backend,
    },
    /// The program ended with an error.
    ProgramFailed {
        /// Its name.
        program: String,
        /// Its own words, first line.
        reason: String,
    },
    /// The program did not answer in time and was ended.
    Deadline {
        /// Its name.
        program: String,
        /// How long it was given.
        milliseconds: u64,
    },
    /// What the program wrote is not what it should write.
    Malformed {
        /// Its name.
        program: String,
        /// Line (and column, where known) or element.
        place: String,
        /// What was wrong there.
        reason: String,
    },
    /// Only the first elements of a set or map were kept.
    SetTruncated {
        /// Table of the set.
        table: String,
        /// Its name.
        set: String,
        /// How many elements we hold.
        kept: usize,
        /// How many there are.
        total: usize,
    },
    /// An expression that the evaluator cannot answer. It may match and it may not.
    NotUnderstood {
        /// Where it stands.
        at: RuleRef,
        /// The expression as written.
        text: String,
    },
    /// More expressions of the last kind than are listed.
    MoreNotUnderstood {
        /// How many were left out.
        count: usize,
    },
    /// The kernel could not be asked whether there are rules.
    KernelRefused {
        /// Whose rules.
        backend: Backend,
        /// The operating system's error number.
        errno: i32,
    },
}

/// Which program's rules: it decides the syntax of a fix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Backend {
    /// nftables, spoken natively.
    Nft,
    /// iptables or ip6tables on top of nftables. Its rules are nftables rules, but only iptables can show them whole.
    IptablesNft,
    /// iptables or ip6tables with tables of its own in the kernel, which `nft` does not show.
    IptablesLegacy,
    /// ebtables on top of nftables.
    EbtablesNft,
    /// ebtables with tables of its own in the kernel.
    EbtablesLegacy,
    /// arptables on top of nftables.
    ArptablesNft,
    /// arptables with tables of its own in the kernel.
    ArptablesLegacy,
}

impl Backend {
    /// Whose rules a program lists.
    pub fn of_program(program: &str) -> Self {
        let legacy = program.contains("legacy");
        match program.split('-').next().unwrap_or_default() {
            "iptables" | "ip6tables" if legacy => Self::IptablesLegacy,
            "iptables" | "ip6tables" => Self::IptablesNft,
            "ebtables" if legacy => Self::EbtablesLegacy,
            "ebtables" => Self::EbtablesNft,
            "arptables" if legacy => Self::ArptablesLegacy,
            "arptables" => Self::ArptablesNft,
            _ => Self::Nft,
        }
    }
}

/// The address family of a table: which packets it sees, and at which layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// IPv4 and IPv6.
    Inet,
    /// Frames on a bridge.
    Bridge,
    /// ARP packets, except on a bridge.
    Arp,
    /// Frames at one device, before and after everything else.
    Netdev,
}

impl Family {
    /// As `nft` spells it.
    pub fn word(self) -> &'static str {
        match self {
            Family::Ip => "ip",
            Family::Ip6 => "ip6",
            Family::Inet => "inet",
            Family::Bridge => "bridge",
            Family::Arp => "arp",
            Family::Netdev => "netdev",
        }
    }

    /// The family that `nft` calls so.
    pub fn from_word(word: &str) -> Option<Family> {
        Some(match word {
            "ip" => Family::Ip,
            "ip6" => Family::Ip6,
            "inet" => Family::Inet,
            "bridge" => Family::Bridge,
            "arp" => Family::Arp,
            "netdev" => Family::Netdev,
            _ => return None,
        })
    }
}

/// A table: chains and the sets they use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Whose table it is.
    pub backend: Backend,
    /// Which packets its chains see.
    pub family: Family,
    /// `filter`, `nat`, or whatever the admin called it.
    pub name: String,
    /// nftables' handle.
    pub handle: Option<u64>,
    /// Whether it is registered but asleep (nftables `flags dormant`): its chains see no packet.
    pub dormant: bool,
    /// Comment of the table.
    pub comment: Option<String>,
    /// In the order in which they were made.
    pub chains: Vec<Chain>,
    /// Named sets and maps.
    pub sets: Vec<Set>,
}

impl Table {
    /// An empty table.
    pub fn new(backend: Backend, family: Family, name: &str) -> Table {
        Table {
            backend,
            family,
            name: name.to_owned(),
            handle: None,
            dormant: false,
            comment: None,
            chains: Vec::new(),
            sets: Vec::new(),
        }
    }

    /// The chain of that name.
    pub fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.name == name)
    }

    /// The set or map of that name.
    pub fn set(&self, name: &str) -> Option<&Set> {
        self.sets.iter().find(|set| set.name == name)
    }
}

/// A list of rules: either a base chain, which the kernel calls, or one that other chains call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// nftables' handle.
    pub handle: Option<u64>,
    /// Where the kernel calls it. None: only jumps reach it.
    pub base: Option<Base>,
    /// What happens at its end. None: back to the caller, or accept for a base chain.
    pub policy: Option<Policy>,
    /// Packets that met the policy, where the program counts them.
    pub policy_counter: Option<Counter>,
    /// In order.
    pub rules: Vec<Rule>,
}

/// Where and when the kernel calls a base chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// What the chain is for.
    pub kind: ChainKind,
    /// Where it is called.
    pub hook: Hook,
    /// Lower numbers come first.
    pub priority: i32,
    /// Devices of an ingress or egress chain. Empty elsewhere.
    pub devices: Vec<String>,
}

/// What a base chain is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ChainKind {
    /// Sees every packet.
    Filter,
    /// Sees the first packet of each connection only.
    Nat,
    /// Sees every packet; a changed mark or address makes the kernel route again.
    Route,
}

/// Where in the kernel a base chain hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Hook {
    /// At a device, before anything else.
    Ingress,
    /// After reception, before the route look-up.
    Prerouting,
    /// For this host.
    Input,
    /// Through this host.
    Forward,
    /// From a socket of this host.
    Output,
    /// Before it leaves, whether forwarded or made here.
    Postrouting,
    /// At a device, after everything else.
    Egress,
}

impl Hook {
    /// As `nft` spells it.
    pub fn word(self) -> &'static str {
        match self {
            Hook::Ingress => "ingress",
            Hook::Prerouting => "prerouting",
            Hook::Input => "input",
            Hook::Forward => "forward",
            Hook::Output => "output",
            Hook::Postrouting => "postrouting",
            Hook::Egress => "egress",
        }
    }

    /// The hook that nftables (lower case) or iptables (upper case) calls so.
    pub fn from_word(word: &str) -> Option<Hook> {
        Some(match word.to_ascii_lowercase().as_str() {
            "ingress" => Hook::Ingress,
            "prerouting" => Hook::Prerouting,
            "input" => Hook::Input,
            "forward" => Hook::Forward,
            "output" => Hook::Output,
            "postrouting" => Hook::Postrouting,
            "egress" => Hook::Egress,
            _ => return None,
        })
    }
}

/// What happens at the end of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Policy {
    /// The packet goes on.
    Accept,
    /// The packet is dropped.
    Drop,
}

/// One rule: its statements run in order until one does not match or ends the chain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// One-based place in its chain, as `iptables -D CHAIN N` counts.
    pub position: u32,
    /// nftables' handle. None where the program that listed the rule does not say.
    pub handle: Option<u64>,
    /// As its owner would recognise it: `-A FORWARD -i eth0 -j DROP`, or `iifname "eth0" drop`.
    pub text: String,
    /// The owner's comment.
    pub comment: Option<String>,
    /// Matches and actions in the order in which they run.
    pub statements: Vec<Statement>,
}

impl Rule {
    /// The rule's own counter, if it has one.
    pub fn counter(&self) -> Option<Counter> {
        self.statements.iter().find_map(|statement| match statement {
            Statement::Counter(counter) => Some(*counter),
            _ => None,
        })
    }

    /// Whether the counter counts only packets that met every condition of the rule.
    pub fn counts_matches(&self) -> bool {
        let mut counted = false;
        for statement in &self.statements {
            match statement {
                Statement::Counter(_) => counted = true,
                Statement::Match(_) | Statement::Limit { .. } | Statement::Quota { .. } | Statement::Chance { .. }
                    if counted =>
                {
                    return false;
                }
                _ => {}
            }
        }
        counted
    }
}

/// Which rule, in words that its program understands. Complete in itself: it outlives the rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleRef {
    /// Whose.
    pub backend: Backend,
    /// Family of the table.
    pub family: Family,
    /// Its table.
    pub table: String,
    /// Its chain.
    pub chain: String,
    /// One-based place in the chain. None for the chain's policy.
    pub position: Option<u32>,
    /// nftables' handle.
    pub handle: Option<u64>,
    /// The rule as its owner would recognise it; for a policy, how the policy was set.
    pub text: String,
    /// Whether it is the chain's policy rather than a rule.
    pub policy: bool,
}

impl RuleRef {
    /// A reference to a rule of a chain.
    pub fn to_rule(table: &Table, chain: &Chain, rule: &Rule) -> RuleRef {
        RuleRef {
            backend: table.backend,
            family: table.family,
            table: table.name.clone(),
            chain: chain.name.clone(),
            position: Some(rule.position),
            handle: rule.handle,
            text: rule.text.clone(),
            policy: false,
        }
    }

    /// A reference to what a chain does at its end.
    pub fn to_policy(table: &Table, chain: &Chain) -> RuleRef {
        let word = match chain.policy {
            Some(Policy::Drop) => "DROP",
            _ => "ACCEPT",
        };
        let text = match table.backend {
            Backend::Nft => format!("policy {}", word.to_ascii_lowercase()),
            _ => format!("-P {} {word}", chain.name),
        };
        RuleRef {
            backend: table.backend,
            family: table.family,
            table: table.name.clone(),
            chain: chain.name.clone(),
            position: None,
            handle: None,
            text,
            policy: true,
        }
    }
}

/// A named set or map.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Set {
    /// Its name, without the `@`.
    pub name: String,
    /// What its keys are, one per part of a concatenation.
    pub kinds: Vec<Kind>,
    /// Its elements, the first ones only if there are very many.
    pub elements: Vec<Element>,
    /// Whether some elements were left out: a key that is not found may still be there.
    pub truncated: bool,
}

/// One element of a set, a map or a verdict map.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Element {
    /// What it matches.
    pub key: Pattern,
    /// What a map gives for it. None in a set.
    pub data: Option<ElementData>,
}

/// What a map gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ElementData {
    /// A verdict map's.
    Verdict(Verdict),
    /// A map's: an address, a port, a mark, a concatenation or a prefix.
    Value(expression::Expression),
}
