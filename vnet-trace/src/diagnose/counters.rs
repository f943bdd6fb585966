//! The kernel's own counts of what it dropped, as evidence: those that belong to a decision, where they rose in its namespace
//! between the two snapshots.
//!
//! | the decision | counters |
//! | --- | --- |
//! | of a queueing discipline or a tc filter | its own drops |
//! | of the host | the SNMP, netstat and XFRM counters that the kernel raises in the same branch |
//!
//! Other packets raise them too, so a counter makes no finding surer than it is; but who reads `nstat` finds it there.
//! A counter that did not rise says nothing: many are raised only for packets that are no ARP, or not at all in a bridge.

use std::collections::BTreeMap;

use crate::model::diagnosis::{Evidence, Source};
use crate::model::exchange::{Decision, Fault};
use crate::model::id::NetnsId;
use crate::model::snapshot::{Netns, Qdisc, TcFilter};

use super::case::Case;

/// What was counted of this fault; empty where nothing was.
pub fn evidence(case: &Case<'_>, fault: &Fault) -> Vec<Evidence> {
    let netns = fault.loss.place.netns;
    let before = case.netns(netns);
    let after = case.recording.after.as_ref().and_then(|after| after.namespaces.iter().find(|space| space.id == netns));
    let (Some(after), Some(decision)) = (after, fault.loss.decision.as_ref()) else { return Vec::new() };
    let risen: Vec<(String, u64)> = match decision {
        Decision::Qdisc { qdisc: Some(at) } => qdisc(before, after, *at).into_iter().collect(),
        Decision::Tc { filter: Some(at), .. } => filter(before, after, *at).into_iter().collect(),
        decision => names(decision, case.recording.question.dst.is_ipv6())
            .iter()
            .filter_map(|name| Some((name.replace('.', ""), rise(&before.counters, &after.counters, name)?)))
            .collect(),
    };
    risen.into_iter().map(|(what, by)| counted(case, netns, what, by)).collect()
}

/// A counter as evidence.
pub fn counted(case: &Case<'_>, netns: NetnsId, what: String, by: u64) -> Evidence {
    let at = match case.netns(netns).name.as_str() {
        "." => String::new(),
        name => format!(" in {name}"),
    };
    Evidence { text: format!("{what} rose by {by}{at}"), source: Source::Counter { netns, what, by } }
}

/// The counters that the kernel raises where it decides so, as [`Netns::counters`] names them.
fn names(decision: &Decision, ipv6: bool) -> &'static [&'static str] {
    match (decision, ipv6) {
        // ip_rcv_finish_core.
        (Decision::RpFilter { .. }, false) => &["TcpExt.IPReversePathFilter"],
        // ip_error; a route look-up that fails where forwarding is off is for an address that is not here.
        (Decision::NotForwarding { .. }, false) => &["Ip.InAddrErrors"],
        (Decision::NoRoute { .. } | Decision::RouteKind { .. } | Decision::PolicyRule { .. }, false) => {
            &["IpExt.InNoRoutes", "Ip.OutNoRoutes"]
        }
        (Decision::NoRoute { .. } | Decision::RouteKind { .. } | Decision::PolicyRule { .. }, true) => {
            &["Ip6.InNoRoutes", "Ip6.OutNoRoutes"]
        }
        // ip_forward, ip6_forward.
        (Decision::TtlExpired { .. }, false) => &["Ip.InHdrErrors"],
        (Decision::TtlExpired { .. }, true) => &["Ip6.InHdrErrors"],
        (Decision::TooBig { .. }, false) => &["Ip.FragFails"],
        (Decision::TooBig { .. }, true) => &["Ip6.InTooBigErrors", "Ip6.FragFails"],
        (Decision::Checksum { layer, .. }, ipv6) => match (layer.as_str(), ipv6) {
            ("ip", _) => &["IpExt.InCsumErrors"],
            ("icmp", false) => &["Icmp.InCsumErrors"],
            ("icmp", true) => &["Icmp6.InCsumErrors"],
            ("tcp", _) => &["Tcp.InCsumErrors"],
            ("udp", false) => &["Udp.InCsumErrors"],
            ("udp", true) => &["Udp6.InCsumErrors"],
            _ => &[],
        },
        (Decision::PortClosed { .. }, false) => &["Udp.NoPorts", "Tcp.OutRsts"],
        (Decision::PortClosed { .. }, true) => &["Udp6.NoPorts", "Tcp.OutRsts"],
        (Decision::SocketOverflow, false) => &["TcpExt.ListenOverflows", "Udp.RcvbufErrors"],
        (Decision::SocketOverflow, true) => &["TcpExt.ListenOverflows", "Udp6.RcvbufErrors"],
        (Decision::Ipsec { .. }, _) => {
            &["Xfrm.InNoPols", "Xfrm.InTmplMismatch", "Xfrm.InPolBlock", "Xfrm.OutPolBlock", "Xfrm.OutNoStates"]
        }
        (Decision::NeighTableFull, false) => &["Arp.TableFulls"],
        (Decision::NeighTableFull, true) => &["Nd.TableFulls"],
        _ => &[],
    }
}

/// By how much it rose. None if it did not; one that is not there is zero.
fn rise(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>, name: &str) -> Option<u64> {
    let value = |counters: &BTreeMap<String, u64>| counters.get(name).copied().unwrap_or(0);
    value(after).checked_sub(value(before)).filter(|by| *by > 0)
}

fn qdisc(before: &Netns, after: &Netns, at: usize) -> Option<(String, u64)> {
    let was = before.qdiscs.get(at)?;
    let is_it = |now: &&Qdisc| (now.ifindex, now.parent, now.handle) == (was.ifindex, was.parent, was.handle);
    let by = after.qdiscs.iter().find(is_it)?.drops.checked_sub(was.drops).filter(|by| *by > 0)?;
    Some((format!("the {} qdisc's drops", was.kind), by))
}

fn filter(before: &Netns, after: &Netns, at: usize) -> Option<(String, u64)> {
    let was = before.filters.get(at)?;
    let key = |filter: &TcFilter| (filter.ifindex, filter.ingress, filter.priority, filter.handle, filter.parent);
    let now = after.filters.iter().find(|now| key(now) == key(was))?;
    let by = now.drops?.checked_sub(was.drops.unwrap_or(0)).filter(|by| *by > 0)?;
    Some((format!("the {} filter's drops", was.kind), by))
}

#[cfg(test)]
mod tests {
    use super::rise;
    use std::collections::BTreeMap;

    #[test]
    fn a_counter_counts_from_where_it_was() {
        let counters = |value: u64| BTreeMap::from([("Ip.InAddrErrors".to_owned(), value)]);
        assert_eq!(rise(&counters(3), &counters(5), "Ip.InAddrErrors"), Some(2));
        assert_eq!(rise(&BTreeMap::new(), &counters(5), "Ip.InAddrErrors"), Some(5));
        assert_eq!(rise(&counters(3), &counters(3), "Ip.InAddrErrors"), None);
        // A namespace of the same name that is another.
        assert_eq!(rise(&counters(3), &counters(1), "Ip.InAddrErrors"), None);
    }
}
