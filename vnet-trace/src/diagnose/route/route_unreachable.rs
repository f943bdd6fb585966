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
