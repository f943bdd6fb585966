//! sysctl.d(5): which lines are applied at boot, in their order.
//!
//! A file hides those of the same name in later folders; the files are then applied by name, whatever their folder, and
//! /etc/sysctl.conf last (procps; systemd reads it where a link in /etc/sysctl.d leads to it). A file that is a link to
//! /dev/null hides others and says nothing itself.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::{at, files, text};
use crate::model::provenance::SysctlLine;

/// In the order in which one hides the others.
const FOLDERS: [&str; 5] =
    ["etc/sysctl.d", "run/sysctl.d", "usr/local/lib/sysctl.d", "usr/lib/sysctl.d", "lib/sysctl.d"];

/// The lines under `net.`.
pub fn read(root: &Path) -> Vec<SysctlLine> {
    let mut chosen: BTreeMap<OsString, PathBuf> = BTreeMap::new();
    for path in FOLDERS.iter().flat_map(|folder| files(&root.join(folder), &["conf"])) {
        if let Some(name) = path.file_name() {
            chosen.entry(name.to_owned()).or_insert(path);
        }
    }
    let last = root.join("etc/sysctl.conf");
    let real = |path: &Path| path.canonicalize().ok();
    let linked = chosen.values().any(|path| real(path).is_some() && real(path) == real(&last));
    let paths = chosen.into_values().chain((!linked).then_some(last));
    paths.flat_map(|path| lines(root, &path)).collect()
}

fn lines(root: &Path, path: &Path) -> Vec<SysctlLine> {
    let Some(text) = text(path) else { return Vec::new() };
    text.lines()
        .enumerate()
        .filter_map(|(index, line)| {
            let (key, value) = setting(line)?;
            key.starts_with("net.").then(|| SysctlLine { key, value, at: at(root, path, index + 1) })
        })
        .collect()
}

/// A line's key and value; an exclusion has no value.
fn setting(line: &str) -> Option<(String, Option<String>)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', ';']) {
        return None;
    }
    let (lenient, line) = line.strip_prefix('-').map_or((false, line), |rest| (true, rest));
    match line.split_once('=') {
        Some((key, value)) => Some((dotted(key.trim()), Some(value.trim().to_owned()))),
        None if lenient => Some((dotted(line.trim()), None)),
        None => None,
    }
}

/// The first separator decides which of `.` and `/` separates.
fn dotted(key: &str) -> String {
    if key.find('/').is_some_and(|slash| key.find('.').is_none_or(|dot| slash < dot)) {
        let swap = |c: char| match c {
            '/' => '.',
            '.' => '/',
            other => other,
        };
        return key.chars().map(swap).collect();
    }
    key.to_owned()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn lines_are_read_as_sysctl_d_has_them() {
        let value = |text: &str| Some(text.to_owned());
        assert_eq!(setting(" net.ipv4.ip_forward=1 "), Some(("net.ipv4.ip_forward".into(), value("1"))));
        assert_eq!(
            setting("-net/ipv4/conf/eth0.5/rp_filter = 2"),
            Some(("net.ipv4.conf.eth0/5.rp_filter".into(), value("2")))
        );
        assert_eq!(setting("-net.ipv4.conf.all.rp_filter"), Some(("net.ipv4.conf.all.rp_filter".into(), None)));
        for nothing in ["", "# net.ipv4.ip_forward=1", "; x=1", "net.ipv4.ip_forward"] {
            assert_eq!(setting(nothing), None);
        }
    }

    #[test]
    fn a_file_hides_its_namesakes_and_the_rest_go_by_name() {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [
            ("usr/lib/sysctl.d/50-default.conf", "net.ipv4.conf.*.rp_filter = 2\nkernel.sysrq = 1\n"),
            ("usr/lib/sysctl.d/10-mine.conf", "net.ipv4.ip_forward = 1\n"),
            ("etc/sysctl.d/10-mine.conf", "net.ipv4.ip_forward = 0\n"),
            ("etc/sysctl.conf", "\nnet.ipv4.conf.all.arp_ignore = 1\n"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let found: Vec<String> =
            read(root.path()).iter().map(|line| format!("{}:{} {}", line.at.file, line.at.line, line.key)).collect();
        assert_eq!(
            found,
            [
                "/etc/sysctl.d/10-mine.conf:1 net.ipv4.ip_forward",
                "/usr/lib/sysctl.d/50-default.conf:1 net.ipv4.conf.*.rp_filter",
                "/etc/sysctl.conf:2 net.ipv4.conf.all.arp_ignore",
            ]
        );
    }

    #[test]
    fn sysctl_conf_is_read_once_where_a_link_leads_to_it() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc/sysctl.d")).unwrap();
        fs::write(root.path().join("etc/sysctl.conf"), "net.ipv4.ip_forward = 1\n").unwrap();
        std::os::unix::fs::symlink("../sysctl.conf", root.path().join("etc/sysctl.d/99-sysctl.conf")).unwrap();
        let found = read(root.path());
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].at.file, "/etc/sysctl.d/99-sysctl.conf");
    }
}
