//! The only stage that touches the machine: takes a question and gives a recording.

pub mod kernel;
