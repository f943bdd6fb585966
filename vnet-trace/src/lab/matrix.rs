//! The confusion matrix of many labs: what was expected × what was given, and the score.
//!
//! Right answers are the diagonal and only counted; every other cell is spelled out, because each is a bug to be found.

use std::collections::BTreeMap;
use std::fmt;

use super::report::{LabReport, Miss, Outcome};

/// Expected × given, over the labs that were asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matrix {
    /// (expected, given) → ids of the labs.
    cells: BTreeMap<(String, String), Vec<String>>,
}

/// How many labs were right, in each respect.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Score {
    /// Labs that were run.
    pub run: usize,
    /// Right in everything.
    pub passed: usize,
    /// The verdict was right.
    pub verdict: usize,
    /// The cause was right (for a healthy lab: none given).
    pub cause: usize,
    /// The cause and its place and role were right.
    pub place: usize,
    /// As place, and the tool's fix helped (or none was to be tried).
    pub fix: usize,
    /// Labs that were not run.
    pub skipped: usize,
}

impl Matrix {
    /// Of all labs that were run.
    pub fn of(reports: &[LabReport]) -> Self {
        let mut cells: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for report in reports.iter().filter(|report| !matches!(report.outcome, Outcome::Skipped { .. })) {
            // A second name that the lab allows counts as the first.
            let given = if has_no_miss(report, &["cause", "verdict"]) && report.given.is_some() {
                &report.expected
            } else {
                report.given_name()
            };
            cells.entry((report.expected.clone(), given.to_owned())).or_default().push(report.id.clone());
        }
        Self { cells }
    }
}

impl Score {
    /// Of all labs.
    pub fn of(reports: &[LabReport]) -> Self {
        let mut score = Self::default();
        for report in reports {
            if let Outcome::Skipped { .. } = report.outcome {
                score.skipped += 1;
                continue;
            }
            score.run += 1;
            score.passed += usize::from(report.outcome == Outcome::Pass);
            if report.given.is_none() {
                continue;
            }
            let verdict = has_no_miss(report, &["verdict"]);
            let cause = verdict && has_no_miss(report, &["cause"]);
            let place = cause && has_no_miss(report, &["role", "netns", "dev"]);
            let mended =
                !report.misses().iter().any(|miss| matches!(miss, Miss::ToolFix { .. } | Miss::PlainPing { .. }));
            score.verdict += usize::from(verdict);
            score.cause += usize::from(cause);
            score.place += usize::from(place);
            score.fix += usize::from(place && mended);
        }
        score
    }
}

/// Whether nothing of `whats` differs in the report.
fn has_no_miss(report: &LabReport, whats: &[&str]) -> bool {
    !report.misses().iter().any(|miss| matches!(miss, Miss::Differs { what, .. } if whats.contains(&what.as_str())))
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.cells.keys().map(|(expected, _)| expected.len()).max().unwrap_or(0);
        let right = self.cells.iter().filter(|((expected, given), _)| expected == given);
        let wrong: Vec<_> = self.cells.iter().filter(|((expected, given), _)| expected != given).collect();
        for ((expected, _), ids) in right {
            writeln!(f, "{expected:width$}  right  {}", ids.len())?;
        }
        for ((expected, given), ids) in wrong {
            writeln!(f, "{expected:width$}  WRONG  {given}: {}", ids.join(", "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, passed, verdict, cause, place, fix, skipped } = self;
        write!(
            f,
            "{passed} of {run} labs right (verdict {verdict}, cause {cause}, place {place}, fix {fix}), {skipped} skipped"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(id: &str, expected: &str, given: Option<&str>, misses: Vec<Miss>) -> LabReport {
        let given = given.map(|code| {
            serde_json::from_str(&format!(r#"{{"verdict":"lost","primary":{{"code":"{code}"}}}}"#)).unwrap()
        });
        let outcome = if misses.is_empty() { Outcome::Pass } else { Outcome::Fail { misses } };
        LabReport { id: id.into(), expected: expected.into(), given, outcome, phases: vec![] }
    }

    #[test]
    fn counts_the_diagonal_and_names_the_rest() {
        let differs = |what: &str| Miss::Differs { what: what.into(), want: "x".into(), got: "y".into() };
        let mut skipped = report("d", "no-route", None, vec![]);
        skipped.outcome = Outcome::Skipped { unmet: vec!["cmd:x".into()] };
        let reports = [
            report("a", "rp-filter", Some("rp-filter"), vec![]),
            report("b", "rp-filter", Some("no-route"), vec![differs("cause")]),
            report("c", "no-route", Some("also-right"), vec![differs("dev")]),
            skipped,
            report("e", "no-route", None, vec![Miss::NoAnswer { detail: String::new() }]),
        ];
        assert_eq!(
            Matrix::of(&reports).to_string(),
            "no-route   right  1\nrp-filter  right  1\nno-route   WRONG  no answer: e\nrp-filter  WRONG  no-route: b\n"
        );
        assert_eq!(
            Score::of(&reports).to_string(),
            "1 of 4 labs right (verdict 3, cause 2, place 1, fix 1), 1 skipped"
        );
    }
}
