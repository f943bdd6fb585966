//! The options that every command shares for its output, and the files of `-o`.

use std::path::{Path, PathBuf};

use crate::ask::Answer;
use crate::cli::terminal::{self, ColorChoice};
use crate::cli::{Failure, last};
use crate::collect::recording_file::{self, Access};
use crate::present::json::{self, Asked, Layout};
use crate::present::pcapng;
use crate::present::style::{Detail, Style};

/// How and where the answer is written.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Output")]
pub struct Output {
    /// One JSON document
    #[arg(short, long)]
    pub json: bool,
    /// With --json: indented
    #[arg(short, long)]
    pub pretty: bool,
    /// The verdict only
    #[arg(short, long)]
    pub quiet: bool,
    /// Every step with its time, all evidence, every fix; twice: what the probes say about themselves
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// When to use colours
    #[arg(long, value_enum, value_name = "WHEN", default_value_t)]
    pub color: ColorChoice,
}

impl Output {
    /// How much is said.
    pub fn detail(&self) -> Detail {
        match (self.quiet, self.verbose > 0) {
            (true, _) => Detail::Verdict,
            (false, true) => Detail::Full,
            (false, false) => Detail::Normal,
        }
    }

    /// How JSON is laid out.
    pub fn layout(&self) -> Layout {
        if self.pretty { Layout::Pretty } else { Layout::Line }
    }

    /// A JSON value as text, laid out as asked.
    pub fn json_text(&self, value: &serde_json::Value) -> Result<String, serde_json::Error> {
        let mut text = match self.layout() {
            Layout::Line => serde_json::to_string(value)?,
            Layout::Pretty => serde_json::to_string_pretty(value)?,
        };
        text.push('\n');
        Ok(text)
    }

    /// The look for standard output.
    pub fn style(&self) -> Style {
        terminal::style(self.color)
    }
}

/// A file to write, with the form that its ending asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Where.
    pub path: PathBuf,
    /// What.
    pub form: Form,
}

/// What can be written to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `.vtr`: the recording, to be explained again later.
    Recording,
    /// `.pcapng`: the packets, for Wireshark.
    Pcapng,
    /// `.json`: the answer.
    Json,
}

/// Reads the argument of `-o`.
pub fn file(text: &str) -> Result<File, String> {
    let path = Path::new(text);
    let form = match path.extension().and_then(|ending| ending.to_str()) {
        Some("vtr") => Form::Recording,
        Some("pcapng") => Form::Pcapng,
        Some("json") => Form::Json,
        Some("html" | "svg") => return Err("this form cannot be written yet; .vtr, .pcapng and .json can".to_owned()),
        _ => return Err("the ending decides the form: .vtr, .pcapng or .json".to_owned()),
    };
    Ok(File { path: path.to_owned(), form })
}

/// A file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}", path.display())]
pub struct Unwritable {
    path: PathBuf,
    #[source]
    source: std::io::Error,
}

impl Unwritable {
    /// The file, and what the system said.
    pub fn at(path: &Path, source: std::io::Error) -> Self {
        Self { path: path.to_owned(), source }
    }
}

/// Writes an answer in the form that a file's ending asks for.
pub fn write(file: &File, answer: &Answer, asked: Asked, layout: Layout) -> Result<(), Failure> {
    match file.form {
        Form::Json => {
            let text = json::document(answer.report(), asked).to_text(layout)?;
            std::fs::write(&file.path, text).map_err(|source| Failure::new(Unwritable::at(&file.path, source), None))
        }
        Form::Recording => last::write(&file.path, &answer.recording),
        Form::Pcapng => pcapng(&file.path, answer),
    }
}

/// Writes the packets of an answer for Wireshark.
pub fn pcapng(path: &Path, answer: &Answer) -> Result<(), Failure> {
    recording_file::replace(path, Access::Umask, |out| pcapng::write(&answer.recording, &answer.observed, out))
        .map_err(|source| Failure::new(Unwritable::at(path, source), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_decides_the_form() {
        assert_eq!(file("/tmp/a.b/way.vtr").map(|file| file.form), Ok(Form::Recording));
        assert_eq!(file("way.pcapng").map(|file| file.form), Ok(Form::Pcapng));
        assert!(file("way.pcap").is_err());
        assert!(file("vtr").is_err());
    }
}
