//! The confusion matrix of a run, held against the one that is checked in.
//!
//! Machines differ in what they can run, so a count is compared only where nothing was skipped that was not skipped before.
//! What is always compared is the wrong cells, each of which names its labs: none may be new, and none may be gone unsaid.

#![expect(clippy::print_stdout, reason = "the matrix is part of what the tests print")]

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use vnet_trace::lab::LabReport;
use vnet_trace::lab::matrix::{Matrix, Score};

static REPORTS: Mutex<Vec<LabReport>> = Mutex::new(Vec::new());

/// Adds what came of a lab.
pub fn note(reports: &[LabReport]) {
    if let Ok(mut all) = REPORTS.lock() {
        all.extend_from_slice(reports);
    }
}

/// Prints matrix and score of what was noted, and whether they are those that are checked in.
pub fn agrees() -> bool {
    let mut reports = REPORTS.lock().map(|mut all| std::mem::take(&mut *all)).unwrap_or_default();
    reports.sort_by(|a, b| a.id.cmp(&b.id));
    let now = format!("{}\n{}\n", Matrix::of(&reports), Score::of(&reports));
    println!("{now}");
    if std::env::var_os("VNET_TRACE_BLESS").is_some() {
        return match std::fs::write(file(), &now) {
            Ok(()) => true,
            Err(error) => {
                println!("cannot write {}: {error}", file().display());
                false
            }
        };
    }
    let before = std::fs::read_to_string(file()).unwrap_or_default();
    let (new, gone) = (missing(&now, &before), missing(&before, &now));
    for line in &new {
        println!("not in the matrix that is checked in: {line}");
    }
    for line in &gone {
        println!("not any more as in the matrix that is checked in: {line}");
    }
    if !new.is_empty() || !gone.is_empty() {
        println!("after judging the difference: cargo xtask labs --bless");
    }
    new.is_empty() && gone.is_empty()
}

/// The lines of one matrix that the other lacks, as far as they can be compared.
fn missing<'a>(of: &'a str, in_: &str) -> Vec<&'a str> {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let there: Vec<Vec<String>> = in_.lines().map(words).collect();
    let same_labs = ran(of) == ran(in_);
    of.lines()
        .filter(|line| line.contains("  WRONG  ") || same_labs && line.contains("  right  "))
        .filter(|line| !there.contains(&words(line)))
        .collect()
}

/// How many labs were run: `153 of 156 labs right (…), 3 skipped`.
fn ran(text: &str) -> Option<&str> {
    text.lines().last()?.split(" of ").nth(1)?.split(' ').next()
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("snapshots/labs.txt")
}
