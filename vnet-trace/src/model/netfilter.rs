//! Rules of nftables, iptables, ebtables and arptables as plain data.
// Placeholder: the netfilter branch brings the full model and keeps these three names and fields.

use serde::{Deserialize, Serialize};

/// All rules of one namespace.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Ruleset {}

/// Netfilter hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    /// Before routing.
    Prerouting,
    /// To this host.
    Input,
    /// Through this host.
    Forward,
    /// From this host.
    Output,
    /// After routing.
    Postrouting,
    /// As a frame enters a device.
    Ingress,
    /// As a frame leaves a device.
    Egress,
}

/// A rule or chain policy, named as its tool names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleRef {
    /// `nft`, `iptables-nft`, `iptables-legacy`, …
    pub backend: String,
    /// `ip`, `ip6`, `inet`, `bridge`, `arp`, `netdev`.
    pub family: String,
    /// Table.
    pub table: String,
    /// Chain.
    pub chain: String,
    /// nft handle.
    pub handle: Option<u64>,
    /// Position in the chain, from 0; None for the policy.
    pub index: Option<usize>,
    /// The rule as its tool prints it, or `policy drop`.
    pub text: String,
    /// It is the chain's policy.
    pub policy: bool,
}
