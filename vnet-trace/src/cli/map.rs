//! `vnet-trace map`: the network as it is. Nothing is sent.

use std::path::{Path, PathBuf};

use crate::ask::{self, Foretelling, Survey};
use crate::cli::asking::Asking;
use crate::cli::output::{Output, Unwritable};
use crate::cli::{Exit, Failure, last, terminal};
use crate::model::question::Protocol;
use crate::present::map::{Map, drawing, text};

/// Arguments of `map`.
#[derive(Debug, clap::Args)]
#[command(args_override_self = true, after_help = "Exit code: 0 the map was drawn, 2 anything else.")]
pub struct Args {
    /// Mark the devices on the predicted way to this address or host name
    #[arg(value_name = "DST")]
    destination: Option<String>,
    #[command(flatten)]
    asking: Asking,
    /// The network of this recording (.vtr), with its question's way, instead of this machine's
    #[arg(short, long, value_name = "FILE", help_heading = "Where")]
    recording: Option<PathBuf>,
    /// Write a file instead: .svg, .html or .json
    #[arg(short, value_name = "FILE", value_parser = file, help_heading = "Output")]
    output: Vec<File>,
    #[command(flatten)]
    look: Output,
}

/// A file to write, with the form that its ending asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct File {
    path: PathBuf,
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Svg,
    Html,
    Json,
}

/// Reads the argument of `-o`.
fn file(text: &str) -> Result<File, String> {
    let path = Path::new(text);
    let form = match path.extension().and_then(|ending| ending.to_str()) {
        Some("svg") => Form::Svg,
        Some("html" | "htm") => Form::Html,
        Some("json") => Form::Json,
        _ => return Err("the ending decides the form: .svg, .html or .json".to_owned()),
    };
    Ok(File { path: path.to_owned(), form })
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let Survey { snapshot, way } = survey(args)?;
    let map = Map::of(&snapshot, way.as_ref().map(|(destination, exchange)| (*destination, exchange)));
    for file in &args.output {
        let text = match file.form {
            Form::Svg => drawing::svg(&map),
            Form::Html => drawing::html(&map),
            Form::Json => args.look.json_text(&map.json())?,
        };
        std::fs::write(&file.path, text).map_err(|source| Failure::new(Unwritable::at(&file.path, source), None))?;
    }
    if args.look.json {
        terminal::print(&args.look.json_text(&map.json())?)?;
    } else if args.output.is_empty() {
        terminal::print(&text::map(&map, args.look.style(), args.look.detail()))?;
    }
    Ok(Exit::Good)
}

fn survey(args: &Args) -> Result<Survey, Failure> {
    let asked = match &args.destination {
        Some(destination) => Some(Foretelling { options: args.asking.options(destination)?, protocol: Protocol::Echo }),
        None => None,
    };
    let explained = |error: ask::AskError| {
        let help = error.help();
        Failure::new(error, help)
    };
    let Some(file) = &args.recording else {
        return ask::survey(&args.asking.place(), asked.as_ref()).map_err(explained);
    };
    let answer = ask::foretell_recorded(last::read(file)?, asked.as_ref()).map_err(explained)?;
    let destination = answer.recording.question.dst;
    Ok(Survey { way: answer.predicted.map(|exchange| (destination, exchange)), snapshot: answer.recording.before })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ending_decides_the_form() {
        assert_eq!(file("a/map.svg").map(|file| file.form), Ok(Form::Svg));
        assert_eq!(file("map.html").map(|file| file.form), Ok(Form::Html));
        assert!(file("map.png").is_err());
    }
}
