//! A loss that the configuration does not foretell: what was seen, and what on the way can't be read.
//!
//! The prediction says that the packet passes; it did not. Something on the way judged it that no model covers (a program, a
//! user-space switch, a rule that the evaluator does not understand), or the kernel says itself why it dropped it, or it
//! left what we can see. The place is where the prediction and the sightings part.

use std::collections::BTreeSet;

use crate::model::exchange::{Action, Decision, Fate, Fault, Journey, Leg, Loss, Opaque, Place, Role, Step};
use crate::model::id::{Device, NetnsId};
use crate::model::netfilter::RuleRef;
use crate::model::recording::PingError;
use crate::model::snapshot::{Link, LinkKind};

use super::case::Case;
use super::confirm::{Sighting, Way, fits, sightings, steps};

/// The fault behind a loss that was not foretold, and what is known if there is none that can be named.
pub fn explain(case: &Case<'_>) -> (Option<Fault>, Vec<String>) {
    let mut leads = Vec::new();
    if case.recording.ping.sent == 0 {
        // Refused before any device could see it.
        let refused = case.predicted.with_role(Role::Request, Leg::Forward).find_map(|journey| by_errno(case, journey));
        if refused.is_some() {
            return (refused, leads);
        }
    }
    for journey in &case.predicted.journeys {
        let seen = sightings(case, journey.role, journey.leg, journey.headers.dst);
        let parted = parting(case, journey, &seen);
        let Some(part) = parted else {
            continue;
        };
        if let Some(fault) = by_event(case, journey, &part).or_else(|| by_opaque(case, journey, &part, &mut leads)) {
            return (Some(fault), leads);
        }
        if let Some(fault) = beyond_sight(case, journey, &mut leads) {
            return (Some(fault), leads);
        }
        leads.extend(upcall_lost(case, journey));
        leads.extend(unread(case, journey, &part));
        leads.push(lead(case, journey, &part));
        return (None, leads);
    }
    // Everything was seen to its predicted end, or nothing was watched.
    for journey in &case.predicted.journeys {
        let part = Part { from: 0, to: journey.steps.len(), last: None };
        let reported = by_event(case, journey, &part).or_else(|| by_errno(case, journey));
        if let Some(fault) = reported {
            return (Some(fault), leads);
        }
        if let Some(fault) = beyond_sight(case, journey, &mut leads) {
            return (Some(fault), leads);
        }
    }
    (None, leads)
}

/// The stretch of a predicted journey in which the packet vanished: after the last step that was seen, up to the first that
/// was watched and not seen.
pub(super) struct Part {
    /// Position of the first step in it.
    from: usize,
    /// Position behind its last step.
    pub(super) to: usize,
    /// Where the packet was seen last.
    pub(super) last: Option<Device>,
}

/// Where what was seen of a journey leaves it, if the packet vanished.
pub(super) fn parting(case: &Case<'_>, journey: &Journey, seen: &[Sighting<'_>]) -> Option<Part> {
    let passes = |step: &Step| -> Option<(Device, Way)> {
        let device = Device::new(step.netns, step.device?);
        match step.action {
            Action::Received => Some((device, Way::In)),
            Action::Transmitted => Some((device, Way::Out)),
            _ => None,
        }
    };
    let mut from = 0;
    let mut last = None;
    let mut any = false;
    for (index, step) in journey.steps.iter().enumerate() {
        let Some((device, way)) = passes(step) else { continue };
        if seen.iter().any(|sighting| sighting.device == device && sighting.way == way) {
            from = index;
            last = Some(device);
            any = true;
        }
    }
    let start = if any { from + 1 } else { 0 };
    let missed = journey.steps.iter().enumerate().skip(start).find(|(_, step)| {
        passes(step).is_some_and(|(device, _)| {
            case.recording.sight.watched(device)
                && case.link(device).is_some_and(|link| {
                    !link.is_loopback() && !matches!(link.kind, LinkKind::Vrf { .. } | LinkKind::Openvswitch)
                })
        })
    });
    // Nothing was seen of it at all, and it was not even waited for: it belongs to a later part of the exchange.
    let reached_end = any && missed.is_none() && matches!(journey.fate, Fate::Delivered { .. });
    if reached_end && !is_answered(case, journey) {
        return Some(Part { from: start, to: journey.steps.len(), last });
    }
    let (to, _) = missed?;
    Some(Part { from: start, to: to + 1, last })
}

