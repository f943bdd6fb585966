//! Names the cause of a loss. The vocabulary is [`registry`].

pub mod registry;
