//! What is read of a bundle is what its maker wrote.

use std::path::Path;

use crate::model::bundle::{Bundle, BundleError, MANIFEST};

/// Compares those files of the bundle at `folder` that are `read` with the checksums that its manifest lists. A folder without a manifest, such as
/// a training leaves, lists nothing, and is taken as it is.
///
/// # Errors
/// When the manifest cannot be used, when a listed file is not there or has another size, and when one that is read was changed.
pub fn verify_listed(folder: &Path, read: impl Fn(&str) -> bool) -> Result<(), BundleError> {
    if !folder.join(MANIFEST).is_file() {
        return Ok(());
    }
    let mut bundle = Bundle::open(folder)?;
    bundle.manifest.files.retain(|entry| read(&entry.path));
    bundle.verify(&mut |_| {})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::bundle::{VQGAN_WEIGHTS, WEIGHTS};
    use crate::train::init::{init, tests::tiny};

    #[test]
    fn a_changed_byte_shows_in_a_file_that_is_read_and_in_no_other_one() {
        let dir = tempfile::tempdir().unwrap();
        let bundle = dir.path().join("bundle");
        init(&tiny(bundle.clone()), &mut |_| {}).unwrap();
        let weights = bundle.join(WEIGHTS);
        let mut bytes = std::fs::read(&weights).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&weights, bytes).unwrap();
        verify_listed(&bundle, |path| path == VQGAN_WEIGHTS).unwrap();
        let error = verify_listed(&bundle, |path| path == WEIGHTS).unwrap_err();
        assert!(
            matches!(&error, BundleError::Checksum { file, .. } if *file == weights),
            "{error}"
        );
        // Without a manifest nothing says what the bytes were.
        std::fs::remove_file(bundle.join(MANIFEST)).unwrap();
        verify_listed(&bundle, |_| true).unwrap();
    }
}
