//! What can be wrong with a bundle.

use std::path::{Path, PathBuf};

use super::folders::FolderError;
use crate::model::ConfigError;
use crate::model::checkpoint::CheckpointError;
use crate::vocabulary::VocabularyError;

/// A bundle that cannot be used or written. Each message names the file.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The operating system refused.
    #[error("{}: {reason}", .file.display())]
    Io {
        /// The file or folder.
        file: PathBuf,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The process's user has no right to read it.
    #[error("{}: {reason}; it and the folders above it must be readable by uid {uid}, as which this program runs", .file.display())]
    Denied {
        /// The file or folder.
        file: PathBuf,
        /// The user.
        uid: u32,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The folder is no bundle.
    #[error("{} is not a model bundle: it has no bundle.json; `llm-cxr convert` makes a bundle from the published checkpoints", .0.display())]
    NotABundle(PathBuf),
    /// `bundle.json` cannot be used.
    #[error("{}: {reason}", .file.display())]
    Manifest {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A listed file is not there.
    #[error("{} is listed in bundle.json but is not there; copy the bundle again, or make it again", .0.display())]
    MissingFile(PathBuf),
    /// A file has another length than listed.
    #[error("{} has {found} bytes, but bundle.json lists {listed}; copy the bundle again, or make it again", .file.display())]
    Size {
        /// The file.
        file: PathBuf,
        /// Length in bytes by the manifest.
        listed: u64,
        /// Length it has.
        found: u64,
    },
    /// A file has another content than listed.
    #[error("{} is damaged or was changed: its SHA-256 is {found}, but bundle.json lists {listed}", .file.display())]
    Checksum {
        /// The file.
        file: PathBuf,
        /// By the manifest.
        listed: String,
        /// What it is.
        found: String,
    },
    /// A configuration cannot be used.
    #[error("{}: {reason}", .dir.display())]
    Config {
        /// The bundle.
        dir: PathBuf,
        /// What is wrong.
        reason: ConfigError,
    },
    /// The tokenizer cannot be used.
    #[error("{}: {reason}", .dir.display())]
    Vocabulary {
        /// The bundle.
        dir: PathBuf,
        /// What is wrong.
        reason: VocabularyError,
    },
    /// The embedding has not a row for each text id and code.
    #[error(
        "{}: vocab_size is {rows}, but the tokenizer has {text} tokens and the code book {codes} codes, together {}",
        .file.display(), .text + .codes
    )]
    VocabularySize {
        /// The configuration.
        file: PathBuf,
        /// Its `vocab_size`.
        rows: usize,
        /// Length of the tokenizer.
        text: usize,
        /// Size of the code book.
        codes: usize,
    },
    /// A weight file cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The place for a new bundle is taken.
    #[error("{} is not empty; give another --out, or --force to replace it", .0.display())]
    Exists(PathBuf),
    /// Two at once would damage each other's work.
    #[error("another command is at work on {}; wait for it, or choose another folder", .0.display())]
    Busy(PathBuf),
    /// The place for a new bundle is taken by something else.
    #[error("{} is neither empty nor a bundle or the folder of a VQ-GAN (a bundle's own apart), and is not replaced, with --force or without; give another --out", .0.display())]
    Foreign(PathBuf),
    /// The place for a new bundle is taken by what it is to be made from.
    #[error("{} lies in {}, which would be replaced; give another --out", .input.display(), .out.display())]
    Input {
        /// The place.
        out: PathBuf,
        /// What is read.
        input: PathBuf,
    },
}

impl BundleError {
    pub(crate) fn io(file: &Path) -> impl FnOnce(std::io::Error) -> Self {
        |reason| Self::Io {
            file: file.to_owned(),
            reason,
        }
    }
    /// The same of what a bundle is read from.
    pub(crate) fn reading(file: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |reason| match reason.kind() {
            std::io::ErrorKind::PermissionDenied => Self::Denied {
                file: file.to_owned(),
                // SAFETY: it has no preconditions.
                uid: unsafe { libc::geteuid() },
                reason,
            },
            _ => Self::io(file)(reason),
        }
    }
    pub(crate) fn folder((file, reason): FolderError) -> Self {
        Self::Io { file, reason }
    }
}
