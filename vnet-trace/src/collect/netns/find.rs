//! The network namespaces of the machine: those with a name, those that a mount keeps, those of processes.
//!
//! One pass over /proc reads one link per process and opens only what it has not seen. Namespaces that live by an open
//! file or socket alone, or by a mount in another mount namespace, cannot be found from here; a device that leads there
//! keeps `link_nsid` without `link_netns`.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Handle, NAMED};
use crate::model::snapshot::Container;

/// Directories of container engines in which each file is a network namespace.
const ENGINES: [&str; 2] = ["/run/docker/netns", "/var/run/docker/netns"];
/// As many processes of one namespace as are worth remembering.
const PIDS: usize = 4;
/// Namespaces looked at at most; more than a machine of containers has.
const LIMIT: usize = 8192;

/// A namespace that could be reachable from the question.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// It, kept alive.
    pub handle: Handle,
    /// Its name under /run/netns.
    pub name: Option<String>,
    /// A path that leads into it.
    pub path: Option<PathBuf>,
    /// Some of its processes, smallest id first.
    pub pids: Vec<u32>,
    /// The container it belongs to, once its engine was asked.
    pub container: Option<Container>,
    /// What it is called after its container.
    pub called: Option<String>,
}

/// All namespaces that can be found: `first` in their order, then those with names by name, then the others. With them,
/// the number of processes whose namespace we may not look at, where that is most of them.
pub fn candidates(first: &[Handle]) -> (Vec<Candidate>, usize) {
    let mut found: Vec<Candidate> = Vec::new();
    let mut by_inode = BTreeMap::new();
    for handle in first {
        by_inode.entry(handle.inode()).or_insert_with(|| {
            found.push(Candidate::new(handle.clone(), None, None));
            found.len() - 1
        });
    }
    let mut add = |path: PathBuf, name: Option<String>| {
        let Ok(inode) = std::fs::metadata(&path).map(|metadata| metadata.ino()) else { return };
        if let Some(known) = by_inode.get(&inode).and_then(|index: &usize| found.get_mut(*index)) {
            known.name = known.name.take().or(name);
            known.path.get_or_insert(path);
        } else if found.len() < LIMIT {
            let called = name.clone().unwrap_or_else(|| path.display().to_string());
            // What is no namespace, or went away since, is no candidate.
            if let Ok(handle) = Handle::open(&path, &called) {
                by_inode.insert(handle.inode(), found.len());
                found.push(Candidate::new(handle, name, Some(path)));
            }
        }
    };
    for name in entries(Path::new(NAMED)) {
        add(Path::new(NAMED).join(&name), Some(name));
    }
    for directory in ENGINES {
        for name in entries(Path::new(directory)) {
            add(Path::new(directory).join(name), None);
        }
    }
    for path in mounted() {
        add(path, None);
    }
    let closed = processes(&mut found, &mut by_inode);
    (found, closed)
}

/// File names in a directory, sorted; empty if there is no such directory.
fn entries(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Mount points of nsfs elsewhere (podman, CNI plugins): field 4 of mountinfo is `net:[inode]`, field 5 the mount point.
fn mounted() -> Vec<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
    mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(3);
            let (root, point) = (fields.next()?, fields.next()?);
            root.starts_with("net:[").then(|| PathBuf::from(unescaped(point)))
        })
        .filter(|point| !point.starts_with(NAMED) && !ENGINES.iter().any(|engine| point.starts_with(engine)))
        .collect()
}

/// mountinfo writes blanks and backslashes in octal.
fn unescaped(text: &str) -> String {
    [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")]
        .iter()
        .fold(text.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
}

fn processes(found: &mut Vec<Candidate>, by_inode: &mut BTreeMap<u64, usize>) -> usize {
    let (mut closed, mut open) = (0, 0);
    let mut pids: Vec<u32> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    for pid in pids {
        let path = format!("/proc/{pid}/ns/net");
        let link = match std::fs::read_link(&path) {
            Ok(link) => link,
            Err(error) => {
                // Another user's; or it has gone.
                closed += usize::from(error.kind() == ErrorKind::PermissionDenied);
                continue;
            }
        };
        open += 1;
        let inode = link.to_str().and_then(|text| text.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok());
        let Some(inode) = inode else { continue };
        let index = by_inode.get(&inode).copied().or_else(|| {
            if found.len() >= LIMIT {
                return None;
            }
            let handle = Handle::open(Path::new(&path), &format!("pid:{pid}")).ok()?;
            by_inode.insert(handle.inode(), found.len());
            found.push(Candidate::new(handle, None, Some(PathBuf::from(&path))));
            Some(found.len() - 1)
        });
        if let Some(candidate) = index.and_then(|index| found.get_mut(index))
            && candidate.pids.len() < PIDS
        {
            candidate.pids.push(pid);
        }
    }
    // Even root may not look at a process with more rights than it has: one or two of those are nothing to speak of.
    if closed > open { closed } else { 0 }
}

impl Candidate {
    fn new(handle: Handle, name: Option<String>, path: Option<PathBuf>) -> Self {
        Self { handle, name, path, pids: Vec::new(), container: None, called: None }
    }

    /// How people call it: its name, or its container's, or `pid:N (comm)`, or its path. `.` is for the caller to give.
    pub fn label(&self) -> String {
        if let Some(name) = self.name.as_ref().or(self.called.as_ref()) {
            return name.clone();
        }
        for pid in &self.pids {
            if let Ok(comm) = std::fs::read_to_string(format!("/proc/{pid}/comm")) {
                return format!("pid:{pid} ({})", comm.trim_end());
            }
        }
        self.path.as_deref().map_or_else(|| self.handle.name().to_owned(), |path| path.display().to_string())
    }
}
