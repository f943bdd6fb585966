//! What a machine lets us see: what `doctor` reports. Plain data, made by `collect::machine`.

use serde::{Deserialize, Serialize};

use super::sight::{ProbeSight, Tier};

/// A machine with what its kernel offers and what we are allowed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Machine {
    /// `uname -r`.
    pub kernel: String,
    /// `uname -m`.
    pub architecture: String,
    /// Bytes of /sys/kernel/btf/vmlinux; None if it is not there.
    pub btf: Option<u64>,
    /// Lockdown mode: `none`, `integrity`, `confidentiality`; None where it can't be read: the
    /// kernel has none, or securityfs is not mounted.
    pub lockdown: Option<String>,
    /// Whether the kernel has kprobes.
    pub kprobes: bool,
    /// Capabilities that matter, with whether we have them.
    pub capabilities: Vec<(Capability, bool)>,
    /// Programs that we run, with where they are.
    pub programs: Vec<(String, Option<String>)>,
    /// The probes.
    pub probes: Vec<ProbeState>,
    /// Why there are no probes at all, if the object itself could not be used.
    pub probes_error: Option<String>,
}

/// One probe, with the ways that are closed to it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeState {
    /// How it is attached, and what we are blind to without it.
    pub sight: ProbeSight,
    /// The module that it belongs to, if that is not loaded: no packet can come that way then.
    pub absent_module: Option<String>,
    /// Ways that would have been preferred and failed, with why.
    pub closed: Vec<(Tier, String)>,
}

/// Capabilities (capabilities(7)) that we use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Capability {
    /// CAP_BPF.
    Bpf,
    /// CAP_PERFMON.
    Perfmon,
    /// CAP_NET_ADMIN.
    NetAdmin,
    /// CAP_NET_RAW.
    NetRaw,
    /// CAP_SYS_ADMIN.
    SysAdmin,
    /// CAP_SYSLOG.
    Syslog,
    /// CAP_SYS_PTRACE.
    SysPtrace,
    /// CAP_SYS_RESOURCE.
    SysResource,
}

impl Capability {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Bpf,
        Self::Perfmon,
        Self::NetAdmin,
        Self::NetRaw,
        Self::SysAdmin,
        Self::SysPtrace,
        Self::Syslog,
        Self::SysResource,
    ];

    /// The bit in the sets of /proc/PID/status (include/uapi/linux/capability.h).
    pub fn bit(self) -> u32 {
        match self {
            Self::NetAdmin => 12,
            Self::NetRaw => 13,
            Self::SysPtrace => 19,
            Self::SysAdmin => 21,
            Self::SysResource => 24,
            Self::Syslog => 34,
            Self::Perfmon => 38,
            Self::Bpf => 39,
        }
    }

    /// Its name in capabilities(7).
    pub fn name(self) -> &'static str {
        match self {
            Self::Bpf => "CAP_BPF",
            Self::Perfmon => "CAP_PERFMON",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::NetRaw => "CAP_NET_RAW",
            Self::SysAdmin => "CAP_SYS_ADMIN",
            Self::Syslog => "CAP_SYSLOG",
            Self::SysPtrace => "CAP_SYS_PTRACE",
            Self::SysResource => "CAP_SYS_RESOURCE",
        }
    }
}
