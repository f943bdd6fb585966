//! BPF programs that others have attached where packets pass: their names, those at tcx hooks, those of cgroups.
//!
//! Only questions are asked of bpf(2). [`call`] is the one place with the system call itself.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::model::id::IfIndex;
use crate::model::snapshot::{CgroupProgram, Netns, TcFilter};

mod call;

/// BPF_TCX_INGRESS, BPF_TCX_EGRESS (include/uapi/linux/bpf.h).
const TCX: [(u32, bool); 2] = [(46, true), (47, false)];
/// BPF_NETKIT_PRIMARY, BPF_NETKIT_PEER: the side that owns the pair, and its other end.
const NETKIT: [u32; 2] = [54, 55];
/// Attach points of cgroups at which a packet or the way to it can be refused.
const CGROUP: [(u32, &str); 12] = [
    (0, "inet_ingress"),
    (1, "inet_egress"),
    (2, "inet_sock_create"),
    (8, "inet4_bind"),
    (9, "inet6_bind"),
    (10, "inet4_connect"),
    (11, "inet6_connect"),
    (12, "inet4_post_bind"),
    (13, "inet6_post_bind"),
    (14, "udp4_sendmsg"),
    (15, "udp6_sendmsg"),
    (21, "inet_sock_setsockopt"),
];
/// As many programs at one hook as anybody attaches; the kernel's own limit is 64.
const PROGRAMS: usize = 64;

/// Names of programs, asked once each.
#[derive(Debug, Default)]
pub struct Names(BTreeMap<u32, Option<String>>);

impl Names {
    /// The program's name; None if it has none, has gone, or may not be seen.
    pub fn of(&mut self, id: u32) -> Option<String> {
        self.0.entry(id).or_insert_with(|| name(id)).clone()
    }

    /// Puts the names of XDP and tc programs into a namespace's devices and filters.
    pub fn fill(&mut self, netns: &mut Netns) {
        for program in netns.links.iter_mut().flat_map(|link| &mut link.xdp) {
            program.name = self.of(program.id);
        }
        for filter in &mut netns.filters {
            if let (Some(id), None) = (filter.program, &filter.name) {
                filter.name = self.of(id);
            }
        }
    }
}

fn name(id: u32) -> Option<String> {
    let fd = call::program_by_id(id).ok()?;
    let name = call::program_name(&fd).ok()?;
    (!name.is_empty()).then_some(name)
}

/// The programs at a device's tcx hooks, in the order in which they run; `netkit` also asks for those of such a pair.
/// The device is looked up in the calling thread's namespace. Empty where the kernel has no tcx (before 6.6).
pub fn tcx(ifindex: IfIndex, netkit: bool) -> Vec<TcFilter> {
    let mut filters = Vec::new();
    let mut add = |attach, ingress, kind: &str| {
        let Ok(ids) = call::programs_at(ifindex.0, attach, PROGRAMS) else { return };
        filters.extend(ids.into_iter().map(|id| TcFilter {
            ifindex,
            ingress,
            kind: kind.into(),
            protocol: 3,
            program: Some(id),
            ..TcFilter::default()
        }));
    };
    for (attach, ingress) in TCX {
        add(attach, ingress, "tcx");
    }
    if netkit {
        // Both run as a packet leaves their end of the pair.
        for attach in NETKIT {
            add(attach, false, "netkit");
        }
    }
    filters
}

/// Whether the kernel knows tcx at all, asked once for the loopback device: saves two calls for each device.
pub fn has_tcx() -> bool {
    call::programs_at(1, TCX[0].0, PROGRAMS).is_ok()
}

/// The programs of the calling process's cgroup and of those above it, nearest first.
pub fn cgroups() -> Vec<CgroupProgram> {
    let mut programs = Vec::new();
    let mut names = Names::default();
    for directory in cgroup_directories() {
        let Ok(file) = fs::File::open(&directory) else { continue };
        for (attach, word) in CGROUP {
            for id in call::programs_at(file.as_raw_fd() as u32, attach, PROGRAMS).unwrap_or_default() {
                programs.push(CgroupProgram {
                    cgroup: directory.display().to_string(),
                    attach: word.into(),
                    id,
                    name: names.of(id),
                });
            }
        }
    }
    programs
}

/// The directories of our cgroup (v2) and of those above it. With an odd mount or a cgroup namespace only those that
/// can be seen from here.
fn cgroup_directories() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    // A later mount may hide an earlier one, which is then listed all the same.
    let visible = |(_, point): &(&str, PathBuf)| point.is_dir();
    let Some((root, point)) = mounts.lines().rev().filter_map(cgroup2_mount).find(visible) else { return Vec::new() };
    let path = own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/");
    let below =
        Path::new(path).strip_prefix(root).or_else(|_| Path::new(path).strip_prefix("/")).unwrap_or(Path::new(""));
    let directory = point.join(below);
    let mut directories: Vec<PathBuf> =
        directory.ancestors().take_while(|above| above.starts_with(&point)).map(Path::to_path_buf).collect();
    if !directory.is_dir() {
        directories = vec![point];
    }
    directories
}

/// Root and mount point, if the line of mountinfo is one of cgroup2: its type follows ` - `.
fn cgroup2_mount(line: &str) -> Option<(&str, PathBuf)> {
    let (mount, source) = line.split_once(" - ")?;
    let mut fields = mount.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    source.starts_with("cgroup2 ").then(|| (root, PathBuf::from(point)))
}

/// Takes ownership of a file descriptor that bpf(2) has just returned.
fn owned(fd: i32) -> OwnedFd {
    #[expect(unsafe_code, reason = "a raw file descriptor has to be given an owner once")]
    // SAFETY: bpf(2) has just made this descriptor for us, and nobody else knows its number.
    unsafe {
        OwnedFd::from_raw_fd(fd)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_cgroup2_mount() {
        let line = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(cgroup2_mount(line), Some(("/", PathBuf::from("/sys/fs/cgroup"))));
        assert_eq!(cgroup2_mount("30 24 0:26 / /x rw - tmpfs tmpfs rw"), None);
        assert_eq!(cgroup2_mount("garbage"), None);
    }

    #[test]
    fn a_program_that_is_not_there_has_no_name() {
        assert_eq!(Names::default().of(u32::MAX), None);
    }
}
