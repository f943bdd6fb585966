//! `cargo xtask ebpf`: builds the probes, which are checked in as `vnet-trace/probes.bpf.o`, so that nobody
//! who only wants to use the program needs this command. `--check` proves that the file is what the source gives.
//!
//! The eBPF target has no compiled core library in rustup's stable toolchains, so this takes Debian's rustc
//! (package `rustc-web` or `rustc`, with `libstd-rust-…-bpf…` where it is split), whose version must match that
//! of the checked-in object for a comparison to mean anything: the object says which one built it.

mod btf;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::shell;

/// Where the object is checked in.
const OBJECT: &str = "vnet-trace/probes.bpf.o";

/// The target that bpf-linker links for.
const TARGET: &str = "bpfel-unknown-none";

/// Takes sections out of object files and puts them in.
const OBJCOPY: &str = "llvm-objcopy";

/// Arguments of `ebpf`.
#[derive(clap::Args)]
#[group(id = "ebpf")]
pub struct Args {
    /// Change nothing; fail unless the checked-in object is what the source gives
    #[arg(long)]
    check: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Result<()> {
    ebpf(args.check)
}

/// Builds the probes, and either puts them where they belong or compares them with what is there.
pub fn ebpf(check: bool) -> Result<()> {
    let built = build()?;
    let object = shell::workspace().join(OBJECT);
    let bytes = std::fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let home = std::env::var("HOME").unwrap_or_default();
    for path in [shell::workspace().display().to_string(), home] {
        if path.len() > 1 && contains(&bytes, path.as_bytes()) {
            bail!("the object contains the path {path} of this machine");
        }
    }
    let present = std::fs::read(&object).ok();
    if present.as_deref() == Some(&bytes) {
        println!("{OBJECT} is what the source gives ({} bytes)", bytes.len());
        return Ok(());
    }
    if check {
        bail!("{OBJECT} is not what the source gives: run `cargo xtask ebpf` and commit it");
    }
    std::fs::write(&object, &bytes).with_context(|| format!("cannot write {}", object.display()))?;
    println!("{OBJECT} written ({} bytes)", bytes.len());
    Ok(())
}

/// Compiles, links and strips; returns where the result is.
fn build() -> Result<PathBuf> {
    for (program, source) in
        [("bpf-linker", "cargo install bpf-linker --version 0.13.0"), (OBJCOPY, "the package llvm")]
    {
        if !shell::has(program) && !in_cargo_home(program) {
            bail!("building the probes needs {program}: it comes from {source}");
        }
    }
    let rustc = system("rustc")?;
    let workspace = shell::workspace();
    let target_folder = workspace.join("target/ebpf");
    shell::run(
        Command::new(system("cargo")?)
            .current_dir(&workspace)
            .args(["build", "--release", "--package", "vnet-trace-ebpf"])
            .args(["--bin", "probes", "--features", "probes", "--target", TARGET, "--target-dir"])
            .arg(&target_folder)
            // One unit and no parallel decisions, so that the same source gives the same bytes.
            .args(["--config", "profile.release.codegen-units=1"])
            .args(["--config", "profile.release.lto=false"])
            .args(["--config", "profile.release.panic=\"abort\""])
            .env("RUSTC", &rustc)
            // Debian's compiler is a stable one; a few features of the target are not stable yet.
            .env("RUSTC_BOOTSTRAP", "1")
            .env_remove("RUSTC_WRAPPER")
            .env_remove("RUSTUP_TOOLCHAIN")
            .env("CARGO_ENCODED_RUSTFLAGS", rustflags(&workspace).join("\u{1f}")),
    )?;
    let built = target_folder.join(TARGET).join("release/probes");
    strip(&built, &target_folder)
}

/// Takes out all debugging information but the types, which the verifier needs.
fn strip(built: &Path, folder: &Path) -> Result<PathBuf> {
    let file = |name: &str| folder.join(name);
    let (types, functions) = (file("types"), file("functions"));
    let section = |option: &str, name: &str, file: &Path| format!("--{option}={name}={}", file.display());
    shell::run(
        Command::new(OBJCOPY)
            .arg(section("dump-section", ".BTF", &types))
            .arg(section("dump-section", ".BTF.ext", &functions))
            .arg(built)
            .arg("/dev/null"),
    )?;
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let (less_types, less_functions) = btf::functions_only(&read(&types)?, &read(&functions)?)?;
    std::fs::write(&types, less_types)?;
    std::fs::write(&functions, less_functions)?;
    let stripped = file("probes.bpf.o");
    shell::run(
        Command::new(OBJCOPY)
            .args(["--strip-debug", "--remove-section=.rel.BTF", "--remove-section=.rel.BTF.ext"])
            .arg(section("update-section", ".BTF", &types))
            .arg(section("update-section", ".BTF.ext", &functions))
            .arg(built)
            .arg(&stripped),
    )?;
    Ok(stripped)
}

fn rustflags(workspace: &Path) -> Vec<String> {
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let mut flags = vec![
        "-Clinker=bpf-linker".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        // The type information becomes BTF, which tells the verifier which functions to check on their own.
        "-Cdebuginfo=2".to_owned(),
        // Version 3 of the instruction set: 32-bit operations, in every kernel since 5.1.
        "-Ctarget-cpu=v3".to_owned(),
        "--cfg=bpf_target_arch=\"x86_64\"".to_owned(),
        format!("--remap-path-prefix={}=.", workspace.display()),
    ];
    if let Some(home) = cargo_home {
        flags.push(format!("--remap-path-prefix={}=cargo", home.display()));
    }
    flags
}

/// The distribution's own rustc or cargo, which has the core library of the eBPF target.
fn system(program: &str) -> Result<PathBuf> {
    let path = Path::new("/usr/bin").join(program);
    if !path.is_file() {
        bail!(
            "building the probes needs the distribution's {program}: install the package rustc-web or rustc, and cargo"
        );
    }
    Ok(path)
}

fn in_cargo_home(program: &str) -> bool {
    std::env::var_os("HOME").is_some_and(|home| Path::new(&home).join(".cargo/bin").join(program).is_file())
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
