//! vnet-trace

pub mod collect;
