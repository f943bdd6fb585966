//! The matrix of labs × kernels × tiers: what is kept of each run, what is expected of it, and the page that shows it.
//!
//! Every run leaves its reports under `target/vm/matrix`, a lab's newest in place of its older one; a run of the whole begins
//! anew. `tests/kernels.toml` lists what a kernel or a tier cannot tell; `tests/kernels.md` shows what was run, with which
//! revision of the program.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::shell;

/// What a lab's run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Came {
    /// As the lab says.
    Right,
    /// No cause was named.
    Undecided,
    /// Another answer than the lab's.
    Wrong,
    /// The answer is right, something around it is not: a script of the lab, a ping after the fix.
    Unfit,
    /// The kernel lacks what the lab needs.
    Skipped,
}

/// A lab's newest run on one kernel with one tier.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// What it came to.
    pub came: Came,
    /// Why it is not right, or what is missing.
    #[serde(default)]
    pub why: String,
    /// How sure the answer was: witnessed, deduced, suspected.
    #[serde(default)]
    pub grade: String,
    /// Wall-clock time.
    pub seconds: f64,
    /// The revision of the program and of the lab.
    #[serde(default)]
    pub revision: String,
}

/// What the tool needs on that kernel with that tier, on an idle host.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Measure {
    /// From start until it asks, in milliseconds.
    pub ready_ms: Option<f64>,
    /// Peak memory in kilobytes.
    pub peak_kb: Option<u64>,
    /// The best tier that it had.
    pub tier: Option<String>,
}

/// Everything about one kernel and tier.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Cell {
    /// The kernel's own name.
    pub release: String,
    /// One question on an idle machine.
    #[serde(default)]
    pub measure: Measure,
    /// The machine's newest run, from its start to its end.
    #[serde(default)]
    pub seconds: f64,
    /// Lab → its newest run.
    pub labs: BTreeMap<String, Run>,
}

/// A run of everything.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Whole {
    /// Wall-clock time.
    pub seconds: f64,
    /// Machines at a time.
    pub machines: usize,
    /// Kernels times tiers.
    pub cells: usize,
    /// The revision of the program and of the labs.
    pub revision: String,
}

/// A line of `tests/kernels.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    /// Labs, by id.
    labs: Vec<String>,
    /// Kernels; without any, all.
    #[serde(default)]
    kernels: Vec<String>,
    /// Tiers; without any, all.
    #[serde(default)]
    tiers: Vec<String>,
    /// What comes instead of the right answer.
    answer: Came,
    /// Why it can't be told there.
    because: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    expected: Vec<Expected>,
}

impl Expected {
    fn covers(&self, series: &str, tier: &str, lab: &str) -> bool {
        let holds = |list: &[String], value: &str| list.is_empty() || list.iter().any(|one| one == value);
        self.labs.iter().any(|one| one == lab) && holds(&self.kernels, series) && holds(&self.tiers, tier)
    }
}

/// The reading of one lab's report.
pub fn read(report: &serde_json::Value) -> (String, Run) {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let misses = report["misses"].as_array().map(Vec::as_slice).unwrap_or_default();
    let (came, why) = match report["result"].as_str() {
        Some("pass") => (Came::Right, String::new()),
        Some("skipped") => (Came::Skipped, words(&report["unmet"])),
        _ if report["given"]["verdict"] == "undecided" => (Came::Undecided, words(&report["misses"])),
        _ if misses.iter().any(|miss| miss["kind"] == "differs") => (Came::Wrong, words(&report["misses"])),
        _ => (Came::Unfit, words(&report["misses"])),
    };
    let milliseconds = report["phases"].as_array().into_iter().flatten().filter_map(|phase| phase["ms"].as_f64());
    let seconds = milliseconds.sum::<f64>() / 1000.0;
    let grade = text(&report["given"]["primary"]["grade"]);
    (text(&report["id"]), Run { came, why, grade, seconds, revision: String::new() })
}

/// A list of strings or of misses, in one line.
fn words(list: &serde_json::Value) -> String {
    let word = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Object(fields) => {
            let field = |name: &str| fields.get(name).and_then(serde_json::Value::as_str).unwrap_or("");
            match field("kind") {
                "differs" => format!("{} is {}, not {}", field("what"), field("got"), field("want")),
                kind => format!("{kind}: {}", field("detail").split_whitespace().collect::<Vec<_>>().join(" ")),
            }
        }
        other => other.to_string(),
    };
    list.as_array().into_iter().flatten().map(word).collect::<Vec<_>>().join("; ")
}

fn file(folder: &Path, series: &str, tier: &str) -> PathBuf {
    folder.join("matrix").join(format!("{series}-{tier}.json"))
}

