//! The lab file: TOML to [`Lab`], with every mistake named by file and key.
//!
//! Takes text, gives a [`Lab`] whose fields can be relied on (a lost lab has a cause, a need has a kind). It does not ask
//! the machine whether the needs are met; that is [`super::needs`].

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One lab, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lab {
    /// Kebab-case and unique; the file's stem.
    pub id: String,
    /// One line.
    pub title: String,
    /// The published case it comes from, if it comes from one.
    pub source: Option<String>,
    /// What was built, what a person expects, what happens instead.
    pub story: String,
    /// What the machine must have; without it the lab is skipped.
    pub needs: Vec<Need>,
    /// The oldest kernel on which the lab's network behaves as told.
    pub kernel: Option<KernelBound>,
    /// Shell script for `bash -eu` that builds the network.
    pub setup: String,
    /// Shell script for `bash -eu` that mends it. Empty for a healthy lab.
    pub fix: String,
    /// Why a lost lab has no fix.
    pub no_fix: Option<String>,
    /// What is asked.
    pub probe: Probe,
    /// The right answer.
    pub expect: Expect,
}

/// The question: a ping, or with `proto` and `port` a connection or datagram.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// The namespace it is asked in; None is the lab's own root.
    pub netns: Option<String>,
    /// Address to reach.
    pub dst: String,
    /// `-I`: a device or a source address.
    pub iface: Option<String>,
    /// `-c`: echo requests.
    #[serde(default = "default_count")]
    pub count: u32,
    /// `-s`: payload bytes; None is ping's default, 56.
    pub size: Option<u32>,
    /// `-M do`: do not fragment.
    #[serde(default)]
    pub df: bool,
    /// `-t`: TTL or hop limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u8>,
    /// `-m`: fwmark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<u32>,
    /// `-Q`: type of service or traffic class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tos: Option<u8>,
    /// A TCP connection or UDP datagrams instead of echo requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proto: Option<Proto>,
    /// The port that is asked; given exactly when `proto` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The asker binds its socket hard to the device, as busybox's ping does.
    #[serde(default)]
    pub bind: bool,
}

fn default_count() -> u32 {
    2
}

/// What is asked with instead of echo requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Whether the ping gets an echo reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// No echo reply comes back.
    Lost,
    /// At least one echo reply comes back.
    Delivered,
}

/// What was lost, as the interface spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// The echo request.
    Request,
    /// The echo reply.
    Reply,
    /// The ARP request or neighbour solicitation.
    ArpRequest,
    /// The ARP reply or neighbour advertisement.
    ArpReply,
}

/// The right answer to the question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Lost or delivered.
    pub verdict: Verdict,
    /// The cause's code; None exactly when delivered.
    pub cause: Option<String>,
    /// Codes that are right as well.
    #[serde(default)]
    pub also: Vec<String>,
    /// What was lost; None leaves it open.
    pub direction: Option<Direction>,
    /// Where it was lost, "." being the lab's root; None leaves it open.
    pub netns: Option<String>,
    /// The device at which it was lost; None leaves it open.
    pub dev: Option<String>,
    /// Words of whoever made the decisive setting (`Docker`), as the answer names them; None leaves it open.
    #[serde(default)]
    pub owner: Option<String>,
    /// Notes that must be given; for a delivered lab None leaves them open, and a list is exact.
    pub notes: Option<Vec<String>>,
}

/// One thing that the machine must have.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Need {
    /// An rtnetlink link kind.
    Link(String),
    /// A program on PATH.
    Cmd(String),
    /// A kernel option, without `CONFIG_`.
    Config(String),
    /// A kernel module, loaded, built in or loadable.
    Module(String),
    /// A sysctl key that exists in a fresh namespace.
    Sysctl(String),
    /// A running Docker engine.
    DockerService,
    /// IPv6 in the kernel.
    Ipv6,
}

/// `>=MAJOR.MINOR[.PATCH]` of a running kernel. Only a lab's own declaration is ever compared with a version; whatever
/// else depends on the kernel is probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelBound {
    at_least: (u32, u32, u32),
}

