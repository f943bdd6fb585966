//! Causes of family bridge: bridges, Open vSwitch, macvlan, ipvlan, overlays.

pub mod bridge_fdb_wrong;
pub mod bridge_filter_drop;
pub mod bridge_hairpin_off;
pub mod bridge_neigh_suppress;
pub mod bridge_netfilter_drop;
pub mod bridge_no_flood;
pub mod bridge_port_blocking;
pub mod bridge_port_isolated;
pub mod bridge_port_locked;
pub mod bridge_vlan_filtered;
pub mod ipvlan_mode_isolation;
pub mod macvlan_parent_isolation;
pub mod macvlan_private;
pub mod macvlan_vepa_no_hairpin;
pub mod ovs_drop;
pub mod vlan_mismatch;
pub mod vxlan_no_remote;
pub mod vxlan_port_mismatch;
pub mod vxlan_vni_mismatch;
