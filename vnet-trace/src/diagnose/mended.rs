//! What bites behind a loss once it is mended, where the walk itself can't know.
//!
//! The walk goes on behind most losses as if they were mended. Behind a look-up that finds nothing it has nowhere to go on
//! to; and a device that is down has lost routes that come back with it, so that what the walk says about hosts behind it is
//! wrong. Here the first repair is made in a copy of the configuration (the device is up, the route is there), and the
//! question is predicted again: the losses that remain are those that will bite.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::model::diagnosis::Finding;
use crate::model::exchange::{Decision, Exchange, Fault, Leg, Role};
use crate::model::id::{Device, IfIndex, NetnsId};
use crate::model::recording::Recording;
use crate::model::snapshot::{Address, Link, Nexthop, OperState, Route, RouteKind, Snapshot};
use crate::predict::predict;

use super::case::Case;
use super::toward::{self, NextHop};

/// Repairs that are tried, one after the other.
const MOST_REPAIRS: usize = 6;

/// One repair.
enum Repair {
    /// A device is set up.
    Revive(Device),
    /// A route is added.
    Route(NetnsId, IpAddr, NextHop),
}

/// What is found behind the fault at a position, in the order in which it bites; None if what the walk found there stands.
pub fn behind(case: &Case<'_>, at: usize) -> Option<Vec<Finding>> {
    let first = case.predicted.faults.get(at)?;
    let passed: Vec<Fault> = case.predicted.faults[..=at].to_vec();
    let mut found: Vec<Finding> = Vec::new();
    let mut exchange: Exchange = case.predicted.clone();
    let mut recording: Option<Recording> = None;
    let mut last: Option<Vec<Finding>> = None;
    for _ in 0..MOST_REPAIRS {
        let now = Case {
            recording: recording.as_ref().unwrap_or(case.recording),
            observed: case.observed,
            predicted: &exchange,
            refusals: case.refusals,
        };
        let Some((fault, repair)) = repair(&now, &passed) else { break };
        // What is repaired here has to be repaired there: it stays on the list.
        if !same(&fault, first) {
            found.extend(super::name(&now, &fault).into_iter().next());
        }
        let mut mended = match recording.take() {
            Some(mended) => mended,
            None => Recording { events: Vec::new(), frames: Vec::new(), ..case.recording.clone() },
        };
        match repair {
            Repair::Revive(device) => revive(&mut mended.before, device),
            Repair::Route(netns, dst, hop) => add(&mut mended.before, netns, dst, &hop),
        }
        let prediction = predict(&mended.question, &mended.before);
        let then = Case {
            recording: &mended,
            observed: case.observed,
            predicted: &prediction.exchange,
            refusals: &prediction.refused,
        };
        let remaining =
            prediction.exchange.faults.iter().filter(|fault| !passed.iter().any(|other| same(other, fault)));
        last = Some(remaining.filter_map(|fault| super::name(&then, fault).into_iter().next()).collect());
        exchange = prediction.exchange;
        recording = Some(mended);
    }
    found.extend(last?);
    Some(found)
}

/// Whether two predictions mean the same loss.
fn same(one: &Fault, other: &Fault) -> bool {
    one.role == other.role
        && one.leg == other.leg
        && one.loss.place.device() == other.loss.place.device()
        && one.loss.decision == other.loss.decision
}

/// The next fault that is repaired here, and how.
fn repair(case: &Case<'_>, passed: &[Fault]) -> Option<(Fault, Repair)> {
    let down = case.predicted.faults.iter().find_map(|fault| {
        let device = match &fault.loss.decision {
            Some(Decision::DeviceDown) => fault.loss.place.device()?,
            Some(Decision::NoCarrier { culprit: Some(culprit) }) => *culprit,
            Some(Decision::NoRoute { dead: Some(dead), .. }) => *dead,
            _ => return None,
        };
        let down = case.link(device).is_some_and(|link| !link.is_up());
        down.then(|| (fault.clone(), Repair::Revive(device)))
    });
    if down.is_some() {
        return down;
    }
    let fault = end(case.predicted)?;
    // The same repair twice leads nowhere.
    if passed.iter().any(|other| same(other, fault)) && passed.last().is_some_and(|last| !same(last, fault)) {
        return None;
    }
    let (netns, dst, hop) = way_on(case, fault)?;
    Some((fault.clone(), Repair::Route(netns, dst, hop)))
}

