//! The only stage that touches the machine: takes a question and gives a recording.

pub mod kernel;
pub mod clock;
pub mod netlink;
pub mod netns;
pub mod ping;
pub mod snapshot;
pub mod sysctl;