/// Puts a run's labs into what is kept.
pub fn keep(folder: &Path, series: &str, tier: &str, new: &Cell) -> Result<()> {
    let path = file(folder, series, tier);
    let mut cell: Cell =
        std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    cell.release.clone_from(&new.release);
    cell.measure.ready_ms = new.measure.ready_ms.or(cell.measure.ready_ms);
    cell.measure.peak_kb = new.measure.peak_kb.or(cell.measure.peak_kb);
    cell.measure.tier = new.measure.tier.clone().or(cell.measure.tier);
    cell.seconds = new.seconds;
    cell.labs.extend(new.labs.clone());
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::write(&path, serde_json::to_vec_pretty(&cell)?).with_context(|| format!("cannot write {}", path.display()))
}

fn whole_file(folder: &Path) -> PathBuf {
    folder.join("matrix/whole")
}

/// Forgets what is kept, for a run of everything.
pub fn forget(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder.join("matrix")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("cannot forget earlier runs"),
        _ => Ok(()),
    }
}

/// Notes that everything was run.
pub fn keep_whole(folder: &Path, whole: &Whole) -> Result<()> {
    let path = whole_file(folder);
    std::fs::write(&path, serde_json::to_vec(whole)?).with_context(|| format!("cannot write {}", path.display()))
}

/// What is not as `tests/kernels.toml` says: answers that should be right and are not, and lines that have grown stale.
pub fn judge(series: &str, tier: &str, cell: &Cell) -> Result<Vec<String>> {
    let path = shell::workspace().join("tests/kernels.toml");
    let table: Table = match std::fs::read_to_string(&path) {
        Ok(text) => toml::from_str(&text).with_context(|| format!("{} is not as it should be", path.display()))?,
        Err(_) => Table::default(),
    };
    let known = lab_names()?;
    if let Some(unknown) = table.expected.iter().flat_map(|line| &line.labs).find(|lab| !known.contains(*lab)) {
        bail!("{}: there is no lab {unknown}", path.display());
    }
    let mut found = Vec::new();
    for (lab, run) in &cell.labs {
        let line = table.expected.iter().find(|line| line.covers(series, tier, lab));
        match (run.came, line) {
            // A wrong cause is never what is expected.
            (Came::Wrong, _) => found.push(format!("wrong: {lab}: {}", run.why)),
            (Came::Right, Some(line)) => {
                found.push(format!("stale: {lab} is right, but tests/kernels.toml says: {}", line.because));
            }
            (Came::Undecided | Came::Unfit, line) if line.is_none_or(|line| line.answer != run.came) => {
                found.push(format!("{:?}: {lab}: {}", run.came, run.why).to_lowercase());
            }
            _ => {}
        }
    }
    Ok(found)
}

fn lab_names() -> Result<BTreeSet<String>> {
    let folder = shell::workspace().join("vnet-trace/labs");
    let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    Ok(entries.filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_string_lossy().into_owned())).collect())
}

const HEAD: &str = "\
# Labs on other kernels

Written by `cargo xtask vm --table`, and at the end of `cargo xtask vm --all`, from the runs in QEMU. `default` is what the
program chooses by itself; the others are the best that it was allowed. Times are of emulated processors without KVM, of which
each machine has one. A lab that is *unfit* got the right answer, and something around it failed. A lab that was run more than
once counts with its newest run. Labs that were not run on a kernel are not claimed.

";

/// A line for each kernel and tier.
fn table_of_runs(page: &mut String, cells: &[(String, String, Cell)], total: usize) -> Result<()> {
    writeln!(
        page,
        "| kernel | tier | revision | run of {total} | right | undecided | wrong | unfit | skipped | machine, s | ready, ms | \
         peak memory, MB |"
    )?;
    writeln!(page, "|{}", "---|".repeat(12))?;
    for (_, tier, cell) in cells {
        let count = |came: Came| cell.labs.values().filter(|run| run.came == came).count();
        let or_dash = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
        let ready = or_dash(cell.measure.ready_ms.map(|ms| format!("{ms:.0}")));
        let peak = or_dash(cell.measure.peak_kb.map(|kb| format!("{:.1}", kb as f64 / 1024.0)));
        let chosen = cell.measure.tier.as_ref().filter(|chosen| *chosen != tier);
        let tier = chosen.map_or_else(|| tier.clone(), |chosen| format!("{tier}: {chosen}"));
        let revisions: BTreeSet<&str> = cell.labs.values().map(|run| run.revision.as_str()).collect();
        writeln!(
            page,
            "| {} | {tier} | {} | {} | {} | {} | {} | {} | {} | {:.0} | {ready} | {peak} |",
            cell.release,
            revisions.into_iter().collect::<Vec<_>>().join(", "),
            cell.labs.len(),
            count(Came::Right),
            count(Came::Undecided),
            count(Came::Wrong),
            count(Came::Unfit),
            count(Came::Skipped),
            cell.seconds,
        )?;
    }
    Ok(())
}

