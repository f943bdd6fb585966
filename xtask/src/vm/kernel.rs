//! Debian's cloud kernels, by the machine's own apt: its mirror, its proxy, its keys.
//!
//! A private apt folder under `target/vm` lists the suites that have these kernels, so the machine's own lists stay as they
//! are. Cloud kernels are small, have BTF, and every network module that the labs use; from 7.x on image, modules and
//! configuration are packages of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// The suites that have the kernels, oldest first.
const SUITES: [&str; 4] = ["bullseye", "bookworm", "trixie", "trixie-backports"];

/// A program of Debian's that this machine's own release may lack, unpacked under `folder`.
pub fn program(folder: &Path, package: &str, path: &str) -> Result<PathBuf> {
    let unpacked = folder.join("packages").join(package);
    let program = unpacked.join(path);
    if !program.exists() {
        std::fs::create_dir_all(&unpacked)?;
        Apt::new(folder)?.download(&unpacked, &[package.to_owned()])?;
        for entry in std::fs::read_dir(&unpacked)? {
            let deb = entry?.path();
            if deb.extension().is_some_and(|ending| ending == "deb") {
                shell::run(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&unpacked))?;
            }
        }
    }
    if !program.exists() {
        bail!("the package {package} has no {path}");
    }
    Ok(program)
}

/// Folders of modules, below `kernel/`, that a network lab may need.
const MODULES: &[&str] = &[
    "net",
    "drivers/net",
    "lib",
    "crypto",
    "arch/x86/crypto",
    "drivers/block",
    "drivers/virtio",
    "drivers/vhost",
    "fs/fuse",
    "fs/overlayfs",
    "kernel",
    "security",
];

/// Big and of no use in a virtual network.
const LEFT_OUT: &[&str] = &[
    "drivers/net/ethernet",
    "drivers/net/wireless",
    "drivers/net/usb",
    "drivers/net/phy",
    "drivers/net/can",
    "net/wireless",
    "net/mac80211",
    "net/bluetooth",
    "net/ceph",
    "net/sunrpc",
    "net/rxrpc",
    "net/tipc",
    "net/9p",
    "net/smc",
    "drivers/block/drbd",
];

/// A kernel that can be booted.
#[derive(Clone)]
pub struct Kernel {
    /// As `uname -r` says.
    pub release: String,
    /// The bootable image.
    pub image: PathBuf,
    /// Its modules and configuration, as an uncompressed cpio archive.
    pub modules: PathBuf,
}

/// The newest kernel of a series such as "6.12", from the cache or from the mirror.
pub fn get(folder: &Path, series: &str) -> Result<Kernel> {
    let kept = folder.join("kernels").join(series);
    if !kept.join("release").exists() {
        let work = folder.join("work").join(series);
        let _ = std::fs::remove_dir_all(&work);
        std::fs::create_dir_all(&work)?;
        make(folder, series, &work).with_context(|| format!("cannot get a kernel {series}"))?;
        let _ = std::fs::remove_dir_all(&kept);
        std::fs::create_dir_all(kept.parent().context("a folder")?)?;
        std::fs::create_dir_all(&kept)?;
        for name in ["image", "modules.cpio", "release"] {
            std::fs::rename(work.join(name), kept.join(name))?;
        }
        std::fs::remove_dir_all(&work)?;
    }
    let release = std::fs::read_to_string(kept.join("release"))?.trim().to_owned();
    Ok(Kernel { release, image: kept.join("image"), modules: kept.join("modules.cpio") })
}

fn make(folder: &Path, series: &str, work: &Path) -> Result<()> {
    let apt = Apt::new(folder)?;
    let release = apt.newest(series)?;
    let packages = apt.packages(&release)?;
    eprintln!("Getting the kernel {release}: {}", packages.join(" "));
    apt.download(work, &packages)?;

    let unpacked = work.join("unpacked");
    for entry in std::fs::read_dir(work)? {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "deb") {
            shell::run(Command::new("dpkg-deb").arg("-x").arg(&path).arg(&unpacked))?;
        }
    }
    let boot = unpacked.join("boot");
    let image = first_existing(&[
        boot.join(format!("vmlinuz-{release}")),
        unpacked.join(format!("usr/lib/modules/{release}/vmlinuz")),
    ])?;
    std::fs::copy(image, work.join("image"))?;

    let root = work.join("root");
    let to = root.join("usr/lib/modules").join(&release);
    let from = first_existing(&[
        unpacked.join("usr/lib/modules").join(&release),
        unpacked.join("lib/modules").join(&release),
    ])?;
    for part in MODULES {
        copy_modules(&from, &to, &Path::new("kernel").join(part))?;
    }
    for name in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        if from.join(name).exists() {
            std::fs::copy(from.join(name), to.join(name))?;
        }
    }
    // depmod wants lib/modules below its base, and so does the guest's modprobe.
    std::os::unix::fs::symlink("usr/lib", root.join("lib"))?;
    shell::run(Command::new("depmod").arg("-b").arg(&root).arg(&release))?;
    std::fs::remove_file(root.join("lib"))?;
    std::fs::create_dir_all(root.join("boot"))?;
    let config = first_existing(&[boot.join(format!("config-{release}")), from.join("config")])?;
    std::fs::copy(config, root.join("boot").join(format!("config-{release}")))?;

    super::userland::cpio(&root, &work.join("modules.cpio"))?;
    Ok(std::fs::write(work.join("release"), release)?)
}

