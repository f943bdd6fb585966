//! `vnet-trace explain`: the last recording or a recording file at length, or the page of a cause.

use std::path::{Path, PathBuf};

use crate::ask;
use crate::cli::output::Output;
use crate::cli::{Exit, Failure, last, terminal};
use crate::diagnose::registry;
use crate::model::diagnosis::Verdict;
use crate::present::json::{self, Asked};
use crate::present::style::Detail;
use crate::present::{explain, page, text};
use crate::prove;

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit code of a recording: 0 delivered, 1 lost, 2 anything else.")]
pub struct Args {
    /// A recording (.vtr) or the code of a cause; without it, the last recording
    #[arg(value_name = "FILE|CODE")]
    what: Option<PathBuf>,
    /// List the codes of all causes and notes
    #[arg(long, conflicts_with = "what")]
    list: bool,
    /// Rebuild the packet's way in throw-away namespaces and show that the fix works
    #[arg(long)]
    prove: bool,
    #[command(flatten)]
    look: Output,
}

/// Runs the subcommand.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    if args.list {
        let text =
            if args.look.json { args.look.json_text(&page::list_json())? } else { page::list(args.look.style()) };
        terminal::print(&text)?;
        return Ok(Exit::Good);
    }
    if let Some(what) = &args.what
        && let Some(code) = what.to_str()
        && let Some(entry) = registry::entry(code)
    {
        let text = if args.look.json {
            args.look.json_text(&page::json(entry))?
        } else {
            page::page(entry, args.look.style())
        };
        terminal::print(&text)?;
        return Ok(Exit::Good);
    }
    recording(args)
}

fn recording(args: &Args) -> Result<Exit, Failure> {
    let path = match &args.what {
        Some(what) if !what.exists() && looks_like_a_code(what) => return Err(unknown_code(what)),
        Some(what) => what.clone(),
        None => last::path().filter(|path| path.exists()).ok_or_else(|| {
            Failure::with_help(
                "there is no last recording",
                "`vnet-trace ping DST` makes one; `vnet-trace explain --list` lists the causes",
            )
        })?,
    };
    let mut answer = ask::judge(last::read(&path)?);
    if args.prove {
        prove::add(&mut answer, &std::env::current_exe()?);
    }
    let style = args.look.style();
    let asked = Asked::of(&answer.recording);
    let text = match args.look.detail() {
        _ if args.look.json => json::document(answer.report(), asked).to_text(args.look.layout())?,
        Detail::Verdict => text::ping(answer.report(), style, Detail::Verdict),
        Detail::Normal | Detail::Full => explain::story(answer.report(), style),
    };
    terminal::print(&text)?;
    Ok(match answer.diagnosis.verdict {
        Verdict::Delivered => Exit::Good,
        Verdict::Lost | Verdict::Undecided => Exit::Lost,
    })
}

/// Neither a path with folders nor a file with an ending.
fn looks_like_a_code(what: &Path) -> bool {
    what.extension().is_none() && what.components().count() == 1
}

fn unknown_code(what: &Path) -> Failure {
    let typed = what.display().to_string();
    let similar = registry::similar(&typed);
    let help = if similar.is_empty() {
        "`vnet-trace explain --list` lists the codes".to_owned()
    } else {
        format!("did you mean {}? `vnet-trace explain --list` lists the codes", similar.join(" or "))
    };
    Failure::with_help(format!("`{}` is neither a cause nor a file", typed.escape_debug()), help)
}
