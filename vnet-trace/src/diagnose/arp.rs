//! Causes of family arp: address resolution, ARP and neighbour discovery.

pub mod address_on_port;
pub mod arp_disabled;
pub mod arp_ignored;
pub mod arp_no_owner;
pub mod duplicate_address;
pub mod duplicate_mac;
pub mod ipv6_disabled;
pub mod nd_dad_failed;
pub mod neigh_table_full;