/// Why a lab file is no lab.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file cannot be read.
    #[error("cannot read the lab file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Not TOML, an unknown key, a missing key, or a value of the wrong type.
    #[error("{file} is not a lab file")]
    Toml {
        /// The file's name.
        file: String,
        /// Line, column and key.
        source: Box<toml::de::Error>,
    },
    /// A key has a value that cannot be meant.
    #[error("{file}: {key} {wrong}")]
    Value {
        /// The file's name.
        file: String,
        /// The key as written in the file, with its table.
        key: &'static str,
        /// What is wrong with it.
        wrong: String,
    },
}

/// The file as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    id: String,
    title: String,
    source: Option<String>,
    story: String,
    #[serde(default)]
    needs: Vec<String>,
    kernel: Option<String>,
    setup: String,
    #[serde(default)]
    fix: String,
    no_fix: Option<String>,
    probe: Probe,
    expect: Expect,
}

impl Lab {
    /// Reads a lab file of the user's. Its id need not be the file's name.
    pub fn read(path: &Path) -> Result<Self, SpecError> {
        let text = std::fs::read_to_string(path).map_err(|source| SpecError::Read { path: path.to_owned(), source })?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Parses the text of a lab file; `file` names it in errors.
    pub fn parse(file: &str, text: &str) -> Result<Self, SpecError> {
        let raw: File = toml::from_str(text)
            .map_err(|source| SpecError::Toml { file: file.to_owned(), source: Box::new(source) })?;
        let wrong = |key: &'static str, wrong: String| SpecError::Value { file: file.to_owned(), key, wrong };

        if !is_kebab(&raw.id) {
            return Err(wrong("id", format!("is {:?}, not lower-case words joined by '-'", raw.id)));
        }
        if raw.setup.trim().is_empty() {
            return Err(wrong("setup", "is empty".into()));
        }
        let needs = raw
            .needs
            .iter()
            .map(|need| need.parse().map_err(|e: BadNeed| wrong("needs", e.to_string())))
            .collect::<Result<_, _>>()?;
        let kernel =
            raw.kernel.as_deref().map(str::parse).transpose().map_err(|e: BadBound| wrong("kernel", e.to_string()))?;

        let Probe { netns, dst, iface, count, size, proto, port, .. } = &raw.probe;
        if dst.parse::<std::net::IpAddr>().is_err() && !is_scoped_ipv6(dst) {
            return Err(wrong("probe.dst", format!("is {dst:?}, not an IP address")));
        }
        for (key, value) in [("probe.netns", netns), ("probe.iface", iface)] {
            if let Some(value) = value
                && (value.is_empty() || value.starts_with('-') || value.contains(char::is_whitespace))
            {
                return Err(wrong(key, format!("is {value:?}, not a name")));
            }
        }
        if *count == 0 || *count > 100 {
            return Err(wrong("probe.count", format!("is {count}, not 1 to 100")));
        }
        if size.is_some_and(|size| size > 65_507) {
            return Err(wrong("probe.size", "is larger than an IP packet, 65507".into()));
        }

        if proto.is_some() != port.is_some_and(|port| port > 0) {
            return Err(wrong("probe.port", "and probe.proto are given together, and a port is not 0".into()));
        }
        match (raw.expect.verdict, &raw.expect.cause) {
            (Verdict::Lost, None) => return Err(wrong("expect.cause", "is missing, and the verdict is lost".into())),
            (Verdict::Delivered, Some(_)) => {
                return Err(wrong("expect.cause", "is given, and the verdict is delivered".into()));
            }
            (Verdict::Lost, Some(_)) if raw.fix.trim().is_empty() && raw.no_fix.is_none() => {
                return Err(wrong("fix", "is missing, and the verdict is lost".into()));
            }
            _ => {}
        }

        Ok(Self {
            id: raw.id,
            title: raw.title,
            source: raw.source,
            story: raw.story.trim().to_owned(),
            needs,
            kernel,
            setup: raw.setup,
            fix: raw.fix,
            no_fix: raw.no_fix,
            probe: raw.probe,
            expect: raw.expect,
        })
    }
}

impl Probe {
    /// The arguments that `vnet-trace ping` and ping(8) share, without the count: `-I`, `-s`, `-t`, `-m`, `-Q`, `-M do`.
    pub fn shaping_args(&self) -> Vec<String> {
        let mut args = Vec::new();
        if let Some(iface) = &self.iface {
            args.extend(["-I".to_owned(), iface.clone()]);
        }
        if let Some(size) = self.size {
            args.extend(["-s".to_owned(), size.to_string()]);
        }
        let numbers = [("-t", self.ttl.map(u32::from)), ("-m", self.mark), ("-Q", self.tos.map(u32::from))];
        for (flag, number) in numbers {
            args.extend(number.map(|number| [flag.to_owned(), number.to_string()]).into_iter().flatten());
        }
        if self.df {
            args.extend(["-M".to_owned(), "do".to_owned()]);
        }
        args
    }
}

impl Expect {
    /// The place as one word for tables: `ns1/veth0`, `./veth1`, `ns1`, or "" when left open.
    pub fn place(&self) -> String {
        [&self.netns, &self.dev].into_iter().flatten().map(String::as_str).collect::<Vec<_>>().join("/")
    }
}

/// A need that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("has {text:?}; known are link:KIND, cmd:NAME, config:NAME, module:NAME, sysctl:KEY, service:docker and ipv6")]
pub struct BadNeed {
    text: String,
}

impl FromStr for Need {
    type Err = BadNeed;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadNeed { text: text.to_owned() };
        if text == "ipv6" {
            return Ok(Self::Ipv6);
        }
        let (kind, name) = text.split_once(':').ok_or_else(bad)?;
        let plain = !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
            && !name.starts_with(['-', '.'])
            && !name.contains("..");
        if !plain {
            return Err(bad());
        }
        let name = name.to_owned();
        match kind {
            "link" => Ok(Self::Link(name)),
            "cmd" => Ok(Self::Cmd(name)),
            "config" => Ok(Self::Config(name)),
            "module" => Ok(Self::Module(name)),
            "sysctl" => Ok(Self::Sysctl(name)),
            "service" if name == "docker" => Ok(Self::DockerService),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link(name) => write!(f, "link:{name}"),
            Self::Cmd(name) => write!(f, "cmd:{name}"),
            Self::Config(name) => write!(f, "config:{name}"),
            Self::Module(name) => write!(f, "module:{name}"),
            Self::Sysctl(name) => write!(f, "sysctl:{name}"),
            Self::DockerService => f.write_str("service:docker"),
            Self::Ipv6 => f.write_str("ipv6"),
        }
    }
}

