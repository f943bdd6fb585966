//! What the kernel did to the packets, told by eBPF probes.
//!
//! Takes a [`ProbeConfig`] (which exchange is asked for, in which namespaces) and gives
//! [`KernelRecord`]s, each one sighting of one packet, and a [`ProbeReport`] for each probe: what could
//! be attached, and what we are blind to otherwise. It does not decide what a record means.
//!
//! Read [`attach`] first: its table says which probe sits where. Then [`record`] for what comes out.

pub mod attach;
pub mod btf;
mod config;
pub mod decode;
mod drain;
pub mod in_place;
mod load;
mod maps;
mod object;
mod offsets;
mod reasons;
pub mod record;
mod release;
mod report;
mod symbols;
mod sys;
#[cfg(test)]
mod trial;

pub use attach::{AttachPoint, Needs, Scope, TABLE, Target, Tier};
pub use config::{Begin, Family, LogLevel, Matching, ProbeConfig, SNAP_MAX, Told, Watched};
pub use drain::{Lost, Probes, PutBy, Sighting};
pub use load::{AttachError, attach};
pub use reasons::Reasons;
pub use record::{Detail, DeviceRef, DropReason, FibLookup, KernelRecord, NeighEvent, ProbeId, VlanTag};
pub use report::{Failure, ProbeReport, WhyNot};
