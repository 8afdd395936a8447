//! Why images are not encoded, or codes not read.

use std::io;
use std::path::{Path, PathBuf};

use crate::model::vqgan::LatentNotFinite;
use crate::train::data::DataError;

/// Why images were not encoded, or codes not read.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The operating system refused.
    #[error("{}: {reason}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// Another kind of file.
    #[error("{} is no file of image codes; make it with `llm-cxr-train encode`", .0.display())]
    NotCodes(PathBuf),
    /// Made by an earlier version.
    #[error(
        "{} was made by an earlier version, which did not note what the images were that it encoded; remove the file and encode again \
         (`run` does a step of a recipe again when its file is gone)", .0.display()
    )]
    Earlier(PathBuf),
    /// Made by another VQ-GAN.
    #[error(
        "{} holds the codes of another VQ-GAN, which mean other images; encode again to another file, or use the VQ-GAN that made it (a file of \
         an earlier version knows its VQ-GAN by the whole of its files: run `encode` once with these, and from then on another decoder will do)",
        .0.display()
    )]
    OtherVqgan(PathBuf),
    /// Two at once would damage each other's records.
    #[error("another `encode` is at work on {}; wait for it, or choose another --out", .0.display())]
    Busy(PathBuf),
    /// No image of the data set could be used.
    #[error("no image was encoded: {0}")]
    Nothing(String),
    /// The system does not read an image that may be there.
    #[error("{0} (what is encoded is kept)")]
    Unread(DataError),
    /// The VQ-GAN gives no codes.
    #[error(transparent)]
    Latent(#[from] LatentNotFinite),
    /// The data set.
    #[error(transparent)]
    Data(#[from] DataError),
}

impl EncodeError {
    pub(super) fn io(path: &Path, reason: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            reason,
        }
    }
}
