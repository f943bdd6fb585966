//! A text in the making: paragraphs that are wrapped, commands that never are, tables.
//!
//! Everything is cleaned as it is added (see [`Style::clean`]), so what is built from a recording of a stranger's
//! machine is as safe to print as what is built from one's own.

use tabled::builder::Builder;
use tabled::settings::object::{Columns, Rows};
use tabled::settings::{Color, Padding, Style as Borders};

use super::style::{Paint, Style, Tone, clean_command};

/// A piece of text in one tone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    tone: Tone,
    text: String,
}

impl Span {
    /// A piece in this tone.
    pub fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self { tone, text: text.into() }
    }
}

impl From<&str> for Span {
    fn from(text: &str) -> Self {
        Self::new(Tone::Plain, text)
    }
}

impl From<String> for Span {
    fn from(text: String) -> Self {
        Self::new(Tone::Plain, text)
    }
}

/// One row of a table, in one tone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRow {
    /// How the row looks.
    pub tone: Tone,
    /// Its cells; the last one is wrapped.
    pub cells: Vec<String>,
}

/// The text.
#[derive(Debug, Clone)]
pub struct Sheet {
    style: Style,
    text: String,
}

impl Sheet {
    /// An empty sheet.
    pub fn new(style: Style) -> Self {
        Self { style, text: String::new() }
    }

    /// What was written.
    pub fn finish(self) -> String {
        self.text
    }

    /// An empty line, unless there is one already or nothing stands above it.
    pub fn blank(&mut self) -> &mut Self {
        if !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
        self
    }

    /// A heading on a line of its own, with an empty line before it.
    pub fn heading(&mut self, text: &str) -> &mut Self {
        self.blank().prose(0, 0, &[Span::new(Tone::Strong, text)])
    }

    /// A paragraph: wrapped between words, its first line indented by `first` columns, the others by `rest`.
    pub fn prose(&mut self, first: usize, rest: usize, spans: &[Span]) -> &mut Self {
        let mut line = Line::start(first);
        for (tone, word, glued) in words(self.style, spans) {
            let length = word.chars().count();
            let space = usize::from(!glued && !line.is_fresh());
            if !line.is_fresh() && !glued && line.columns + space + length > self.style.width {
                self.text.push_str(&line.finish());
                line = Line::start(rest);
            } else if space == 1 {
                line.push(Tone::Plain, " ", self.style);
            }
            line.push(tone, &word, self.style);
        }
        self.text.push_str(&line.finish());
        self
    }

    /// Plain prose.
    pub fn paragraph(&mut self, indent: usize, text: &str) -> &mut Self {
        self.prose(indent, indent, &[text.into()])
    }

    /// A list item.
    pub fn item(&mut self, indent: usize, spans: &[Span]) -> &mut Self {
        let mut all = vec![Span::new(Tone::Faint, "•"), Span::from(" ")];
        all.extend_from_slice(spans);
        self.prose(indent, indent + 2, &all)
    }

    /// A command to be copied: on lines of its own, never wrapped.
    pub fn command(&mut self, indent: usize, command: &str) -> &mut Self {
        for line in clean_command(command).lines() {
            self.text.push_str(&" ".repeat(indent));
            self.text.push_str(&self.style.tone(Tone::Code, line));
            self.text.push('\n');
        }
        self
    }

    /// A line as it is, not wrapped.
    pub fn verbatim(&mut self, indent: usize, tone: Tone, text: &str) -> &mut Self {
        self.text.push_str(&" ".repeat(indent));
        let clean = self.style.clean(text);
        self.text.push_str(&self.style.tone(tone, &clean));
        self.text.push('\n');
        self
    }

