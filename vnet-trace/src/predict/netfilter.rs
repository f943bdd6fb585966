//! What the packet filter makes of a packet: a pure evaluator of nftables, iptables, ebtables and arptables rules.
//!
//! Takes a [`crate::model::netfilter::Ruleset`], a place ([`context::HookContext`]), a packet ([`packet::Packet`]) and somebody
//! who answers for the host ([`context::Oracle`]). Gives an [`outcome::Evaluation`]: accepted, lost at this rule, or undecided
//! because of these rules.
//!
//! It deliberately does not follow the packet from hook to hook, route it, or translate packets of known connections: the
//! caller does, with the effects given here and with [`packet::NatBinding`].

mod command;
mod condition;
pub mod context;
mod counters;
mod fix;
mod mangle;
mod nat;
pub mod outcome;
mod owner;
pub mod packet;
mod raw;
mod read;
mod walk;
pub mod words;

pub use command::nft_comment;
pub use counters::counters_increased;
pub use fix::narrow_fix;
pub use mangle::in_ip_header;
pub use owner::{Owner, owner_of};
pub use walk::{chains_at, evaluate};
