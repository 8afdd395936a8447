//! What a run is to do, what it leaves, and how it ends.

use std::path::{Path, PathBuf};

use crate::model::bundle::WEIGHTS;
use crate::train::common::TrainError;

/// How long and how often.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the run is called in its bar and curves.
    pub title: String,
    /// The run's folder.
    pub out: PathBuf,
    /// What it leaves there besides checkpoints and logs.
    pub exports: &'static str,
    /// Steps of the whole run.
    pub steps: u64,
    /// Steps between checkpoints.
    pub save_every: u64,
    /// Steps between evaluations.
    pub eval_every: u64,
    /// Steps between lines of the log.
    pub log_every: u64,
    /// Threads that prepare batches.
    pub workers: usize,
}

impl Plan {
    /// Where it leaves what it exports.
    pub fn exported(&self) -> PathBuf {
        self.out.join(self.exports)
    }

    /// The end of a run, which must have left what it is there for.
    pub fn finished(&self) -> Result<Outcome, TrainError> {
        match is_export(&self.exported()) {
            true => Ok(Outcome::Finished),
            false => Err(TrainError::NotExported(self.exported())),
        }
    }
}

/// Whether something is at `place` that a training has exported: a file, or a folder with weights.
pub fn is_export(place: &Path) -> bool {
    place.is_file() || place.join(WEIGHTS).is_file()
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All steps are done.
    Finished,
    /// Stopped on demand after this many steps, and saved.
    Stopped(u64),
}
