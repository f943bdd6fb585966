//! Holds a fault of the prediction against what was seen.
//!
//! A prediction is a claim: "here, for this reason, this packet dies". It is **refuted** if the packet was seen where it
//! could not have come to, if an earlier place that was watched without loss did not see it, or if the kernel says another
//! reason there. It is **witnessed** if the kernel said so itself: a drop event with a reason that fits, a return value, an
//! errno, an ICMP error from that host. It is **deduced** if the last sighting is where it should be. Otherwise it is only
//! **suspected**: the configuration says so, and nobody watched.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::model::diagnosis::{Evidence, Grade, Source};
use crate::model::evidence::Absence;
use crate::model::exchange::{Action, Decision, Fault, Journey, Leg, Role, Step};
use crate::model::id::{Device, NetnsId};

use super::case::Case;

/// What became of a claim.
#[derive(Debug, Clone, PartialEq)]
pub enum Judgement {
    /// It holds, this surely, for these reasons.
    Holds(Grade, Vec<Evidence>),
    /// It does not: why.
    Refuted(String),
}

/// Which way a packet passed a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Received.
    In,
    /// Sent.
    Out,
}

/// One sighting.
#[derive(Debug, Clone)]
pub struct Sighting<'a> {
    /// Where.
    pub device: Device,
    /// Which way.
    pub way: Way,
    /// What it rests on.
    pub sources: &'a [Source],
}

/// Judges one fault.
pub fn judge(case: &Case<'_>, fault: &Fault) -> Judgement {
    let journey = case.predicted.journeys.iter().find(|journey| {
        journey.role == fault.role
            && journey.leg == fault.leg
            && journey.loss().is_some_and(|loss| loss.decision == fault.loss.decision)
    });
    let target = journey.and_then(|journey| journey.headers.dst);
    let seen = sightings(case, fault.role, fault.leg, target);
    let expected = journey.map(|journey| passes(&journey.steps)).unwrap_or_default();
    let beyond: Vec<(Device, Way)> = journey
        .map(|journey| passes(&journey.beyond))
        .unwrap_or_default()
        .into_iter()
        .filter(|pass| !expected.contains(pass))
        .collect();
    if let Some(reason) = refuted(case, fault, &seen, &expected, &beyond) {
        return Judgement::Refuted(reason);
    }
    let mut evidence = witnesses(case, fault, target);
    if !evidence.is_empty() {
        evidence.extend(last_seen(case, fault, &seen, &expected));
        return Judgement::Holds(Grade::Witnessed, evidence);
    }
    if journey.is_none() && seen.is_empty() {
        return Judgement::Holds(Grade::Suspected, Vec::new());
    }
    let last = last_seen(case, fault, &seen, &expected);
    let absent = absence(case, fault, &beyond);
    let nowhere_expected = expected.is_empty() && seen.is_empty();
    let sent = case.recording.ping.sent > 0 || !case.recording.ping.errors.is_empty();
    if !last.is_empty() || nowhere_expected && !case.recording.sight.captured.is_empty() && sent {
        let mut evidence = last;
        evidence.extend(absent);
        // What was not read there explains the loss as well.
        let known = super::unread::parts(case, fault.loss.place.netns).is_empty();
        return Judgement::Holds(if known { Grade::Deduced } else { Grade::Suspected }, evidence);
    }
    Judgement::Holds(Grade::Suspected, Vec::new())
}

/// Where a journey passes devices.
pub fn passes(steps: &[Step]) -> Vec<(Device, Way)> {
    steps
        .iter()
        .filter_map(|step| {
            let device = Device::new(step.netns, step.device?);
            match step.action {
                Action::Received => Some((device, Way::In)),
                Action::Transmitted => Some((device, Way::Out)),
                _ => None,
            }
        })
        .collect()
}

