//! Open vSwitch as its own databases and daemons describe it.

use serde::{Deserialize, Serialize};

use super::id::Device;

/// One bridge of Open vSwitch.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct OvsBridge {
    /// Name, also that of its local port.
    pub name: String,
    /// `system` (kernel) or `netdev` (userspace).
    pub datapath_type: String,
    /// `standalone` or `secure`; None is standalone.
    pub fail_mode: Option<String>,
    /// Ports.
    pub ports: Vec<OvsPort>,
    /// `ovs-ofctl dump-flows`, a line each.
    pub flows: Vec<String>,
    /// The flows could not be read.
    #[serde(default)]
    pub flows_unread: bool,
    /// `ofproto/trace` answers that were asked for this question.
    pub traces: Vec<OvsTrace>,
}

/// One port.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct OvsPort {
    /// Name of the port.
    pub name: String,
    /// Its interfaces (more than one for a bond).
    pub interfaces: Vec<OvsInterface>,
    /// Access VLAN.
    pub tag: Option<u16>,
    /// Trunked VLANs; empty is all.
    pub trunks: Vec<u16>,
    /// `access`, `trunk`, `native-tagged`, `native-untagged`; None is by `tag`.
    pub vlan_mode: Option<String>,
}

/// One interface of a port.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct OvsInterface {
    /// Name.
    pub name: String,
    /// `system`, `internal`, `patch`, `vxlan`, …
    pub kind: String,
    /// The kernel device, if there is one in the snapshot.
    pub device: Option<Device>,
    /// OpenFlow port number.
    pub ofport: Option<i32>,
    /// `peer` of a patch port, `remote_ip` of a tunnel.
    pub options: Vec<(String, String)>,
}

/// What `ovs-appctl ofproto/trace` said about one packet.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct OvsTrace {
    /// The flow it was asked about.
    pub flow: String,
    /// The answer, whole.
    pub text: String,
}
