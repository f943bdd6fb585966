//! `reply-misrouted`: the reply leaves by another way than the request came and is lost there.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault, Leg};
use crate::model::id::Device;

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    if fault.leg != Leg::Return || fault.underlay {
        return None;
    }
    let misrouted = match fault.loss.decision.as_ref()? {
        Decision::NoRoute { .. } | Decision::NotForwarding { .. } => {
            fault.loss.place.netns != case.predicted.owner?.netns
        }
        Decision::NoOwner { gateway: true, .. } => fault.loss.place.netns == case.predicted.owner?.netns,
        _ => false,
    };
    let owner = case.predicted.owner?;
    let dst = case.reply_dst()?;
    if !misrouted || !leaves_elsewhere(case, owner) {
        return None;
    }
    let by = case
        .return_path()
        .into_iter()
        .find(|device| device.netns == owner.netns)
        .map_or_else(|| "another device".to_owned(), |device| case.name(device));
    let summary = format!(
        "the request came in by {}, the reply to {dst} leaves {} by {by} and is lost at {}",
        case.name(owner),
        case.netns_name(owner.netns),
        case.at(&fault.loss.place)
    );
    let mut finding = case.finding(fault, "reply-misrouted", summary);
    finding.evidence.push(case.state(
        owner.netns,
        &format!("route to {dst}"),
        &format!("by {by}, not by {}", case.name(owner)),
    ));
    if let Some(gateway) = came_from(case, owner) {
        let net = case
            .owner(dst)
            .and_then(|asker| case.netns(asker.netns).owns(dst))
            .and_then(crate::model::snapshot::Address::net);
        let net = net.unwrap_or_else(|| ipnet::IpNet::from(dst));
        let (command, undo) = crate::diagnose::toward::change(case, owner.netns, &net, &format!("via {gateway}"));
        finding.fixes.push(fix(
            &format!("send what is for {net} back by {gateway}, where the request came from"),
            Risk::Safe,
            vec![command],
            vec![undo],
            crate::diagnose::case::NETWORK_CONFIG,
        ));
    }
    Some(finding)
}

/// Whether the reply leaves the owner by another device than the request came in by.
fn leaves_elsewhere(case: &Case<'_>, owner: Device) -> bool {
    let out = case.return_path().into_iter().find(|device| device.netns == owner.netns);
    out.is_some_and(|out| out != owner)
}

/// The address of the last router on the request's way, on the link by which it came.
pub fn came_from(case: &Case<'_>, owner: Device) -> Option<std::net::IpAddr> {
    let path = case.forward_path();
    let at = path.iter().rposition(|device| device.netns == owner.netns && *device == owner)?;
    let nets: Vec<_> =
        case.netns(owner.netns).addresses_of(owner.ifindex).filter_map(crate::model::snapshot::Address::net).collect();
    path[..at].iter().rev().find_map(|device| {
        case.netns(device.netns)
            .addresses_of(device.ifindex)
            .find(|entry| nets.iter().any(|net| net.contains(&entry.address)) && entry.scope < 253)
            .map(|entry| entry.address)
    })
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::diagnose::bench::World;

    /// b has a second router, x, which knows no way to a.
    fn world() -> World {
        World::router()
            .veth("b/eth1", "x/eth0")
            .address("b/eth1", "10.0.3.2/24")
            .address("x/eth0", "10.0.3.1/24")
            .forwarding("x", 1)
    }

    #[test]
    fn fires_when_the_reply_goes_to_a_router_that_knows_no_way() {
        let world = world().without_routes("b", |route| route.dst.prefix_len() == 0).route("b", "default via 10.0.3.1");
        let found = world.found(check);
        assert!(found.at.starts_with('x'), "{}", found.at);
        assert_eq!(found.commands, ["ip -n b route add 10.0.1.0/24 via 10.0.2.1"]);
    }

    #[test]
    fn silent_when_the_reply_goes_back_as_the_request_came() {
        assert!(world().is_silent(check));
    }

    #[test]
    fn silent_when_there_is_no_way_back_at_all() {
        assert!(world().without_routes("b", |route| route.dst.prefix_len() == 0).is_silent(check));
    }
}
