//! What could not be read of the namespaces that a packet passes.
//!
//! A part that is not there looks like one that is empty: without its routes a namespace has no route, without its rules it
//! lets everything pass. Whoever draws a conclusion from the configuration of a namespace asks here first.

use crate::model::id::NetnsId;
use crate::model::netfilter::Backend;
use crate::model::snapshot::{LinkKind, Part};

use super::case::Case;

/// The unread parts of a namespace that could decide over a packet of this question.
pub fn parts(case: &Case<'_>, netns: NetnsId) -> Vec<Part> {
    let Some(space) = case.snapshot().netns(netns) else { return vec![Part::Everything] };
    let bridges = space.links.iter().any(|link| matches!(link.kind, LinkKind::Bridge(_)));
    let ipv4 = case.recording.question.dst.is_ipv4();
    let decides = |backend: Backend| match backend {
        Backend::Nft | Backend::IptablesNft | Backend::IptablesLegacy => true,
        Backend::EbtablesNft | Backend::EbtablesLegacy => bridges,
        Backend::ArptablesNft | Backend::ArptablesLegacy => ipv4,
    };
    let filter = space.netfilter.unread().any(decides).then_some(Part::Netfilter);
    // One that was not read may have the other end of any device, or any address.
    let elsewhere = |part: Part| case.snapshot().namespaces.iter().any(|space| space.unread.contains(&part));
    let whole = [Part::Everything, Part::Addresses].into_iter().filter(|part| elsewhere(*part));
    let mut parts: Vec<Part> = space.unread.iter().copied().chain(filter).chain(whole).collect();
    parts.sort_unstable();
    parts.dedup();
    parts
}

/// The part in words.
pub fn word(part: Part) -> &'static str {
    match part {
        Part::Everything => "the whole configuration",
        Part::Addresses => "the addresses",
        Part::Routes => "the routes",
        Part::Rules => "the policy rules",
        Part::Neighbours => "the neighbours",
        Part::Fdb => "the forwarding databases",
        Part::Vlans => "the VLANs of bridges",
        Part::Qdiscs => "the queueing disciplines",
        Part::Filters => "the tc filters",
        Part::Netfilter => "the packet-filter rules",
        Part::Ipsec => "the IPsec policies",
        Part::Settings => "the settings",
    }
}
