//! The lab's root: a fresh network namespace with a mount namespace in which `/run/netns` and `/sys` are its own.
//!
//! The *calling thread* moves; every process that it starts from then on is inside, so nothing has to be entered and no
//! code runs between fork and exec. A namespace dies with its last process and file descriptor: there is nothing to remove.
//!
//! Of the machine the sandbox keeps sight of the files (programs, `/proc`) and of tracefs, debugfs and securityfs under
//! `/sys/kernel`, which are not per namespace and tell the tool under test what the kernel allows. IPv4 sysctls of a fresh
//! namespace are copies of those of the machine's first namespace; a lab that relies on one sets it.
//!
//! Root is needed, and nothing else: no user namespace is made, because in one the kernel refuses BPF and many modules.

use std::ffi::OsStr;
use std::fs::File;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{RLIM_INFINITY, Resource, setrlimit};
use nix::sys::stat::Mode;

use super::{process, seal};

/// Mounts below /sys that a fresh sysfs would hide and the tool under test needs.
const KEPT_BELOW_SYS: [&str; 3] = ["/sys/kernel/tracing", "/sys/kernel/debug", "/sys/kernel/security"];

/// Where programs for networks are, also for a caller whose PATH is a plain user's.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The calling thread is in a lab's root, for good. Ends whatever was started in it when dropped.
#[derive(Debug)]
pub struct Sandbox {
    /// Namespaces belong to the thread, so this must not move to another.
    _of_this_thread: PhantomData<*const ()>,
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// One process has one sandbox: what it must end is told apart by descent.
    #[error("this process has made a sandbox already")]
    Second,
    /// The kernel refused a step.
    #[error("cannot {step}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// What the kernel says.
        source: nix::Error,
    },
}

impl Sandbox {
    /// Moves the calling thread into a fresh lab root and makes the process the subreaper of what is started there.
    pub fn enter() -> Result<Self, SandboxError> {
        // Absent before; `ip netns add` would make it just so.
        let _ = std::fs::create_dir_all("/run/netns");
        Self::make(CloneFlags::empty(), || Ok(()))
    }

    /// As [`Sandbox::enter`], for networks that somebody else described: of the machine's files only what is under /run and
    /// /tmp can be written, and there the sandbox has its own ([`super::seal`]). What is started next is the first process
    /// of a PID namespace, and has to call [`Sandbox::joined`].
    pub fn enter_sealed() -> Result<Self, SandboxError> {
        Self::make(CloneFlags::CLONE_NEWPID, seal::files)
    }

    /// For the first process in a sealed sandbox, which is in it by birth.
    pub fn joined() -> Result<Self, SandboxError> {
        seal::processes()?;
        Ok(Self { _of_this_thread: PhantomData })
    }

    fn make(more: CloneFlags, seal: impl FnOnce() -> Result<(), SandboxError>) -> Result<Self, SandboxError> {
        static MADE: AtomicBool = AtomicBool::new(false);
        if MADE.swap(true, Ordering::Relaxed) {
            return Err(SandboxError::Second);
        }
        let step = |step| move |source| SandboxError::Step { step, source };

        nix::sys::prctl::set_child_subreaper(true).map_err(step("become the parent of orphans"))?;
        // Before Linux 5.11 the BPF programs and maps of labs count as locked memory. Where the limit can't be raised, a
        // lab that needs more says so itself.
        let _ = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | more)
            .map_err(step("make a network and a mount namespace"))?;
        // Else the mounts below would appear in the machine's own mount namespace.
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
            .map_err(step("make all mounts private"))?;
        seal()?;
        mount(Some("lab"), "/run/netns", Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
            .map_err(step("mount a private /run/netns"))?;
        let kept: Vec<_> = KEPT_BELOW_SYS
            .iter()
            .filter(|path| is_mount_point(path))
            .filter_map(|path| Some((*path, open_path(path)?)))
            .collect();
        mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>)
            .map_err(step("mount /sys for the namespace"))?;
        for (path, original) in kept {
            let original = format!("/proc/self/fd/{}", original.as_raw_fd());
            mount(Some(original.as_str()), path, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
                .map_err(step("keep tracefs in sight"))?;
        }
        Ok(Self { _of_this_thread: PhantomData })
    }

    /// A program to be started inside, from this thread. It gets a clean locale and a PATH with sbin.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir("/")
            .env("PATH", PATH)
            .env("LC_ALL", "C")
            // iptables-legacy takes a lock on a file of the machine; labs that run side by side would refuse each other.
            .env("XTABLES_LOCKFILE", "/run/netns/.xtables.lock");
        command
    }

    /// A script for `bash -eu`, as lab files have it.
    pub fn script(&self, text: &str) -> Command {
        let mut command = self.command("bash");
        command.args(["-eu", "-c", text, "lab"]);
        command
    }

    /// One line for `sh -c`, as the tool's fixes have it.
    pub fn shell_line(&self, line: &str) -> Command {
        let mut command = self.command("sh");
        command.args(["-c", line]);
        command
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        process::end_descendants(&[]);
    }
}

fn open_path(path: &str) -> Option<File> {
    open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()).ok().map(File::from)
}

/// Whether /proc/self/mountinfo has a mount there; the fifth field is the mount point.
fn is_mount_point(path: &str) -> bool {
    std::fs::read_to_string("/proc/self/mountinfo")
        .is_ok_and(|mounts| mounts.lines().any(|line| line.split(' ').nth(4) == Some(path)))
}
