//! Labs as text and JSON: the list, a lab's page, the outcome of a run, the greeting of its shell.

use std::fmt::Write;

use crate::lab::process::last_lines;
use crate::lab::spec::{Probe, Verdict};
use crate::lab::{Lab, LabReport, Outcome};

/// One line per lab: id, what it expects, title.
pub fn list(labs: &[Lab]) -> String {
    let id = labs.iter().map(|lab| lab.id.len()).max().unwrap_or(0);
    let answer = labs.iter().map(|lab| expected(lab).len()).max().unwrap_or(0);
    labs.iter().fold(String::new(), |mut text, lab| {
        let _ = writeln!(text, "{:id$}  {:answer$}  {}", lab.id, expected(lab), lab.title);
        text
    })
}

/// The same, as one JSON document.
pub fn list_json(labs: &[Lab]) -> String {
    let list: Vec<_> = labs
        .iter()
        .map(|lab| {
            serde_json::json!({
                "id": lab.id,
                "title": lab.title,
                "source": lab.source,
                "needs": lab.needs.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "kernel": lab.kernel.map(|bound| bound.to_string()),
                "probe": lab.probe,
                "expect": lab.expect,
            })
        })
        .collect();
    format!("{}\n", serde_json::Value::from(list))
}

/// One line per lab that this machine cannot run.
pub fn unmet(labs: &[(&Lab, Vec<String>)]) -> String {
    let id = labs.iter().map(|(lab, _)| lab.id.len()).max().unwrap_or(0);
    labs.iter().fold(String::new(), |mut text, (lab, needs)| {
        let _ = writeln!(text, "{:id$}  lacks {}", lab.id, needs.join(", "));
        text
    })
}

/// The same, as one JSON object: id → unmet needs.
pub fn unmet_json(labs: &[(&Lab, Vec<String>)]) -> String {
    let labs: serde_json::Map<_, _> =
        labs.iter().map(|(lab, needs)| (lab.id.clone(), serde_json::json!(needs))).collect();
    format!("{}\n", serde_json::Value::from(labs))
}

/// The whole lab, for a reader.
pub fn page(lab: &Lab) -> String {
    let mut text = format!("{}\n{}\n\n{}\n", lab.id, lab.title, lab.story);
    let mut section = |title: &str, body: &str| {
        let _ = write!(text, "\n{title}\n");
        for line in body.trim().lines() {
            let _ = writeln!(text, "    {line}");
        }
    };
    if !lab.needs.is_empty() || lab.kernel.is_some() {
        let needs: Vec<_> =
            lab.needs.iter().map(ToString::to_string).chain(lab.kernel.map(|bound| bound.to_string())).collect();
        section("Needs", &needs.join(", "));
    }
    section("Setup", &lab.setup);
    section("Question", &question(&lab.probe));
    section("Answer", &answer(lab));
    if !lab.fix.trim().is_empty() {
        section("Fix", &lab.fix);
    }
    let _ = write!(text, "\nRun it:    vnet-trace lab run {0}\nEnter it:  vnet-trace lab shell {0}\n", lab.id);
    text
}

/// What a person typing at the lab's prompt wants to know.
pub fn greeting(lab: &Lab) -> String {
    format!(
        "{}\n\n{}\n\nAsk:    {}\nLeave:  exit (the network goes with the shell)\n\n",
        lab.title,
        lab.story,
        question(&lab.probe)
    )
}

/// One line for the outcome, and one for each reason.
pub fn outcome(report: &LabReport) -> String {
    let seconds = report.total_ms() / 1000.0;
    match &report.outcome {
        Outcome::Pass => format!("ok       {} ({seconds:.1} s): {}\n", report.id, report.given_name()),
        Outcome::Skipped { unmet } => format!("skipped  {}: this machine lacks {}\n", report.id, unmet.join(", ")),
        Outcome::Fail { misses } => {
            misses.iter().fold(format!("FAILED   {} ({seconds:.1} s)\n", report.id), |mut text, miss| {
                let _ = writeln!(text, "         {miss}");
                text
            })
        }
    }
}

/// All reports as one JSON document.
pub fn reports_json(reports: &[LabReport]) -> String {
    serde_json::to_string(reports).unwrap_or_else(|error| format!("[] {}", last_lines(&error.to_string())))
}

fn expected(lab: &Lab) -> &str {
    lab.expect.cause.as_deref().unwrap_or("delivered")
}

/// The command that asks a lab's question, to be typed in its root.
fn question(probe: &Probe) -> String {
    let mut words = vec!["vnet-trace".to_owned(), "ping".to_owned(), "-c".to_owned(), probe.count.to_string()];
    if let Some(netns) = &probe.netns {
        words.extend(["-N".to_owned(), netns.clone()]);
    }
    words.extend(probe.shaping_args());
    words.push(probe.dst.clone());
    words.join(" ")
}

fn answer(lab: &Lab) -> String {
    let expect = &lab.expect;
    let mut text = match expect.verdict {
        Verdict::Delivered => "delivered".to_owned(),
        Verdict::Lost => format!("lost: {}", expected(lab)),
    };
    if !expect.also.is_empty() {
        let _ = write!(text, " (or {})", expect.also.join(", "));
    }
    let direction = expect.direction.and_then(|direction| serde_json::to_value(direction).ok());
    if let Some(direction) = direction.as_ref().and_then(|value| value.as_str()) {
        let _ = write!(text, "\nwhat:   {direction}");
    }
    if !expect.place().is_empty() {
        let _ = write!(text, "\nwhere:  {}", expect.place());
    }
    if let Some(notes) = expect.notes.as_deref().filter(|notes| !notes.is_empty()) {
        let _ = write!(text, "\nnotes:  {}", notes.join(", "));
    }
    text
}
