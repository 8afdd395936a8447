//! Why a bundle could not be measured.

use std::io;
use std::path::{Path, PathBuf};

use crate::engine::EngineError;
use crate::model::bundle::BundleError;
use crate::model::checkpoint::CheckpointError;
use crate::model::device::DeviceError;
use crate::model::source::LoadError;
use crate::train::common::TrainError;
use crate::train::data::DataError;

/// Why a bundle could not be measured. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// Settings that contradict each other or the data.
    #[error("{0}")]
    Settings(String),
    /// The operating system refused.
    #[error("{}: {reason}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// Every single study of a part failed.
    #[error("none of the {count} studies could be used for {part}; the first: {first}")]
    Nothing {
        /// Which measurement.
        part: &'static str,
        /// How many studies were tried.
        count: usize,
        /// What was wrong with the first.
        first: String,
    },
    /// An error after something was measured.
    #[error("{reason}; what was measured before is in {}", .folder.display())]
    Incomplete {
        /// Where that is.
        folder: PathBuf,
        /// What went wrong.
        reason: Box<Self>,
    },
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// Its weights.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A tensor of it.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The data set.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The classifier, or a measurement with tensors.
    #[error(transparent)]
    Train(#[from] TrainError),
}

impl EvaluateError {
    /// An error of the file system at `path`.
    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |reason| Self::Io { path, reason }
    }
}