/// Whether what follows from a packet's delivery was seen: a reply to the request, an answer to the question.
fn is_answered(case: &Case<'_>, journey: &Journey) -> bool {
    match journey.role {
        Role::Request => !sightings(case, Role::Reply, Leg::Return, None).is_empty() || over_lo(case),
        Role::Reply => case.recording.is_delivered(),
        _ => true,
    }
}

/// The reply is expected to stay inside its namespace, where it may not be seen.
fn over_lo(case: &Case<'_>) -> bool {
    case.predicted.with_role(Role::Reply, Leg::Return).next().is_some_and(|reply| {
        reply
            .steps
            .iter()
            .filter_map(|step| Some(Device::new(step.netns, step.device?)))
            .all(|device| case.link(device).is_some_and(crate::model::snapshot::Link::is_loopback))
    })
}

fn fault(journey: &Journey, place: Place, decision: Decision) -> Fault {
    Fault {
        role: journey.role,
        leg: journey.leg,
        loss: Loss { place, decision: Some(decision), certain: true },
        underlay: false,
        headers: journey.headers.clone(),
    }
}

/// The kernel said why.
fn by_event(case: &Case<'_>, journey: &Journey, part: &Part) -> Option<Fault> {
    for step in steps(case, journey.role, journey.leg) {
        let Action::Dropped { reason: Some(reason), location } = &step.action else { continue };
        let place = Place { netns: step.netns, device: step.device, function: location.clone() };
        let device = place.device();
        if let Some(found) = opaques(journey, part).into_iter().find_map(|(at, opaque)| {
            let decision = decision_of(opaque)?;
            let here =
                at.netns == place.netns && (at.device == place.device || at.device.is_none() || place.device.is_none());
            (here && fits(Some(&decision), reason)).then_some(decision)
        }) {
            return Some(fault(journey, place, found));
        }
        let decision = match reason.as_str() {
            "TC_INGRESS" => {
                Decision::Tc { filter: device.and_then(|device| only_filter(case, device, true)), ingress: true }
            }
            "TC_EGRESS" => {
                Decision::Tc { filter: device.and_then(|device| only_filter(case, device, false)), ingress: false }
            }
            "XDP" => Decision::Xdp { id: None },
            // A device without carrier gives this reason as well, which its configuration would tell.
            "QDISC_DROP" if case.is_closed(step.netns) => continue,
            "QDISC_DROP" if device.is_some_and(|device| has_lost_carrier(case, device)) => {
                Decision::NoCarrier { culprit: None }
            }
            "QDISC_DROP" | "OVERLIMIT" | "CONGESTED" => {
                let qdisc = device.and_then(|device| {
                    case.netns(device.netns).qdiscs.iter().position(|qdisc| qdisc.ifindex == device.ifindex)
                });
                Decision::Qdisc { qdisc }
            }
            "IP_CSUM" => checksum(journey, "ip"),
            "ICMP_CSUM" | "SKB_CSUM" => checksum(journey, "icmp"),
            "SOCKET_RCVBUFF" => Decision::SocketOverflow,
            "NO_SOCKET" if journey.role == Role::Request => match case.recording.question.port() {
                Some(port) => Decision::PortClosed { port, elsewhere: None },
                None => continue,
            },
            "NEIGH_CREATEFAIL" => Decision::NeighTableFull,
            "LOCAL_MAC" => continue,
            _ => continue,
        };
        return Some(fault(journey, place, decision));
    }
    None
}

/// The device had carrier when it was asked, and has none now: linkwatch tells it with a delay of up to a second. What it was
/// given in between, its noop qdisc dropped.
fn has_lost_carrier(case: &Case<'_>, device: Device) -> bool {
    let after = case.recording.after.as_ref().and_then(|after| after.link(device));
    after.is_some_and(Link::lacks_carrier)
}

