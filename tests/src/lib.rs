//! What the tests of the whole program share: where the program is, and which labs this machine can run.

pub mod files;
pub mod labs;

use std::path::{Path, PathBuf};
use std::process::Command;

/// The program under test: `$VNET_TRACE_PROGRAM`, else the one that cargo builds now, so that `cargo test -p tests` never
/// tests a stale one.
///
/// # Panics
///
/// When there is neither: nothing can be tested.
#[expect(clippy::panic, reason = "called by tests only")]
pub fn program() -> PathBuf {
    if let Some(program) = std::env::var_os("VNET_TRACE_PROGRAM") {
        return program.into();
    }
    let me = std::env::current_exe().unwrap_or_default();
    let Some(profile) = me.parent().and_then(Path::parent) else { panic!("{} lies in no target folder", me.display()) };
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--package", "vnet-trace"]);
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    match cargo.status() {
        Ok(status) if status.success() => profile.join("vnet-trace"),
        outcome => panic!("cannot build vnet-trace: {outcome:?}"),
    }
}
