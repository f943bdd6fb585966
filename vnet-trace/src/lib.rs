//! Follows a ping through Linux virtual networks and says where it died, why, and how to mend it.
//!
//! *collect* records what the kernel did and how the network is configured; *correlate* and *reconstruct* put
//! the packets' way together; *predict* says what the configuration alone would do; *diagnose* names the cause;
//! *present* tells a person. Everything between [`model::recording::Recording`] and [`model::diagnosis::Diagnosis`] is pure.

pub mod ask;
pub mod cli;
pub mod collect;
pub mod correlate;
pub mod diagnose;
pub mod filter;
pub mod follow;
pub mod lab;
pub mod model;
pub mod packet;
pub mod predict;
pub mod present;
pub mod prove;
pub mod rebuild;
pub mod reconstruct;
pub mod watch;
