//! `xdp-drop`: an XDP program dropped it.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::Xdp { id } = fault.loss.decision.as_ref()? else { return None };
    let device = fault.loss.place.device()?;
    let dev = case.name(device);
    let program = case.link(device)?.xdp.iter().find(|program| id.is_none_or(|id| program.id == id))?;
    let name = program.name.as_deref().map_or_else(String::new, |name| format!(" {name}"));
    let summary = format!(
        "the XDP program{name} (id {}) on {} drops {}",
        program.id,
        case.place_name(device),
        case.packet_name(fault.role)
    );
    let mut finding = case.finding(fault, "xdp-drop", summary);
    finding.evidence.push(case.state(
        device.netns,
        &format!("xdp of {dev}"),
        &format!("{} program id {}{name}", program.mode, program.id),
    ));
    let word = match program.mode.as_str() {
        "generic" => "xdpgeneric",
        "offload" => "xdpoffload",
        "native" => "xdpdrv",
        _ => "xdp",
    };
    finding.fixes.push(fix(
        &format!("detach the program from {dev}"),
        Risk::ChangesPolicy,
        vec![case.ip(device.netns, &format!("link set dev {dev} {word} off"))],
        Vec::new(),
        "whoever loaded the program will load it again: change it there",
    ));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;
    use crate::model::exchange::{Decision, Role};
    use crate::model::snapshot::XdpProgram;

    /// A program on the owner's device.
    fn world() -> World {
        World::cable().change("b/veth2", |link| {
            link.xdp.push(XdpProgram { mode: "native".to_owned(), id: 5, name: Some("gate".to_owned()) });
        })
    }

    #[test]
    fn fires_when_the_program_dropped_it() {
        let found = world().fault(Role::ArpRequest, "b/veth2", Decision::Xdp { id: Some(5) }).found(check);
        assert_eq!(found.at, "b/veth2");
        assert_eq!(found.commands, ["ip -n b link set dev veth2 xdpdrv off"]);
    }

    #[test]
    fn silent_when_the_program_that_dropped_it_is_another() {
        assert!(world().fault(Role::ArpRequest, "b/veth2", Decision::Xdp { id: Some(6) }).is_silent(check));
    }

    #[test]
    fn silent_when_the_program_is_only_there() {
        assert!(world().is_silent(check));
    }
}
