//! `vxlan-underlay-lost`: the outer packet of a tunnel is lost; the primary cause is that of the outer packet.

use crate::diagnose::case::Case;
use crate::model::diagnosis::Note;
use crate::model::exchange::Decision;

/// The note, if it applies.
pub fn check(case: &Case<'_>) -> Option<Note> {
    let fault = case.predicted.faults.first().filter(|fault| fault.underlay)?;
    // Two ends that do not fit each other are the tunnel's own fault, not the underlay's.
    if matches!(fault.loss.decision, Some(Decision::VxlanVni { .. } | Decision::VxlanPort { .. })) {
        return None;
    }
    Some(Note {
        code: "vxlan-underlay-lost".to_owned(),
        place: Some(fault.loss.place.clone()),
        summary: "what is lost is the tunnel's outer packet: the fault is in the network below the tunnel".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    /// A tunnel, and the policy of the host at its other end.
    fn world(policy: &str) -> World {
        World::tunnel((42, Some("192.0.2.2"), 4789), (42, Some("192.0.2.1"), 4789)).iptables(
            "b",
            &format!("*filter\n:INPUT {policy} [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n"),
        )
    }

    #[test]
    fn fires_when_the_outer_packet_is_dropped() {
        assert!(world("DROP").note(check).is_some());
    }

    #[test]
    fn silent_when_the_tunnel_carries() {
        assert_eq!(world("ACCEPT").note(check), None);
    }

    #[test]
    fn silent_when_the_ends_do_not_fit_each_other() {
        assert_eq!(World::tunnel((42, Some("192.0.2.2"), 4789), (43, Some("192.0.2.1"), 4789)).note(check), None);
    }
}