/// Every sighting of packets of a role on a leg; for address resolution those about one address.
pub fn sightings<'a>(case: &Case<'a>, role: Role, leg: Leg, target: Option<IpAddr>) -> Vec<Sighting<'a>> {
    let mut found = Vec::new();
    for journey in &case.observed.journeys {
        if journey.role != role || journey.leg != leg && !matches!(role, Role::ArpRequest | Role::ArpReply) {
            continue;
        }
        if matches!(role, Role::ArpRequest) && target.is_some() && journey.headers.dst != target {
            continue;
        }
        collect(journey, &mut found);
    }
    found
}

/// The sightings of one journey and its copies.
pub(super) fn collect<'a>(journey: &'a Journey, found: &mut Vec<Sighting<'a>>) {
    for step in &journey.steps {
        let Some(ifindex) = step.device else { continue };
        let way = match step.action {
            Action::Received => Way::In,
            Action::Transmitted => Way::Out,
            _ => continue,
        };
        found.push(Sighting { device: Device::new(step.netns, ifindex), way, sources: &step.sources });
    }
    for copy in &journey.copies {
        collect(copy, found);
    }
}

/// Every step of the observed journeys of a role, copies included.
pub fn steps<'a>(case: &Case<'a>, role: Role, leg: Leg) -> Vec<&'a Step> {
    fn walk<'a>(journey: &'a Journey, found: &mut Vec<&'a Step>) {
        found.extend(&journey.steps);
        for copy in &journey.copies {
            walk(copy, found);
        }
    }
    let mut found = Vec::new();
    for journey in &case.observed.journeys {
        if journey.role == role && (journey.leg == leg || matches!(role, Role::ArpRequest | Role::ArpReply)) {
            walk(journey, &mut found);
        }
    }
    found
}

