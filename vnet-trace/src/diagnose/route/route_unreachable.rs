//! `route-unreachable`: a route of type unreachable matched.

use crate::diagnose::case::Case;
use crate::model::diagnosis::Finding;
use crate::model::exchange::{Decision, Fault};
use crate::model::snapshot::RouteKind;

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::RouteKind { kind: RouteKind::Unreachable, route } = fault.loss.decision.as_ref()? else {
        return None;
    };
    Some(super::refusing_route(case, fault, "route-unreachable", "unreachable", "refuses", *route))
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    #[test]
    fn fires_when_such_a_route_is_the_longest_match() {
        let found = World::router().route("r", "unreachable 10.0.2.2").found(check);
        assert!(found.at.starts_with('r'), "{}", found.at);
        assert_eq!(found.commands, ["ip -n r route del unreachable 10.0.2.2/32"]);
    }

    #[test]
    fn silent_when_a_longer_prefix_wins() {
        assert!(World::router().route("r", "unreachable 10.0.0.0/8").is_silent(check));
    }

    #[test]
    fn silent_when_the_route_is_of_another_type() {
        assert!(World::router().route("r", "blackhole 10.0.2.2").is_silent(check));
    }
}
