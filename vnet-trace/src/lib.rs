//! vnet-trace
