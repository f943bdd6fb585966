//! One source file without what does not count: comments, literals, unit tests. Lines keep their numbers.
//!
//! This is no parser: it knows enough of Rust's lexical structure to find `crate::x`, `super::…::x` and `use x::` in code.
//! A file named `tests` or `bench` is part of unit tests as a whole. Limit: a name brought in by a macro is not seen.

use std::path::{Path, PathBuf};

/// A file of the workspace.
pub struct Source {
    /// Relative to its `src`.
    pub path: PathBuf,
    /// The top-level module that it belongs to: `model` for model.rs and model/id.rs.
    pub module: String,
    /// As it is.
    pub text: String,
    /// Without comments, literals and unit tests.
    pub code: String,
    /// How many modules deep: 1 for model.rs, 2 for model/id.rs.
    depth: usize,
}

impl Source {
    /// The file at `path` below a `src` folder.
    pub fn new(path: &Path, text: String) -> Self {
        let parts: Vec<String> =
            path.with_extension("").iter().map(|part| part.to_string_lossy().into_owned()).collect();
        let only_tests = parts.last().is_some_and(|stem| stem == "tests" || stem == "bench");
        let code = if only_tests { String::new() } else { without_tests(&without_comments_and_literals(&text)) };
        Self { path: path.to_owned(), module: parts[0].clone(), depth: parts.len(), text, code }
    }

    /// Lines that have this word in code, from 1. A word that begins or ends with a letter is matched whole.
    pub fn lines_with(&self, word: &str) -> impl Iterator<Item = usize> {
        let found: Vec<usize> =
            self.code.lines().enumerate().filter(|(_, line)| has_word(line, word)).map(|(at, _)| at + 1).collect();
        found.into_iter()
    }

    /// Top-level modules of the crate that the code names, with lines.
    pub fn modules_used(&self) -> Vec<(usize, String)> {
        let up = "super::".repeat(self.depth);
        self.paths_after("crate::")
            .into_iter()
            .chain(self.paths_after(&up).into_iter().filter(|_| self.depth > 0))
            .filter(|(_, name)| name.chars().next().is_some_and(char::is_lowercase))
            .collect()
    }

    /// Which of these crates a `use` begins with, with lines.
    pub fn crates_used(&self, known: &[String]) -> Vec<(usize, String)> {
        let mut used = self.paths_after("use ");
        used.retain(|(_, name)| known.contains(name));
        used
    }

    /// The identifiers right after each occurrence of `before`, in braces the first of each item.
    fn paths_after(&self, before: &str) -> Vec<(usize, String)> {
        let mut found = Vec::new();
        let mut from = 0;
        while let Some(at) = self.code[from..].find(before).map(|at| at + from) {
            from = at + before.len();
            let whole = !self.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':');
            let line = self.code[..at].matches('\n').count() + 1;
            let rest = &self.code[from..];
            if !whole {
                continue;
            }
            match rest.strip_prefix('{') {
                Some(list) => found.extend(heads(list).into_iter().map(|name| (line, name))),
                None => found.push((line, identifier(rest))),
            }
        }
        found.retain(|(_, name)| !name.is_empty());
        found
    }
}

/// `a::{b, c}, d}` → a, d.
fn heads(list: &str) -> Vec<String> {
    let mut depth = 0;
    let mut heads = vec![identifier(list.trim_start())];
    for (at, c) in list.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(identifier(list[at + 1..].trim_start())),
            _ => {}
        }
    }
    heads
}

fn identifier(text: &str) -> String {
    text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn has_word(line: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back().is_some_and(part_of_name) && word.starts_with(part_of_name);
        let after = line[at + word.len()..].chars().next().is_some_and(part_of_name) && word.ends_with(part_of_name);
        !before && !after
    })
}

/// Everything from `#[cfg(test)]` on, when a module follows: unit tests stand at the end of their file.
fn without_tests(code: &str) -> String {
    let tests = code.match_indices("#[cfg(test)]").find(|(at, mark)| {
        let next = code[at + mark.len()..].trim_start();
        next.starts_with("mod ") && next.find('{').is_some_and(|brace| next.find(';').is_none_or(|end| brace < end))
    });
    tests.map_or_else(|| code.to_owned(), |(at, _)| code[..at].to_owned())
}

fn without_comments_and_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) =
            raw_string(rest).filter(|_| !code.ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        {
            length
        } else if c == '"' {
            string(rest)
        } else if c == '\'' {
            character(rest)
        } else {
            0
        };
        if skipped == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        } else {
            code.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
            rest = &rest[skipped..];
        }
    }
    code
}

/// The length of `"…"`.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of `r#"…"#`.
fn raw_string(text: &str) -> Option<usize> {
    let inner = text.strip_prefix("br").or_else(|| text.strip_prefix('r'))?;
    let hashes = inner.chars().take_while(|c| *c == '#').count();
    inner[hashes..].starts_with('"').then_some(())?;
    let end = format!("\"{}", "#".repeat(hashes));
    let start = text.len() - inner.len() + hashes + 1;
    Some(text[start..].find(&end).map_or(text.len(), |at| start + at + end.len()))
}

/// The length of `'x'` or `'\n'`; 0 for a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => text.char_indices().skip(3).find(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1),
        Some(_) => chars.next().filter(|(_, c)| *c == '\'').map_or(0, |(at, _)| at + 1),
        None => 0,
    }
}

#[test]
fn sees_code_and_only_code() {
    let source = Source::new(
        Path::new("model/id.rs"),
        r##"//! crate::comment
use crate::{a::{b, c}, d};
use serde::Serialize;
fn f<'x>(t: &'x str) -> char { let _ = "crate::string \" // "; let _ = r#"crate::raw "# ; super::super::e::g(); super::h(); 'u' }
fn g() { mycrate::no(); crate::i::j(); let c = '\''; let d = "unsafe"; println!(); }
#[cfg(test)]
mod tests { use crate::test; }
"##
        .to_owned(),
    );
    let names =
        |used: Vec<(usize, String)>| used.into_iter().map(|(line, name)| format!("{line}:{name}")).collect::<Vec<_>>();
    assert_eq!(source.module, "model");
    assert_eq!(names(source.modules_used()), ["2:a", "2:d", "5:i", "4:e"]);
    assert_eq!(names(source.crates_used(&["serde".to_owned()])), ["3:serde"]);
    assert_eq!(source.lines_with("unsafe").count(), 0);
    assert_eq!(source.lines_with("println!").collect::<Vec<_>>(), [5]);
    assert_eq!(source.lines_with("print!").count(), 0);
}
