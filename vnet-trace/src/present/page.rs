//! The pages of causes: `explain CODE` and `explain --list`.
//!
//! A page is Markdown and is printed as it is written, because it is written to be read as plain text. On a terminal
//! its headings and code are set off, and nothing else changes.

use super::sheet::{Sheet, Span};
use super::style::{Paint, Style, Tone};
use crate::diagnose::registry::{self, Entry, Family, Kind};

/// The page of one cause or note.
pub fn page(entry: &Entry, style: Style) -> String {
    if style.paint == Paint::Plain {
        return entry.page.lines().flat_map(|line| [style.clean(line), "\n".to_owned()]).collect();
    }
    let mut text = String::new();
    let mut in_block = false;
    for line in entry.page.lines() {
        let clean = style.clean(line);
        if line.starts_with("```") {
            in_block = !in_block;
            continue;
        }
        let drawn = if in_block {
            format!("    {}", style.tone(Tone::Code, &clean))
        } else if let Some(heading) = clean.strip_prefix("# ").or_else(|| clean.strip_prefix("## ")) {
            style.tone(Tone::Strong, heading)
        } else {
            code_spans(&clean, style)
        };
        text.push_str(drawn.trim_end());
        text.push('\n');
    }
    text
}

/// The text of one section of a page, its paragraphs joined to lines; empty if the page has no such section.
pub fn section(entry: &Entry, heading: &str) -> String {
    let body = entry
        .page
        .split("\n## ")
        .find_map(|section| section.strip_prefix(heading)?.strip_prefix('\n'))
        .unwrap_or_default();
    body.trim().to_owned()
}

/// A section's paragraphs as prose, its code blocks as they are.
pub fn write_section(sheet: &mut Sheet, indent: usize, body: &str) {
    for block in body.split("\n\n") {
        if let Some(code) = block.strip_prefix("```") {
            for line in code.lines().skip(1).take_while(|line| !line.starts_with("```")) {
                sheet.verbatim(indent + 4, Tone::Code, line);
            }
        } else {
            sheet.prose(indent, indent, &[Span::from(block.replace('\n', " "))]);
        }
    }
}

/// All codes by family, with one line each.
pub fn list(style: Style) -> String {
    let mut sheet = Sheet::new(style);
    let longest = registry::all().iter().map(|entry| entry.code.len()).max().unwrap_or(0);
    for family in Family::ALL {
        sheet.heading(family.heading());
        for entry in registry::all().iter().filter(|entry| entry.family == family) {
            let gap = " ".repeat(longest - entry.code.len() + 2);
            sheet.verbatim(2, Tone::Plain, &format!("{}{gap}{}", entry.code, entry.title));
        }
    }
    sheet.finish()
}

/// All codes as one JSON array.
pub fn list_json() -> serde_json::Value {
    registry::all().iter().map(short_json).collect()
}

/// One code with its page as JSON.
pub fn json(entry: &Entry) -> serde_json::Value {
    let mut value = short_json(entry);
    value["page"] = entry.page.into();
    value
}

fn short_json(entry: &Entry) -> serde_json::Value {
    serde_json::json!({
        "code": entry.code,
        "kind": match entry.kind {
            Kind::Cause => "cause",
            Kind::Note => "note",
        },
        "family": entry.family.to_string(),
        "title": entry.title,
        "brief": entry.brief,
    })
}

/// Text between back-ticks in the tone of code, without the back-ticks.
fn code_spans(line: &str, style: Style) -> String {
    line.split('`')
        .enumerate()
        .map(|(at, part)| if at % 2 == 1 { style.tone(Tone::Code, part) } else { part.to_owned() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_printed_as_they_are_written() {
        for entry in registry::all() {
            assert_eq!(page(entry, Style::default()).trim_end(), entry.page.trim_end(), "{}", entry.code);
        }
    }

    #[test]
    fn a_terminal_sees_no_markdown_headings() {
        let style = Style { paint: Paint::Ansi, ..Style::default() };
        for entry in registry::all() {
            assert!(!page(entry, style).lines().any(|line| line.starts_with("# ") && !line.contains('\x1b')));
        }
    }

    #[test]
    fn every_page_tells_what_happens() {
        for entry in registry::all() {
            assert!(!section(entry, "What happens").is_empty(), "{}", entry.code);
        }
    }

    #[test]
    fn the_list_has_every_code() {
        let list = list(Style::default());
        for entry in registry::all() {
            assert!(list.contains(&format!("\n  {} ", entry.code)), "{}", entry.code);
        }
        assert!(list.lines().all(|line| line.chars().count() <= 80), "{list}");
    }
}
