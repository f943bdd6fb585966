//! Which labs this machine can run, and running one of them as a person does.

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use vnet_trace::lab::embedded;

/// Whether labs can be run at all.
pub fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// id → needs that this machine does not meet.
pub fn unmet_needs(program: &Path) -> HashMap<String, Vec<String>> {
    if !is_root() {
        return embedded::texts().into_iter().map(|(id, _)| (id.to_owned(), vec!["root".to_owned()])).collect();
    }
    let listed = Command::new(program).args(["lab", "list", "--unmet", "--json"]).output();
    // Not being able to tell is no reason to skip: then each lab says itself what is wrong.
    listed.ok().and_then(|listed| serde_json::from_slice(&listed.stdout).ok()).unwrap_or_default()
}
