//! A network to watch, and a script in it: `ns1/veth0 ─ r/a · r/b ─ ns2/veth0`, where `r` masquerades towards ns2 and drops
//! what goes to UDP port 99.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use libtest_mimic::Failed;
use serde_json::Value;

const LAB: &str = r#"
id = "watched"
title = "A router that masquerades"
story = "Two hosts and a router."
setup = """
ip link set lo up
for name in ns1 r ns2; do ip netns add $name; ip -n $name link set lo up; done
for name in ns1 r ns2; do ip netns exec $name sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1; done
ip -n ns1 link add veth0 type veth peer name a netns r
ip -n ns2 link add veth0 type veth peer name b netns r
ip -n ns1 addr add 10.0.1.2/24 dev veth0
ip -n ns2 addr add 10.0.2.2/24 dev veth0
ip -n r addr add 10.0.1.1/24 dev a
ip -n r addr add 10.0.2.1/24 dev b
for end in ns1:veth0 ns2:veth0 r:a r:b; do ip -n ${end%%:*} link set dev ${end##*:} up; done
ip -n ns1 route add default via 10.0.1.1
for key in ipv4.ip_forward=1 ipv4.conf.all.rp_filter=0; do ip netns exec r sysctl -qw net.$key; done
ip netns exec r nft 'table ip nat { chain out { type nat hook postrouting priority 100; oifname "b" masquerade; }; }'
ip netns exec r nft 'table inet guard { chain passing { type filter hook forward priority 0; udp dport 99 drop; }; }'
"""
fix = "true"
[probe]
dst = "10.0.2.2"
netns = "ns1"
[expect]
verdict = "delivered"
"#;

/// What every script may use. `watch ARGS` begins to watch and returns when everything is listened to; `send ADDRESS PORT
/// COUNT` sends datagrams from ns1; `ended` waits for the watch and keeps its exit code in `code`.
const WORDS: &str = r#"
set -u
export LC_ALL=C
exec {idle}<> <(:)
until_true() { local tries=0; until "$@"; do tries=$((tries + 1)); [ $tries -lt 2000 ] || return 1; read -t 0.01 -u $idle; done; }
listens() { grep -q '^watching' err || ! kill -0 $W 2>/dev/null; }
# Other networks of the machine are none of the test's business: a packet must match in ns1, unless PLACE says otherwise.
PLACE='-N ns1'
watch() { "$V" watch $PLACE "$@" >out 2>err & W=$!; until_true listens; }
send() { ip netns exec ns1 bash -c 'for number in $(seq '$3'); do echo "packet $number" >/dev/udp/'$1/$2'; done' 2>/dev/null; }
lines() { [ $(grep -c "$1" out) -ge $2 ]; }
ended() { wait $W; echo $? >code; }
"#;

/// What a script left.
pub struct Left {
    folder: tempfile::TempDir,
}

impl Left {
    /// A file that it wrote.
    pub fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(&std::fs::read(self.path(name)).unwrap_or_default()).into_owned()
    }

    /// Where such a file is.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The objects of a file with one JSON object per line.
    pub fn objects(&self, name: &str) -> Result<Vec<Value>, Failed> {
        let text = self.text(name);
        text.lines().map(|line| serde_json::from_str(line).map_err(|error| format!("{error}: {line}").into())).collect()
    }

    /// The ways among them.
    pub fn ways(&self) -> Result<Vec<Value>, Failed> {
        Ok(self.objects("out")?.into_iter().filter(|object| object["type"] == "way").collect())
    }

    /// The summary, which comes last.
    pub fn summary(&self) -> Result<Value, Failed> {
        let last = self.objects("out")?.pop().ok_or("nothing was printed")?;
        if last["type"] == "summary" { Ok(last) } else { Err(format!("no summary: {last}").into()) }
    }

    /// Everything, for a failed test.
    pub fn all(&self) -> String {
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        for name in ["code", "out", "err", "script"] {
            names.insert(name.to_owned(), self.text(name).chars().take(4000).collect());
        }
        format!("{names:#?}")
    }

    /// Fails with everything unless this holds.
    pub fn check(&self, holds: bool, what: &str) -> Result<(), Failed> {
        if holds { Ok(()) } else { Err(format!("{what}\n{}", self.all()).into()) }
    }
}

/// Runs a script in the network; its files stay. `setting` comes before it.
pub fn run(program: &Path, setting: &str, script: &str) -> Result<Left, Failed> {
    let folder = tempfile::tempdir()?;
    let lab = folder.path().join("watched.toml");
    std::fs::write(&lab, LAB)?;
    let mut shell = Command::new(program)
        .args(["lab", "shell"])
        .arg(&lab)
        .env("V", program)
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let script = format!("cd '{}'\n{WORDS}\n{setting}{{ {script}\n}} >script 2>&1\nexit 0\n", folder.path().display());
    shell.stdin.take().ok_or("no standard input")?.write_all(script.as_bytes())?;
    let done = shell.wait_with_output()?;
    if !done.status.success() {
        return Err(format!(
            "the lab failed: {}{}",
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr)
        )
        .into());
    }
    Ok(Left { folder })
}
