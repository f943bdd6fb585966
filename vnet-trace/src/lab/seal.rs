//! A sandbox for networks that somebody else described: whatever their script does, the machine's files stay as they are.
//!
//! | of the machine | in the sandbox |
//! | --- | --- |
//! | its files | read-only |
//! | `/run`, `/tmp`, `/var/tmp`, `/dev/shm` | empty, its own, gone with it; so are sockets of Docker and Open vSwitch |
//! | `/proc` | its own processes only; read-only but for `/proc/sys/net`, which is its network namespace's |
//! | processes | out of sight and out of reach; all of its own end with its first one |
//!
//! This is the second barrier. The first is that nothing from a recording gets into a script or a command unless it is a
//! plain word ([`crate::rebuild::plain`], [`crate::rebuild::translate`]). Limit: what is mounted read-only is not out of
//! reach for a program of root that means harm; it is for one that errs.

use std::path::PathBuf;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use super::sandbox::SandboxError;

/// Where programs leave things.
const EMPTIED: [&str; 4] = ["/run", "/tmp", "/var/tmp", "/dev/shm"];

/// Seals the mount namespace of the calling thread, in which all mounts are private already.
pub(super) fn files() -> Result<(), SandboxError> {
    let failed = |step| move |source| SandboxError::Step { step, source };
    for (path, flags) in mounts() {
        let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | flags;
        match mount(None::<&str>, &path, None::<&str>, read_only, None::<&str>) {
            // Gone meanwhile, or covered by another mount.
            Ok(()) | Err(Errno::ENOENT | Errno::EINVAL | Errno::ENOTDIR) => {}
            Err(source) => return Err(SandboxError::Step { step: "make the machine's files read-only", source }),
        }
    }
    for path in EMPTIED.iter().filter(|path| std::fs::metadata(path).is_ok_and(|meta| meta.is_dir())) {
        mount(Some("sandbox"), *path, Some("tmpfs"), MsFlags::empty(), Some("mode=1777"))
            .map_err(failed("mount a private /run and /tmp"))?;
    }
    std::fs::create_dir_all("/run/netns").map_err(|error| SandboxError::Step {
        step: "make a private /run/netns",
        source: Errno::from_raw(error.raw_os_error().unwrap_or(0)),
    })
}

/// Shows the calling process, the first of its PID namespace, nothing but its own descendants.
pub(super) fn processes() -> Result<(), SandboxError> {
    let failed = |step| move |source| SandboxError::Step { step, source };
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>)
        .map_err(failed("mount /proc for the namespace"))?;
    mount(Some("/proc/sys/net"), "/proc/sys/net", None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(failed("keep /proc/sys/net writable"))?;
    let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    mount(None::<&str>, "/proc", None::<&str>, read_only, None::<&str>).map_err(failed("make /proc read-only"))
}

/// All mount points with those of their flags that a new mount would lose.
fn mounts() -> Vec<(PathBuf, MsFlags)> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines().filter_map(parse).collect()
}

/// A line of mountinfo: the fifth field is the mount point, the sixth its flags (proc_pid_mountinfo(5)).
fn parse(line: &str) -> Option<(PathBuf, MsFlags)> {
    let mut fields = line.split(' ').skip(4);
    let (path, options) = (fields.next()?, fields.next()?);
    let flags = options.split(',').fold(MsFlags::empty(), |flags, option| {
        flags
            | match option {
                "nosuid" => MsFlags::MS_NOSUID,
                "nodev" => MsFlags::MS_NODEV,
                "noexec" => MsFlags::MS_NOEXEC,
                "noatime" => MsFlags::MS_NOATIME,
                "nodiratime" => MsFlags::MS_NODIRATIME,
                "relatime" => MsFlags::MS_RELATIME,
                _ => MsFlags::empty(),
            }
    });
    Some((unescape(path).into(), flags))
}

/// Blanks and backslashes are written as three octal digits.
fn unescape(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let digits = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(byte) = digits {
            plain.push(char::from(byte));
            plain.push_str(&part[3..]);
        } else {
            plain.push('\\');
            plain.push_str(part);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_read_with_its_flags_and_its_odd_name() {
        let line = r"36 35 98:0 /mnt1 /a\040b rw,nosuid,relatime shared:1 - ext3 /dev/root rw";
        assert_eq!(parse(line), Some(("/a b".into(), MsFlags::MS_NOSUID | MsFlags::MS_RELATIME)));
        assert_eq!(parse("36 35"), None);
        assert_eq!(unescape(r"a\x"), r"a\x");
    }
}
