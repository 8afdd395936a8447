//! What can be wrong with a checkpoint's files.

use std::path::{Path, PathBuf};

/// A checkpoint that cannot be read. Each message names the file, and the tensor where it is about one.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The operating system refused.
    #[error("{file}: {reason}", file = .file.display())]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The file is not what its name says, or damaged as a whole.
    #[error("{file}: {reason}", file = .file.display())]
    Format {
        /// The file or folder.
        file: PathBuf,
        /// What is wrong and what to do.
        reason: String,
    },
    /// The file ends too early.
    #[error("{file} is truncated: {what} needs {needed} bytes, but the file has {length}; copy or download it again", file = .file.display())]
    Truncated {
        /// The file.
        file: PathBuf,
        /// What lies beyond the end.
        what: String,
        /// Length in bytes that the file would need.
        needed: u64,
        /// Length it has.
        length: u64,
    },
    /// One tensor is damaged or of a kind that cannot be read.
    #[error("{file}: tensor `{tensor}`: {reason}", file = .file.display())]
    Tensor {
        /// The file.
        file: PathBuf,
        /// Its name in the state dict.
        tensor: String,
        /// What is wrong.
        reason: String,
    },
    /// Two files of a checkpoint hold a tensor of the same name.
    #[error("tensor `{tensor}` is both in {} and in {}; a checkpoint's files must not overlap", .first.display(), .second.display())]
    Duplicate {
        /// Its name.
        tensor: String,
        /// A file that holds it.
        first: PathBuf,
        /// Another.
        second: PathBuf,
    },
    /// The checkpoint has no tensor of this name.
    #[error("{file} holds no tensor `{tensor}`", file = .file.display())]
    Missing {
        /// The file or folder.
        file: PathBuf,
        /// The name asked for.
        tensor: String,
    },
}

impl CheckpointError {
    pub(crate) fn io(file: &Path, reason: std::io::Error) -> Self {
        Self::Io {
            file: file.to_owned(),
            reason,
        }
    }

    pub(crate) fn format(file: &Path, reason: impl Into<String>) -> Self {
        Self::Format {
            file: file.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn tensor(file: &Path, tensor: &str, reason: impl Into<String>) -> Self {
        Self::Tensor {
            file: file.to_owned(),
            tensor: tensor.to_owned(),
            reason: reason.into(),
        }
    }
}
