//! The guest's files: programs of this machine with the libraries that they load, as one uncompressed cpio archive.
//!
//! What a lab's script calls must be there under its name. Small tools are busybox's; where a lab relies on the real
//! program's behaviour (ping, ip, nft, sysctl, modprobe …), it is the real one. Compressing the archive costs an emulated
//! machine more time than reading it.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::shell;

/// Programs that must be installed here.
const PROGRAMS: &[&str] = &[
    "bash",
    "sh",
    "ip",
    "bridge",
    "tc",
    "ping",
    "sysctl",
    "unshare",
    "nsenter",
    "modprobe",
    "nft",
    "iptables",
    "iptables-save",
    "ip6tables",
    "ip6tables-save",
    "ebtables",
    "tar",
    "env",
    "timeout",
    "xargs",
    "busybox",
];

/// Programs that are taken along where they are installed.
const PROGRAMS_IF_THERE: &[&str] = &[
    "iptables-legacy",
    "iptables-legacy-save",
    "ip6tables-legacy",
    "ip6tables-legacy-save",
    "ebtables-legacy",
    "ebtables-save",
    "tcpdump",
    "ovs-vswitchd",
    "ovsdb-server",
    "ovsdb-tool",
    "ovs-vsctl",
    "ovs-ofctl",
    "ovs-appctl",
    "ovs-dpctl",
    "python3",
    "ethtool",
    "setpriv",
    "strace",
    "bpftool",
    "conntrack",
    "arping",
    "socat",
    "ss",
];

/// busybox under other names. Not those that start other programs: they would start busybox's ip, not the real one.
const APPLETS: &[&str] = &[
    "[", "awk", "basename", "cat", "chmod", "cp", "cut", "date", "dd", "dirname", "dmesg", "echo", "false", "find",
    "free", "grep", "gzip", "head", "hostname", "id", "kill", "ln", "ls", "mkdir", "mktemp", "mount", "mv", "poweroff",
    "printf", "ps", "pwd", "readlink", "rm", "sed", "seq", "sleep", "sort", "stty", "sync", "tail", "tee", "test",
    "touch", "tr", "true", "umount", "uname", "uniq", "wc", "which",
];

/// Files that programs open by themselves.
const FILES: &[&str] =
    &["/etc/protocols", "/etc/services", "/etc/ethertypes", "/usr/share/openvswitch/vswitch.ovsschema"];

/// Folders of plug-ins: iptables' matches, tc's distributions.
const FOLDERS: &[&str] =
    &["/usr/lib/x86_64-linux-gnu/xtables", "/usr/lib64/xtables", "/usr/lib/tc", "/etc/iproute2", "/usr/share/iproute2"];

/// Parts of Python's library that nothing here needs.
const PYTHON_LEFT_OUT: &[&str] = &[
    "test",
    "idlelib",
    "lib2to3",
    "ensurepip",
    "pydoc_data",
    "tkinter",
    "turtledemo",
    "__pycache__",
    "distutils",
    "unittest",
    "site-packages",
    "dist-packages",
    "asyncio",
    "xml",
    "config-",
];

/// Makes the archive anew: it takes a second, and a stale one would cost hours.
pub fn archive(folder: &Path, program: &Path, with: &[PathBuf]) -> Result<PathBuf> {
    let root = folder.join("root");
    let _ = std::fs::remove_dir_all(&root);
    let mut tree = Tree::new(&root)?;
    for name in PROGRAMS {
        tree.program(name)?.then_some(()).with_context(|| format!("{name} is not installed"))?;
    }
    for name in PROGRAMS_IF_THERE {
        // A lab that needs it is skipped there, by name, as it is here.
        tree.program(name)?;
    }
    for name in APPLETS {
        let to = root.join("usr/bin").join(name);
        if !to.exists() {
            symlink("busybox", to)?;
        }
    }
    for file in FILES.iter().map(Path::new).filter(|file| file.exists()) {
        tree.file(file)?;
    }
    for from in FOLDERS.iter().map(Path::new).filter(|folder| folder.is_dir()) {
        tree.folder(from, &[])?;
    }
    tree.python()?;
    for file in with {
        tree.file(&std::path::absolute(file)?)?;
    }

    let own = root.join("usr/local/bin/vnet-trace");
    std::fs::copy(program, &own)?;
    tree.libraries_of(&own)?;
    if shell::has("strip") {
        Command::new("strip").arg(&own).status()?;
    }
    std::fs::write(root.join("init"), include_str!("init.sh"))?;
    make_executable(&root.join("init"))?;

    let archive = folder.join("userland.cpio");
    cpio(&root, &archive)?;
    Ok(archive)
}

