//! `cgroup-bpf-drop`: a BPF program of a cgroup refused it.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::Cgroup { program } = fault.loss.decision.as_ref()? else { return None };
    let entry = program.and_then(|index| case.snapshot().cgroup_programs.get(index));
    let what = entry.map_or_else(
        || "a program".to_owned(),
        |entry| {
            let name = entry.name.as_deref().unwrap_or("without a name");
            format!("the {} program {name} (id {}) of cgroup {}", entry.attach, entry.id, entry.cgroup)
        },
    );
    let mut finding =
        case.finding(fault, "cgroup-bpf-drop", format!("{what} refuses {}", case.packet_name(fault.role)));
    if let Some(entry) = entry {
        finding.evidence.push(case.state(
            fault.loss.place.netns,
            &format!("cgroup {} {}", entry.cgroup, entry.attach),
            &format!("program id {}", entry.id),
        ));
        let id = entry.id;
        finding.fixes.push(fix(
            "ask again from another cgroup, or change the program where it is loaded",
            Risk::NeedsChoice,
            vec![format!("bpftool cgroup detach {} {} id {id}", entry.cgroup, entry.attach)],
            vec![format!("bpftool cgroup attach {} {} id {id}", entry.cgroup, entry.attach)],
            "systemd sets such programs for IPAddressDeny= and friends: change the unit",
        ));
    }
    Some(finding)
}
