//! Network namespaces as things one can hold, enter and name.
//!
//! A [`Handle`] keeps a namespace alive by a file descriptor, so that it can be entered even after its name or its last
//! process has gone. [`run_in`] does one piece of work there, on a thread of its own: setns(2) moves a thread, and a
//! thread that has moved is never used for anything else. [`candidates`](find::candidates) lists the namespaces of the
//! machine that could matter; which of them do is decided in [`super::snapshot`].

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sched::{CloneFlags, setns};

use super::containers::{self, ContainerError};
use crate::model::snapshot::{Container, Netns};

pub mod find;

/// Where `ip netns` keeps its names.
pub const NAMED: &str = "/run/netns";

/// Why a namespace cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// There is no such name, path or process.
    #[error("there is no network namespace `{name}`")]
    Missing {
        /// As it was asked for.
        name: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// The path leads to something else.
    #[error("`{path}` is not a network namespace")]
    Foreign {
        /// As it was asked for.
        path: String,
    },
    /// It exists, and we may not enter it.
    #[error("cannot enter netns {name}")]
    Enter {
        /// How it is called.
        name: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// The container cannot be asked from.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// No thread could be started for the work there.
    #[error("cannot start a thread for netns {name}")]
    Thread {
        /// How it is called.
        name: String,
        /// What the kernel says.
        source: io::Error,
    },
    /// The work in it ended in a bug of ours.
    #[error("the work in netns {name} broke off")]
    BrokenOff {
        /// How it is called.
        name: String,
    },
}

/// The namespace that a person asked for: `-N NAME|PATH|PID`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Asked {
    /// The one where the command was started.
    #[default]
    Own,
    /// A name under /run/netns.
    Name(String),
    /// A file that is a namespace.
    Path(PathBuf),
    /// The one of a process.
    Pid(u32),
    /// The one of a container, by its name or id.
    Container(String),
    /// The one of a Kubernetes pod on this node, `NAMESPACE/NAME`.
    Pod(String),
}

impl Asked {
    /// As `ip -n` and `nsenter` read it: an existing name wins, then a path if it has a `/`, then a process id. Before
    /// all that, `container:NAME` and `pod:NAMESPACE/NAME`.
    pub fn parse(text: &str) -> Self {
        if let Some(name) = text.strip_prefix("container:") {
            Self::Container(name.to_owned())
        } else if let Some(name) = text.strip_prefix("pod:") {
            Self::Pod(name.to_owned())
        } else if text == "." || text.is_empty() {
            Self::Own
        } else if text.contains('/') {
            Self::Path(text.into())
        } else if let (false, Ok(pid)) = (Path::new(NAMED).join(text).exists(), text.parse()) {
            Self::Pid(pid)
        } else {
            Self::Name(text.into())
        }
    }

    /// The one that is meant among those of a snapshot, which stand for the machine that it was taken on.
    pub fn among<'a>(&self, namespaces: &'a [Netns]) -> Option<&'a Netns> {
        let of = |wanted: &dyn Fn(&Container) -> bool| {
            namespaces.iter().find(|netns| netns.container.as_ref().is_some_and(wanted))
        };
        let called = |name: &str| namespaces.iter().find(|netns| netns.name == name);
        match self {
            Self::Own => namespaces.first(),
            Self::Name(name) => {
                called(name).or_else(|| of(&|found| found.name == *name || found.pod.as_ref() == Some(name)))
            }
            Self::Container(name) => of(&|found| found.name == *name).or_else(|| {
                let begins = |netns: &&Netns| netns.container.as_ref().is_some_and(|found| found.id.starts_with(name));
                let mut beginning = namespaces.iter().filter(begins);
                // As engines have it, a part of an id that begins several is none.
                beginning.next().filter(|_| !name.is_empty() && beginning.next().is_none())
            }),
            Self::Pod(name) => {
                let whole = containers::whole_pod(name);
                of(&|found| found.pod.as_ref() == Some(&whole))
            }
            Self::Path(path) => {
                let leads = |known: &String| path.as_os_str() == known.as_str();
                namespaces.iter().find(|netns| netns.path.as_ref().is_some_and(leads))
            }
            Self::Pid(pid) => {
                called(&pid.to_string()).or_else(|| namespaces.iter().find(|netns| netns.pids.contains(pid)))
            }
        }
    }

    /// Opens it.
    pub fn open(&self) -> Result<Handle, NetnsError> {
        match self {
            Self::Own => Handle::own(),
            Self::Name(name) => Handle::open(&Path::new(NAMED).join(name), name),
            Self::Path(path) => Handle::open(path, &path.display().to_string()),
            Self::Pid(pid) => Handle::open(Path::new(&format!("/proc/{pid}/ns/net")), &format!("pid {pid}")),
            Self::Container(_) | Self::Pod(_) => self.located()?.open(),
        }
    }

    /// The same place without a name that only an engine knows: a container by its first process, a pod by its path. Asks the engine, so
    /// whoever opens it more than once calls this first.
    pub fn located(&self) -> Result<Self, NetnsError> {
        match self {
            Self::Container(name) => Ok(Self::Pid(containers::find(name)?.pid)),
            Self::Pod(name) => Ok(Self::Path(containers::find_pod(name)?)),
            other => Ok(other.clone()),
        }
    }
}

/// As a person would write it after `-N`.
impl fmt::Display for Asked {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => formatter.write_str("."),
            Self::Name(name) => formatter.write_str(name),
            Self::Path(path) => path.display().fmt(formatter),
            Self::Pid(pid) => pid.fmt(formatter),
            Self::Container(name) => write!(formatter, "container:{name}"),
            Self::Pod(name) => write!(formatter, "pod:{name}"),
        }
    }
}

