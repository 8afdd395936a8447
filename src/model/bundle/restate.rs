//! What a bundle says of itself, said anew: its files and its version stay.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use super::held::Held;
use super::write::{json, sibling};
use super::{BundleError, Draft, MANIFEST, folders, read_manifest};

/// Gives the bundle at `dir` the name, the warning, the licence and the defaults of `draft`. What it was made from and its files stay.
/// Gives whether anything has changed; nothing has where no bundle is.
///
/// # Errors
/// When what is at `dir` cannot be read or written to, or another command is at work on it. The bundle is as it was then.
pub fn restate(dir: &Path, draft: Draft) -> Result<bool, BundleError> {
    if let Ok(old) = sibling(dir, "old.partial") {
        folders::recover(dir, &old).map_err(BundleError::folder)?;
    }
    if !dir.join(MANIFEST).is_file() {
        return Ok(false);
    }
    // A link to the bundle goes on pointing at it.
    let dir = &dir.canonicalize().map_err(BundleError::io(dir))?;
    let _held = Held::where_possible(dir)?;
    let path = dir.join(MANIFEST);
    let before = read_manifest(&path)?;
    let mut manifest = before.clone();
    if let Some(name) = draft.name {
        manifest.name = name;
    }
    manifest.warning = draft.warning;
    manifest.licence = draft.licence;
    manifest.defaults = draft.defaults;
    if manifest == before {
        return Ok(false);
    }
    let bytes = json(&manifest, &path)?;
    // Renamed into its place, not written into it: another bundle may share the file that is there.
    let new = dir.join(format!(".{MANIFEST}.partial"));
    let written = File::create(&new).and_then(|mut file| {
        file.write_all(&bytes)?;
        file.sync_all()
    });
    let placed = written
        .map_err(BundleError::io(&new))
        .and_then(|()| fs::rename(&new, &path).map_err(BundleError::io(&path)));
    if placed.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&new);
    }
    placed.map(|()| true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::bundle::{
        CONFIG, DefaultInstructions, Defaults, FileEntry, Manifest, TOKENIZER, VQGAN_CONFIG, VQGAN_WEIGHTS,
    };

    fn draft(name: Option<&str>, readings: usize) -> Draft {
        Draft {
            name: name.map(str::to_owned),
            command: "finetune",
            made_from: "something else".to_owned(),
            trained: true,
            warning: Some("small".to_owned()),
            licence: "CC0".to_owned(),
            intended_use: String::new(),
            instructions: DefaultInstructions::default(),
            defaults: Defaults {
                readings,
                ..Defaults::default()
            },
        }
    }

    #[test]
    fn a_bundle_is_said_anew_and_one_that_shares_its_files_is_not() {
        let root = tempfile::tempdir().unwrap();
        let (dir, twin) = (root.path().join("bundle"), root.path().join("twin"));
        assert!(!restate(&dir, draft(None, 1)).unwrap());
        let file = |path: &str| FileEntry {
            path: path.to_owned(),
            size: 3,
            sha256: String::new(),
        };
        let manifest = Manifest {
            name: "first".to_owned(),
            made_from: "data".to_owned(),
            trained: true,
            ..Manifest::listing([CONFIG, TOKENIZER, VQGAN_CONFIG, VQGAN_WEIGHTS].map(file).to_vec())
        };
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join(MANIFEST), json(&manifest, Path::new(MANIFEST)).unwrap()).unwrap();
        folders::share(&dir, &twin).unwrap();
        for (name, said) in [(Some("second"), "second"), (None, "second")] {
            let changes = name.is_some();
            assert_eq!(restate(&dir, draft(name, 5)).unwrap(), changes);
            let now = read_manifest(&dir.join(MANIFEST)).unwrap();
            assert_eq!((now.name.as_str(), now.defaults.readings), (said, 5));
            assert_eq!((now.warning.as_deref(), now.licence.as_str()), (Some("small"), "CC0"));
            assert_eq!(
                (&now.made_from, &now.version, &now.files),
                (&manifest.made_from, &manifest.version, &manifest.files)
            );
        }
        assert_eq!(read_manifest(&twin.join(MANIFEST)).unwrap(), manifest);
        let held = Held::beside(&dir.canonicalize().unwrap()).unwrap();
        assert!(matches!(
            restate(&dir, draft(Some("third"), 5)),
            Err(BundleError::Busy(_))
        ));
        drop(held);
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
    }
}
