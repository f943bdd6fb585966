//! Looks at what this machine lets us see. The probes are attached for a moment, each in the best way that works, and
//! taken away again: what the kernel says to that is worth more than what its version promises.

use std::fs;
use std::path::Path;

use super::kernel::{self, Needs, ProbeConfig, ProbeReport, Tier, decode};
use super::modules;
use crate::model::machine::{Capability, Machine, ProbeState};

/// Programs that are run to read rules and switches.
const PROGRAMS: &[&str] = &["nft", "iptables-save", "ip6tables-save", "ebtables-save", "ovs-ofctl"];

/// Looks.
pub fn look() -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let mut machine = Machine {
        kernel: read("/proc/sys/kernel/osrelease"),
        architecture: std::env::consts::ARCH.to_owned(),
        btf: fs::metadata("/sys/kernel/btf/vmlinux").ok().map(|file| file.len()),
        lockdown: lockdown(&read("/sys/kernel/security/lockdown")),
        kprobes: Path::new("/sys/bus/event_source/devices/kprobe").exists(),
        capabilities: capabilities(&read("/proc/self/status")),
        programs: PROGRAMS.iter().map(|name| ((*name).to_owned(), on_path(name))).collect(),
        probes: Vec::new(),
        probes_error: None,
    };
    match kernel::attach(&ProbeConfig::default()) {
        Ok(probes) => machine.probes = probes.reports().iter().map(state).collect(),
        Err(error) => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text.push_str(": ");
                text.push_str(&cause.to_string());
                source = cause.source();
            }
            machine.probes_error = Some(text);
        }
    }
    let attached = machine.probes.iter().any(|probe| probe.sight.tier.is_some());
    machine.capabilities.retain(|(capability, held)| matters(*capability, *held, attached));
    machine
}

/// Whether a capability is worth a line: what the probes' memory may need, only where it is there or the probes are not.
fn matters(capability: Capability, held: bool, attached: bool) -> bool {
    capability != Capability::SysResource || held || !attached
}

fn state(report: &ProbeReport) -> ProbeState {
    let module = match report.needs {
        Needs::Module(module) if report.tier == Tier::Capture && !modules::is_present(module) => {
            Some(module.to_owned())
        }
        _ => None,
    };
    let mut closed: Vec<(Tier, String)> = Vec::new();
    for failure in &report.failures {
        let entry = (failure.tier, decode::why(&failure.why));
        if !closed.contains(&entry) {
            closed.push(entry);
        }
    }
    ProbeState { sight: decode::sight(report), absent_module: module, closed }
}

/// The mode in brackets: `none [integrity] confidentiality`.
fn lockdown(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    Some(rest.split_once(']')?.0.to_owned())
}

/// Which capabilities are in effect, from /proc/self/status.
fn capabilities(status: &str) -> Vec<(Capability, bool)> {
    let set = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok())
        .unwrap_or(0);
    Capability::ALL.iter().map(|capability| (*capability, set >> capability.bit() & 1 == 1)).collect()
}

/// Where a program is; the usual folders of administrators' programs are searched too.
fn on_path(name: &str) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin"])
        .filter(|folder| !folder.is_empty())
        .map(|folder| Path::new(folder).join(name))
        .find(|file| file.is_file())
        .map(|file| file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mode_in_brackets_counts() {
        assert_eq!(lockdown("none [integrity] confidentiality").as_deref(), Some("integrity"));
        assert_eq!(lockdown(""), None);
    }

    #[test]
    fn capabilities_are_read_bit_by_bit() {
        let held = capabilities("Name:\tx\nCapEff:\t0000000000003000\n");
        assert!(held.contains(&(Capability::NetAdmin, true)) && held.contains(&(Capability::NetRaw, true)));
        assert!(held.contains(&(Capability::Bpf, false)));
    }

    #[test]
    fn memory_that_the_probes_got_needs_no_right() {
        assert!(!matters(Capability::SysResource, false, true));
        assert!(matters(Capability::SysResource, false, false) && matters(Capability::SysResource, true, true));
        assert!(matters(Capability::Bpf, false, true));
    }
}
