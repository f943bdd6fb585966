//! Reads every packet-filter rule of the current thread's network namespace.
//!
//! Running a program costs milliseconds and there may be hundreds of namespaces, so the kernel is asked first, without any
//! program, whether there can be rules: one netlink dump for nftables, one file each for the legacy tables. Most namespaces
//! end there.
//!
//! nftables tables come from `nft -j -a list ruleset`. Those that iptables, ebtables or arptables made are recognised by name and
//! chains, and are read again through their own program, which alone can show them whole; handles are kept from nft's
//! listing. Legacy tables come from the legacy programs.
//!
//! The caller has entered the namespace (setns): a child process inherits the namespaces of the thread that starts it.
//! A program that is missing, fails or is slow leaves a gap, never an error: what the others say still holds.

mod gap;

pub use gap::gaps;

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::model::netfilter::statement::Statement;
use crate::model::netfilter::{Backend, Chain, Family, Hook, Listing, Ruleset, RulesetGap, Table};

use super::iptables::parse_iptables_save;
use super::nft::{kernel, parse_nft_json};

/// Time for all programs together that suits a snapshot. They need some ten milliseconds; a machine under load or an emulated
/// one was seen to need more than two seconds, and without the rules the answer is worth little.
pub const DEADLINE: Duration = Duration::from_secs(12);

/// Output kept as it is at most; more is only parsed.
const MAX_LISTING: usize = 512 << 10;

/// Output read of one program at most.
const MAX_OUTPUT: u64 = 256 << 20;

/// Reads the rules of the current thread's network namespace, in at most about this time.
pub fn read_ruleset(deadline: Duration) -> Ruleset {
    let end = Instant::now() + deadline;
    let mut ruleset = Ruleset::default();
    match kernel::tables() {
        Ok(tables) if tables.is_empty() => {}
        Ok(tables) => read_nftables(&tables, end, &mut ruleset),
        // A kernel without nftables answers so.
        Err(error) if matches!(error.raw_os_error(), Some(22 | 93 | 94 | 95)) => {}
        Err(error) => ruleset
            .gaps
            .push(RulesetGap::KernelRefused { backend: Backend::Nft, errno: error.raw_os_error().unwrap_or(0) }),
    }
    for (file, family, backend, programs) in LEGACY {
        if has_names(file) {
            read_saved(programs, *family, *backend, end, &mut ruleset);
        }
    }
    if ["ebtable_filter", "ebtable_nat", "ebtable_broute"]
        .iter()
        .any(|module| Path::new("/sys/module").join(module).exists())
    {
        read_saved(&["ebtables-legacy-save"], Family::Bridge, Backend::EbtablesLegacy, end, &mut ruleset);
    }
    ruleset
}

/// File that names the legacy tables in use, and the programs that list them, best first.
const LEGACY: &[(&str, Family, Backend, &[&str])] = &[
    ("ip_tables_names", Family::Ip, Backend::IptablesLegacy, &["iptables-legacy-save", "iptables-save"]),
    ("ip6_tables_names", Family::Ip6, Backend::IptablesLegacy, &["ip6tables-legacy-save", "ip6tables-save"]),
    ("arp_tables_names", Family::Arp, Backend::ArptablesLegacy, &["arptables-legacy-save", "arptables-save"]),
];

/// The programs that may have made nftables tables of a family, and the chains by which to tell.
const COMPATIBLE: &[(Family, Backend, &[&str])] = &[
    (Family::Ip, Backend::IptablesNft, &["iptables-nft-save", "iptables-save"]),
    (Family::Ip6, Backend::IptablesNft, &["ip6tables-nft-save", "ip6tables-save"]),
    (Family::Bridge, Backend::EbtablesNft, &["ebtables-nft-save", "ebtables-save"]),
    (Family::Arp, Backend::ArptablesNft, &["arptables-nft-save", "arptables-save"]),
];

fn has_names(file: &str) -> bool {
    // The file is the calling thread's own: `/proc/self` would be the main thread's.
    fs::read(Path::new("/proc/thread-self/net").join(file)).is_ok_and(|names| !names.is_empty())
}

