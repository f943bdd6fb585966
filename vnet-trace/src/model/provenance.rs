//! What the machine's files say about its network settings: who would set them, and when again. Collected once with the
//! snapshot, without judging whether any of it took effect.

use serde::{Deserialize, Serialize};

/// A line of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FileLine {
    /// The file's path.
    pub file: String,
    /// From 1 on; 0 stands for the whole file.
    pub line: u32,
}

/// Everything that was found in files.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Provenance {
    /// Inode of the machine's own network namespace, which all of this is for; None if it can't be told.
    pub machine_netns: Option<u64>,
    /// Lines of sysctl.d under `net.`, in the order in which they are applied at boot.
    pub sysctls: Vec<SysctlLine>,
    /// Files by which a program manages devices.
    pub devices: Vec<DeviceFile>,
    /// Rules in files that are loaded at boot, as they are written.
    pub rules: Vec<RuleLine>,
    /// firewalld's zones.
    pub zones: Vec<Zone>,
    /// Networks of CNI plugins.
    pub cni: Vec<CniNetwork>,
    /// Options of the Docker daemon that concern the network.
    pub docker: Vec<DaemonOption>,
    /// Services that set up the network or its rules and are started at boot, without `.service`.
    pub services: Vec<String>,
}

/// A line of sysctl.d(5).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SysctlLine {
    /// Dotted, with a dot in a device's name written `/`; may be a pattern.
    pub key: String,
    /// None: this key is left out of patterns (`-net.ipv4.conf.eth0.rp_filter`).
    pub value: Option<String>,
    /// Where.
    pub at: FileLine,
}

/// A program that manages devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Manager {
    /// systemd-networkd.
    Networkd,
    /// NetworkManager.
    NetworkManager,
    /// ifupdown.
    Ifupdown,
    /// netplan, which writes files for one of the others.
    Netplan,
}

/// A file that concerns a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceFile {
    /// Whose file it is.
    pub manager: Manager,
    /// The device, or a pattern.
    pub device: String,
    /// Where.
    pub at: FileLine,
}

/// A rule in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleLine {
    /// As written, blanks made single.
    pub text: String,
    /// Where.
    pub at: FileLine,
}

/// A zone of firewalld.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// Its name, as chains have it.
    pub name: String,
    /// Its file.
    pub file: String,
}

/// A network of a CNI plugin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CniNetwork {
    /// Its name.
    pub name: String,
    /// Types of its plugins, in order.
    pub plugins: Vec<String>,
    /// The bridge it makes, if it says so.
    pub bridge: Option<String>,
    /// Its file.
    pub file: String,
}

/// An option of /etc/docker/daemon.json.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonOption {
    /// `ip-forward`, `iptables`, …
    pub key: String,
    /// As JSON.
    pub value: String,
    /// Where.
    pub at: FileLine,
}

/// Where a setting comes from, as far as that can be told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    /// The setting: `net.ipv4.ip_forward = 0`, a rule, a device.
    pub setting: String,
    /// Who set it; None: unknown.
    pub set_by: Option<String>,
    /// The file that says so.
    pub at: Option<FileLine>,
    /// What will set it again once it is mended by hand; None: nothing that is known.
    pub returns: Option<String>,
}