impl TryFrom<String> for Need {
    type Error = BadNeed;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Need> for String {
    fn from(need: Need) -> Self {
        need.to_string()
    }
}

/// A kernel bound that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("is {text:?}; it must read like \">=4.15\"")]
pub struct BadBound {
    text: String,
}

impl FromStr for KernelBound {
    type Err = BadBound;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadBound { text: text.to_owned() };
        let version = text.strip_prefix(">=").ok_or_else(bad)?.trim();
        if !version.chars().all(|c| c.is_ascii_digit() || c == '.') {
            return Err(bad());
        }
        leading_version(version).map(|at_least| Self { at_least }).ok_or_else(bad)
    }
}

impl fmt::Display for KernelBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, patch) = self.at_least;
        write!(f, "kernel>={major}.{minor}")?;
        if patch == 0 { Ok(()) } else { write!(f, ".{patch}") }
    }
}

impl KernelBound {
    /// Whether a kernel that calls itself `release` is new enough; false when the name has no version in front.
    pub fn admits(&self, release: &str) -> bool {
        leading_version(release).is_some_and(|version| version >= self.at_least)
    }
}

/// "6.12.107+deb13-cloud-amd64" → (6, 12, 107); None without "MAJOR.MINOR" in front.
fn leading_version(text: &str) -> Option<(u32, u32, u32)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let mut parts = text.get(..end)?.split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = parts.next()?.parse().ok()?;
    let patch = parts.next().and_then(|patch| patch.parse().ok()).unwrap_or(0);
    Some((major, minor, patch))
}