fn read_nftables(listed: &[kernel::TableEntry], end: Instant, ruleset: &mut Ruleset) {
    let output = match run(&["nft"], &["-j", "-a", "list", "ruleset"], Backend::Nft, end) {
        Ok((program, output)) => {
            keep(ruleset, program, Backend::Nft, &output);
            output
        }
        Err(gap) => {
            ruleset.gaps.push(*gap);
            return;
        }
    };
    let (mut tables, mut gaps) = parse_nft_json(&output);
    complete(&mut tables, listed);
    for (family, backend, programs) in COMPATIBLE {
        if !tables.iter().any(|table| table.family == *family && made_by_iptables(table)) {
            continue;
        }
        match run(programs, &["-c"], *backend, end) {
            Ok((program, output)) => {
                let (saved, more) = parse_iptables_save(&output, *family, *backend);
                if saved.is_empty() && !output.contains("nf_tables") && !output.is_empty() {
                    gaps.push(RulesetGap::ProgramFailed { program, reason: "it lists legacy tables only".to_owned() });
                    continue;
                }
                keep(ruleset, program, *backend, &output);
                replace(&mut tables, saved, &mut gaps);
                gaps.extend(more);
            }
            Err(gap) => gaps.push(*gap),
        }
    }
    ruleset.tables.append(&mut tables);
    ruleset.gaps.append(&mut gaps);
}

/// Adds what nft's JSON leaves out: sleeping tables, and devices of chains.
fn complete(tables: &mut [Table], listed: &[kernel::TableEntry]) {
    for table in &mut *tables {
        table.dormant |=
            listed.iter().any(|entry| entry.dormant && entry.family == table.family && entry.name == table.name);
    }
    complete_writes(tables);
    let on_devices = |chain: &Chain| {
        chain
            .base
            .as_ref()
            .is_some_and(|base| matches!(base.hook, Hook::Ingress | Hook::Egress) && base.devices.is_empty())
    };
    if !tables.iter().flat_map(|table| &table.chains).any(on_devices) {
        return;
    }
    let Ok(known) = kernel::device_chains() else { return };
    for table in tables {
        for chain in table.chains.iter_mut().filter(|chain| on_devices(chain)) {
            let entry = known
                .iter()
                .find(|entry| entry.family == table.family && entry.table == table.name && entry.chain == chain.name);
            if let (Some(base), Some(entry)) = (&mut chain.base, entry) {
                base.devices.clone_from(&entry.devices);
            }
        }
    }
}

/// Adds whether rules that write to headers mend the checksum; asked only where there is such a rule.
fn complete_writes(tables: &mut [Table]) {
    let writes = |statement: &Statement| matches!(statement, Statement::Mangle { mends_checksum: Some(_), .. });
    let mut rules = tables.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules);
    if !rules.any(|rule| rule.statements.iter().any(writes)) {
        return;
    }
    let Ok(known) = kernel::header_writes() else { return };
    for entry in known {
        let table = tables.iter_mut().find(|table| table.family == entry.family && table.name == entry.table);
        let rule = table
            .into_iter()
            .flat_map(|table| &mut table.chains)
            .flat_map(|chain| &mut chain.rules)
            .find(|rule| rule.handle == Some(entry.handle));
        let Some(rule) = rule else { continue };
        let listed = rule.statements.iter_mut().filter_map(|statement| match statement {
            Statement::Mangle { mends_checksum: Some(mends), .. } => Some(mends),
            _ => None,
        });
        for (listed, known) in listed.zip(entry.mends) {
            *listed = known;
        }
    }
}

/// Whether a table looks like one that iptables, ebtables or arptables made on top of nftables.
pub fn made_by_iptables(table: &Table) -> bool {
    const TABLES: &[&str] = &["filter", "nat", "mangle", "raw", "security", "broute"];
    const CHAINS: &[&str] = &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING", "BROUTING"];
    TABLES.contains(&table.name.as_str())
        && table.chains.iter().all(|chain| chain.base.is_none() || CHAINS.contains(&chain.name.as_str()))
        && table.chains.iter().any(|chain| chain.base.is_some())
}

