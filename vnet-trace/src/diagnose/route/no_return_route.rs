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