fn first_existing(paths: &[PathBuf]) -> Result<PathBuf> {
    let found = paths.iter().find(|path| path.exists());
    found.cloned().with_context(|| format!("the packages have no {}", paths[0].display()))
}

/// Copies modules, uncompressed, but for what is left out.
fn copy_modules(from: &Path, to: &Path, part: &Path) -> Result<()> {
    let source = from.join(part);
    if !source.is_dir() || LEFT_OUT.iter().any(|left_out| part == Path::new("kernel").join(left_out)) {
        return Ok(());
    }
    std::fs::create_dir_all(to.join(part))?;
    for entry in std::fs::read_dir(&source)? {
        let entry = entry?;
        let path = part.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_modules(from, to, &path)?;
            continue;
        }
        std::fs::copy(entry.path(), to.join(&path))?;
        if path.extension().is_some_and(|ending| ending == "xz") {
            let done = Command::new("xz").args(["-d", "-f"]).arg(to.join(&path)).status()?;
            if !done.success() {
                bail!("cannot unpack {}", path.display());
            }
        }
    }
    Ok(())
}

/// apt with lists and a cache of its own.
struct Apt {
    folder: PathBuf,
}

impl Apt {
    fn new(folder: &Path) -> Result<Self> {
        if !shell::has("apt-get") {
            bail!("Debian's kernels are taken with apt, which this machine does not have");
        }
        let apt = Self { folder: folder.join("apt") };
        std::fs::create_dir_all(apt.folder.join("lists/partial"))?;
        std::fs::create_dir_all(apt.folder.join("cache/archives/partial"))?;
        let mirror = mirror()?;
        let sources = SUITES
            .map(|suite| {
                format!(
                    "deb [arch=amd64] {mirror} {suite} main
"
                )
            })
            .concat();
        let list = apt.folder.join("sources.list");
        // The lists are of today only once a day: a series gets a new kernel every few weeks.
        let fresh = std::fs::metadata(&list)
            .and_then(|list| list.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|age| age.as_secs() < 86_400));
        if !fresh || std::fs::read_to_string(&list).ok().as_ref() != Some(&sources) {
            std::fs::write(&list, &sources)?;
            let updated = shell::run(apt.command("apt-get").args(["-qq", "update"]));
            if updated.is_err() {
                let _ = std::fs::remove_file(&list);
            }
            updated?;
        }
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let option = |name: &str, value: &str| format!("{name}={value}");
        let path = |name: &str, file: &str| format!("{name}={}", self.folder.join(file).display());
        for setting in [
            path("Dir::Etc::sourcelist", "sources.list"),
            option("Dir::Etc::sourceparts", "/dev/null"),
            path("Dir::State::lists", "lists"),
            path("Dir::Cache", "cache"),
            option("Acquire::Languages", "none"),
            option("Acquire::IndexTargets::deb::DEP-11::DefaultEnabled", "false"),
            option("Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled", "false"),
            // The folder belongs to whoever builds, and apt's own user cannot write there.
            option("APT::Sandbox::User", "root"),
        ] {
            command.args(["-o", &setting]);
        }
        command
    }

    fn names(&self, pattern: &str) -> Result<Vec<String>> {
        let listed = shell::output(self.command("apt-cache").args(["search", "--names-only", pattern]))?;
        Ok(listed.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
    }

    /// "6.12" → "6.12.107+deb13-cloud-amd64".
    fn newest(&self, series: &str) -> Result<String> {
        let pattern = format!("^linux-image-{}[.+-].*-cloud-amd64$", series.replace('.', "\\."));
        let releases = self.names(&pattern)?;
        let releases = releases.iter().filter_map(|name| name.strip_prefix("linux-image-"));
        releases
            .max_by_key(|release| numbers(release))
            .map(str::to_owned)
            .with_context(|| format!("the mirror has no cloud kernel {series}"))
    }

    /// The packages that make up a kernel: before 7.x the image alone, then up to four.
    fn packages(&self, release: &str) -> Result<Vec<String>> {
        let exact = |kind: &str| format!("linux-{kind}-{release}");
        let pattern =
            format!("^linux-(image|binary|modules|base)-{}$", release.replace('.', "\\.").replace('+', "\\+"));
        let known = self.names(&pattern)?;
        Ok(["image", "binary", "modules", "base"].map(exact).into_iter().filter(|name| known.contains(name)).collect())
    }

    fn download(&self, to: &Path, packages: &[String]) -> Result<()> {
        shell::run(self.command("apt-get").args(["-q", "download"]).args(packages).current_dir(to))
    }
}

/// Every number in a name, in order: what makes 6.12.107 newer than 6.12.94.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).collect()
}

/// Where this machine gets Debian packages from.
fn mirror() -> Result<String> {
    if let Ok(mirror) = std::env::var("VNET_TRACE_DEBIAN_MIRROR") {
        return Ok(mirror);
    }
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)", "Created-By: Packages"]);
    let targets = shell::output(&mut command)?;
    targets.lines().find_map(|line| line.strip_prefix("Debian Debian ")).map(|uri| uri.trim().to_owned()).context(
        "this machine's apt knows no Debian mirror (is it Ubuntu?): name one in VNET_TRACE_DEBIAN_MIRROR, and install debian-archive-keyring",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_is_by_numbers() {
        let newest = ["6.12.94+deb13-cloud-amd64", "6.12.107+deb13-cloud-amd64", "6.12.9+deb13-cloud-amd64"]
            .into_iter()
            .max_by_key(|name| numbers(name));
        assert_eq!(newest, Some("6.12.107+deb13-cloud-amd64"));
    }
}