/// Sets a device up, with what comes back with it: carrier at both ends, the routes of its addresses, its port's state.
fn revive(snapshot: &mut Snapshot, device: Device) {
    const IFF_UP: u32 = 1;
    const FORWARDING: u8 = 3;
    let peer = snapshot.peer(device);
    let peer_up = peer.is_none_or(|peer| snapshot.link(peer).is_none_or(Link::is_up));
    for (end, other_up) in std::iter::once((device, peer_up)).chain(peer.map(|peer| (peer, true))) {
        let Some(netns) = snapshot.namespaces.iter_mut().find(|netns| netns.id == end.netns) else { continue };
        let Some(link) = netns.links.iter_mut().find(|link| link.index == end.ifindex) else { continue };
        if end == device {
            link.flags |= IFF_UP;
        }
        if link.is_up() && other_up {
            link.carrier = true;
            link.operstate = OperState::Up;
            if let Some(port) = link.bridge_port.as_mut().filter(|port| port.state == 0) {
                port.state = FORWARDING;
            }
            let master = link.master;
            for bridge in netns.links.iter_mut().filter(|link| Some(link.index) == master && link.is_up()) {
                bridge.carrier = true;
                bridge.operstate = OperState::Up;
            }
        }
        for hop in
            netns.routes.iter_mut().flat_map(|route| &mut route.nexthops).filter(|hop| hop.oif == Some(end.ifindex))
        {
            // RTNH_F_DEAD and RTNH_F_LINKDOWN.
            hop.flags &= !0x11;
        }
        let entries: Vec<Address> = netns.addresses_of(end.ifindex).cloned().collect();
        for entry in entries {
            let local = plain(IpNet::from(entry.address), end.ifindex, 255, RouteKind::Local);
            let connected = entry.net().map(|net| plain(net, end.ifindex, 254, RouteKind::Unicast));
            for route in std::iter::once(local).chain(connected) {
                let there = netns.routes.iter().any(|other| {
                    other.table == route.table
                        && other.dst == route.dst
                        && other.nexthops.iter().any(|hop| hop.oif == Some(end.ifindex))
                });
                if !there {
                    netns.routes.push(Route { prefsrc: Some(entry.address).filter(IpAddr::is_ipv4), ..route });
                }
            }
        }
    }
}

/// A route by a device, as the kernel makes it for an address.
fn plain(dst: IpNet, oif: IfIndex, table: u32, kind: RouteKind) -> Route {
    Route {
        table,
        kind,
        dst,
        src: None,
        tos: 0,
        scope: if kind == RouteKind::Local { 254 } else { 253 },
        protocol: 2,
        metric: 0,
        prefsrc: None,
        nexthops: vec![Nexthop { oif: Some(oif), weight: 1, ..Nexthop::default() }],
        mtu: None,
        nexthop_id: None,
        pref: 0,
        cached: false,
    }
}

/// Adds a host route, which wins over whatever is there.
fn add(snapshot: &mut Snapshot, netns: NetnsId, dst: IpAddr, hop: &NextHop) {
    let Some(space) = snapshot.namespaces.iter_mut().find(|space| space.id == netns) else { return };
    // Positions must stay: what it replaces is made harmless, not removed.
    for route in space.routes.iter_mut().filter(|route| route.table == 254 && route.dst == IpNet::from(dst)) {
        route.cached = true;
    }
    let mut route = plain(IpNet::from(dst), hop.dev.ifindex, 254, RouteKind::Unicast);
    route.protocol = 3;
    route.metric = if dst.is_ipv6() { 1024 } else { 0 };
    if hop.gateway.is_some() {
        route.scope = 0;
        route.nexthops[0].gateway = hop.gateway;
    }
    space.routes.push(route);
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
fn way_on(case: &Case<'_>, fault: &Fault) -> Option<(NetnsId, IpAddr, NextHop)> {
    let netns = fault.loss.place.netns;
    let dst = fault.headers.dst?;
    let hop = toward::toward(case, netns, dst, &[]).into_iter().find(|hop| !hop.mute)?;
    Some((netns, dst, hop))
}