fn is_kebab(text: &str) -> bool {
    !text.is_empty()
        && text
            .split('-')
            .all(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()))
}

/// `fe80::1%eth0`.
fn is_scoped_ipv6(text: &str) -> bool {
    text.split_once('%')
        .is_some_and(|(address, zone)| address.parse::<std::net::Ipv6Addr>().is_ok() && !zone.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAB: &str = r#"
id = "a-lab"
title = "A lab"
story = "What happens."
needs = ["link:vxlan", "ipv6"]
kernel = ">=4.15"
setup = "ip link set lo up"
fix = "true"
[probe]
dst = "10.0.0.1"
[expect]
verdict = "lost"
cause = "no-route"
"#;

    fn refused(old: &str, new: &str) -> String {
        assert!(LAB.contains(old), "{old}");
        let error = Lab::parse("a-lab.toml", &LAB.replace(old, new)).unwrap_err();
        format!("{error}{}", std::error::Error::source(&error).map(|s| format!(": {s}")).unwrap_or_default())
    }

    #[test]
    fn reads_a_lab() {
        let lab = Lab::parse("a-lab.toml", LAB).unwrap();
        assert_eq!(lab.needs, [Need::Link("vxlan".into()), Need::Ipv6]);
        assert_eq!(lab.probe.count, 2);
        assert_eq!(lab.expect.notes, None);
        assert_eq!(lab.kernel.unwrap().to_string(), "kernel>=4.15");
    }

    #[test]
    fn names_file_and_key_of_a_mistake() {
        for (old, new, wants) in [
            ("title", "titel", "titel"),
            ("title = \"A lab\"", "", "title"),
            ("[probe]", "[probe]\nhops = 3", "hops"),
            ("id = \"a-lab\"", "id = \"A Lab\"", "id is \"A Lab\""),
            ("link:vxlan", "links:vxlan", "needs has \"links:vxlan\""),
            ("link:vxlan", "cmd:../sh", "needs has"),
            (">=4.15", "4.15", "kernel is \"4.15\""),
            (">=4.15", ">=4.x", "kernel is"),
            ("10.0.0.1", "-f", "probe.dst is"),
            ("10.0.0.1\"", "10.0.0.1\"\ncount = 0", "probe.count is 0"),
            ("10.0.0.1\"", "10.0.0.1\"\ncount = -1", "count"),
            ("10.0.0.1\"", "10.0.0.1\"\nsize = 70000", "probe.size"),
            ("10.0.0.1\"", "10.0.0.1\"\nnetns = \"a b\"", "probe.netns"),
            ("cause = \"no-route\"", "", "expect.cause is missing"),
            ("\"lost\"", "\"delivered\"", "expect.cause is given"),
            ("\"lost\"", "\"gone\"", "gone"),
            ("fix = \"true\"", "", "fix is missing"),
            ("setup = \"ip link set lo up\"", "setup = \" \"", "setup is empty"),
            ("[expect]", "[expect", "TOML parse error"),
        ] {
            let error = refused(old, new);
            assert!(error.contains("a-lab.toml") && error.contains(wants), "{old} → {new}: {error}");
        }
    }

    #[test]
    fn compares_versions_as_numbers() {
        let bound: KernelBound = ">=5.9".parse().unwrap();
        for (release, admitted) in [
            ("5.10.0-foo", true),
            ("5.9", true),
            ("5.8.99", false),
            ("6.12.107+deb13-cloud-amd64", true),
            ("7.2.0-rc1", true),
            ("4", false),
            ("", false),
            ("foo", false),
            ("99999999999.1", false),
        ] {
            assert_eq!(bound.admits(release), admitted, "{release}");
        }
    }

    proptest::proptest! {
        #[test]
        fn never_panics(at in 0_usize..400, text in ".{0,12}") {
            let at = (0..=at.min(LAB.len())).rev().find(|at| LAB.is_char_boundary(*at)).unwrap_or(0);
            let _ = Lab::parse("x", &format!("{}{text}{}", &LAB[..at], &LAB[at..]));
            let _ = Lab::parse("x", &LAB[..at]);
            let _ = text.parse::<Need>();
            let _ = text.parse::<KernelBound>();
        }
    }
}
