//! The only stage that touches the machine: takes a question and gives a recording.

pub mod bpf;
pub mod clock;
pub mod command;
pub mod connect;
pub mod containers;
pub mod foreign;
pub mod iptables;
pub mod kernel;
pub mod machine;
mod modules;
pub mod netfilter;
pub mod netlink;
pub mod netns;
pub mod nft;
pub mod ovs;
pub mod pcap;
pub mod ping;
pub mod procnet;
pub mod provenance;
pub mod recording_file;
pub mod route_get;
pub mod snapshot;
pub mod sysctl;
pub mod unix_stream;