/// A line for each lab, a column for each kernel, and in it a letter for each tier.
fn table_of_labs(page: &mut String, cells: &[(String, String, Cell)]) -> Result<()> {
    let mut kernels: Vec<&str> = cells.iter().map(|(series, ..)| series.as_str()).collect();
    kernels.dedup();
    writeln!(
        page,
        "\n## Each lab\n\nA letter for each of default, kprobe, tracepoint, capture: **W**itnessed, **D**educed, **S**uspected for a \
         right cause, by its grade; **h**ealthy, and said so;\n**u**ndecided, **x** wrong, **!** unfit, **-** skipped, **.** not run.\n"
    )?;
    writeln!(page, "| lab | {} |\n|---|{}", kernels.join(" | "), "---|".repeat(kernels.len()))?;
    let labs: BTreeSet<&String> = cells.iter().flat_map(|(.., cell)| cell.labs.keys()).collect();
    for lab in labs {
        let letters = kernels.iter().map(|kernel| {
            let run = |wanted: &&str| {
                let cell = cells.iter().find(|(series, tier, _)| series == kernel && tier == wanted);
                cell.and_then(|(.., cell)| cell.labs.get(lab))
            };
            super::TIERS.iter().map(|tier| run(tier).map_or('.', letter)).collect::<String>()
        });
        writeln!(page, "| {lab} | `{}` |", letters.collect::<Vec<_>>().join("` | `"))?;
    }
    Ok(())
}

fn letter(run: &Run) -> char {
    match (run.came, run.grade.as_str()) {
        (Came::Right, "witnessed") => 'W',
        (Came::Right, "deduced") => 'D',
        (Came::Right, "suspected") => 'S',
        (Came::Right, _) => 'h',
        (Came::Undecided, _) => 'u',
        (Came::Wrong, _) => 'x',
        (Came::Unfit, _) => '!',
        (Came::Skipped, _) => '-',
    }
}

/// Writes `tests/kernels.md` from what is kept.
pub fn write(folder: &Path) -> Result<()> {
    let total = lab_names()?.len();
    let mut cells: Vec<(String, String, Cell)> = Vec::new();
    for entry in std::fs::read_dir(folder.join("matrix")).context("nothing was run yet")? {
        let path = entry?.path();
        if path.extension().is_none_or(|ending| ending != "json") {
            continue;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let Some((series, tier)) = name.split_once('-') else { continue };
        let cell = serde_json::from_slice(&std::fs::read(&path)?)
            .with_context(|| format!("{} is no matrix", path.display()))?;
        cells.push((series.to_owned(), tier.to_owned(), cell));
    }
    let age = |series: &str| -> Vec<u32> { series.split('.').filter_map(|part| part.parse().ok()).collect() };
    let rank = |tier: &str| super::TIERS.iter().position(|one| *one == tier);
    cells.sort_by_key(|(series, tier, _)| (age(series), rank(tier)));

    let mut page = String::from(HEAD);
    if let Ok(text) = std::fs::read(whole_file(folder)) {
        let Whole { seconds, machines, cells, revision } = serde_json::from_slice(&text)?;
        let minutes = seconds / 60.0;
        writeln!(
            page,
            "The whole was last run at {revision}: {cells} machines, {machines} at a time, {minutes:.0} minutes. Rows with other \
             revisions were run again since.\n"
        )?;
    }
    table_of_runs(&mut page, &cells, total)?;
    for (title, came) in
        [("Wrong", Came::Wrong), ("Undecided", Came::Undecided), ("Unfit", Came::Unfit), ("Skipped", Came::Skipped)]
    {
        // lab and reason → where
        let mut found: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        for (series, tier, cell) in &cells {
            for (lab, run) in cell.labs.iter().filter(|(_, run)| run.came == came) {
                found.entry((lab.clone(), run.why.clone())).or_default().push(format!("{series} {tier}"));
            }
        }
        if found.is_empty() {
            continue;
        }
        writeln!(page, "\n## {title}\n\n| lab | where | why |\n|---|---|---|")?;
        for ((lab, why), places) in found {
            let why: String = why.replace('|', "/").chars().take(240).collect();
            writeln!(page, "| {lab} | {} | {why} |", places.join(", "))?;
        }
    }
    table_of_labs(&mut page, &cells)?;
    let path = shell::workspace().join("tests/kernels.md");
    std::fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))
}
