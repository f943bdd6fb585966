//! How text may look where it goes to: colours or none, Unicode or ASCII, how many columns.
//!
//! The decision is made once, at the edge (`cli::terminal`), from the options, the environment and whether standard
//! output is a terminal. Here it is only carried out. Everything that came from outside (names, rules, errors) goes
//! through [`Style::clean`] before it is printed, so that no device name can move somebody's cursor.

/// What a piece of text is, which decides how it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tone {
    /// Ordinary text.
    #[default]
    Plain,
    /// A heading.
    Strong,
    /// Of less interest.
    Faint,
    /// Good news.
    Good,
    /// Bad news.
    Bad,
    /// Neither, but worth a look.
    Warn,
    /// Something to type, or a name from the kernel.
    Code,
}

impl Tone {
    /// The escape sequence that starts it; empty for plain text.
    pub fn start(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "\x1b[1m",
            Self::Faint => "\x1b[2m",
            Self::Good => "\x1b[1;32m",
            Self::Bad => "\x1b[1;31m",
            Self::Warn => "\x1b[1;33m",
            Self::Code => "\x1b[36m",
        }
    }
}

/// Whether colours are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Paint {
    /// No escape sequence at all.
    #[default]
    Plain,
    /// ANSI colours.
    Ansi,
}

/// Which characters may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Glyphs {
    /// Arrows, bullets and the like.
    #[default]
    Unicode,
    /// Nothing outside of ASCII.
    Ascii,
}

/// How much is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Detail {
    /// The verdict only (`-q`).
    Verdict,
    /// What a person needs.
    #[default]
    Normal,
    /// With steps, times and all evidence (`-v`).
    Full,
}

/// The look of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Colours.
    pub paint: Paint,
    /// Characters.
    pub glyphs: Glyphs,
    /// Columns that prose is wrapped to.
    pub width: usize,
}

impl Default for Style {
    /// What a file or a pipe gets: 80 columns, no colour.
    fn default() -> Self {
        Self { paint: Paint::Plain, glyphs: Glyphs::Unicode, width: 80 }
    }
}

impl Style {
    /// The text in this tone. It must be clean already.
    pub fn tone(self, tone: Tone, text: &str) -> String {
        if self.paint == Paint::Plain || tone == Tone::Plain || text.is_empty() {
            text.to_owned()
        } else {
            format!("{}{text}\x1b[0m", tone.start())
        }
    }

    /// The text without anything that could act on a terminal: control characters and direction overrides are spelled
    /// out, and where only ASCII may be used, so is everything else, our own glyphs with their ASCII forms.
    pub fn clean(self, text: &str) -> String {
        let mut clean = String::with_capacity(text.len());
        for c in text.chars() {
            match c {
                _ if is_harmful(c) => clean.extend(c.escape_unicode()),
                _ if c.is_ascii() || self.glyphs == Glyphs::Unicode => clean.push(c),
                _ => match ascii(c) {
                    Some(form) => clean.push_str(form),
                    None => clean.extend(c.escape_unicode()),
                },
            }
        }
        clean
    }
}

/// Control characters, and characters that reorder or hide what is around them.
fn is_harmful(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// Control characters spelled out, everything else as it is: for commands, which must stay as they are typed.
pub fn clean_command(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for c in text.chars() {
        if is_harmful(c) && c != '\n' {
            clean.extend(c.escape_unicode());
        } else {
            clean.push(c);
        }
    }
    clean
}

fn ascii(c: char) -> Option<&'static str> {
    Some(match c {
        '→' => "->",
        '←' => "<-",
        '↔' => "<->",
        '✗' | '×' => "x",
        '✓' => "+",
        '•' => "*",
        '·' | '–' | '—' | '─' => "-",
        '│' => "|",
        '…' => "...",
        'µ' => "u",
        '’' => "'",
        '“' | '”' => "\"",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_never_reach_a_terminal() {
        let style = Style { paint: Paint::Ansi, ..Style::default() };
        assert_eq!(style.clean("eth\x1b[2J0\u{202e}\r\n"), "eth\\u{1b}[2J0\\u{202e}\\u{d}\\u{a}");
    }

    #[test]
    fn a_plain_locale_gets_ascii_only() {
        let style = Style { glyphs: Glyphs::Ascii, ..Style::default() };
        let text = style.clean("a → b, 3 µs, ü");
        assert!(text.is_ascii(), "{text}");
        assert_eq!(text, "a -> b, 3 us, \\u{fc}");
    }

    #[test]
    fn colours_only_where_they_are_wanted() {
        assert_eq!(Style::default().tone(Tone::Bad, "lost"), "lost");
        let style = Style { paint: Paint::Ansi, ..Style::default() };
        assert_eq!(style.tone(Tone::Bad, "lost"), "\x1b[1;31mlost\x1b[0m");
    }
}
