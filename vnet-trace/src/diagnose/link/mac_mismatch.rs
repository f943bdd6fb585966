//! `mac-mismatch`: the frame carries another link-layer address than the receiver's.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};
use crate::model::snapshot::LinkKind;

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::OtherHost { frame, own } = fault.loss.decision.as_ref()? else { return None };
    let device = fault.loss.place.device()?;
    let name = case.place_name(device);
    let own_mac = *own;
    let packet = case.packet_name(fault.role);
    let summary = match own {
        Some(own) => format!(
            "{packet} carries {frame}, and {name}, which is {own}, ignores it: the sender's neighbour entry is wrong"
        ),
        None => format!(
            "{packet} carries {frame}, the address of {name}, which it is not for: the sender's neighbour entry is wrong"
        ),
    };
    let mut finding = case.finding(fault, "mac-mismatch", summary);
    // Whose entry it is: the neighbour entry with that address, on the way.
    for netns in &case.snapshot().namespaces {
        for entry in netns.neighbours.iter().filter(|entry| entry.lladdr == Some(*frame) && entry.is_valid()) {
            let Some(link) = netns.link(entry.ifindex) else { continue };
            // An entry that tells the truth about a station that really has this address is not to blame.
            let owner = case.owner(entry.address).and_then(|owner| case.link(owner));
            if owner.is_some_and(|owner| owner.mac == Some(*frame)) {
                continue;
            }
            let how = if entry.is_permanent() { "PERMANENT, set by hand" } else { "stale" };
            finding.evidence.push(case.state(
                netns.id,
                &format!("neigh {} dev {}", entry.address, link.name),
                &format!("lladdr {frame} ({how})"),
            ));
            let undo = format!(
                "neigh replace {} lladdr {frame} dev {}{}",
                entry.address,
                link.name,
                if entry.is_permanent() { " nud permanent" } else { "" }
            );
            // An overlay without a default remote can't ask: its entries are written by somebody.
            if let (LinkKind::Vxlan(_), Some(own)) = (&link.kind, own_mac)
                && let Some(remote) = netns
                    .fdb
                    .iter()
                    .find(|known| known.ifindex == entry.ifindex && known.mac == *frame)
                    .and_then(|known| known.dst)
                && !netns.fdb.iter().any(|known| known.ifindex == entry.ifindex && known.mac.is_zero())
            {
                let bridge = case.cmd(netns.id, "bridge fdb");
                finding.fixes.push(fix(
                    &format!(
                        "write the address that {} has now into the entries of {}",
                        case.place_name(device),
                        link.name
                    ),
                    Risk::Safe,
                    vec![
                        case.ip(
                            netns.id,
                            &format!("neigh replace {} lladdr {own} dev {} nud permanent", entry.address, link.name),
                        ),
                        format!("{bridge} replace {own} dev {} dst {remote}", link.name),
                    ],
                    vec![case.ip(netns.id, &undo), format!("{bridge} del {own} dev {} dst {remote}", link.name)],
                    "the overlay's daemon writes these entries: restart it on that node",
                ));
                continue;
            }
            finding.fixes.push(fix(
                &format!("remove the neighbour entry, so that {} is asked for again", entry.address),
                Risk::Safe,
                vec![case.ip(netns.id, &format!("neigh del {} dev {}", entry.address, link.name))],
                vec![case.ip(netns.id, &undo)],
                "remove it where it is configured, or it comes back",
            ));
        }
    }
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::{STRANGER, World};

    #[test]
    fn fires_when_a_neighbour_entry_names_a_stranger() {
        let found = World::cable().neighbour("a/veth1", "10.0.0.2", STRANGER).found(check);
        assert_eq!(found.at, "b/veth2");
        assert_eq!(found.commands, ["ip -n a neigh del 10.0.0.2 dev veth1"]);
    }

    #[test]
    fn fires_when_the_answer_goes_to_a_stranger() {
        assert_eq!(World::cable().neighbour("b/veth2", "10.0.0.1", STRANGER).found(check).at, "a/veth1");
    }

    #[test]
    fn silent_when_the_entry_is_right() {
        let world = World::cable();
        let mac = world.mac("b/veth2");
        assert!(world.neighbour("a/veth1", "10.0.0.2", mac).is_silent(check));
    }
}