    /// A table with a faint head; the last column takes what is left of the width and is wrapped.
    pub fn table(&mut self, indent: usize, head: &[&str], rows: &[TableRow]) -> &mut Self {
        let clean: Vec<Vec<String>> = std::iter::once(head.iter().map(|cell| self.style.clean(cell)).collect())
            .chain(rows.iter().map(|row| row.cells.iter().map(|cell| self.style.clean(cell)).collect()))
            .collect();
        let last = head.len().saturating_sub(1);
        let taken: usize = (0..last)
            .map(|column| {
                clean.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0) + 2
            })
            .sum();
        let left = self.style.width.saturating_sub(indent + taken).max(24);
        let clean = clean.into_iter().map(|mut row| {
            if let Some(cell) = row.last_mut() {
                *cell = wrap(cell, left);
            }
            row
        });
        let mut table = clean.collect::<Builder>().build();
        table.with(Borders::empty());
        table.modify(Columns::new(..), Padding::new(0, 2, 0, 0));
        table.modify(Columns::one(last), Padding::zero());
        let text = table.to_string();
        if self.style.paint == Paint::Ansi {
            table.modify(Rows::first(), color(Tone::Faint));
            for (at, row) in rows.iter().enumerate().filter(|(_, row)| row.tone != Tone::Plain) {
                table.modify(Rows::one(at + 1), color(row.tone));
            }
            self.lines(indent, &table.to_string());
        } else {
            self.lines(indent, &text);
        }
        self
    }

    fn lines(&mut self, indent: usize, text: &str) {
        for line in text.lines() {
            let line = format!("{}{line}", " ".repeat(indent));
            self.text.push_str(line.trim_end());
            self.text.push('\n');
        }
    }
}

/// The text with line breaks between words, so that no line is longer than `width` unless one word is.
fn wrap(text: &str, width: usize) -> String {
    let mut wrapped = String::new();
    let mut column = 0;
    for word in text.split(' ').filter(|word| !word.is_empty()) {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            wrapped.push('\n');
            column = 0;
        } else if column > 0 {
            wrapped.push(' ');
            column += 1;
        }
        wrapped.push_str(word);
        column += length;
    }
    wrapped
}

fn color(tone: Tone) -> Color {
    Color::new(tone.start(), "\x1b[0m")
}

/// A line that grows.
struct Line {
    text: String,
    columns: usize,
    fresh: bool,
}

impl Line {
    fn start(indent: usize) -> Self {
        Self { text: " ".repeat(indent), columns: indent, fresh: true }
    }

    fn is_fresh(&self) -> bool {
        self.fresh
    }

    fn push(&mut self, tone: Tone, word: &str, style: Style) {
        self.text.push_str(&style.tone(tone, word));
        self.columns += word.chars().count();
        self.fresh = false;
    }

    fn finish(self) -> String {
        let mut text = self.text.trim_end().to_owned();
        text.push('\n');
        text
    }
}

/// The words of the spans, each with its tone and whether it is glued to the one before (no space between two spans).
fn words(style: Style, spans: &[Span]) -> Vec<(Tone, String, bool)> {
    let mut words = Vec::new();
    let mut glue = false;
    for span in spans {
        let clean = style.clean(&span.text.replace(['\n', '\t'], " "));
        for (at, word) in clean.split(' ').enumerate() {
            if at > 0 {
                glue = false;
            }
            if !word.is_empty() {
                words.push((span.tone, word.to_owned(), glue));
                glue = true;
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::present::style::Glyphs;

    fn narrow() -> Style {
        Style { width: 20, ..Style::default() }
    }

    #[test]
    fn prose_is_wrapped_between_words_and_spans_stick_together() {
        let mut sheet = Sheet::new(narrow());
        sheet.prose(2, 4, &["one two ".into(), Span::new(Tone::Bad, "three"), ", four five six".into()]);
        assert_eq!(sheet.finish(), "  one two three,\n    four five six\n");
    }

    #[test]
    fn commands_are_never_wrapped() {
        let mut sheet = Sheet::new(narrow());
        sheet.command(4, "ip netns exec ns1 sysctl -w net.ipv4.ip_forward=1");
        assert_eq!(sheet.finish(), "    ip netns exec ns1 sysctl -w net.ipv4.ip_forward=1\n");
    }

    #[test]
    fn a_table_wraps_its_last_column() {
        let mut sheet = Sheet::new(Style { width: 34, ..Style::default() });
        let row = TableRow {
            tone: Tone::Plain,
            cells: vec!["ns1".into(), "a long story about one packet and its end".into()],
        };
        sheet.table(2, &["netns", "what"], &[row]);
        assert_eq!(sheet.finish(), "  netns  what\n  ns1    a long story about one\n         packet and its end\n");
    }

    #[test]
    fn ascii_sheets_are_ascii() {
        let mut sheet = Sheet::new(Style { glyphs: Glyphs::Ascii, ..Style::default() });
        sheet.item(0, &["a → b".into()]);
        assert_eq!(sheet.finish(), "* a -> b\n");
    }
}