/// The only filter of a device in one direction, if there is just one.
fn only_filter(case: &Case<'_>, device: Device, ingress: bool) -> Option<usize> {
    let netns = case.netns(device.netns);
    let mut fitting = netns
        .filters
        .iter()
        .enumerate()
        .filter(|(_, filter)| filter.ifindex == device.ifindex && filter.ingress == ingress);
    let first = fitting.next()?;
    fitting.next().is_none().then_some(first.0)
}

/// The rule that rewrote bytes of the packet on its way, if there is just one.
fn rewriter(journey: &Journey) -> Option<(NetnsId, RuleRef)> {
    let mut found = journey.steps.iter().filter_map(|step| match &step.action {
        Action::Hook { rules, .. } if rules.len() == 1 => Some((step.netns, rules[0].clone())),
        Action::Rewritten { rule: Some(rule), .. } => Some((step.netns, rule.clone())),
        _ => None,
    });
    let first = found.next()?;
    found.all(|other| other == first).then_some(first)
}

/// A wrong checksum, with the rule that most likely left it so.
fn checksum(journey: &Journey, layer: &str) -> Decision {
    let rewriter = rewriter(journey);
    Decision::Checksum {
        layer: layer.to_owned(),
        netns: rewriter.as_ref().map(|(netns, _)| *netns),
        rule: rewriter.map(|(_, rule)| rule),
    }
}

/// What can't be read, in the stretch in which the packet vanished.
pub(super) fn opaques<'a>(journey: &'a Journey, part: &Part) -> Vec<(Place, &'a Opaque)> {
    journey.steps[part.from.min(journey.steps.len())..part.to.min(journey.steps.len())]
        .iter()
        .filter_map(|step| match &step.action {
            Action::Opaque(opaque) => Some((Place { netns: step.netns, device: step.device, function: None }, opaque)),
            _ => None,
        })
        .collect()
}

/// What an opaque thing does to a packet that it drops. None of a switch that can't be read: that no flow matches would be a
/// guess, and to add one might open what a flow forbids.
fn decision_of(opaque: &Opaque) -> Option<Decision> {
    Some(match opaque {
        Opaque::Xdp { id, .. } => Decision::Xdp { id: Some(*id) },
        Opaque::Tc { filter, ingress } => Decision::Tc { filter: Some(*filter), ingress: *ingress },
        Opaque::Cgroup { program } => Decision::Cgroup { program: Some(*program) },
        Opaque::Qdisc { qdisc } => Decision::Qdisc { qdisc: Some(*qdisc) },
        Opaque::Rule { hook, rules } => Decision::Netfilter {
            hook: *hook,
            rule: rules.first()?.clone(),
            invalid: false,
            reject: false,
            bridged: false,
            certain: false,
        },
        Opaque::Switch { .. } => return None,
        Opaque::Outside => Decision::RemoteSilent,
    })
}

/// One thing that can't be read stands where the packet vanished.
fn by_opaque(case: &Case<'_>, journey: &Journey, part: &Part, leads: &mut Vec<String>) -> Option<Fault> {
    let found = opaques(journey, part);
    match found.as_slice() {
        [] => None,
        [(place, opaque)] if decision_of(opaque).is_some() => {
            let function = match opaque {
                Opaque::Xdp { .. } => "do_xdp_generic",
                Opaque::Tc { ingress: true, .. } => "__netif_receive_skb_core",
                Opaque::Tc { .. } | Opaque::Qdisc { .. } => "__dev_queue_xmit",
                Opaque::Cgroup { .. } => "__cgroup_bpf_run_filter_skb",
                _ => "nf_hook_slow",
            };
            let place = Place { function: Some(function.to_owned()), ..place.clone() };
            Some(fault(journey, place, decision_of(opaque)?))
        }
        suspects => {
            for (place, opaque) in suspects {
                leads.push(format!("{} at {} may have dropped it", word(opaque), case.at(place)));
            }
            None
        }
    }
}

