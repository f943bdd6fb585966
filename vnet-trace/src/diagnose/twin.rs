//! Whether a loss is one of the wrong of two owners of an address: the other one would have answered.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Fault, Leg, Role};
use crate::model::id::Device;
use crate::predict::{predict, segment};

/// The duplicate address behind a loss at the station that took the request, or on the way back from it.
pub fn behind(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let taker = case.predicted.owner?;
    let address = case
        .netns(taker.netns)
        .addresses_of(taker.ifindex)
        .find(|entry| entry.address == case.recording.question.dst)?;
    let at_taker = fault.role == Role::Request && fault.loss.place.netns == taker.netns;
    if fault.underlay || fault.leg == Leg::Forward && !at_taker {
        return None;
    }
    let holds = |station: &Device| {
        station.netns != taker.netns
            && case.netns(station.netns).addresses_of(station.ifindex).any(|entry| entry.address == address.address)
    };
    let other = segment::stations(case.snapshot(), taker).into_iter().find(holds)?;
    // The same question, had the other one been alone.
    let mut alone = case.snapshot().clone();
    for netns in &mut alone.namespaces {
        netns.neighbours.retain(|entry| entry.address != address.address);
        if netns.id == taker.netns {
            netns.addresses.retain(|entry| entry.address != address.address);
            netns.routes.retain(|route| {
                !(route.kind == crate::model::snapshot::RouteKind::Local
                    && route.dst == ipnet::IpNet::from(address.address))
            });
        }
    }
    let prediction = predict(&case.recording.question, &alone);
    if !prediction.exchange.faults.is_empty()
        || prediction.exchange.owner.is_none_or(|owner| owner.netns != other.netns)
    {
        return None;
    }
    let summary = format!(
        "{} belongs to {} and to {}: {} goes to the first, where it gets no answer",
        address.address,
        case.place_name(taker),
        case.place_name(other),
        case.packet_name(Role::Request)
    );
    let mut finding = case.finding(fault, "duplicate-address", summary);
    for owner in [taker, other] {
        finding.evidence.push(case.state(
            owner.netns,
            &format!("address {}", address.address),
            &format!("dev {}", case.name(owner)),
        ));
    }
    let (dev, length) = (case.name(taker), address.prefix_len);
    let mut commands = vec![case.ip(taker.netns, &format!("addr del {}/{length} dev {dev}", address.address))];
    commands.extend(case.forget(taker, address.address));
    finding.fixes.push(fix(
        &format!("take {} from {}", address.address, case.place_name(taker)),
        Risk::ChangesPolicy,
        commands,
        vec![case.ip(taker.netns, &format!("addr add {}/{length} dev {dev}", address.address))],
        "give each station an address of its own where they are configured",
    ));
    Some(finding)
}
