//! The command line as a script meets it: errors, exit codes, what goes to which stream. Nothing here needs rights.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

/// Runs the program with these words, in an environment that says nothing about a terminal.
fn run(words: &[&str]) -> Output {
    let home = tempfile::tempdir().unwrap();
    Command::new(tests::program())
        .args(words)
        .env_remove("XDG_STATE_HOME")
        .env_remove("NO_COLOR")
        .env("HOME", home.path())
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn bad_input_is_a_clear_error_with_exit_code_two() {
    let long = "x".repeat(300);
    for (words, error) in [
        (vec!["ping"], "<DST>"),
        (vec!["ping", "-c", "0", "10.0.0.1"], "at least one request"),
        (vec!["ping", "-c", "-1", "10.0.0.1"], "-1"),
        (vec!["ping", "-4", "::1"], "not an IPv4 address"),
        (vec!["ping", "-6", "127.0.0.1"], "not an IPv6 address"),
        (vec!["ping", "-N", "no-such-netns", "10.0.0.1"], "no-such-netns"),
        (vec!["ping", "-I", "no-such-dev", "127.0.0.1"], "no-such-dev"),
        (vec!["ping", "-I", &long, "127.0.0.1"], "neither an address nor a device"),
        (vec!["ping", "--container", "no-such-container", "127.0.0.1"], "container"),
        (vec!["ping", "-o", "way.pcap", "127.0.0.1"], "ending decides"),
        (vec!["explain"], "no last recording"),
        (vec!["explain", "rp-filer"], "did you mean rp-filter"),
        (vec!["explain", "/etc/passwd"], "not a recording"),
        (vec!["explain", "/no/such/file.vtr"], "cannot read"),
        (vec!["explain", "/"], "cannot read"),
        (vec!["frobnicate"], "frobnicate"),
    ] {
        let done = run(&words);
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{words:?}: {said}");
        assert!(said.starts_with("error: ") && said.contains(error), "{words:?}: {said}");
        assert!(done.stdout.is_empty(), "{words:?}: {}", text(&done.stdout));
    }
}

#[test]
fn nothing_in_an_argument_can_act_on_the_terminal() {
    let done = run(&["explain", "a\u{1b}[2Jb"]);
    assert!(!text(&done.stderr).contains('\u{1b}'));
}

#[test]
fn help_and_version_are_asked_for() {
    for words in [&["--help"][..], &["--version"], &["ping", "--help"], &["explain", "-h"], &["doctor", "--help"]] {
        let done = run(words);
        assert_eq!(done.status.code(), Some(0), "{words:?}");
        assert!(done.stderr.is_empty() && !done.stdout.is_empty(), "{words:?}");
    }
}

#[test]
fn a_page_is_what_explain_prints() {
    let done = run(&["explain", "martian-local-source"]);
    assert_eq!(done.status.code(), Some(0));
    let page = vnet_trace::diagnose::registry::entry("martian-local-source").unwrap().page;
    assert_eq!(text(&done.stdout).trim_end(), page.trim_end());
}

#[test]
fn colours_come_only_when_they_are_asked_for() {
    let plain = run(&["explain", "rp-filter"]);
    assert!(!text(&plain.stdout).contains('\u{1b}'));
    let colourful = run(&["explain", "--color", "always", "rp-filter"]);
    assert!(text(&colourful.stdout).contains("\u{1b}[1m"));
}

#[test]
fn the_list_of_codes_is_json_when_asked() {
    let done = run(&["explain", "--list", "--json"]);
    let list: Vec<serde_json::Value> = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(list.len(), vnet_trace::diagnose::registry::all().len());
}

#[test]
fn the_doctor_says_what_is_lost_even_without_rights() {
    let done = run(&["doctor", "--json"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert!(report["probes"].is_array() && report["capabilities"].as_array().unwrap().len() >= 6);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let program = tests::program();
    let script = format!("'{}' explain --list | head -n 1", program.display());
    let done = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(done.stderr.is_empty(), "{}", text(&done.stderr));
}