/// What it is, in words.
pub fn word(opaque: &Opaque) -> String {
    match opaque {
        Opaque::Xdp { id, .. } => format!("XDP program {id}"),
        Opaque::Tc { ingress, .. } => format!("a tc filter on {}", if *ingress { "ingress" } else { "egress" }),
        Opaque::Cgroup { .. } => "a cgroup program".to_owned(),
        Opaque::Qdisc { .. } => "a queueing discipline".to_owned(),
        Opaque::Rule { rules, .. } => {
            rules.first().map_or_else(|| "a rule".to_owned(), |rule| format!("the rule {}", rule.text))
        }
        Opaque::Switch { bridge } => format!("Open vSwitch bridge {bridge}"),
        Opaque::Outside => "something outside".to_owned(),
    }
}

/// sendmsg(2) was refused before any device saw the packet: the asker's own cgroup programs or output rules.
fn by_errno(case: &Case<'_>, journey: &Journey) -> Option<Fault> {
    const EPERM: i32 = 1;
    if journey.role != Role::Request || !case.recording.ping.errors.iter().any(|error| error.errno == Some(EPERM)) {
        return None;
    }
    let place = Place {
        netns: case.recording.question.netns,
        device: None,
        function: Some("__cgroup_bpf_run_filter_skb".to_owned()),
    };
    let egress = case.snapshot().cgroup_programs.iter().position(|program| program.attach.contains("egress"))?;
    Some(fault(journey, place, Decision::Cgroup { program: Some(egress) }))
}

/// It left what we can see, as it should.
fn beyond_sight(case: &Case<'_>, journey: &Journey, leads: &mut Vec<String>) -> Option<Fault> {
    let last = match &journey.fate {
        Fate::OutOfSight { last } => *last,
        Fate::Lost(loss) if loss.decision == Some(Decision::RemoteSilent) => loss.place.device()?,
        _ => return None,
    };
    let seen = sightings(case, journey.role, journey.leg, None);
    let watched = case.recording.sight.watched(last);
    let left = seen.iter().any(|sighting| sighting.device == last && sighting.way == Way::Out);
    if watched && !left {
        return None;
    }
    let refused = case.recording.ping.errors.iter().any(is_refusal);
    let decision = match case.recording.question.port() {
        Some(port) if refused => Decision::PortClosed { port, elsewhere: None },
        _ if !case.leads_out(last) => {
            leads.push(format!(
                "{} leaves by {}, and what its other end does with it is not known: {}",
                case.packet_name(journey.role),
                case.place_name(last),
                case.hidden_end(last)
            ));
            return None;
        }
        _ => Decision::RemoteSilent,
    };
    Some(fault(journey, Place::at(last, "net_dev_start_xmit"), decision))
}

/// An RST, or an ICMP error of the kind port unreachable.
fn is_refusal(error: &PingError) -> bool {
    error.is_refusal() || matches!((error.icmp, error.offender), (Some((3, 3) | (1, 4)), _))
}

/// The packet had no flow in the kernel, and could not be handed up to Open vSwitch's daemon: where an upcall fails, and only
/// there, `ovs_dp_process_packet` (net/openvswitch/datapath.c) drops it. Nobody listens, or the daemon does not keep up.
fn upcall_lost(case: &Case<'_>, journey: &Journey) -> Option<String> {
    let dropped = steps(case, journey.role, journey.leg).into_iter().find(|step| {
        matches!(&step.action, Action::Dropped { location: Some(location), .. } if location == "ovs_dp_process_packet")
    })?;
    let place = Place { netns: dropped.netns, device: dropped.device, function: None };
    Some(format!(
        "the kernel dropped {} at {}, where Open vSwitch hands it up to ovs-vswitchd for want of a flow: see whether \
         ovs-vswitchd runs, and whether `lost` grows in `ovs-dpctl show`",
        case.packet_name(journey.role),
        case.at(&place)
    ))
}

