//! Everything that a person or a script reads, one output per file. Nothing is analysed here and nothing is asked of the
//! machine: functions from finished data to text.
//!
//! A finished answer is a [`Report`]. [`text`] is what `ping` prints, [`explain`] the same at length for somebody who
//! wants to learn, [`json`] the form for scripts, whose types are its own so that the model may change and the
//! interface not. [`page`] shows the pages of causes. They are built of [`way`] (a journey as rows), [`words`]
//! (a step in words), [`names`], and [`sheet`] with [`style`] for the look.

pub mod detail;
pub mod doctor;
pub mod explain;
pub mod json;
pub mod lab;
pub mod map;
pub mod names;
pub mod page;
pub mod pcapng;
pub mod proof;
pub mod sheet;
pub mod style;
pub mod text;
pub mod watch;
pub mod way;
pub mod words;

#[cfg(test)]
mod sample;

use crate::model::diagnosis::Diagnosis;
use crate::model::exchange::{Exchange, Journey};
use crate::model::proof::Proof;
use crate::model::recording::Recording;
use crate::model::sight::Gap;

/// All that an answer is made of.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// What was recorded.
    pub recording: &'a Recording,
    /// The packets' way as it was seen.
    pub observed: &'a Exchange,
    /// The packets' way as the configuration has it; shown where nothing was seen.
    pub predicted: Option<&'a Exchange>,
    /// What it means.
    pub diagnosis: &'a Diagnosis,
    /// What was shown about the fix in a rebuilt network, if that was asked for.
    pub proof: Option<&'a Proof>,
}

impl<'a> Report<'a> {
    /// The journeys to tell of: those that were seen, or, if none was, those of the configuration.
    pub fn journeys(self) -> (way::Told, &'a [Journey]) {
        match self.predicted {
            Some(predicted) if self.observed.journeys.is_empty() => (way::Told::Predicted, &predicted.journeys),
            _ => (way::Told::Observed, &self.observed.journeys),
        }
    }

    /// What could not be seen or read, each once: what touches the diagnosis first.
    pub fn gaps(self) -> Vec<&'a Gap> {
        let mut gaps: Vec<&Gap> = Vec::new();
        let all = self.diagnosis.gaps.iter().chain(&self.recording.sight.gaps).chain(&self.recording.before.gaps);
        for gap in all {
            if !gaps.contains(&gap) {
                gaps.push(gap);
            }
        }
        gaps
    }
}
