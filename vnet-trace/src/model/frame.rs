//! One sighting of a packet by capture (libpcap) on a device: the second, independent witness.

use serde::{Deserialize, Serialize};

use super::event::serde_bytes_vec;
use super::id::{Device, Nanos};

/// A captured frame.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// When, on the clock of the events.
    pub time: Nanos,
    /// Where.
    pub device: Device,
    /// Which way it went.
    pub direction: Direction,
    /// The bytes, from the link-layer header on ([`Frame::link`] says which).
    #[serde(with = "serde_bytes_vec")]
    pub bytes: Vec<u8>,
    /// Length on the wire in bytes; `bytes` may be shorter.
    pub len: u32,
    /// What `bytes` begins with.
    pub link: LinkLayer,
}

/// Which way a frame went through the device it was captured on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Received by the device.
    In,
    /// Sent by the device.
    Out,
    /// The capture does not say.
    Unknown,
}

/// The first header of a captured frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LinkLayer {
    /// Ethernet II, possibly with VLAN tags.
    Ethernet,
    /// No link-layer header: an IP packet (tun devices).
    Ip,
}