/// Why a claim can't be true.
fn refuted(
    case: &Case<'_>,
    fault: &Fault,
    seen: &[Sighting<'_>],
    expected: &[(Device, Way)],
    beyond: &[(Device, Way)],
) -> Option<String> {
    // A recording without a single packet says nothing about where they were.
    if case.observed.journeys.is_empty() {
        return None;
    }
    let name = |device: Device| case.place_name(device);
    let packet = case.packet_name(fault.role);
    if let Some(reason) = unfounded(case, fault) {
        return Some(reason);
    }
    // The place itself may see it arrive; what lies behind may not.
    let place = fault.loss.place.device();
    let fading = fading(case, fault);
    for sighting in seen {
        // A device that has just lost its carrier still shows frames that go nowhere (its noop qdisc comes a moment later).
        let same = Some(sighting.device) == place && sighting.way == Way::In || fading.contains(&sighting.device);
        let behind = beyond.contains(&(sighting.device, sighting.way)) && !same;
        if behind && !is_flooded(fault) {
            return Some(format!("{packet} was seen at {}, behind the place", name(sighting.device)));
        }
    }
    // A place on the way that was watched and saw nothing: it died earlier.
    if !seen.is_empty() || case.recording.ping.sent > 0 {
        for (device, way) in expected {
            let watched = case.recording.sight.watched(*device);
            let there = seen.iter().any(|sighting| sighting.device == *device && sighting.way == *way);
            if watched && !there && !quiet(case, *device) {
                return Some(format!("{packet} was not seen at {}, which it passes before", name(*device)));
            }
        }
    }
    // What has left this machine is not seen on it again.
    if fault.loss.decision == Some(Decision::RemoteSilent) {
        let way = case.predicted.with_role(fault.role, fault.leg).flat_map(|journey| &journey.steps);
        let own: BTreeSet<NetnsId> = way.map(|step| step.netns).chain([fault.loss.place.netns]).collect();
        if let Some(sighting) = seen.iter().find(|sighting| !own.contains(&sighting.device.netns)) {
            return Some(format!("{packet} was seen at {}", name(sighting.device)));
        }
    }
    // A packet that comes later in the exchange was seen: this one was not lost.
    if let Some(later) = later_role(case, fault) {
        return Some(later);
    }
    // The kernel gives another reason at the same place.
    for step in steps(case, fault.role, fault.leg) {
        let Action::Dropped { reason: Some(reason), .. } = &step.action else { continue };
        let here =
            step.device.is_some() && step.device == fault.loss.place.device && step.netns == fault.loss.place.netns;
        if here && !fits(fault.loss.decision.as_ref(), reason) && is_telling(reason) {
            return Some(format!("the kernel dropped {packet} there for another reason ({reason})"));
        }
    }
    None
}

/// Devices that a packet may still seem to pass although one of them is down: carrier is lost step by step, from the device
/// that is down to those above it, and linkwatch takes up to a second for each.
fn fading(case: &Case<'_>, fault: &Fault) -> Vec<Device> {
    if !matches!(fault.loss.decision, Some(Decision::NoCarrier { .. } | Decision::DeviceDown)) {
        return Vec::new();
    }
    let mut chain = Vec::new();
    let mut at = fault.loss.place.device();
    while let Some(device) = at.filter(|device| !chain.contains(device)) {
        chain.push(device);
        // A pair ends the chain: what arrives at its other end has passed.
        at = case.snapshot().lower(device).filter(|_| case.snapshot().peer(device).is_none());
    }
    chain
}

/// What comes before this packet in the exchange must have arrived: a reply needs a request.
fn unfounded(case: &Case<'_>, fault: &Fault) -> Option<String> {
    let own = case.predicted.journeys.iter().position(|journey| {
        journey.role == fault.role
            && journey.leg == fault.leg
            && journey.loss().is_some_and(|loss| loss.decision == fault.loss.decision)
    })?;
    for earlier in &case.predicted.journeys[..own] {
        let needed = match (fault.role, fault.leg) {
            (Role::ArpReply, leg) => earlier.role == Role::ArpRequest && earlier.leg == leg,
            (_, Leg::Return) => earlier.role == Role::Request,
            _ => false,
        };
        if !needed {
            continue;
        }
        let mut way = passes(&earlier.steps);
        way.extend(passes(&earlier.beyond));
        let Some((device, end)) = way.last().copied().filter(|(device, _)| !quiet(case, *device)) else { continue };
        if !case.recording.sight.watched(device) {
            continue;
        }
        let arrived = sightings(
            case,
            earlier.role,
            earlier.leg,
            earlier.headers.dst.filter(|_| earlier.role == Role::ArpRequest),
        )
        .iter()
        .any(|sighting| sighting.device == device && sighting.way == end);
        if !arrived {
            return Some(format!(
                "{} was not seen to arrive at {}",
                case.packet_name(earlier.role),
                case.place_name(device)
            ));
        }
    }
    None
}

/// Devices on which a sighting can't be counted on: capture sees nothing there although packets pass.
pub(super) fn quiet(case: &Case<'_>, device: Device) -> bool {
    use crate::model::snapshot::LinkKind;
    case.link(device).is_none_or(|link| {
        matches!(link.kind, LinkKind::Vrf { .. } | LinkKind::Openvswitch | LinkKind::Netkit { .. })
            || link.is_loopback()
    })
}

/// Copies of a flood are seen behind places that only one copy did not pass.
fn is_flooded(fault: &Fault) -> bool {
    matches!(fault.role, Role::ArpRequest)
        && matches!(
            fault.loss.decision,
            Some(
                Decision::NotAttached { .. }
                    | Decision::BridgeHairpin { .. }
                    | Decision::MacvlanVepa { .. }
                    | Decision::MacvlanPrivate { .. }
                    | Decision::ParentIsolation { .. }
                    | Decision::NoOwner { .. }
            )
        )
}

/// Whether something was seen that could not have been, had this packet been lost for good.
fn later_role(case: &Case<'_>, fault: &Fault) -> Option<String> {
    let saw = |role: Role, leg: Leg| !sightings(case, role, leg, None).is_empty();
    match (fault.role, fault.leg) {
        (Role::Request, _)
            if saw(Role::Reply, Leg::Return) && !matches!(fault.loss.decision, Some(Decision::Qdisc { .. })) =>
        {
            Some("a reply was seen, so the request arrived".to_owned())
        }
        (Role::ArpRequest, leg) => {
            let address = match &fault.loss.decision {
                Some(Decision::NoOwner { address, .. }) => Some(*address),
                _ => fault.headers.dst.filter(|_| leg == Leg::Forward),
            };
            let answered = case.observed.journeys.iter().any(|journey| {
                journey.role == Role::ArpReply && journey.headers.src.is_some() && journey.headers.src == address
            });
            (answered && !fault.underlay).then(|| "it was answered".to_owned())
        }
        _ => None,
    }
}

/// Reasons that stand for one decision and no other: whoever claims another one there is wrong. Most reasons are shared by
/// several, or say where rather than why.
fn is_telling(reason: &str) -> bool {
    matches!(
        reason,
        "NETFILTER_DROP"
            | "TC_INGRESS"
            | "TC_EGRESS"
            | "XDP"
            | "IP_RPFILTER"
            | "IP_LOCAL_SOURCE"
            | "IP_CSUM"
            | "ICMP_CSUM"
            | "PKT_TOO_BIG"
            | "XFRM_POLICY"
            | "BPF_CGROUP_EGRESS"
            | "IPV6DISABLED"
            | "VXLAN_VNI_NOT_FOUND"
            | "SOCKET_RCVBUFF"
    )
}

/// Whether the kernel's reason is one that this decision leads to (kernel-facts: reasons by name, since 5.17).
pub fn fits(decision: Option<&Decision>, reason: &str) -> bool {
    let Some(decision) = decision else { return false };
    let reasons: &[&str] = match decision {
        Decision::DeviceDown => &["DEV_READY", "QDISC_DROP", "BRIDGE_INGRESS_STP_STATE", "NO_TX_TARGET"],
        Decision::NoCarrier { .. } => &["QDISC_DROP", "DEV_READY", "GENERIC", "NO_TX_TARGET"],
        // A wrong station took it: what becomes of it there.
        Decision::OtherHost { own: None, .. } => &["OTHERHOST", "IP_INADDRERRORS", "IP_INNOROUTES"],
        Decision::OtherHost { .. }
        | Decision::ArpDisabled { .. }
        | Decision::BridgeSuppressed { .. }
        | Decision::VlanUnknown { .. } => &["OTHERHOST", "NO_TX_TARGET"],
        Decision::TooBig { .. } => &["PKT_TOO_BIG", "NOT_SPECIFIED", "IP_OUTNOROUTES"],
        Decision::Qdisc { .. } => {
            &["QDISC_DROP", "GENERIC", "OVERLIMIT", "QDISC_OVERLIMIT", "QDISC_CONGESTED", "CONGESTED", "CAKE_FLOOD"]
        }
        Decision::Tc { .. } => {
            &["TC_INGRESS", "TC_EGRESS", "TC_COOKIE_ERROR", "TC_CHAIN_NOTFOUND", "TC_RECLASSIFY_LOOP"]
        }
        Decision::Xdp { .. } => &["XDP", "NOT_SPECIFIED"],
        Decision::Cgroup { .. } => &["BPF_CGROUP_EGRESS", "SOCKET_FILTER", "NOT_SPECIFIED"],
        Decision::BridgeLocked { .. } => &["NOT_SPECIFIED"],
        Decision::BridgeState { .. } => &["BRIDGE_INGRESS_STP_STATE", "NOT_SPECIFIED", "NO_TX_TARGET"],
        Decision::BridgeIsolated { .. }
        | Decision::BridgeNoFlood { .. }
        | Decision::BridgeFdb { .. }
        | Decision::BridgeHairpin { .. }
        | Decision::MacvlanVepa { .. }
        | Decision::ParentIsolation { .. }
        | Decision::NotAttached { .. }
        | Decision::BridgeVlan { .. } => &["NO_TX_TARGET", "BRIDGE_INGRESS_STP_STATE", "VLAN_FILTER"],
        Decision::VxlanNoRemote { .. } => &["NO_TX_TARGET"],
        Decision::VxlanVni { .. } => &["VXLAN_VNI_NOT_FOUND"],
        Decision::VxlanPort { .. } => &["NO_SOCKET"],
        Decision::DuplicateMac { .. } => &["LOCAL_MAC", "NO_TX_TARGET", "IP_INADDRERRORS", "IP_INNOROUTES"],
        Decision::NoOwner { .. } => &["NEIGH_FAILED"],
        Decision::ArpIgnored { .. } | Decision::Netfilter { .. } => &["NETFILTER_DROP"],
        Decision::Ipv6Disabled { .. } => &["IPV6DISABLED", "IP_INNOROUTES", "IP_OUTNOROUTES"],
        Decision::NoRoute { .. } => &["IP_INNOROUTES", "IP_OUTNOROUTES", "IP_INADDRERRORS"],
        Decision::RouteKind { .. } | Decision::PolicyRule { .. } => {
            &["NOT_SPECIFIED", "IP_INNOROUTES", "IP_OUTNOROUTES", "IP_INADDRERRORS"]
        }
        Decision::NotForwarding { .. } => &["IP_INADDRERRORS"],
        Decision::TtlExpired { .. } => &["IP_INHDR"],
        Decision::RpFilter { .. } => &["IP_RPFILTER"],
        Decision::LocalSource { .. } => &["IP_LOCAL_SOURCE", "NOT_SPECIFIED"],
        Decision::MartianLoopback { .. } => {
            &["IP_LOCALNET", "IP_INVALID_DEST", "IP_INVALID_SOURCE", "IP_LOCAL_SOURCE", "INVALID_SOURCE"]
        }
        Decision::MartianOther { .. } => &["IP_INVALID_SOURCE", "IP_INVALID_DEST", "IP_LOCALNET", "NOT_SPECIFIED"],
        Decision::Checksum { .. } => &["IP_CSUM", "ICMP_CSUM", "SKB_CSUM", "TCP_CSUM", "UDP_CSUM"],
        Decision::Ipsec { .. } => &["XFRM_POLICY"],
        Decision::SocketOverflow => &["SOCKET_RCVBUFF", "PROTO_MEM", "SOCKET_BACKLOG"],
        Decision::SocketBound { .. } => &["NO_SOCKET"],
        Decision::PortClosed { .. } | Decision::ForeignReply { .. } => &["NO_SOCKET"],
        Decision::Ovs { .. } => &["OVS_DROP_EXPLICIT", "OVS_DROP_LAST_ACTION", "EXPLICIT", "LAST_ACTION"],
        _ => &[],
    };
    reasons.contains(&reason)
}

/// What says it outright: drop events, return values, errnos, ICMP errors.
fn witnesses(case: &Case<'_>, fault: &Fault, target: Option<IpAddr>) -> Vec<Evidence> {
    let mut evidence = Vec::new();
    let place = &fault.loss.place;
    let packet = case.packet_name(fault.role);
    for step in steps(case, fault.role, fault.leg) {
        if step.netns != place.netns {
            continue;
        }
        let near = step.device.is_none()
            || place.device.is_none()
            || step.device == place.device
            || is_bridge_step(case, step, fault);
        let Some(source) = step.sources.first() else { continue };
        let at = step
            .device
            .map_or_else(|| case.netns_name(step.netns), |ifindex| case.place_name(Device::new(step.netns, ifindex)));
        match &step.action {
            Action::Dropped { reason: Some(reason), location }
                if near && fits(fault.loss.decision.as_ref(), reason) && reason != "NOT_SPECIFIED" =>
            {
                let by = location.as_deref().map_or_else(String::new, |location| format!(" in {location}"));
                evidence.push(Evidence {
                    source: source.clone(),
                    text: format!("the kernel dropped {packet} at {at}{by}: {reason}"),
                });
            }
            Action::Dropped { reason, location: Some(location) }
                if near
                    && reason.as_deref().is_none_or(|reason| reason == "NOT_SPECIFIED")
                    && fits_location(fault.loss.decision.as_ref(), location) =>
            {
                evidence.push(Evidence {
                    source: source.clone(),
                    text: format!("the kernel dropped {packet} at {at} in {location}"),
                });
            }
            Action::Seen { site, note } if near && refuses(fault.loss.decision.as_ref(), site, note) => {
                evidence.push(Evidence {
                    source: source.clone(),
                    text: format!("{site} refused {packet} at {at}: {note}"),
                });
            }
            _ => {}
        }
        if evidence.len() >= 2 {
            return evidence;
        }
    }
    evidence.extend(reset(case, fault));
    evidence.extend(told(case, fault));
    let _ = target;
    evidence
}

/// A bridge's refusals are reported at the port that the frame came in by, whichever port refused.
fn is_bridge_step(case: &Case<'_>, step: &Step, fault: &Fault) -> bool {
    let (Some(ifindex), Some(device)) = (step.device, fault.loss.place.device()) else { return false };
    let master = |device: Device| case.link(device).and_then(|link| link.master);
    let own = Device::new(step.netns, ifindex);
    master(own).is_some() && (master(own) == master(device) || master(own) == Some(device.ifindex))
}

/// Functions that free a packet for this decision where there is no telling reason (before 5.17, or NOT_SPECIFIED).
fn fits_location(decision: Option<&Decision>, location: &str) -> bool {
    let Some(decision) = decision else { return false };
    let functions: &[&str] = match decision {
        Decision::RpFilter { .. }
        | Decision::LocalSource { .. }
        | Decision::MartianLoopback { .. }
        | Decision::MartianOther { .. } => {
            &["ip_rcv_finish_core", "ip_rcv_finish_core.constprop.0", "ip_rcv_finish_core.isra.0"]
        }
        Decision::NotForwarding { .. }
        | Decision::RouteKind { .. }
        | Decision::PolicyRule { .. }
        | Decision::NoRoute { .. } => &["ip_error"],
        Decision::TtlExpired { .. } | Decision::TooBig { .. } => &[
            "ip_forward",
            "ip6_forward",
            "br_dev_queue_push_xmit",
            "br_nf_dev_queue_xmit",
            "__dev_forward_skb",
            "__dev_forward_skb2",
        ],
        Decision::Netfilter { .. } | Decision::ArpIgnored { .. } => &["nf_hook_slow", "nft_do_chain"],
        Decision::Xdp { .. } => &[
            "do_xdp_generic",
            "netif_receive_generic_xdp",
            "veth_xdp_rcv_skb",
            "veth_poll",
            "bpf_prog_run_generic_xdp",
        ],
        Decision::BridgeState { .. } => &["br_handle_frame", "br_handle_frame_finish"],
        Decision::BridgeVlan { ingress: true, .. } => &["br_allowed_ingress"],
        Decision::BridgeLocked { .. } => &["br_handle_frame_finish"],
        Decision::BridgeIsolated { .. }
        | Decision::BridgeNoFlood { .. }
        | Decision::BridgeHairpin { .. }
        | Decision::BridgeFdb { .. }
        | Decision::BridgeVlan { .. } => &["br_handle_frame_finish", "br_forward", "br_flood"],
        Decision::DeviceDown => &["br_handle_frame"],
        Decision::OtherHost { .. } | Decision::ArpDisabled { .. } | Decision::BridgeSuppressed { .. } => {
            &["ip_rcv_core", "ip6_rcv_core"]
        }
        Decision::VxlanVni { .. } => &["vxlan_rcv"],
        Decision::VxlanNoRemote { .. } => &["vxlan_xmit"],
        Decision::VxlanPort { .. } => &["__udp4_lib_rcv", "__udp6_lib_rcv", "udp_rcv"],
        Decision::Qdisc { .. } | Decision::NoCarrier { .. } => {
            &["kfree_skb_list", "kfree_skb_list_reason", "__dev_queue_xmit", "__tcf_kfree_skb_list", "noop_enqueue"]
        }
        Decision::Tc { .. } => {
            &["__netif_receive_skb_core", "__netif_receive_skb_core.constprop.0", "__dev_queue_xmit"]
        }
        _ => &[],
    };
    functions.contains(&location)
}

/// Return values that mean this decision.
fn refuses(decision: Option<&Decision>, site: &str, note: &str) -> bool {
    let validates = site.contains("fib_validate_source") || site.contains("ip_route_input");
    match decision {
        Some(Decision::LocalSource { .. }) => validates && (note.contains("LOCAL_SOURCE") || note.contains("EINVAL")),
        Some(Decision::RpFilter { .. }) => validates && (note.contains("RPFILTER") || note.contains("EXDEV")),
        _ => false,
    }
}

/// The RST that this decision answers with, made at the place.
fn reset(case: &Case<'_>, fault: &Fault) -> Option<Evidence> {
    if !resets(fault.loss.decision.as_ref()) {
        return None;
    }
    let place = &fault.loss.place;
    let journey = case.observed.journeys.iter().find(|journey| {
        journey.role == Role::Reset && journey.steps.first().is_some_and(|step| step.netns == place.netns)
    })?;
    let source = journey.steps.iter().find_map(|step| step.sources.first())?;
    let from = journey.headers.src.map_or_else(|| "?".to_owned(), |address| address.to_string());
    let text = format!("an RST from {from} was made in {}", case.netns_name(place.netns));
    Some(Evidence { source: source.clone(), text })
}

/// Whether a segment that opens a connection is answered with an RST by this decision.
fn resets(decision: Option<&Decision>) -> bool {
    matches!(decision, Some(Decision::PortClosed { .. } | Decision::Netfilter { reject: true, .. }))
}

/// What the asker was told: errnos of its own system calls, ICMP errors from the host of the place.
fn told(case: &Case<'_>, fault: &Fault) -> Vec<Evidence> {
    let place = &fault.loss.place;
    let asker = case.recording.question.netns;
    let mut evidence = Vec::new();
    for (index, error) in case.recording.ping.errors.iter().enumerate() {
        let fits = match (error.icmp, error.errno) {
            (Some(icmp), _) => {
                let from = error.offender.is_none_or(|offender| owns(case, place.netns, offender));
                from && icmp_fits(fault.loss.decision.as_ref(), icmp, case.recording.question.dst.is_ipv6())
            }
            // Who refused is not in the errno: the RST tells, or there is only the asker's own host.
            (None, Some(_)) if error.is_refusal() => place.netns == asker && resets(fault.loss.decision.as_ref()),
            (None, Some(errno)) => {
                fault.leg == Leg::Forward && place.netns == asker && errno_fits(fault.loss.decision.as_ref(), errno)
            }
            (None, None) => false,
        };
        if fits {
            evidence.push(Evidence {
                source: Source::PingError(index),
                text: format!("the asker was told: {}", error.text),
            });
            break;
        }
    }
    evidence
}

fn owns(case: &Case<'_>, netns: NetnsId, address: IpAddr) -> bool {
    case.netns(netns).owns(address).is_some()
}

/// ICMP errors (RFC 792, RFC 4443 section 3) that this decision sends.
fn icmp_fits(decision: Option<&Decision>, (kind, code): (u8, u8), ipv6: bool) -> bool {
    match decision {
        Some(Decision::TtlExpired { .. }) => kind == if ipv6 { 3 } else { 11 },
        Some(Decision::TooBig { .. }) => {
            if ipv6 {
                kind == 2
            } else {
                (kind, code) == (3, 4)
            }
        }
        Some(Decision::NotForwarding { .. } | Decision::NoRoute { .. }) => {
            if ipv6 {
                (kind, code) == (1, 0)
            } else {
                kind == 3 && code <= 1
            }
        }
        Some(Decision::RouteKind { .. } | Decision::PolicyRule { .. }) => kind == if ipv6 { 1 } else { 3 },
        Some(Decision::NoOwner { .. } | Decision::ArpIgnored { .. } | Decision::NoCarrier { .. }) => {
            if ipv6 {
                (kind, code) == (1, 3)
            } else {
                (kind, code) == (3, 1)
            }
        }
        Some(Decision::Netfilter { reject: true, .. }) => kind == if ipv6 { 1 } else { 3 },
        Some(Decision::PortClosed { .. }) => {
            if ipv6 {
                (kind, code) == (1, 4)
            } else {
                (kind, code) == (3, 3)
            }
        }
        _ => false,
    }
}

/// errnos of connect(2), bind(2) and sendmsg(2) that this decision gives.
fn errno_fits(decision: Option<&Decision>, errno: i32) -> bool {
    const EPERM: i32 = 1;
    const EACCES: i32 = 13;
    const EINVAL: i32 = 22;
    const EMSGSIZE: i32 = 90;
    const EADDRNOTAVAIL: i32 = 99;
    const ENETUNREACH: i32 = 101;
    const ENOBUFS: i32 = 105;
    const EHOSTUNREACH: i32 = 113;
    match decision {
        Some(Decision::Netfilter { .. } | Decision::Cgroup { .. }) => errno == EPERM,
        Some(Decision::NoRoute { .. }) => matches!(errno, ENETUNREACH | EHOSTUNREACH | EADDRNOTAVAIL),
        Some(Decision::RouteKind { .. } | Decision::PolicyRule { .. }) => {
            matches!(errno, ENETUNREACH | EHOSTUNREACH | EINVAL | EACCES)
        }
        Some(Decision::SourceUnusable { .. }) => matches!(errno, EADDRNOTAVAIL | EINVAL),
        Some(Decision::TooBig { .. }) => errno == EMSGSIZE,
        Some(Decision::Qdisc { .. }) => errno == ENOBUFS,
        Some(Decision::DeviceDown) => matches!(errno, ENETUNREACH | EADDRNOTAVAIL | EHOSTUNREACH),
        Some(Decision::NoOwner { .. } | Decision::ArpIgnored { .. }) => errno == EHOSTUNREACH,
        Some(Decision::Ipsec { .. }) => matches!(errno, EPERM | ENETUNREACH),
        Some(Decision::Ipv6Disabled { .. }) => matches!(errno, EADDRNOTAVAIL | ENETUNREACH | EACCES),
        _ => false,
    }
}

/// The last place where the packet should have been seen, and was.
fn last_seen(case: &Case<'_>, fault: &Fault, seen: &[Sighting<'_>], expected: &[(Device, Way)]) -> Vec<Evidence> {
    let found = expected.iter().rev().find_map(|(device, way)| {
        let sighting = seen.iter().find(|sighting| sighting.device == *device && sighting.way == *way)?;
        Some((sighting, *way))
    });
    let Some((sighting, way)) = found else { return Vec::new() };
    let Some(source) = sighting.sources.first() else { return Vec::new() };
    let verb = match way {
        Way::In => "arrived at",
        Way::Out => "left by",
    };
    vec![Evidence {
        source: source.clone(),
        text: format!(
            "{} {verb} {}, the last place before",
            case.packet_name(fault.role),
            case.place_name(sighting.device)
        ),
    }]
}

/// The first place behind the loss that was watched and saw nothing.
fn absence(case: &Case<'_>, fault: &Fault, beyond: &[(Device, Way)]) -> Vec<Evidence> {
    let checked: BTreeSet<Device> =
        beyond.iter().map(|(device, _)| *device).filter(|device| Some(*device) != fault.loss.place.device()).collect();
    let next = beyond.iter().map(|(device, _)| *device).find(|device| checked.contains(device));
    next.and_then(|device| {
        let absence = Absence::of(fault.role, device, &case.recording.sight)?;
        Some(Evidence {
            source: Source::Absence(absence),
            text: format!("{} was watched and did not see it", case.place_name(device)),
        })
    })
    .into_iter()
    .collect()
}
