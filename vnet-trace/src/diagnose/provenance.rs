//! Who made the settings that a finding rests on, and what will make them again once they are mended by hand.
//!
//! Takes the finding with its fault, and what the machine's files say ([`crate::model::provenance`]); gives an [`Origin`] for
//! each decisive setting. A file's line is named as the origin only where its value is the one that was found: a file that
//! says something else is what will come back, not what was. Where nothing tells, the origin is unknown, and that is said.
//!
//! Files are for the machine's own network namespace; others have their settings from whoever made them: a container's
//! engine, or a person.

mod device;
mod rule;
mod sysctl;

use crate::model::diagnosis::{Finding, Source};
use crate::model::exchange::{ArpRefusal, Decision, Fault};
use crate::model::id::NetnsId;
use crate::model::provenance::Origin;
use crate::model::snapshot::{EngineNetwork, Route};

use super::case::Case;

/// Settings told for one finding: more would bury what matters.
const MOST: usize = 4;

/// Where the decisive settings come from.
pub fn origins(case: &Case<'_>, fault: &Fault, finding: &Finding) -> Vec<Origin> {
    let mut origins: Vec<Origin> = Vec::new();
    for evidence in &finding.evidence {
        if let Source::State { netns, what, value } = &evidence.source
            && what.starts_with("net.")
            && !what.contains(' ')
        {
            origins.push(sysctl::origin(case, *netns, what, value));
        }
    }
    let netns = fault.loss.place.netns;
    match &fault.loss.decision {
        Some(Decision::Netfilter { rule, .. } | Decision::ArpIgnored { by: ArpRefusal::Rule(rule) }) => {
            origins.push(rule::origin(case, netns, rule));
        }
        Some(Decision::RouteKind { route, .. } | Decision::PolicyRule { route: Some(route), .. }) => {
            origins.extend(case.netns(netns).routes.get(*route).map(|found| route_origin(case, netns, found)));
        }
        Some(Decision::DeviceDown) => {
            origins.extend(fault.loss.place.device().map(|at| device::set_down(case, at)));
        }
        Some(Decision::NoCarrier { culprit: Some(down) } | Decision::NoRoute { dead: Some(down), .. }) => {
            origins.push(device::set_down(case, *down));
        }
        Some(Decision::ParentIsolation { child, .. }) => origins.push(device::origin(case, *child, "is a child of it")),
        Some(Decision::TooBig { mtu, .. }) => {
            origins.extend(fault.loss.place.device().map(|at| device::origin(case, at, &format!("has MTU {mtu}"))));
        }
        Some(Decision::NotAttached { bridge: Some(bridge) }) => {
            origins.push(device::origin(case, *bridge, "lacks a port"));
        }
        _ => {}
    }
    if finding.code == "nat-missing" {
        origins.extend(unmasqueraded(case));
    }
    let mut told: Vec<Origin> = Vec::new();
    for origin in origins {
        if !told.iter().any(|other| other.setting == origin.setting) && told.len() < MOST {
            told.push(origin);
        }
    }
    told
}

/// Whether a namespace is the machine's own, which the files are for.
fn is_machines(case: &Case<'_>, netns: NetnsId) -> bool {
    let machine = case.snapshot().provenance.machine_netns;
    machine.is_some_and(|inode| case.netns(netns).inode == inode)
}

/// Who put a route there, by RTPROT_* (include/uapi/linux/rtnetlink.h, /etc/iproute2/rt_protos).
fn route_origin(case: &Case<'_>, netns: NetnsId, route: &Route) -> Origin {
    let (by, returns) = match route.protocol {
        1 => (Some("an ICMP redirect"), None),
        2 => (Some("the kernel, with an address of a device"), Some("the address being set again")),
        // RTPROT_BOOT is what `ip route add` writes: a person, a script, a container engine.
        4 => (Some("a network manager or an administrator (proto static)"), Some("a restart of that manager")),
        9 => (Some("a router's advertisement"), Some("the next router advertisement")),
        12 => (Some("BIRD (Calico uses it, among others)"), Some("BIRD, at once")),
        16 => (Some("a DHCP client"), Some("the next DHCP lease")),
        11 | 186..=189 | 192 => (Some("a routing daemon (FRR and the like)"), Some("that daemon, at once")),
        _ => (None, None),
    };
    let setting = format!("route {} in {}", route.dst, case.netns_name(netns));
    Origin { setting, set_by: by.map(str::to_owned), at: None, returns: returns.map(str::to_owned) }
}

/// The network of the asker's container, if it was made without masquerading.
fn unmasqueraded(case: &Case<'_>) -> Option<Origin> {
    let container = case.netns(case.recording.question.netns).container.as_ref()?;
    let named = |name: &str| container.networks.iter().any(|(network, _)| network == name);
    let off = |network: &&EngineNetwork| {
        network.options.get("com.docker.network.bridge.enable_ip_masquerade").is_some_and(|value| value == "false")
    };
    let network = case.snapshot().engine_networks.iter().filter(off).find(|network| named(&network.name))?;
    Some(Origin {
        setting: format!("no masquerading for the network {}", network.name),
        set_by: Some("whoever made the network (Docker option enable_ip_masquerade=false)".to_owned()),
        at: None,
        returns: None,
    })
}

/// Who makes a namespace anew, and everything in it: for namespaces that are not the machine's own.
fn remade(case: &Case<'_>, netns: NetnsId) -> Option<String> {
    let container = case.netns(netns).container.as_ref()?;
    Some(format!("a restart of the container {}, which gets a new network namespace", container.name))
}
