//! The plain data that every stage reads and writes: what was asked, what the machine looked like,
//! what was seen, and what it means. No I/O, no clock, no text for people.
//!
//! Read in this order: [`question`], [`snapshot`], [`event`] and [`frame`], [`recording`], then what
//! the pure stages make of them: [`exchange`] and [`diagnosis`].

pub mod diagnosis;
pub mod event;
pub mod evidence;
pub mod exchange;
pub mod frame;
pub mod id;
pub mod machine;
pub mod netfilter;
pub mod ovs;
pub mod proof;
pub mod provenance;
pub mod question;
pub mod recording;
pub mod seen;
pub mod sight;
pub mod snapshot;
