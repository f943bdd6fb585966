//! The only stage that touches the machine: takes a question and gives a recording.

pub mod kernel;
pub mod netlink;
pub mod netns;
pub mod snapshot;
pub mod sysctl;
