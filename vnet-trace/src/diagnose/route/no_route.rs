//! `no-route`: no route to the destination, at the sender or at a forwarder.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault, Leg};
use crate::model::id::NetnsId;
use std::net::IpAddr;

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::NoRoute { dst, dead } = fault.loss.decision.as_ref()? else { return None };
    let netns = fault.loss.place.netns;
    if dead.is_some_and(|dead| case.link(dead).is_some_and(|link| !link.is_up()))
        || fault.leg == Leg::Return && !fault.underlay
    {
        return None;
    }
    let summary = format!("{} has no route to {dst}, so {} ends there", case.netns_name(netns), what(case, fault));
    let mut finding = case.finding(fault, "no-route", summary);
    finding.evidence.push(case.state(netns, &format!("route to {dst}"), "none"));
    finding.fixes = add_route(case, netns, *dst);
    Some(finding)
}

/// The packet that is lost, as people call it.
pub fn what(case: &Case<'_>, fault: &Fault) -> String {
    if fault.underlay { "the tunnel's outer packet".to_owned() } else { case.packet_name(fault.role).to_owned() }
}

/// Routes that lead towards an address: by a neighbour that forwards and is nearer to it.
pub fn add_route(case: &Case<'_>, netns: NetnsId, dst: IpAddr) -> Vec<crate::model::diagnosis::Fix> {
    let space = case.netns(netns);
    let mut found: Vec<(u8, String, String)> = Vec::new();
    for entry in space.addresses.iter().filter(|entry| entry.address.is_ipv4() == dst.is_ipv4()) {
        let Some(net) = entry.net() else { continue };
        let Some(link) = space.link(entry.ifindex).filter(|link| !link.is_loopback()) else { continue };
        for other in &case.snapshot().namespaces {
            for peer in
                other.addresses.iter().filter(|peer| net.contains(&peer.address) && peer.address != entry.address)
            {
                if other.id == netns || peer.scope >= 253 {
                    continue;
                }
                // Nearer: it has the address, or a network with it, or a route to it that does not lead back here.
                let score = if other.owns(dst).is_some() {
                    1
                } else if other
                    .addresses
                    .iter()
                    .any(|own| own.net().is_some_and(|net| net.contains(&dst)) && own.ifindex != peer.ifindex)
                {
                    0
                } else if leads_on(case, other.id, dst, netns) {
                    2
                } else {
                    continue;
                };
                let _ = link;
                found.push((score, peer.address.to_string(), link.name.clone()));
            }
        }
    }
    found.sort();
    let length = if dst.is_ipv4() { 32 } else { 128 };
    let net = covering(case, dst).unwrap_or_else(|| format!("{dst}/{length}"));
    let family = if dst.is_ipv6() { "-6 " } else { "" };
    let mut fixes: Vec<crate::model::diagnosis::Fix> = found
        .into_iter()
        .take(2)
        .map(|(_, gateway, _)| {
            fix(
                &format!("add a route to {net} by {gateway}"),
                Risk::Safe,
                vec![case.ip(netns, &format!("{family}route add {net} via {gateway}"))],
                vec![case.ip(netns, &format!("{family}route del {net} via {gateway}"))],
                crate::diagnose::case::NETWORK_CONFIG,
            )
        })
        .collect();
    // On the link already: the owner is at the other end of a device here.
    if let Some(owner) = case.owner(dst)
        && let Some(near) = case.snapshot().peer(owner)
        && near.netns == netns
    {
        let dev = case.name(near);
        fixes.push(fix(
            &format!("add a route to {dst} by {dev}"),
            Risk::Safe,
            vec![case.ip(netns, &format!("{family}route add {dst}/{length} dev {dev}"))],
            vec![case.ip(netns, &format!("{family}route del {dst}/{length} dev {dev}"))],
            crate::diagnose::case::NETWORK_CONFIG,
        ));
    }
    if fixes.is_empty() {
        fixes.push(fix(
            &format!("add a route to {dst}"),
            Risk::NeedsChoice,
            vec![case.ip(netns, &format!("{family}route add {dst}/{length} via GATEWAY"))],
            Vec::new(),
            crate::diagnose::case::NETWORK_CONFIG,
        ));
    }
    fixes
}

/// Whether a namespace's own routes lead to an address without coming back to where we are.
fn leads_on(case: &Case<'_>, netns: NetnsId, dst: IpAddr, not: NetnsId) -> bool {
    let space = case.netns(netns);
    space.routes.iter().any(|route| {
        route.kind == crate::model::snapshot::RouteKind::Unicast
            && route.dst.contains(&dst)
            && route.nexthops.iter().any(|hop| {
                hop.gateway.is_some_and(|gateway| case.netns(not).owns(gateway).is_none())
                    || hop.gateway.is_none() && route.dst.prefix_len() > 0
            })
    })
}

/// The network of an address, as its owner has it.
fn covering(case: &Case<'_>, dst: IpAddr) -> Option<String> {
    let owner = case.owner(dst)?;
    let entry = case.netns(owner.netns).owns(dst)?;
    entry.net().map(|net| net.to_string())
}
