//! `conntrack-invalid`: connection tracking found it invalid, or its table is full.

use crate::diagnose::case::Case;
use crate::model::diagnosis::{Finding, Risk};
use crate::model::exchange::{Decision, Fault};

/// Whether this fault is it.
pub fn check(case: &Case<'_>, fault: &Fault) -> Option<Finding> {
    let netns = fault.loss.place.netns;
    match fault.loss.decision.as_ref()? {
        Decision::Netfilter { invalid: true, .. } => {
            let mut finding = crate::diagnose::filter::netfilter_drop::judged(case, fault, "conntrack-invalid");
            let what = case.packet_name(fault.role);
            finding.summary = format!(
                "{} has not seen the packet that {what} answers, so connection tracking calls it invalid; {}",
                case.netns_name(netns),
                finding.summary
            );
            // Sending the answer back by the way the question came mends the cause; an accept rule only this loss.
            if let Some(owner) = case.predicted.owner.filter(|_| fault.leg == crate::model::exchange::Leg::Return)
                && let (Some(gateway), Some(dst)) =
                    (crate::diagnose::route::reply_misrouted::came_from(case, owner), case.reply_dst())
            {
                finding.fixes.insert(0, same_way_back(case, owner, gateway, dst));
            }
            Some(finding)
        }
        Decision::Conntrack { full } => {
            let summary = if *full {
                format!(
                    "the connection-tracking table of {} is full, so {} is dropped",
                    case.netns_name(netns),
                    case.packet_name(fault.role)
                )
            } else {
                format!(
                    "connection tracking in {} finds {} invalid",
                    case.netns_name(netns),
                    case.packet_name(fault.role)
                )
            };
            let mut finding = case.finding(fault, "conntrack-invalid", summary);
            let key = "net.netfilter.nf_conntrack_max";
            finding.evidence.push(case.sysctl_state(netns, key));
            finding.evidence.push(case.sysctl_state(netns, "net.netfilter.nf_conntrack_count"));
            if *full {
                let now = case.netns(netns).sysctl(key).unwrap_or(65536);
                finding.fixes.push(case.sysctl_fix(
                    netns,
                    "make the table larger",
                    Risk::Safe,
                    &[(key.to_owned(), (now * 2).max(65536))],
                ));
            }
            Some(finding)
        }
        _ => None,
    }
}

/// A route that sends the answer back by the router that the question came from.
fn same_way_back(
    case: &Case<'_>,
    owner: crate::model::id::Device,
    gateway: std::net::IpAddr,
    dst: std::net::IpAddr,
) -> crate::model::diagnosis::Fix {
    let space = case.netns(owner.netns);
    let found = crate::predict::fib::lookup(space, &crate::predict::fib::Flow::to(dst)).ok();
    let route = found.as_ref().map(|found| &space.routes[found.route]);
    let length = if dst.is_ipv4() { 32 } else { 128 };
    let net = route
        .filter(|route| route.dst.prefix_len() > 0)
        .map_or_else(|| format!("{dst}/{length}"), |route| route.dst.to_string());
    let old = found
        .as_ref()
        .and_then(|found| found.nexthop.gateway)
        .map_or_else(String::new, |gateway| format!(" via {gateway}"));
    let family = if dst.is_ipv6() { "-6 " } else { "" };
    crate::diagnose::case::fix(
        &format!("answer by {gateway}, where the question came from"),
        Risk::ChangesPolicy,
        vec![case.ip(owner.netns, &format!("{family}route replace {net} via {gateway}"))],
        vec![case.ip(owner.netns, &format!("{family}route replace {net}{old}"))],
        crate::diagnose::case::NETWORK_CONFIG,
    )
}

#[cfg(test)]
mod tests {
    use super::{Decision, check};
    use crate::diagnose::bench::World;
    use crate::model::exchange::Role;

    #[test]
    fn fires_when_the_table_is_full() {
        let key = "net.netfilter.nf_conntrack_max";
        let world = World::cable().sysctl("b", key, 131_072);
        let found = world.fault(Role::Request, "b/veth2", Decision::Conntrack { full: true }).found(check);
        assert_eq!(found.commands, [format!("ip netns exec b sysctl -w {key}=262144")]);
    }

    #[test]
    fn silent_when_a_rule_without_a_state_drops_it() {
        let world = World::cable()
            .iptables("b", "*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n");
        assert_eq!(world.first().as_deref(), Some("netfilter-drop"));
        assert!(world.is_silent(check));
    }
}
