//! A lab's script without its loops, so that every name and address stands in the text.
//!
//! Labs repeat themselves with `for V in WORDS; do …; done`, in one line or over several, and use `$V`, `${V}`, `${V% *}`,
//! `${V#* }` and `$((V+N))`. These are written out. A loop over something that only the shell knows (`$(seq 50)`) stays,
//! with what is in it; so does all that stands in a here-document.

use libtest_mimic::{Failed, Trial};

/// The script written out.
pub fn unroll(script: &str) -> String {
    let mut out = String::new();
    let mut lines = script.lines();
    let mut until: Option<String> = None;
    while let Some(line) = lines.next() {
        if let Some(end) = &until {
            if line.trim() == end {
                until = None;
            }
        } else if let Some((_, end)) = line.split_once("<<'") {
            until = end.split('\'').next().map(str::to_owned);
        } else if let Some(header) = header(line) {
            // The loop's lines, to its own `done`.
            let mut depth = opened(line);
            let mut body = header.rest.to_owned();
            while depth > 0 {
                let Some(line) = lines.next() else { break };
                depth += opened(line);
                body.push('\n');
                body.push_str(line);
            }
            let (body, after) = body.rsplit_once("done").unwrap_or((&body, ""));
            let body = body.trim_end().trim_end_matches(';');
            match header.words {
                Some(words) => {
                    for word in words {
                        out.push_str(&unroll(&substitute(body.trim(), header.variable, &word)));
                    }
                    if !after.trim().is_empty() {
                        out.push_str(&format!("{}\n", after.trim().trim_start_matches(';')));
                    }
                }
                None => {
                    out.push_str(&format!("{}\n{}\ndone{after}\n", header.line, body.trim_start_matches('\n')));
                }
            }
            continue;
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}

struct Header<'a> {
    line: &'a str,
    variable: &'a str,
    /// None when only the shell knows them.
    words: Option<Vec<String>>,
    /// What follows `do` in the same line.
    rest: &'a str,
}

fn header(line: &str) -> Option<Header<'_>> {
    let (variable, rest) = line.trim_start().strip_prefix("for ")?.split_once(" in ")?;
    let (list, rest) = rest.split_once("; do")?;
    let words = (!list.contains('$')).then(|| words(list));
    Some(Header { line: &line[..line.len() - rest.len()], variable, words, rest })
}

/// Loops that a line opens, less those that it closes.
fn opened(line: &str) -> i32 {
    let count =
        |what: &str| i32::try_from(line.split(['\t', ' ', ';']).filter(|word| *word == what).count()).unwrap_or(0);
    count("do") - count("done")
}

/// Words as the shell splits them, double quotes removed.
fn words(list: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (index, part) in list.split('"').enumerate() {
        if index % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

fn substitute(body: &str, variable: &str, word: &str) -> String {
    let (first, last) =
        (word.rsplit_once(' ').map_or(word, |(first, _)| first), word.split_once(' ').map_or(word, |(_, last)| last));
    let mut out = String::new();
    let mut rest = body;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let tail = &rest[at..];
        let forms = [
            (format!("${{{variable}% *}}"), first.to_owned()),
            (format!("${{{variable}#* }}"), last.to_owned()),
            (format!("${{{variable}}}"), word.to_owned()),
        ];
        let sum = tail
            .strip_prefix(&format!("$(({variable}+"))
            .and_then(|sum| sum.split_once("))"))
            .and_then(|(more, after)| Some((word.parse::<i64>().ok()? + more.parse::<i64>().ok()?, after)));
        let plain = tail[1..]
            .strip_prefix(variable)
            .filter(|after| !after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'));
        if let Some((form, text)) = forms.iter().find(|(form, _)| tail.starts_with(form.as_str())) {
            out.push_str(text);
            rest = &tail[form.len()..];
        } else if let Some((sum, after)) = sum {
            out.push_str(&sum.to_string());
            rest = after;
        } else if let Some(after) = plain {
            out.push_str(word);
            rest = after;
        } else {
            out.push('$');
            rest = &tail[1..];
        }
    }
    out + rest
}

/// Tests of this file.
pub fn trials() -> [Trial; 2] {
    [
        Trial::test("unroll::writes_loops_out", || {
            for (script, wants) in [
                ("a\nfor i in 1 2; do x$i ${i}0 10.0.0.$((i+1)); done\nb", "a\nx1 10 10.0.0.2\nx2 20 10.0.0.3\nb\n"),
                (
                    "for d in \"r lan\" \"n eth0\"; do ip -n ${d% *} up ${d#* }; done",
                    "ip -n r up lan\nip -n n up eth0\n",
                ),
                (
                    "for i in 1 2; do\n  x$i\n  for c in all p$i; do\n    y $c\n  done\ndone",
                    "x1\n  y all\n  y p1\nx2\n  y all\n  y p2\n",
                ),
            ] {
                let got = unroll(script);
                let lines = |text: &str| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
                if lines(&got) != lines(wants) {
                    return Err(Failed::from(format!("{script}\n→\n{got}")));
                }
            }
            Ok(())
        }),
        Trial::test("unroll::leaves_what_the_shell_must_know", || {
            for script in [
                "for t in $(seq 3); do\n  [ -e $t ] && break\ndone\n",
                "cat <<'PY'\nfor i in 1 2; do\nPY\n",
                "echo $ix ${j}\n",
            ] {
                let got = unroll(script);
                if got != script {
                    return Err(Failed::from(format!("{script}\n→\n{got}")));
                }
            }
            Ok(())
        }),
    ]
}
