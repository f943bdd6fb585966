//! `duplicate-route`: two routes of equal prefix and metric compete, and the first added wins.

use crate::diagnose::case::Case;
use crate::model::diagnosis::Note;
use crate::model::exchange::Place;
use crate::predict::fib;

/// The note, if it applies to the route that the request takes at the asker.
pub fn check(case: &Case<'_>) -> Option<Note> {
    let question = &case.recording.question;
    // A device that was asked for leaves nothing to compete about.
    if question.device().is_some() {
        return None;
    }
    let netns = case.netns(question.netns);
    let flow =
        fib::Flow { src: question.source(), mark: question.mark, tos: question.tos, ..fib::Flow::to(question.dst) };
    let found = fib::lookup(netns, &flow).ok()?;
    let route = &netns.routes[found.route];
    let twin = netns.routes.iter().enumerate().find(|(index, other)| {
        *index != found.route
            && other.table == route.table
            && other.dst == route.dst
            && other.metric == route.metric
            && other.tos == route.tos
            && other.kind == route.kind
            && !other.cached
            && route.kind == crate::model::snapshot::RouteKind::Unicast
            && other.nexthops.first().map(|hop| hop.oif) != route.nexthops.first().map(|hop| hop.oif)
    });
    let (_, twin) = twin?;
    let name = |route: &crate::model::snapshot::Route| {
        route
            .nexthops
            .first()
            .and_then(|hop| netns.link(hop.oif?))
            .map_or_else(|| "?".to_owned(), |link| link.name.clone())
    };
    Some(Note {
        code: "duplicate-route".to_owned(),
        place: Some(Place { netns: netns.id, device: found.nexthop.oif, function: None }),
        summary: format!(
            "two equal routes to {} compete, by {} and by {}: the first that was added wins, {}",
            route.dst,
            name(route),
            name(twin),
            name(route)
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    /// Two devices of a in one subnet.
    fn world() -> World {
        World::cable().veth("a/veth3", "c/veth4").address("a/veth3", "10.0.0.9/24").address("c/veth4", "10.0.0.4/24")
    }

    #[test]
    fn fires_when_two_routes_compete() {
        assert!(world().note(check).is_some_and(|said| said.contains("veth3")));
    }

    #[test]
    fn silent_when_one_has_a_larger_metric() {
        let world = world().space("a", |netns| {
            if let Some(route) = netns.routes.iter_mut().rev().find(|route| route.table == 254) {
                route.metric = 100;
            }
        });
        assert_eq!(world.note(check), None);
    }
}
