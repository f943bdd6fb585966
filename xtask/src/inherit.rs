//! The sysctls of the machine's first network namespace, set for a while: every new namespace begins with a copy of them
//! (net/ipv4/devinet.c, `devinet_init_net`), so whether a machine runs Docker or systemd changes what a fresh namespace is.
//! The labs must give the same answers in all of them.
//!
//! This is the only thing here that changes the machine itself. A shell does it: it keeps the old values, sets the new ones,
//! waits until its standard input ends, and puts the old ones back. Its input is a pipe from this process, so they are put
//! back whatever becomes of us, be it a panic or `kill -9`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use anyhow::{Context, Result, bail};

use crate::shell;

/// What new namespaces inherit.
#[derive(Debug, Clone, Copy)]
pub struct Profile {
    /// For people and as the test's name.
    pub name: &'static str,
    ip_forward: u8,
    rp_filter: u8,
}

/// What Docker with systemd leaves behind, and a distribution with strict source validation.
pub const PROFILES: [Profile; 2] = [
    Profile { name: "ip_forward=1,rp_filter=2", ip_forward: 1, rp_filter: 2 },
    Profile { name: "ip_forward=0,rp_filter=1", ip_forward: 0, rp_filter: 1 },
];

/// Writing ip_forward also writes each device's `forwarding` and, for all, `accept_redirects` (inet_forward_change).
const SCRIPT: &str = r#"
set -eu
trap '' INT TERM HUP
conf=/proc/sys/net/ipv4/conf
kept="$conf/*/rp_filter $conf/all/accept_redirects $conf/*/forwarding"
forward=$(cat /proc/sys/net/ipv4/ip_forward)
old=$(for file in $kept; do echo "$file $(cat "$file")"; done)
restore() {
  echo "$forward" >/proc/sys/net/ipv4/ip_forward
  echo "$old" | while read -r file value; do echo "$value" >"$file" || true; done
}
trap restore EXIT
echo "$1" >/proc/sys/net/ipv4/ip_forward
for place in all default; do echo "$2" >$conf/$place/rp_filter; done
unshare -n cat $conf/all/forwarding $conf/all/rp_filter $conf/default/rp_filter | tr '\n' ' '
echo
cat >/dev/null
"#;

/// The sysctls are set; dropped, they are as before.
pub struct Inherited(Child);

impl Inherited {
    /// Sets them, and makes sure that new namespaces do inherit them.
    pub fn set(profile: Profile) -> Result<Self> {
        let Profile { name, ip_forward, rp_filter } = profile;
        eprintln!("+ sysctls of this machine's first network namespace for a while: {name}");
        let mut shell = shell::as_root("sh")?
            .args(["-c", SCRIPT, "sh", &ip_forward.to_string(), &rp_filter.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start a shell")?;
        let output = shell.stdout.take().context("the shell has no output")?;
        let set = Self(shell);
        let mut seen = String::new();
        BufReader::new(output).read_line(&mut seen)?;
        let wanted = format!("{ip_forward} {rp_filter} {rp_filter}");
        if seen.trim() != wanted {
            bail!(
                "a new namespace has {seen:?}, not {wanted:?}: see net.core.devconf_inherit_init_net, which must be 0 or 1"
            );
        }
        Ok(set)
    }
}

impl Drop for Inherited {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