/// Puts the saved tables in the place of nft's view of them. Handles are carried over where rule stands against rule.
fn replace(tables: &mut [Table], saved: Vec<Table>, gaps: &mut Vec<RulesetGap>) {
    for mut table in saved {
        let Some(place) = tables
            .iter_mut()
            .find(|known| known.family == table.family && known.name == table.name && known.backend == Backend::Nft)
        else {
            // Listed by the program, empty in the kernel.
            continue;
        };
        table.handle = place.handle;
        // The program lists built-in chains that the kernel does not have yet.
        table.chains.retain(|chain| !chain.rules.is_empty() || place.chain(&chain.name).is_some());
        for chain in &mut table.chains {
            let Some(known) = place.chain(&chain.name) else { continue };
            chain.handle = known.handle;
            if let (Some(base), Some(actual)) = (&mut chain.base, &known.base) {
                base.priority = actual.priority;
            }
            if chain.rules.len() == known.rules.len() {
                for (rule, known) in chain.rules.iter_mut().zip(&known.rules) {
                    rule.handle = known.handle;
                }
            }
        }
        gaps.retain(|gap| match gap {
            RulesetGap::NotUnderstood { at, .. } => !(at.family == table.family && at.table == table.name),
            _ => true,
        });
        *place = table;
    }
}

fn read_saved(programs: &[&str], family: Family, backend: Backend, end: Instant, ruleset: &mut Ruleset) {
    match run(programs, &["-c"], backend, end) {
        Ok((program, output)) => {
            if output.contains("(nf_tables)") {
                ruleset
                    .gaps
                    .push(RulesetGap::ProgramFailed { program, reason: "it lists nftables tables only".to_owned() });
                return;
            }
            keep(ruleset, program, backend, &output);
            let (mut tables, mut gaps) = parse_iptables_save(&output, family, backend);
            ruleset.tables.append(&mut tables);
            ruleset.gaps.append(&mut gaps);
        }
        Err(gap) => ruleset.gaps.push(*gap),
    }
}

fn keep(ruleset: &mut Ruleset, program: String, backend: Backend, output: &str) {
    if output.len() <= MAX_LISTING {
        ruleset.listings.push(Listing { program, backend, text: output.to_owned() });
    }
}

/// Runs the first of these programs that is installed; gives its name and what it wrote.
fn run(
    programs: &[&str],
    arguments: &[&str],
    backend: Backend,
    end: Instant,
) -> Result<(String, String), Box<RulesetGap>> {
    let wanted = programs.first().copied().unwrap_or_default().to_owned();
    let Some((program, path)) = programs.iter().find_map(|program| Some((*program, find(program)?))) else {
        return Err(Box::new(RulesetGap::ProgramMissing { program: wanted, backend }));
    };
    let program = program.to_owned();
    let failed = |reason: String| Box::new(RulesetGap::ProgramFailed { program: program.clone(), reason });
    let started = Instant::now();
    let spawned = Command::new(path)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(Box::new(RulesetGap::ProgramMissing { program: wanted, backend }));
        }
        Err(error) => return Err(failed(error.to_string())),
    };
    let output = child.stdout.take().map(read_beside);
    let complaint = child.stderr.take().map(read_beside);
    let left = |end: Instant| end.saturating_duration_since(Instant::now());
    let Some(Ok(output)) = output.map(|output| output.recv_timeout(left(end))) else {
        // It hangs, or has more to say than there is time for.
        let _ = child.kill();
        let _ = child.wait();
        let milliseconds = started.elapsed().as_millis() as u64;
        return Err(Box::new(RulesetGap::Deadline { program, milliseconds }));
    };
    let complaint = complaint
        .and_then(|complaint| complaint.recv_timeout(Duration::from_millis(100)).ok())
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default();
    match child.wait() {
        Ok(status) if status.success() => Ok((program, String::from_utf8_lossy(&output).into_owned())),
        Ok(status) => {
            let first = complaint.lines().next().unwrap_or_default();
            Err(failed(if first.is_empty() { status.to_string() } else { first.chars().take(200).collect() }))
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Reads to the end on a thread of its own, so that a silent program can be given up.
fn read_beside(stream: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = stream.take(MAX_OUTPUT).read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

/// A program on PATH, or where administrators' programs are when PATH has been cut short.
fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}
