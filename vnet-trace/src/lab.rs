//! Labs: one file, one network, one question, one answer.
//!
//! A lab builds a small network out of namespaces, asks why a ping in it fails, and states the answer. The same file is a
//! lesson, a test case and a document; `labs/*.toml` are embedded in the program.
//!
//! ```text
//!   lab file ──spec──► Lab ──needs──► unmet? skipped, by name
//!                       │
//!                       └─run, in a sandbox─► setup ► the question to the tool ► its fix ► a plain ping ──► LabReport
//! ```
//!
//! A lab runs in a process of its own ([`supervise`]): that process moves itself into fresh namespaces ([`sandbox`]), is
//! the subreaper of everything that the lab starts, and ends all of it before it ends ([`process`]). This module never
//! touches the machine's own network. Read [`spec`] first, then [`run`].

pub mod answer;
pub mod embedded;
pub mod export;
pub mod matrix;
pub mod needs;
pub mod process;
pub mod report;
pub mod run;
pub mod sandbox;
mod seal;
pub mod silence;
pub mod spec;
pub mod supervise;

pub use report::{LabReport, Outcome};
pub use spec::Lab;
