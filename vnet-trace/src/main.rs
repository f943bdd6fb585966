//! vnet-trace
fn main() {}
