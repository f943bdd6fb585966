//! `gateway-unreachable`: the next hop of the route does not answer address resolution.

use crate::diagnose::case::{Case, fix};
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};
use crate::predict::fib;

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let Decision::NoOwner { address, gateway: true } = fault.loss.decision.as_ref()? else { return None };
    let device = fault.loss.place.device()?;
    let netns = case.netns(device.netns);
    let summary = format!(
        "the next hop {address} of {} does not answer on {}: nobody there has it",
        case.netns_name(device.netns),
        case.name(device)
    );
    let mut finding = case.finding(fault, "gateway-unreachable", summary);
    let dst = fault.headers.dst.unwrap_or(case.recording.question.dst);
    let found = fib::lookup(netns, &fib::Flow::to(dst)).ok();
    let route = found.as_ref().map(|found| &netns.routes[found.route]);
    if let Some(route) = route {
        finding.evidence.push(case.state(
            device.netns,
            &format!("route {}", route.dst),
            &format!("via {address} dev {}", case.name(device)),
        ));
    }
    let mut better: Vec<(u8, std::net::IpAddr)> = Vec::new();
    let nets: Vec<_> = netns.addresses_of(device.ifindex).filter_map(crate::model::snapshot::Address::net).collect();
    for other in case.snapshot().namespaces.iter().filter(|other| other.id != device.netns) {
        for entry in other
            .addresses
            .iter()
            .filter(|entry| entry.scope == 0 && nets.iter().any(|net| net.contains(&entry.address)))
        {
            let forwards = if entry.address.is_ipv4() {
                other.sysctl("net.ipv4.ip_forward") == Some(1)
            } else {
                other.sysctl("net.ipv6.conf.all.forwarding") == Some(1)
            };
            let knows = other.owns(dst).is_some()
                || fib::lookup(other, &fib::Flow::to(dst))
                    .is_ok_and(|found| found.nexthop.gateway.is_none_or(|gateway| netns.owns(gateway).is_none()));
            if knows {
                better.push((u8::from(!forwards), entry.address));
            }
        }
    }
    better.sort();
    let family = if dst.is_ipv6() { "-6 " } else { "" };
    if let (Some(route), Some((_, gateway))) = (route, better.first()) {
        finding.fixes.push(fix(
            &format!("send by {gateway}, which forwards and knows the way"),
            Risk::ChangesPolicy,
            vec![case.ip(device.netns, &format!("{family}route replace {} via {gateway}", route.dst))],
            vec![case.ip(device.netns, &format!("{family}route replace {} via {address}", route.dst))],
            crate::diagnose::case::NETWORK_CONFIG,
        ));
    }
    if finding.fixes.is_empty() {
        finding.fixes.push(fix(
            "give the next hop that address, or route by one that exists",
            Risk::NeedsChoice,
            Vec::new(),
            Vec::new(),
            crate::diagnose::case::NETWORK_CONFIG,
        ));
    }
    Some(finding)
}
