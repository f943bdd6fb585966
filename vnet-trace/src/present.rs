//! Everything that a person or a script reads, one output per file. Nothing is analysed here and nothing is asked of the
//! machine: functions from finished data to text.

pub mod lab;
