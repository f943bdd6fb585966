//! One QEMU machine, from boot to its last line.
//!
//! Files go in as a cpio archive appended to the others, and come out as a tar on a raw disk: needs no network, no shared
//! folder, and works on every kernel. KVM is used where a guest really boots with it (a nested one may be there and hang);
//! else one emulated processor in one thread, which is both the safest and, for a boot and a test, the fastest. The console decides when it is over: the guest's own end, a sign of a
//! kernel in trouble, or the time limit.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::kernel::Kernel;
use super::userland;
use crate::shell;

/// A kernel that says this gives no results to rely on.
const TROUBLE: &[&str] = &[
    "Kernel panic",
    "Oops:",
    "BUG:",
    "general protection fault",
    "double fault",
    "kernel BUG at",
    "rcu_sched self-detected stall",
    "soft lockup",
    "Attempted to kill init",
    "Unable to mount root",
];

/// Of every kernel.
const COMMAND_LINE: &str = "console=ttyS0 quiet loglevel=4 panic=-1 oops=panic rdinit=/init nokaslr";

/// After a sign of trouble the kernel may still say more.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Where results come back; an empty disk needs no space.
const DISK_BYTES: u64 = 64 << 20;

/// Longer than a boot with KVM takes, and no great loss where it hangs.
const KVM_PROOF_SECONDS: u64 = 15;

/// What runs the guest's instructions.
#[derive(Clone, Copy)]
pub enum Accelerator {
    /// The processor.
    Kvm,
    /// QEMU.
    Emulation,
}

impl Accelerator {
    /// KVM if a guest boots with it; the answer is kept.
    pub fn choose(folder: &Path, kernel: &Kernel, userland: &PathBuf) -> Result<Self> {
        let device = File::options().read(true).write(true).open("/dev/kvm");
        if device.is_err() {
            return Ok(Self::Emulation);
        }
        let kept = folder.join("accelerator");
        if let Ok(answer) = std::fs::read_to_string(&kept) {
            return Ok(if answer == "kvm" { Self::Kvm } else { Self::Emulation });
        }
        let machine = Machine {
            kernel,
            userland,
            accelerator: Self::Kvm,
            folder: folder.join("run/kvm"),
            script: "exit 0".to_owned(),
            timeout: KVM_PROOF_SECONDS,
            verbose: false,
        };
        let boots = matches!(machine.run()?.end, End::Good);
        let answer = if boots { "kvm" } else { "emulation" };
        eprintln!("/dev/kvm is there; booting with it says: {answer}");
        std::fs::write(&kept, answer)?;
        Ok(if boots { Self::Kvm } else { Self::Emulation })
    }

    /// For the kernel's command line: what costs an emulated processor time and changes nothing for packets.
    fn kernel_arguments(self) -> &'static str {
        match self {
            Self::Kvm => "",
            Self::Emulation => " mitigations=off init_on_alloc=0",
        }
    }

    fn arguments(self) -> [&'static str; 4] {
        match self {
            Self::Kvm => ["-accel", "kvm", "-cpu", "host,-arch-capabilities"],
            // cmpxchg16b is the instruction that an emulated kernel was seen to die of.
            Self::Emulation => ["-accel", "tcg,thread=single", "-cpu", "max,-cx16"],
        }
    }
}

/// A machine to be run once.
pub struct Machine<'a> {
    /// What boots.
    pub kernel: &'a Kernel,
    /// The programs.
    pub userland: &'a PathBuf,
    /// How its instructions run.
    pub accelerator: Accelerator,
    /// Where its files, its console and its results go.
    pub folder: PathBuf,
    /// For bash in the guest.
    pub script: String,
    /// Seconds until it is ended.
    pub timeout: u64,
    /// Show the console.
    pub verbose: bool,
}

/// How it ended.
pub enum End {
    /// The script succeeded.
    Good,
    /// It did not, or the machine did not.
    Bad(String),
}

/// What came of it.
pub struct Outcome {
    /// How it ended.
    pub end: End,
    /// What the script wrote.
    pub output: String,
    /// The folder with what it left in /out.
    pub results: PathBuf,
    /// From start to end.
    pub seconds: f64,
}

