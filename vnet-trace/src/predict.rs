//! What the machine would do with a packet, from its configuration alone.

pub mod netfilter;
