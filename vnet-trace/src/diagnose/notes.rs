//! Notes: nothing is lost by these, but a person may wonder.

pub mod arp_cached;
pub mod asymmetric_path;
pub mod duplicate_route;
pub mod local_delivery;
pub mod loopback_reply;
pub mod nat_rewritten;
pub mod scope_missing;
pub mod udp_unanswered;
pub mod vxlan_underlay_lost;

use super::case::Case;
use crate::model::diagnosis::Note;

/// A note's check.
pub type Check = fn(&Case<'_>) -> Option<Note>;

/// Every note, in the order of the documentation.
pub const NOTES: &[(&str, Check)] = &[
    ("loopback-reply", loopback_reply::check),
    ("arp-cached", arp_cached::check),
    ("local-delivery", local_delivery::check),
    ("nat-rewritten", nat_rewritten::check),
    ("asymmetric-path", asymmetric_path::check),
    ("duplicate-route", duplicate_route::check),
    ("scope-missing", scope_missing::check),
    ("udp-unanswered", udp_unanswered::check),
    ("vxlan-underlay-lost", vxlan_underlay_lost::check),
];
