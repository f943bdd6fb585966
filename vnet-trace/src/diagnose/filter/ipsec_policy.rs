//! `ipsec-policy`: an IPsec policy requires what the packet does not have.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::Ipsec { policy } = fault.loss.decision.as_ref()? else { return None };
    let netns = fault.loss.place.netns;
    let entry = case.netns(netns).xfrm_policies.get(*policy)?;
    let packet = case.packet_name(fault.role);
    let wanted = entry.templates.iter().map(|template| template.protocol.as_str()).collect::<Vec<_>>().join("+");
    let text = format!("src {} dst {} dir {}", entry.src, entry.dst, entry.dir);
    let summary = if entry.block {
        format!("an IPsec policy of {} blocks {packet}: {text}", case.netns_name(netns))
    } else {
        format!("an IPsec policy of {} asks for {wanted}, and {packet} comes without: {text}", case.netns_name(netns))
    };
    let mut finding = case.finding(fault, "ipsec-policy", summary);
    finding.evidence.push(case.state(
        netns,
        "ip xfrm policy",
        &format!("{text} {}", if entry.block { "action block".to_owned() } else { format!("tmpl proto {wanted}") }),
    ));
    finding.fixes.push(fix(
        "remove that policy",
        Risk::ChangesPolicy,
        vec![case.ip(netns, &format!("xfrm policy delete {text}"))],
        vec![case.ip(
            netns,
            &format!(
                "xfrm policy add {text} {}",
                if entry.block {
                    "action block".to_owned()
                } else {
                    format!(
                        "tmpl proto {wanted} mode {}",
                        entry.templates.first().map_or("transport", |template| template.mode.as_str())
                    )
                }
            ),
        )],
        "policies come from the IPsec daemon's configuration: change it there, or bring the tunnel up",
    ));
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;
    use crate::model::snapshot::{XfrmPolicy, XfrmTemplate};

    /// a has a policy for what it sends to this destination.
    fn world(dst: [u8; 4], block: bool, templates: Vec<XfrmTemplate>) -> World {
        World::cable().space("a", |netns| {
            netns.xfrm_policies.push(XfrmPolicy {
                dir: "out".to_owned(),
                src: std::net::IpAddr::from([10, 0, 0, 1]).into(),
                dst: std::net::IpAddr::from(dst).into(),
                protocol: 0,
                block,
                priority: 0,
                templates,
                ifindex: None,
            });
        })
    }

    #[test]
    fn fires_when_a_policy_blocks() {
        let found = world([10, 0, 0, 2], true, Vec::new()).found(check);
        assert!(found.at.starts_with('a'), "{}", found.at);
        assert_eq!(found.commands, ["ip -n a xfrm policy delete src 10.0.0.1/32 dst 10.0.0.2/32 dir out"]);
    }

    #[test]
    fn silent_when_the_policy_is_for_another_destination() {
        assert!(world([10, 0, 0, 3], true, Vec::new()).is_silent(check));
    }

    #[test]
    fn silent_when_the_policy_allows() {
        assert!(world([10, 0, 0, 2], false, Vec::new()).is_silent(check));
    }
}
