//! What the kernel did to the packets, told by eBPF probes.
//!
//! Takes a [`ProbeConfig`] (which exchange is asked for, in which namespaces) and gives
//! [`KernelRecord`]s, each one sighting of one packet, and a [`ProbeReport`] for each probe: what could
//! be attached, and what we are blind to otherwise. It does not decide what a record means.
//!
//! Read [`attach`] first: its table says which probe sits where. Then [`record`] for what comes out.

pub mod attach;
pub mod btf;
pub mod decode;
mod drain;
pub mod load;
mod offsets;
mod reasons;
pub mod record;
mod symbols;

pub use attach::{AttachPoint, Needs, TABLE, Target, Tier};
pub use drain::{Lost, Probes, Sighting};
pub use load::{
    AttachError, Failure, LogLevel, Matching, ProbeConfig, ProbeReport, SNAP_MAX, Told, Watched, WhyNot, attach,
};
pub use reasons::Reasons;
pub use record::{Detail, DeviceRef, DropReason, FibLookup, KernelRecord, NeighEvent, VlanTag};
