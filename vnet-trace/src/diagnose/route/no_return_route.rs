//! `no-return-route`: the request arrived, but the replier has no route back.

use crate::diagnose::case::Case;
use crate::model::diagnosis::Finding;
use crate::model::exchange::{Decision, Fault, Leg};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let dst = super::lost_on_the_way_back(fault)?;
    let netns = fault.loss.place.netns;
    let owner = case.predicted.owner?;
    if fault.leg != Leg::Return || netns != owner.netns || fault.underlay {
        return None;
    }
    let summary = format!("the request arrives, but {} has no route back to {dst}", case.netns_name(netns));
    let mut finding = case.finding(fault, "no-return-route", summary);
    finding.evidence.push(case.state(netns, &format!("route to {dst}"), "none"));
    finding.fixes = super::no_route::add_route(case, netns, dst);
    let _ = Decision::RemoteSilent;
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    #[test]
    fn fires_when_the_replier_has_no_route_back() {
        let found = World::router().without_routes("b", |route| route.dst.prefix_len() == 0).found(check);
        assert!(found.at.starts_with('b'), "{}", found.at);
        assert_eq!(found.commands, ["ip -n b route add 10.0.1.0/24 via 10.0.2.1"]);
    }

    #[test]
    fn silent_when_the_asker_is_on_the_same_link() {
        assert!(World::cable().is_silent(check));
    }

    #[test]
    fn silent_when_it_is_the_asker_that_has_no_route() {
        let world = World::router().without_routes("a", |route| route.dst.prefix_len() == 0);
        assert!(world.is_silent(check));
    }
}
