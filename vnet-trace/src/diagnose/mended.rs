//! What bites behind a loss at which the prediction had to end: no route, or nobody there.
//!
//! The walk goes on behind most losses as if they were mended. Behind a look-up that finds nothing it has nowhere to go on
//! to. Here the route that the first fix would add is put into a copy of the configuration, and the question is predicted
//! again: the losses that come to light belong to the same repair.

use crate::model::diagnosis::Finding;
use crate::model::exchange::{Decision, Exchange, Fault, Leg, Role};
use crate::model::id::NetnsId;
use crate::model::recording::Recording;
use crate::model::snapshot::{Nexthop, Route, RouteKind};
use crate::predict::predict;

use super::case::Case;
use super::toward::{self, NextHop};

/// Routes that are tried, one after the other.
const MOST_ROUTES: usize = 4;

/// The findings behind a loss whose fix is a route, in the order in which they bite.
pub fn beyond(case: &Case<'_>) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    let mut known: Vec<Fault> = case.predicted.faults.clone();
    let mut exchange: Exchange = case.predicted.clone();
    let mut recording: Option<Recording> = None;
    for _ in 0..MOST_ROUTES {
        let case_now = Case {
            recording: recording.as_ref().unwrap_or(case.recording),
            observed: case.observed,
            predicted: &exchange,
            refusals: case.refusals,
        };
        let Some((netns, dst, hop)) = end(&exchange).and_then(|fault| way_on(&case_now, fault)) else { break };
        let mut mended = recording.take().unwrap_or_else(|| Recording {
            events: Vec::new(),
            frames: Vec::new(),
            ..case.recording.clone()
        });
        if let Some(space) = mended.before.namespaces.iter_mut().find(|space| space.id == netns) {
            space.routes.insert(0, route(dst, &hop));
        }
        let prediction = predict(&mended.question, &mended.before);
        let case_then = Case {
            recording: &mended,
            observed: case.observed,
            predicted: &prediction.exchange,
            refusals: &prediction.refused,
        };
        let before = known.len();
        for fault in &prediction.exchange.faults {
            if known.iter().any(|other| {
                other.role == fault.role
                    && other.leg == fault.leg
                    && other.loss.place.device() == fault.loss.place.device()
                    && other.loss.decision == fault.loss.decision
            }) {
                continue;
            }
            known.push(fault.clone());
            found.extend(super::name(&case_then, fault).into_iter().next());
        }
        let stuck = known.len() == before;
        exchange = prediction.exchange;
        recording = Some(mended);
        if stuck {
            break;
        }
    }
    found
}

/// The loss at which the prediction ended, if it is one that a route mends.
fn end(exchange: &Exchange) -> Option<&Fault> {
    let last = exchange.faults.last()?;
    let mendable = match &last.loss.decision {
        Some(Decision::NoRoute { dead, .. }) => dead.is_none(),
        Some(Decision::NoOwner { .. } | Decision::RouteKind { .. }) => true,
        _ => false,
    };
    // A walk that went on to the owner and back needs nothing.
    let came_back = last.leg == Leg::Return || exchange.with_role(Role::Reply, Leg::Return).next().is_none();
    (mendable && came_back && !last.underlay).then_some(last)
}

/// The route that leads on from there.
fn way_on(case: &Case<'_>, fault: &Fault) -> Option<(NetnsId, std::net::IpAddr, NextHop)> {
    let netns = fault.loss.place.netns;
    let dst = fault.headers.dst?;
    let hop = toward::toward(case, netns, dst, &[]).into_iter().find(|hop| !hop.mute)?;
    Some((netns, dst, hop))
}

/// It as the kernel would have it: a host route, which wins over whatever is there.
fn route(dst: std::net::IpAddr, hop: &NextHop) -> Route {
    Route {
        table: 254,
        kind: RouteKind::Unicast,
        dst: dst.into(),
        src: None,
        tos: 0,
        scope: if hop.gateway.is_some() { 0 } else { 253 },
        protocol: 3,
        metric: if dst.is_ipv6() { 1024 } else { 0 },
        prefsrc: None,
        nexthops: vec![Nexthop { oif: Some(hop.dev.ifindex), gateway: hop.gateway, weight: 1, ..Nexthop::default() }],
        mtu: None,
        nexthop_id: None,
        pref: 0,
        cached: false,
    }
}
