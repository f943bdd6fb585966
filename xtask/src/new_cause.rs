//! `cargo xtask new-cause`: everything that a new code consists of, as files to be filled in.
//!
//! One stem everywhere: the code `link-down` has the page `causes/link-down.md`, the rule `diagnose/link/link_down.rs`, its
//! line in the registry, and a lab. The rank among the rules is a decision, so that line is left to the author; until
//! everything is filled in, the tests say what is missing.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::shell;

/// Arguments of `new-cause`.
#[derive(clap::Args)]
#[group(id = "new-cause")]
pub struct Args {
    /// The code: lower-case words joined by '-', saying what is wrong and never what to do
    code: String,
    /// Where it belongs
    #[arg(value_enum)]
    family: Family,
    /// A few words; the heading of its page
    title: String,
    /// One line: why the packet is lost
    brief: String,
}

/// The families of the registry.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Family {
    Link,
    Bridge,
    Arp,
    Route,
    Filter,
    Note,
}

impl Family {
    /// In the registry, and as a module.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Link => ("Link", "link"),
            Self::Bridge => ("Bridge", "bridge"),
            Self::Arp => ("Arp", "arp"),
            Self::Route => ("Route", "route"),
            Self::Filter => ("Filter", "filter"),
            Self::Note => ("Note", "notes"),
        }
    }
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let Args { code, family, title, brief } = args;
    let words = |text: &str| {
        text.split('-')
            .all(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()))
    };
    if !words(code) {
        bail!("a code is lower-case words joined by '-', not {code:?}");
    }
    let (entry, module) = family.names();
    let kind = if matches!(family, Family::Note) { "Note" } else { "Cause" };
    let stem = code.replace('-', "_");
    let root = shell::workspace().join("vnet-trace");

    let registry = root.join("src/diagnose/registry.rs");
    let text = read(&registry)?;
    if text.contains(&format!("{kind} \"{code}\"")) {
        bail!("the registry has {code} already");
    }
    let line = format!("        {kind} {code:?} {title:?}\n            {brief:?}\n");
    write(&registry, &with_entry(&text, entry, &line)?)?;

    let parent = root.join(format!("src/diagnose/{module}.rs"));
    write(&parent, &with_module(&read(&parent)?, &stem))?;
    create(&root.join(format!("src/diagnose/{module}/{stem}.rs")), &rule(code, title))?;
    create(&root.join(format!("causes/{code}.md")), &page(code, title, brief))?;
    if kind == "Cause" {
        create(&root.join(format!("labs/{code}.toml")), &lab(code, title, brief))?;
        println!("Now choose its rank: add (\"{code}\", {module}::{stem}::check) to src/diagnose/rules.rs.");
    }
    println!("Then fill in the files, and run: cargo test -p tests --test tidy; cargo xtask test --labs -- {code}");
    Ok(())
}

/// The registry with a line at the end of a family's block.
fn with_entry(text: &str, family: &str, line: &str) -> Result<String> {
    let block =
        text.find(&format!("\n    {family} {{\n")).with_context(|| format!("the registry has no family {family}"))?;
    let end =
        text[block + 1..].find("\n    }\n").map(|at| block + 1 + at + 1).context("the family's block has no end")?;
    Ok(format!("{}{line}{}", &text[..end], &text[end..]))
}

/// A module file with one more `pub mod`, in alphabetical order.
fn with_module(text: &str, stem: &str) -> String {
    let new = format!("pub mod {stem};");
    let mut lines: Vec<&str> = text.lines().collect();
    let is_module = |line: &&str| line.starts_with("pub mod ");
    let at = lines
        .iter()
        .position(|line| is_module(line) && *line > new.as_str())
        .or_else(|| lines.iter().rposition(is_module).map(|last| last + 1))
        .unwrap_or(lines.len());
    lines.insert(at, &new);
    lines.join("\n") + "\n"
}

fn rule(code: &str, title: &str) -> String {
    format!(
        "//! `{code}`: {title}.\n\n\
         use crate::diagnose::case::Case;\n\
         use crate::model::diagnosis::Finding;\n\
         use crate::model::exchange::Fault;\n\n\
         /// Whether this fault is it.\n\
         pub fn check(_case: &Case<'_>, _fault: &Fault) -> Option<Finding> {{\n    None\n}}\n"
    )
}

fn page(code: &str, title: &str, brief: &str) -> String {
    let mut page = format!("# {code}: {title}\n\n## What happens\n\n{brief}.\n");
    for heading in [
        "How it looks from outside",
        "How vnet-trace knows",
        "How to see it by hand",
        "Fix",
        "Not to be confused with",
        "Kernel",
    ] {
        page += &["\n## ", heading, "\n\nTo be written.\n"].concat();
    }
    page + &format!("\n## Lab\n\n`{code}`\n")
}

fn lab(code: &str, title: &str, brief: &str) -> String {
    format!(
        r#"id = "{code}"
title = "{title}"
story = """
{brief}.
"""

setup = """
ip netns add ns1
ip netns add ns2
ip link add veth1 netns ns1 type veth peer name veth2 netns ns2
ip -n ns1 addr add 10.0.0.1/24 dev veth1
ip -n ns2 addr add 10.0.0.2/24 dev veth2
ip -n ns1 link set veth1 up
ip -n ns2 link set veth2 up
"""

fix = """
false
"""

[probe]
netns = "ns1"
dst = "10.0.0.2"

[expect]
verdict = "lost"
cause = "{code}"
"#
    )
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    println!("{}", path.display());
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn create(path: &Path, text: &str) -> Result<()> {
    if path.exists() {
        bail!("{} is there already", path.display());
    }
    write(path, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_to_the_end_of_a_family() {
        let registry = "x {\n    Link {\n        a\n    }\n    Arp {\n        b\n    }\n}\n";
        assert_eq!(
            with_entry(registry, "Link", "        new\n").ok().as_deref(),
            Some("x {\n    Link {\n        a\n        new\n    }\n    Arp {\n        b\n    }\n}\n")
        );
        assert!(with_entry(registry, "Route", "").is_err());
    }

    #[test]
    fn keeps_modules_in_order() {
        let text = "//! Doc.\n\npub mod a;\npub mod c;\n\nuse x;\n";
        assert_eq!(with_module(text, "b"), "//! Doc.\n\npub mod a;\npub mod b;\npub mod c;\n\nuse x;\n");
        assert_eq!(with_module(text, "d"), "//! Doc.\n\npub mod a;\npub mod c;\npub mod d;\n\nuse x;\n");
    }
}
