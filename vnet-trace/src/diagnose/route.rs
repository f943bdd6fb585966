//! Causes of family route: routing and source checks.

pub mod forwarding_disabled;
pub mod gateway_unreachable;
pub mod local_route_missing;
pub mod martian_local_source;
pub mod martian_loopback;
pub mod martian_other;
pub mod no_return_route;
pub mod no_route;
pub mod policy_rule;
pub mod reply_misrouted;
pub mod route_blackhole;
pub mod route_prohibit;
pub mod route_unreachable;
pub mod routing_loop;
pub mod rp_filter;
pub mod source_unusable;
pub mod ttl_expired;
pub mod wrong_source_address;

use std::net::IpAddr;

use super::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault, Leg};
use crate::model::snapshot::RouteKind;

/// A route's type as `ip route` spells it.
pub fn kind_word(kind: RouteKind) -> &'static str {
    match kind {
        RouteKind::Unicast => "unicast",
        RouteKind::Local => "local",
        RouteKind::Broadcast => "broadcast",
        RouteKind::Anycast => "anycast",
        RouteKind::Multicast => "multicast",
        RouteKind::Blackhole => "blackhole",
        RouteKind::Unreachable => "unreachable",
        RouteKind::Prohibit => "prohibit",
        RouteKind::Throw => "throw",
        RouteKind::Other => "other",
    }
}

/// What the three refusing route types have in common.
fn refusing_route(case: &Case<'_>, fault: &Fault, code: &str, word: &str, verb: &str, route: usize) -> Finding {
    let netns = fault.loss.place.netns;
    let space = case.netns(netns);
    let dst = space.routes.get(route).map_or_else(|| "a prefix".to_owned(), |route| route.dst.to_string());
    let table = space.routes.get(route).map_or(254, |route| route.table);
    let what = no_route::what(case, fault);
    let mut finding =
        case.finding(fault, code, format!("the {word} route {dst} of {} {verb} {what}", case.netns_name(netns)));
    finding.evidence.push(case.state(netns, &format!("route {word} {dst} table {table}"), "it is the longest match"));
    let family = if space.routes.get(route).is_some_and(|route| route.dst.addr().is_ipv6()) { "-6 " } else { "" };
    let in_table = if table == 254 { String::new() } else { format!(" table {table}") };
    let metric = space
        .routes
        .get(route)
        .filter(|route| route.metric != 0)
        .map_or_else(String::new, |route| format!(" metric {}", route.metric));
    // Without it there may be no way at all: then a more specific route is what is missing.
    let dst_of = fault.headers.dst.filter(|_| !fault.underlay).unwrap_or(case.recording.question.dst);
    let covered = space.routes.iter().enumerate().any(|(index, other)| {
        index != route
            && !other.cached
            && other.kind == RouteKind::Unicast
            && other.dst.contains(&dst_of)
            && (other.table == table || other.table == 254)
    });
    if !covered {
        finding.fixes.extend(crate::diagnose::toward::fixes(case, netns, dst_of, &[]));
    }
    finding.fixes.push(fix(
        "remove that route",
        Risk::ChangesPolicy,
        vec![case.ip(netns, &format!("{family}route del {word} {dst}{metric}{in_table}"))],
        vec![case.ip(netns, &format!("{family}route add {word} {dst}{metric}{in_table}"))],
        "remove it where it is configured, or it comes back",
    ));
    finding
}

/// The address without a route, if the reply is what has none.
fn lost_on_the_way_back(fault: &Fault) -> Option<IpAddr> {
    match fault.loss.decision.as_ref()? {
        Decision::NoRoute { dst, dead: None } if fault.leg == Leg::Return => Some(*dst),
        _ => None,
    }
}

/// The address to which a reply can't get: no route, or nobody answers for it or for the way to it.
fn unanswerable(fault: &Fault) -> Option<IpAddr> {
    match fault.loss.decision.as_ref()? {
        Decision::NoRoute { dst, .. } => Some(*dst),
        Decision::NoOwner { gateway: false, address } => Some(*address),
        Decision::NoOwner { gateway: true, .. } | Decision::NotForwarding { .. } | Decision::RouteKind { .. } => {
            fault.headers.dst
        }
        _ => None,
    }
}
