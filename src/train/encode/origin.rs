//! What the codes of a file were made by.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::EncodeError;
use crate::basics::hash_file;

/// What the codes of a file were made by and how many an image has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeOrigin {
    /// SHA-256 of what decides codes: the VQ-GAN's shape, encoder and code book.
    pub vqgan: [u8; 32],
    /// SHA-256 of the files of its configuration and weights, decoder included: what files of codes from before say.
    pub files: [u8; 32],
    /// Codes of one image.
    pub codes_per_image: usize,
    /// Size of the code book.
    pub code_count: usize,
}

impl CodeOrigin {
    /// Reads the files of a VQ-GAN for their checksum; `vqgan` is that of what decides its codes.
    pub fn of(
        vqgan: [u8; 32],
        [config, weights]: [&Path; 2],
        codes_per_image: usize,
        code_count: usize,
    ) -> Result<Self, EncodeError> {
        let mut sum = Sha256::new();
        for path in [config, weights] {
            hash_file(path, &mut sum, &mut |_| ()).map_err(|e| EncodeError::io(path, e))?;
        }
        Ok(Self {
            vqgan,
            files: sum.finalize().into(),
            codes_per_image,
            code_count,
        })
    }
}