/// A network namespace, kept alive.
#[derive(Debug, Clone)]
pub struct Handle {
    file: Arc<File>,
    inode: u64,
    name: Arc<str>,
}

impl Handle {
    /// The calling thread's namespace.
    pub fn own() -> Result<Self, NetnsError> {
        Self::open(Path::new("/proc/thread-self/ns/net"), ".")
    }

    /// The namespace behind this path; `name` is for errors.
    pub fn open(path: &Path, name: &str) -> Result<Self, NetnsError> {
        let missing = |source: io::Error| match source.kind() {
            io::ErrorKind::PermissionDenied => NetnsError::Enter { name: name.into(), source },
            _ => NetnsError::Missing { name: name.into(), source },
        };
        let file = File::open(path).map_err(missing)?;
        let inode = file.metadata().map_err(missing)?.ino();
        let handle = Self { file: Arc::new(file), inode, name: name.into() };
        if handle.is_netns() { Ok(handle) } else { Err(NetnsError::Foreign { path: path.display().to_string() }) }
    }

    /// The file is one of nsfs and of the right type: its magic link reads `net:[inode]`.
    fn is_netns(&self) -> bool {
        let fd = std::os::fd::AsRawFd::as_raw_fd(&*self.file);
        std::fs::read_link(format!("/proc/self/fd/{fd}")).is_ok_and(|target| {
            let target = target.to_string_lossy().into_owned();
            // A bind mount reads as its mount point, so its file system must tell.
            target == format!("net:[{}]", self.inode) || target.starts_with('/') && self.is_nsfs()
        })
    }

    fn is_nsfs(&self) -> bool {
        nix::sys::statfs::fstatfs(&*self.file).is_ok_and(|stat| stat.filesystem_type() == nix::sys::statfs::NSFS_MAGIC)
    }

    /// Another number, for tests of what goes by it.
    #[cfg(test)]
    #[must_use]
    pub fn with_inode(self, inode: u64) -> Self {
        Self { inode, ..self }
    }

    /// Unique while the namespace lives.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// How it was asked for.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// For netlink attributes and setns(2).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Moves the calling thread into the namespace for good. Does nothing, and needs no rights, if it is there already.
    pub fn enter(&self) -> Result<(), NetnsError> {
        setns(&*self.file, CloneFlags::CLONE_NEWNET).or_else(|errno| {
            if Self::own().is_ok_and(|own| own.inode == self.inode) {
                return Ok(());
            }
            Err(NetnsError::Enter { name: self.name.to_string(), source: errno.into() })
        })
    }
}

/// Does `work` in the namespace, on a thread of its own, and waits for it. The calling thread stays where it is.
pub fn run_in<T: Send>(netns: &Handle, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("netns".into()).spawn_scoped(scope, || {
            netns.enter()?;
            Ok(work())
        });
        let thread = thread.map_err(|source| NetnsError::Thread { name: netns.name.to_string(), source })?;
        thread.join().map_err(|_| NetnsError::BrokenOff { name: netns.name.to_string() })?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write_after_n() {
        assert_eq!(Asked::parse("."), Asked::Own);
        assert_eq!(Asked::parse("/proc/7/ns/net"), Asked::Path("/proc/7/ns/net".into()));
        assert_eq!(Asked::parse("4294967"), Asked::Pid(4_294_967));
        assert_eq!(Asked::parse("container:web"), Asked::Container("web".into()));
        assert_eq!(Asked::parse("pod:shop/web-0"), Asked::Pod("shop/web-0".into()));
        assert_eq!(Asked::parse("web"), Asked::Name("web".into()));
    }

    #[test]
    fn a_place_is_found_in_a_snapshot_of_another_machine() {
        let netns =
            |name: &str, container: Option<Container>| Netns { name: name.into(), container, ..Netns::default() };
        let web = Container { name: "web".into(), id: "c0ffee".into(), ..Container::default() };
        let pod = Container { name: "db-0".into(), pod: Some("default/db-0".into()), ..Container::default() };
        let all = [netns(".", None), netns("web", None), netns("c1", Some(web)), netns("cni-1", Some(pod))];
        for (text, name) in [
            (".", Some(".")),
            ("web", Some("web")),
            ("db-0", Some("cni-1")),
            ("container:web", Some("c1")),
            ("container:c0ff", Some("c1")),
            ("container:", None),
            ("pod:default/db-0", Some("cni-1")),
            ("pod:db-0", Some("cni-1")),
            ("pod:shop/db-0", None),
            ("/run/netns/x", None),
        ] {
            let found = Asked::parse(text).among(&all);
            assert_eq!(found.map(|netns| netns.name.as_str()), name, "{text}");
        }
    }

    #[test]
    fn own_namespace_needs_no_rights() {
        let own = Handle::own().unwrap();
        assert_eq!(run_in(&own, || Handle::own().unwrap().inode()).unwrap(), own.inode());
    }

    #[test]
    fn what_is_no_namespace_is_said_so() {
        assert!(matches!(Handle::open(Path::new("/proc/self/stat"), "x"), Err(NetnsError::Foreign { .. })));
        assert!(matches!(Handle::open(Path::new("/proc/self/ns/mnt"), "x"), Err(NetnsError::Foreign { .. })));
        assert!(matches!(Asked::Name("no-such-name".into()).open(), Err(NetnsError::Missing { .. })));
        assert!(matches!(Asked::Pid(u32::MAX).open(), Err(NetnsError::Missing { .. })));
    }
}
