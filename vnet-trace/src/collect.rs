//! The only stage that touches the machine: takes a question and gives a recording.

pub mod clock;
pub mod iptables;
pub mod kernel;
pub mod netfilter;
pub mod netlink;
pub mod netns;
pub mod nft;
pub mod ping;
pub mod snapshot;
pub mod sysctl;