impl Machine<'_> {
    /// Boots, waits, and collects the results.
    pub fn run(&self) -> Result<Outcome> {
        let _ = std::fs::remove_dir_all(&self.folder);
        let results = self.folder.join("out");
        std::fs::create_dir_all(&results)?;
        let initramfs = self.initramfs()?;
        let disk = self.folder.join("disk");
        File::create(&disk)?.set_len(DISK_BYTES)?;

        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(self.accelerator.arguments())
            .args(["-smp", "1", "-m", "1536"])
            .args([
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-no-reboot",
                "-serial",
                "stdio",
                "-nic",
                "none",
            ])
            .arg("-drive")
            .arg(format!("file={},format=raw,if=virtio,cache=unsafe", disk.display()))
            .arg("-kernel")
            .arg(&self.kernel.image)
            .arg("-initrd")
            .arg(&initramfs)
            .arg("-append")
            .arg(format!("{COMMAND_LINE}{}", self.accelerator.kernel_arguments()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // That KVM is not there is no news.
            .stderr(File::create(self.folder.join("qemu.log"))?);
        if self.verbose {
            shell::say(&command);
        }
        let began = Instant::now();
        let mut qemu = command.spawn().context("cannot start qemu-system-x86_64")?;
        let console = BufReader::new(qemu.stdout.take().context("QEMU has no console")?);
        let (lines, console_lines) = mpsc::channel();
        let reader = std::thread::spawn(move || {
            for line in console.split(b'\n').map_while(Result::ok) {
                if lines.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                    break;
                }
            }
        });
        let (end, output) = self.watch(&console_lines, began)?;
        let _ = qemu.kill();
        qemu.wait()?;
        drop(console_lines);
        let _ = reader.join();
        let seconds = began.elapsed().as_secs_f64();
        std::fs::remove_file(&initramfs)?;

        // An empty disk is no tar: then there are no results, and that is what the caller finds.
        let _ = Command::new("tar").arg("-C").arg(&results).arg("-xf").arg(&disk).stderr(Stdio::null()).status();
        std::fs::remove_file(&disk)?;
        Ok(Outcome { end, output, results, seconds })
    }

    /// The archives one after another, each aligned as the kernel wants it.
    fn initramfs(&self) -> Result<PathBuf> {
        let job = self.folder.join("job");
        std::fs::create_dir_all(&job)?;
        std::fs::write(job.join("job"), &self.script)?;
        let job_archive = self.folder.join("job.cpio");
        userland::cpio(&job, &job_archive)?;
        let path = self.folder.join("initramfs");
        let mut whole = File::create(&path)?;
        for part in [self.userland, &self.kernel.modules, &job_archive] {
            // cpio pads to 512 bytes, so each begins at a multiple of four.
            std::io::copy(
                &mut File::open(part).with_context(|| format!("cannot read {}", part.display()))?,
                &mut whole,
            )?;
        }
        Ok(path)
    }

    fn watch(&self, lines: &mpsc::Receiver<String>, began: Instant) -> Result<(End, String)> {
        let mut log = File::create(self.folder.join("console.log"))?;
        let mut output = String::new();
        let mut ready = false;
        let mut trouble: Option<(String, Instant)> = None;
        loop {
            let over = began + Duration::from_secs(self.timeout);
            let until = trouble.as_ref().map_or(over, |(_, at)| *at + LAST_WORDS);
            let line = match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) => line,
                Err(timeout) => {
                    let why = match (trouble, timeout) {
                        (Some((line, _)), _) => format!("the kernel is in trouble: {line}"),
                        (None, mpsc::RecvTimeoutError::Timeout) => format!("no end within {} s", self.timeout),
                        (None, mpsc::RecvTimeoutError::Disconnected) => {
                            "the machine ended before its script".to_owned()
                        }
                    };
                    return Ok((End::Bad(why), output));
                }
            };
            writeln!(log, "{line}")?;
            if self.verbose {
                eprintln!("{line}");
            }
            if let Some(code) = line.strip_prefix("@@end ") {
                let end = if code == "0" { End::Good } else { End::Bad(format!("the script ended with {code}")) };
                return Ok((if let Some((line, _)) = trouble { End::Bad(line) } else { end }, output));
            }
            if TROUBLE.iter().any(|sign| line.contains(sign)) && trouble.is_none() {
                trouble = Some((line.clone(), Instant::now()));
            }
            if let Some(uptime) = line.strip_prefix("@@ready ") {
                ready = true;
                eprintln!(
                    "{}: ready after {uptime} s of its own time, {:.1} s here",
                    self.kernel.release,
                    began.elapsed().as_secs_f64()
                );
            } else if ready {
                output.push_str(&line);
                output.push('\n');
            }
        }
    }
}
