//! A Docker engine of the tests' own, for the labs with real containers, where dockerd is installed and none runs.
//!
//! It has its own folder and socket, makes no bridge, writes no firewall rule and leaves ip_forward alone, so the
//! machine's network does not notice it. It ends with the tests.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::shell;

/// A running engine; ended when dropped.
pub struct Engine {
    daemon: Child,
    folder: PathBuf,
}

impl Engine {
    /// Starts one if that is needed and possible.
    pub fn start_if_useful() -> Result<Option<Self>> {
        let running = || {
            let mut docker = Command::new("docker");
            docker.args(["version", "--format", "{{.Server.Version}}"]).stdout(Stdio::null()).stderr(Stdio::null());
            docker.status().is_ok_and(|status| status.success())
        };
        if !shell::is_root() || !shell::has("dockerd") || !shell::has("docker") || running() {
            return Ok(None);
        }
        let folder = std::env::temp_dir().join(format!("vnet-trace-docker-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        let flag = |flag: &str, name: &str| format!("{flag}={}", folder.join(name).display());
        let mut command = Command::new("dockerd");
        command
            .args([flag("--data-root", "data"), flag("--exec-root", "exec"), flag("--pidfile", "pid")])
            .args([flag("--host", "socket").replacen('=', "=unix://", 1)])
            .args([
                "--storage-driver=vfs",
                "--bridge=none",
                "--iptables=false",
                "--ip6tables=false",
                "--ip-forward=false",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        shell::say(&command);
        let mut daemon = command.spawn().context("cannot start dockerd")?;
        let log = BufReader::new(daemon.stderr.take().context("dockerd has no log")?);
        let mut lines = log.lines();
        let ready = lines.by_ref().map_while(Result::ok).any(|line| line.contains("API listen on"));
        // dockerd must never wait for a reader of its log.
        std::thread::spawn(move || lines.for_each(drop));
        let engine = Self { daemon, folder };
        if ready {
            return Ok(Some(engine));
        }
        eprintln!("dockerd does not start here; the labs with real containers are skipped");
        Ok(None)
    }

    /// For `DOCKER_HOST`.
    pub fn host(&self) -> String {
        format!("unix://{}", self.folder.join("socket").display())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // SIGTERM: dockerd then ends its containerd and unmounts what it mounted.
        let _ = Command::new("kill").arg(self.daemon.id().to_string()).status();
        let _ = self.daemon.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
