//! Causes of family link: devices, carrier, MTU, queueing disciplines, programs at devices.

pub mod cgroup_bpf_drop;
pub mod link_down;
pub mod mac_mismatch;
pub mod mtu_exceeded;
pub mod no_carrier;
pub mod not_attached;
pub mod peer_down;
pub mod qdisc_drop;
pub mod tc_drop;
pub mod xdp_drop;