/// Packs a folder as the kernel wants it, all files root's.
pub fn cpio(root: &Path, archive: &Path) -> Result<()> {
    let script = "find . -mindepth 1 -printf '%P\\n' | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0";
    let file = std::fs::File::create(archive)?;
    let done = Command::new("sh").args(["-c", script]).current_dir(root).stdout(file).stdin(Stdio::null()).status()?;
    if !done.success() {
        bail!("cannot pack {}", root.display());
    }
    Ok(())
}

struct Tree<'a> {
    root: &'a Path,
    done: BTreeSet<PathBuf>,
}

impl<'a> Tree<'a> {
    fn new(root: &'a Path) -> Result<Self> {
        for folder in [
            "usr/bin",
            "usr/lib",
            "usr/lib64",
            "usr/local/bin",
            "etc",
            "dev",
            "proc",
            "sys",
            "run",
            "tmp",
            "mnt",
            "root",
            "out",
            "var/log",
        ] {
            std::fs::create_dir_all(root.join(folder))?;
        }
        for (link, to) in [
            ("bin", "usr/bin"),
            ("sbin", "usr/bin"),
            ("lib", "usr/lib"),
            ("lib64", "usr/lib64"),
            ("usr/sbin", "bin"),
            ("var/run", "/run"),
        ] {
            symlink(to, root.join(link))?;
        }
        std::fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/bash\n")?;
        std::fs::write(root.join("etc/group"), "root:x:0:\n")?;
        std::fs::write(root.join("etc/hosts"), "127.0.0.1 localhost\n::1 localhost\n")?;
        Ok(Self { root, done: BTreeSet::new() })
    }

    /// Takes along a program under its name and, where that leads elsewhere (busybox-like programs), under its real one.
    fn program(&mut self, name: &str) -> Result<bool> {
        let folders = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];
        let Some(found) = folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file()) else {
            return Ok(false);
        };
        let real = found.canonicalize()?;
        let at = self.file(&real)?;
        let link = self.root.join("usr/bin").join(name);
        if !link.exists() {
            symlink(Path::new("/").join(at.strip_prefix(self.root)?), link)?;
        }
        Ok(true)
    }

    /// Takes along a file, under the same path, with its libraries.
    fn file(&mut self, from: &Path) -> Result<PathBuf> {
        let to = self.root.join(from.strip_prefix("/")?);
        if self.done.insert(from.to_owned()) {
            if let Some(folder) = to.parent() {
                std::fs::create_dir_all(folder)?;
            }
            std::fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
            self.libraries_of(from)?;
        }
        Ok(to)
    }

    /// ldd's list: `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)` and `/lib64/ld-linux-x86-64.so.2 (0x…)`.
    fn libraries_of(&mut self, file: &Path) -> Result<()> {
        let listed = Command::new("ldd").arg(file).stderr(Stdio::null()).output()?;
        for line in String::from_utf8_lossy(&listed.stdout).lines() {
            if line.contains("not found") {
                bail!("{}: {}", file.display(), line.trim());
            }
            let library = line.split_whitespace().find(|word| word.starts_with('/'));
            if let Some(library) = library.map(Path::new).filter(|library| !self.done.contains(*library)) {
                self.file(library)?;
            }
        }
        Ok(())
    }

    fn folder(&mut self, from: &Path, left_out: &[&str]) -> Result<()> {
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            let path = entry.path();
            if left_out.iter().any(|name| entry.file_name().to_string_lossy().starts_with(name)) {
                continue;
            }
            if path.is_dir() {
                self.folder(&path, left_out)?;
            } else if path.exists() {
                self.file(&path)?;
            }
        }
        Ok(())
    }

    /// Debian's Python and the part of its library that a script of a few lines may import.
    fn python(&mut self) -> Result<()> {
        let Ok(real) = Path::new("/usr/bin/python3").canonicalize() else { return Ok(()) };
        let Some(name) = real.file_name() else { return Ok(()) };
        let library = Path::new("/usr/lib").join(name);
        if library.is_dir() { self.folder(&library, PYTHON_LEFT_OUT) } else { Ok(()) }
    }
}

fn make_executable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?)
}
