//! Causes of family filter: filters, NAT, connection tracking, sockets, the hosts themselves.

pub mod checksum_error;
pub mod conntrack_invalid;
pub mod echo_ignored;
pub mod ipsec_policy;
pub mod nat_missing;
pub mod netfilter_drop;
pub mod port_closed;
pub mod remote_silent;
pub mod socket_bound_elsewhere;
pub mod socket_overflow;