/// What was not read of the namespaces in which it vanished.
fn unread(case: &Case<'_>, journey: &Journey, part: &Part) -> Vec<String> {
    let end = part.to.min(journey.steps.len());
    let stretch = &journey.steps[part.from.saturating_sub(1).min(end)..end];
    let namespaces: BTreeSet<NetnsId> = stretch.iter().map(|step| step.netns).collect();
    let unread = namespaces.into_iter().flat_map(|netns| {
        super::unread::parts(case, netns).into_iter().map(move |part| (netns, super::unread::word(part)))
    });
    unread
        .map(|(netns, what)| {
            format!("{what} of {} could not be read, and may be why", case.snapshot().netns_name(netns))
        })
        .collect()
}

fn lead(case: &Case<'_>, journey: &Journey, part: &Part) -> String {
    let packet = case.packet_name(journey.role);
    let next =
        journey.steps.get(part.to.saturating_sub(1)).and_then(|step| Some(Device::new(step.netns, step.device?)));
    match (part.last, next) {
        (Some(last), Some(next)) if last != next => format!(
            "{packet} was seen at {} and not at {}, where the configuration would have brought it: look at what is between them",
            case.place_name(last),
            case.place_name(next)
        ),
        (Some(last), _) => format!(
            "{packet} was last seen at {}, and nothing in the configuration stops it there",
            case.place_name(last)
        ),
        (None, Some(next)) => {
            format!("{packet} was not even seen at {}, the first device on its way", case.place_name(next))
        }
        (None, None) => format!("{packet} was not seen"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::bench::World;
    use crate::model::exchange::Exchange;
    use crate::model::ovs::{OvsBridge, OvsInterface, OvsPort};

    /// `a/eth0` and `b/eth0` behind the ports `./p1` and `./p2` of an Open vSwitch bridge whose flows can't be read.
    fn unreadable_switch() -> World {
        let world = World::new()
            .veth("./p1", "a/eth0")
            .veth("./p2", "b/eth0")
            .address("a/eth0", "10.0.0.1/24")
            .address("b/eth0", "10.0.0.2/24")
            .ask("a", "10.0.0.2");
        let ports = [("p1", 1), ("p2", 2)].map(|(name, ofport)| {
            let device = Some(world.device(&format!("./{name}")));
            let interface =
                OvsInterface { name: name.to_owned(), device, ofport: Some(ofport), ..OvsInterface::default() };
            OvsPort { name: name.to_owned(), interfaces: vec![interface], ..OvsPort::default() }
        });
        let bridge =
            OvsBridge { name: "br".to_owned(), flows_unread: true, ports: ports.into(), ..OvsBridge::default() };
        world.machine(|snapshot| snapshot.ovs.push(bridge))
    }

    #[test]
    fn a_switch_that_cannot_be_read_is_a_lead_and_no_cause() {
        unreadable_switch().look(|case| {
            let journey = case.predicted.with_role(Role::ArpRequest, Leg::Forward).next().expect("asks by ARP");
            let part = Part { from: 0, to: journey.steps.len(), last: None };
            assert_eq!(opaques(journey, &part).len(), 1);
            let mut leads = Vec::new();
            assert_eq!(by_opaque(case, journey, &part, &mut leads), None);
            assert_eq!(leads, ["Open vSwitch bridge br at p1 may have dropped it"]);
        });
    }

    #[test]
    fn a_packet_that_was_not_taken_up_to_the_daemon_is_told() {
        let world = unreadable_switch();
        let port = world.device("./p1");
        let lead = |location: &str| {
            world.look(|case| {
                let mut journey =
                    case.predicted.with_role(Role::ArpRequest, Leg::Forward).next().expect("asks by ARP").clone();
                let action = Action::Dropped { reason: None, location: Some(location.to_owned()) };
                let (netns, device) = (port.netns, Some(port.ifindex));
                journey.steps.push(Step { time: None, netns, device, action, sources: Vec::new() });
                let observed = Exchange { journeys: vec![journey.clone()], ..Exchange::default() };
                upcall_lost(&Case { observed: &observed, ..*case }, &journey)
            })
        };
        assert!(
            lead("ovs_dp_process_packet").is_some_and(|lead| lead.contains("at p1, where Open vSwitch hands it up"))
        );
        assert_eq!(lead("do_execute_actions"), None);
    }
}
