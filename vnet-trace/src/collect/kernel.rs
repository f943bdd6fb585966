//! What the kernel did to the packets, told by eBPF probes.
//!
//! Takes a configuration (which exchange is asked for, in which namespaces) and gives
//! [`KernelRecord`]s, each one sighting of one packet, and a report of what could be attached and
//! what could not. It does not decide what a record means.
//!
//! Read `attach` first: its table says which probe sits where, and what we are blind to without it.
//! Then [`record`] for what comes out.

pub mod record;

pub use record::{Detail, DeviceRef, DropReason, FibLookup, KernelRecord, NeighEvent, VlanTag};
