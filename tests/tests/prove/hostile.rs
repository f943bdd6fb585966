//! A recording that somebody sends may claim anything. Whatever it claims, `--prove` and `lab export` neither run it nor write it.

use std::path::Path;
use std::process::Command;

use libtest_mimic::{Failed, Trial};
use vnet_trace::collect::recording_file::{self, Access};
use vnet_trace::model::netfilter::{Backend, Listing};
use vnet_trace::model::recording::Recording;
use vnet_trace::model::snapshot::{Netns, Rule, RuleAction};

/// What is slipped in, and where.
type Slip = (&'static str, fn(&mut Netns));

/// Words that a shell, a batch or a rule file would obey.
const SLIPS: &[Slip] = &[
    ("device_that_is_a_command", |netns| rename(netns, "$(touch canary)")),
    ("device_that_ends_a_batch", |netns| rename(netns, "x\nEND\ntouch canary")),
    ("device_with_a_semicolon", |netns| rename(netns, "x;touch canary")),
    ("policy_rule", |netns| {
        netns.rules.push(Rule { iif: Some("x`touch canary`".to_owned()), action: RuleAction::Nop, ..Rule::default() });
    }),
    ("program_that_restores_rules", |netns| listing(netns, "touch canary; iptables-save", "*filter\nCOMMIT")),
    ("end_of_the_rules", |netns| listing(netns, "iptables-legacy-save", "*filter\nCOMMIT\nEND_OF_RULES\ntouch canary")),
    ("loader_of_modules", |netns| listing(netns, "iptables-legacy-save", "*filter\n-A INPUT -M /bin/sh -m x\nCOMMIT")),
];

/// One test for each.
pub fn trials(program: &'static Path) -> Vec<Trial> {
    let slips = SLIPS.iter().map(|(name, slip)| {
        Trial::test(format!("a_recording_is_refused_with_a_{name}"), move || refused(program, *slip))
    });
    slips.chain([Trial::test("a_setting_that_is_a_command_stays_a_word", move || setting(program))]).collect()
}

fn rename(netns: &mut Netns, name: &str) {
    if let Some(link) = netns.links.last_mut() {
        name.clone_into(&mut link.name);
    }
}

fn listing(netns: &mut Netns, program: &str, text: &str) {
    let listing = Listing { program: program.to_owned(), backend: Backend::IptablesLegacy, text: text.to_owned() };
    netns.netfilter.listings.push(listing);
}

/// A recording with something slipped into the namespace where its packets are lost.
fn with(program: &Path, folder: &Path, slip: impl Fn(&mut Netns)) -> Result<std::path::PathBuf, Failed> {
    let Recording { mut before, .. } = recording_file::load(&super::recording(program)?)?;
    let netns = before.namespaces.iter_mut().find(|netns| !netns.netfilter.tables.is_empty()).ok_or("no rules")?;
    slip(netns);
    let recording = Recording { before, ..recording_file::load(&super::recording(program)?)? };
    let path = folder.join("hostile.vtr");
    recording_file::save(&recording, &path, Access::Private)?;
    Ok(path)
}

fn refused(program: &Path, slip: fn(&mut Netns)) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let path = with(program, folder.path(), slip)?;
    let proof = super::prove(program, &path)?;
    if proof["outcome"] != "not-possible" || !proof["why"].as_str().is_some_and(|why| why.contains("can't be written"))
    {
        return Err(format!("{proof:#}").into());
    }
    let lab = folder.path().join("lab.toml");
    let exported = Command::new(program).args(["lab", "export", "-o"]).arg(&lab).arg(&path).output()?;
    if exported.status.success() || lab.exists() {
        return Err("it was exported".into());
    }
    no_canary(folder.path())
}

/// Values of settings are quoted: the kernel refuses what is none.
fn setting(program: &Path) -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let path = with(program, folder.path(), |netns| {
        netns.sysctls.insert("net.ipv4.ip_default_ttl".to_owned(), "7; touch canary".to_owned());
        netns.sysctls.insert("net.ipv4.conf.all.arp_filter".to_owned(), "$(touch canary)".to_owned());
    })?;
    let proof = super::prove(program, &path)?;
    if proof["outcome"] != "not-possible" {
        return Err(format!("{proof:#}").into());
    }
    no_canary(folder.path())
}

fn no_canary(folder: &Path) -> Result<(), Failed> {
    match [Path::new("/canary"), Path::new("/tmp/canary"), &folder.join("canary")].iter().find(|path| path.exists()) {
        Some(path) => Err(format!("{} is there", path.display()).into()),
        None => Ok(()),
    }
}
