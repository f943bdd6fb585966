//! A loss in a namespace of which nothing could be read, where only the kernel's reason tells what happened.
//!
//! A few reasons stand for one cause and no other. What in the configuration it was cannot be said, and so there is no command
//! that mends it; but that, and where, is worth more than "undecided". The others are a lead: `NETFILTER_DROP` is the reason of
//! IP's rules, of a bridge's, and of connection tracking alike.

use super::case::{Case, fix};
use super::confirm::{sightings, steps};
use crate::model::diagnosis::{Evidence, Finding, Grade, Risk};
use crate::model::exchange::{Action, Fault, Headers, Leg, Loss, Place, Role};

/// The kernel's reason (include/net/dropreason-core.h), the cause that it stands for, and how it is said.
const TELLING: &[(&str, &str, &str)] = &[
    ("IP_RPFILTER", "rp-filter", "the reverse-path filter drops"),
    ("IP_LOCAL_SOURCE", "martian-local-source", "the kernel takes the source for an address of its own, and drops"),
    ("XFRM_POLICY", "ipsec-policy", "an IPsec policy drops"),
    ("PKT_TOO_BIG", "mtu-exceeded", "a device with a smaller MTU drops"),
    ("IPV6DISABLED", "ipv6-disabled", "IPv6 is disabled there, so that the kernel drops"),
    ("VXLAN_VNI_NOT_FOUND", "vxlan-vni-mismatch", "no tunnel there has its VNI, so that the kernel drops"),
    ("BPF_CGROUP_EGRESS", "cgroup-bpf-drop", "a cgroup's BPF program drops"),
];

/// The cause, if the kernel reported one in a namespace that could not be read; else what it reported goes to the leads.
pub fn find(case: &Case<'_>, leads: &mut Vec<String>) -> Option<Finding> {
    let replied = !sightings(case, Role::Reply, Leg::Return, None).is_empty();
    let (role, leg) = if replied { (Role::Reply, Leg::Return) } else { (Role::Request, Leg::Forward) };
    let packet = case.packet_name(role);
    for step in steps(case, role, leg) {
        let Action::Dropped { reason: Some(reason), location } = &step.action else { continue };
        if !case.is_closed(step.netns) {
            continue;
        }
        let place = Place { netns: step.netns, device: step.device, function: location.clone() };
        let at = case.at(&place);
        let by = location.as_deref().map_or_else(String::new, |location| format!(" in {location}"));
        let reported = format!("the kernel dropped {packet} at {at}{by}: {reason}");
        let title =
            format!("ask again as root, or with CAP_SYS_ADMIN, so that {} can be read", case.netns_name(step.netns));
        let Some((_, code, says)) = TELLING.iter().find(|(telling, ..)| telling == reason) else {
            let lead = format!("{reported}; to know why, {title}");
            if !leads.contains(&lead) {
                leads.push(lead);
            }
            continue;
        };
        let loss = Loss { place, decision: None, certain: true };
        let fault = Fault { role, leg, loss, underlay: false, headers: Headers::default() };
        let summary = format!("{says} {packet} at {at}; which setting it is could not be read there");
        let mut finding = case.finding(&fault, code, summary);
        finding.grade = Grade::Witnessed;
        finding.evidence.extend(step.sources.first().map(|source| Evidence { source: source.clone(), text: reported }));
        finding.fixes.push(fix(&title, Risk::NeedsChoice, Vec::new(), Vec::new(), ""));
        return Some(finding);
    }
    None
}
