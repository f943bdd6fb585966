//! `cargo xtask setup`: installs what is missing, with the machine's own package manager, after saying what and why.

use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::shell;

/// What a package is needed for.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Purpose {
    /// To compile the program
    Build,
    /// To run the labs
    Labs,
    /// To run the labs with real containers
    Containers,
    /// To boot other kernels
    Vm,
    /// To read pcapng files back in tests
    Read,
    /// To measure what other tools cost beside this one
    Bench,
}

/// Arguments of `setup`.
#[derive(clap::Args)]
#[group(id = "setup")]
pub struct Args {
    /// What for; without this, for building and for the labs
    #[arg(value_enum)]
    purposes: Vec<Purpose>,
    /// Only say what is missing
    #[arg(long)]
    dry_run: bool,
}

/// One thing that must be there, and the packages that bring it.
struct Need {
    purpose: Purpose,
    /// Any one of these: programs on PATH, or paths that begin with '/'.
    found_as: &'static [&'static str],
    /// The package for apt, dnf and pacman.
    packages: [&'static str; 3],
}

const fn need(purpose: Purpose, found_as: &'static [&'static str], packages: [&'static str; 3]) -> Need {
    Need { purpose, found_as, packages }
}

const NEEDS: &[Need] = &[
    need(Purpose::Build, &["cc"], ["gcc", "gcc", "gcc"]),
    need(Purpose::Build, &["/usr/include/stdio.h"], ["libc6-dev", "glibc-devel", "glibc"]),
    need(Purpose::Build, &["/usr/include/pcap/pcap.h"], ["libpcap-dev", "libpcap-devel", "libpcap"]),
    need(Purpose::Labs, &["ip"], ["iproute2", "iproute", "iproute2"]),
    need(Purpose::Labs, &["tc"], ["iproute2", "iproute-tc", "iproute2"]),
    need(Purpose::Labs, &["socat"], ["socat", "socat", "socat"]),
    need(Purpose::Labs, &["ping"], ["iputils-ping", "iputils", "iputils"]),
    need(Purpose::Labs, &["sysctl"], ["procps", "procps-ng", "procps-ng"]),
    need(Purpose::Labs, &["unshare"], ["util-linux", "util-linux", "util-linux"]),
    need(Purpose::Labs, &["modprobe"], ["kmod", "kmod", "kmod"]),
    need(Purpose::Labs, &["nft"], ["nftables", "nftables", "nftables"]),
    need(Purpose::Labs, &["iptables"], ["iptables", "iptables-nft", "iptables-nft"]),
    need(Purpose::Labs, &["ebtables"], ["ebtables", "iptables-nft", "iptables-nft"]),
    need(Purpose::Labs, &["busybox"], ["busybox-static", "busybox", "busybox"]),
    need(Purpose::Labs, &["ovs-vswitchd"], ["openvswitch-switch", "openvswitch", "openvswitch"]),
    need(Purpose::Labs, &["python3"], ["python3-minimal", "python3", "python"]),
    need(Purpose::Containers, &["dockerd"], ["docker.io", "moby-engine", "docker"]),
    need(Purpose::Containers, &["docker"], ["docker.io", "moby-engine", "docker"]),
    need(Purpose::Containers, &["podman"], ["podman", "podman", "podman"]),
    need(Purpose::Read, &["tshark"], ["tshark", "wireshark-cli", "wireshark-cli"]),
    need(Purpose::Bench, &["tcpdump"], ["tcpdump", "tcpdump", "tcpdump"]),
    need(Purpose::Bench, &["bpftrace"], ["bpftrace", "bpftrace", "bpftrace"]),
    need(Purpose::Vm, &["qemu-system-x86_64"], ["qemu-system-x86", "qemu-system-x86-core", "qemu-system-x86"]),
    need(Purpose::Vm, &["cpio"], ["cpio", "cpio", "cpio"]),
    need(Purpose::Vm, &["xz"], ["xz-utils", "xz", "xz"]),
    need(Purpose::Vm, &["tcpdump"], ["tcpdump", "tcpdump", "tcpdump"]),
];

/// A package manager: its program, what refreshes its lists, what installs.
struct Manager {
    program: &'static str,
    column: usize,
    refresh: &'static [&'static str],
    install: &'static [&'static str],
}

const MANAGERS: &[Manager] = &[
    Manager {
        program: "apt-get",
        column: 0,
        refresh: &["-qq", "update"],
        install: &["-qq", "-y", "--no-install-recommends", "install"],
    },
    Manager { program: "dnf", column: 1, refresh: &[], install: &["-q", "-y", "install"] },
    Manager { program: "pacman", column: 2, refresh: &["-Sy"], install: &["-S", "--noconfirm", "--needed"] },
];

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    let purposes = if args.purposes.is_empty() { &[Purpose::Build, Purpose::Labs][..] } else { &args.purposes };
    if args.dry_run {
        for need in missing(purposes) {
            println!("{}", need.found_as.join(" or "));
        }
        return Ok(());
    }
    install(purposes)
}

/// Installs what these purposes lack.
pub fn install(purposes: &[Purpose]) -> Result<()> {
    let missing = missing(purposes);
    if missing.is_empty() {
        return Ok(());
    }
    let things: Vec<_> = missing.iter().map(|need| need.found_as[0]).collect();
    let Some(manager) = MANAGERS.iter().find(|manager| shell::has(manager.program)) else {
        bail!(
            "this machine lacks {}, and has none of the package managers known here (apt-get, dnf, pacman)",
            things.join(", ")
        );
    };
    let mut packages: Vec<_> = missing.iter().map(|need| need.packages[manager.column]).collect();
    packages.sort_unstable();
    packages.dedup();
    eprintln!("Missing: {}. Installing with {}: {}", things.join(", "), manager.program, packages.join(" "));
    if !manager.refresh.is_empty() {
        shell::run(command(manager)?.args(manager.refresh))?;
    }
    shell::run(command(manager)?.args(manager.install).args(packages))?;
    Ok(())
}

fn missing(purposes: &[Purpose]) -> Vec<&'static Need> {
    let there = |name: &&str| if name.starts_with('/') { Path::new(name).exists() } else { shell::has(name) };
    NEEDS.iter().filter(|need| purposes.contains(&need.purpose) && !need.found_as.iter().any(there)).collect()
}

fn command(manager: &Manager) -> Result<Command> {
    // sudo drops the environment; `env` sets it on the other side.
    let mut command = shell::as_root("env")?;
    command.args(["DEBIAN_FRONTEND=noninteractive", manager.program]);
    Ok(command)
}
