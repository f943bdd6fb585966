//! Where the output goes to: terminal or not, colours or not, how wide, which characters.

use std::io::{ErrorKind, IsTerminal, Write};

use crate::cli::Failure;
use crate::present::style::{Glyphs, Paint, Style};

/// `--color`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The look for standard output.
pub fn style(choice: ColorChoice) -> Style {
    let stdout = std::io::stdout();
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let paint = match choice {
        ColorChoice::Always => Paint::Ansi,
        ColorChoice::Never => Paint::Plain,
        ColorChoice::Auto => {
            let refused = variable("NO_COLOR").is_some() || variable("TERM").is_some_and(|term| term == "dumb");
            if stdout.is_terminal() && !refused { Paint::Ansi } else { Paint::Plain }
        }
    };
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(variable).unwrap_or_default().to_ascii_lowercase();
    let glyphs = if locale.contains("utf-8") || locale.contains("utf8") { Glyphs::Unicode } else { Glyphs::Ascii };
    let width = match terminal_size::terminal_size_of(&stdout) {
        Some((width, _)) if stdout.is_terminal() => usize::from(width.0).clamp(40, 110),
        _ => 80,
    };
    Style { paint, glyphs, width }
}

/// Tells of something that went wrong and does not matter enough to stop.
pub fn warn(failure: &Failure) {
    // When standard error is closed there is nobody to tell.
    let _ = write!(std::io::stderr(), "warning: {failure}");
}

/// Tells standard error of what goes on.
pub fn note(text: &str) {
    let text = Style::default().clean(text);
    // When standard error is closed there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Shows from now on, on standard error, what the probes say about themselves (`-vv`).
pub fn listen() {
    // Only one logger can be set, and this is the only one.
    if log::set_logger(&Messages).is_ok() {
        log::set_max_level(log::LevelFilter::Debug);
    }
}

/// Messages of the library, as lines on standard error.
struct Messages;

impl log::Log for Messages {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        // Libraries of others talk as well; the probes are of nobody else.
        metadata.target().starts_with("vnet_trace") || metadata.target().starts_with("probes")
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            note(&format!("probes: {}", record.args()));
        }
    }

    fn flush(&self) {}
}

/// Writes to standard output. A reader that has gone away (`| head`) is no error.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::with_help(error, "standard output cannot be written to"))
        }
        _ => Ok(()),
    }
}
