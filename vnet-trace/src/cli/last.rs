//! Recording files at the edge: the last recording, which `explain` explains, and the files that the user names.

use std::path::{Path, PathBuf};

use crate::cli::Failure;
use crate::collect::recording_file::{self, Access, BlockError, RecordingError};
use crate::model::recording::Recording;

/// Where the last recording is kept; None if there is no place for it.
pub fn path() -> Option<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let state = variable("XDG_STATE_HOME").or_else(|| Some(variable("HOME")?.join(".local/state")))?;
    state.is_absolute().then(|| state.join("vnet-trace").join("last.vtr"))
}

/// Keeps the recording as the last one.
pub fn keep(recording: &Recording) -> Result<(), Failure> {
    let Some(path) = path() else { return Ok(()) };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(recording_file::save(recording, &path, Access::Private)?)
}

/// Writes a recording file that the user named.
pub fn write(path: &Path, recording: &Recording) -> Result<(), Failure> {
    Ok(recording_file::save(recording, path, Access::Umask)?)
}

/// Reads a recording file.
pub fn read(path: &Path) -> Result<Recording, Failure> {
    recording_file::load(path).map_err(|error| unreadable(path, error))
}

/// An error of a recording file, with what the user can do about it.
pub fn unreadable(path: &Path, error: RecordingError) -> Failure {
    let help = match &error {
        RecordingError::Foreign { .. } => {
            Some("`vnet-trace ping -o FILE.vtr` and `vnet-trace watch -o FILE.vtr` write recordings".to_owned())
        }
        RecordingError::Newer { .. } => Some("a newer vnet-trace wrote it; that one can read it".to_owned()),
        RecordingError::Damaged { source: BlockError::Watch, .. } => {
            Some("`vnet-trace watch -r FILE` and `vnet-trace explain FILE` read such recordings".to_owned())
        }
        _ => None,
    };
    match error {
        // This one names the file itself.
        RecordingError::Read { .. } => Failure::new(error, help),
        error => Failure::new(Unreadable { path: path.to_owned(), source: error }, help),
    }
}

/// A file is there and is no recording that can be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}", path.display())]
struct Unreadable {
    path: PathBuf,
    source: RecordingError,
}
