//! Every way in which phantoms cannot be made.

use std::path::{Path, PathBuf};

use super::Phantom;

/// Why a phantom or a data set of phantoms was not made.
#[derive(Debug, thiserror::Error)]
pub enum PhantomError {
    /// The side of the pictures is not one that can be computed.
    #[error(
        "Pictures of {0} pixels a side cannot be made. Choose an even number from {min} to {max}.",
        min = Phantom::SIZES.start(),
        max = Phantom::SIZES.end()
    )]
    Size(usize),
    /// Nothing was asked for.
    #[error("There are no studies to make. Ask for at least 1.")]
    NoStudies,
    /// More studies than the layout has numbers for.
    #[error("{0} studies are more than the numbers of the layout reach. Ask for at most {max}.", max = Phantom::MAX_STUDIES)]
    TooManyStudies(u64),
    /// The folder holds something that was not made with these settings.
    #[error("{folder} {reason}. Choose a new or empty folder, or the seed and size it was made with.")]
    Occupied {
        /// The folder.
        folder: PathBuf,
        /// What is in the way.
        reason: &'static str,
    },
    /// A file or folder cannot be written or read.
    #[error("{path} cannot be {action}: {source}. Check that the folder may be written to and that the disk has room.")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What was tried: `written`, `read`, `created`.
        action: &'static str,
        /// What the system says.
        source: std::io::Error,
    },
    /// The picture could not be encoded.
    #[error("A picture cannot be encoded: {0}")]
    Picture(#[from] crate::radiograph::RadiographError),
    /// The threads for the work cannot be started.
    #[error("{0} threads cannot be started. Ask for fewer with --jobs.")]
    Threads(usize),
}

impl PhantomError {
    pub(super) fn file(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { path, action, source }
    }
}
