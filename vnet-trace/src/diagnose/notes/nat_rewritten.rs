//! `nat-rewritten`: addresses or ports were rewritten on the way.

use crate::diagnose::case::Case;
use crate::model::diagnosis::Note;
use crate::model::exchange::{Action, Place};

/// The note, if it applies.
pub fn check(case: &Case<'_>) -> Option<Note> {
    let step = case
        .predicted
        .journeys
        .iter()
        .flat_map(|journey| &journey.steps)
        .find(|step| matches!(step.action, Action::Rewritten { .. }))?;
    let Action::Rewritten { from, to, .. } = &step.action else { return None };
    let what = if from.0 == to.0 {
        format!("the destination {} becomes {}", from.1, to.1)
    } else if from.1 == to.1 {
        format!("the source {} becomes {}", from.0, to.0)
    } else {
        format!("{} → {} becomes {} → {}", from.0, from.1, to.0, to.1)
    };
    Some(Note {
        code: "nat-rewritten".to_owned(),
        place: Some(Place { netns: step.netns, device: step.device, function: None }),
        summary: format!("in {} {what}", case.netns_name(step.netns)),
    })
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;
    use crate::model::snapshot::{BridgeInfo, LinkKind};

    /// A container c behind `./br0`, whose host leaves by `./eth0` to a server o that knows only the host.
    fn world() -> World {
        World::new()
            .link("./br0", LinkKind::Bridge(BridgeInfo::default()))
            .veth("./p1", "c/eth0")
            .master("./p1", "./br0")
            .veth("./eth0", "o/eth0")
            .address("./br0", "172.17.0.1/16")
            .address("c/eth0", "172.17.0.2/16")
            .address("./eth0", "192.0.2.1/24")
            .address("o/eth0", "192.0.2.2/24")
            .route("c", "default via 172.17.0.1")
            .forwarding(".", 1)
            .ask("c", "192.0.2.2")
    }

    #[test]
    fn fires_when_the_source_is_masqueraded() {
        let world = world().iptables(
            ".",
            "*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -s 172.17.0.0/16 -o eth0 -j MASQUERADE\nCOMMIT\n",
        );
        assert!(world.note(check).is_some_and(|said| said.contains("the source 172.17.0.2 becomes 192.0.2.1")));
    }

    #[test]
    fn silent_when_nothing_is_rewritten() {
        assert_eq!(world().note(check), None);
    }
}
