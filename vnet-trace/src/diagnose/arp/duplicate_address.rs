//! `duplicate-address`: two stations answer for one address.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::DuplicateAddress { address, owners } = fault.loss.decision.as_ref()? else { return None };
    let names: Vec<String> = owners.iter().map(|owner| case.place_name(*owner)).collect();
    let summary = format!(
        "{address} belongs to {}: {} goes to the wrong one",
        names.join(" and to "),
        case.packet_name(fault.role)
    );
    let mut finding = case.finding(fault, "duplicate-address", summary);
    for owner in owners {
        finding.evidence.push(case.state(
            owner.netns,
            &format!("address {address}"),
            &format!("dev {}", case.name(*owner)),
        ));
    }
    let asker = case.recording.question.netns;
    let intruder = owners
        .iter()
        .find(|owner| owner.netns == fault.loss.place.netns && owner.netns != asker)
        .or_else(|| owners.iter().find(|owner| owner.netns != asker));
    if let Some(owner) = intruder {
        let dev = case.name(*owner);
        let length = case
            .netns(owner.netns)
            .addresses_of(owner.ifindex)
            .find(|entry| entry.address == *address)
            .map_or(32, |entry| entry.prefix_len);
        let mut commands = vec![case.ip(owner.netns, &format!("addr del {address}/{length} dev {dev}"))];
        // Whoever has learned the wrong one asks again.
        commands.extend(case.forget(*owner, *address));
        finding.fixes.push(fix(
            &format!("take {address} from {}", case.place_name(*owner)),
            Risk::ChangesPolicy,
            commands,
            vec![case.ip(owner.netns, &format!("addr add {address}/{length} dev {dev}"))],
            "give each station an address of its own where they are configured",
        ));
    }
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    /// c has the asker's address as well, and b has learned whose?
    fn world(learned: &str) -> World {
        let world = World::switch().address("c/eth0", "10.0.0.1/24");
        let mac = world.mac(learned);
        world.neighbour("b/eth0", "10.0.0.1", mac)
    }

    #[test]
    fn fires_when_the_answer_goes_to_the_other_one() {
        let found = world("c/eth0").found(check);
        assert_eq!(found.commands[0], "ip -n c addr del 10.0.0.1/24 dev eth0");
    }

    #[test]
    fn silent_when_the_answer_goes_to_the_asker() {
        assert!(world("a/eth0").is_silent(check));
    }
}
