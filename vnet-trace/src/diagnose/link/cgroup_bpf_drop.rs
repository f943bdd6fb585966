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

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;
    use crate::model::exchange::{Decision, Role};
    use crate::model::snapshot::CgroupProgram;

    /// A program that denies, attached to the asker's cgroup.
    fn world() -> World {
        World::cable().machine(|machine| {
            machine.cgroup_programs.push(CgroupProgram {
                cgroup: "/sys/fs/cgroup/app".to_owned(),
                attach: "inet_egress".to_owned(),
                id: 7,
                name: Some("deny".to_owned()),
            });
        })
    }

    #[test]
    fn fires_when_a_program_refused_the_packet() {
        let found = world().fault(Role::Request, "a/veth1", Decision::Cgroup { program: Some(0) }).found(check);
        assert_eq!((found.at.as_str(), found.role), ("a/veth1", Role::Request));
        assert!(found.finding.summary.contains("deny (id 7)"), "{}", found.finding.summary);
    }

    #[test]
    fn silent_when_the_program_is_only_there() {
        assert!(world().is_silent(check));
    }
}
