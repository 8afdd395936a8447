//! What a command may replace with what it makes: no more than what such a command has made, and never what it reads.

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use super::{BundleError, MANIFEST};

/// The files of a VQ-GAN's folder. One with others is a run's, perhaps with checkpoints.
const VQGAN: [&str; 2] = ["config.yaml", "model.safetensors"];

/// Whether what is at `out` may give way to what is made from `inputs`, if anybody asks for it (`--force`): nothing, an empty folder, a
/// bundle, or the folder of a VQ-GAN that is not a bundle's; and no input lies in it. To be asked before anything is read or made.
///
/// # Errors
/// [`BundleError::Foreign`], [`BundleError::Input`], or what the system said.
pub fn may_replace(out: &Path, inputs: &[&Path]) -> Result<(), BundleError> {
    let io = BundleError::io;
    let mut names = Vec::new();
    match fs::read_dir(out) {
        Ok(entries) => {
            for entry in entries {
                names.push(entry.map_err(io(out))?.file_name());
            }
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(out)(error)),
    }
    if names.is_empty() {
        return Ok(());
    }
    // Links and `..` may hide that two paths are one.
    let place = out.canonicalize().map_err(io(out))?;
    for input in inputs {
        // What is not there is told by who reads it.
        if input.canonicalize().is_ok_and(|input| input.starts_with(&place)) {
            return Err(BundleError::Input {
                out: out.to_owned(),
                input: (*input).to_owned(),
            });
        }
    }
    let is_bundle = out.join(MANIFEST).is_file();
    let is_known = |name: &OsString| VQGAN.iter().any(|file| name.as_os_str() == *file);
    // That of a bundle looks the same, and the bundle is damaged without it.
    let in_bundle = place.parent().is_some_and(|parent| parent.join(MANIFEST).is_file());
    let is_vqgan = names.len() == VQGAN.len() && names.iter().all(is_known) && !in_bundle;
    match is_bundle || is_vqgan {
        true => Ok(()),
        false => Err(BundleError::Foreign(out.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with these files, all empty.
    fn folder(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let file = dir.path().join(file);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "").unwrap();
        }
        dir
    }

    #[test]
    fn nothing_an_empty_folder_a_bundle_and_a_vqgan_may_be_replaced() {
        let dir = folder(&[
            "bundle/bundle.json",
            "bundle/notes",
            "vqgan/config.yaml",
            "vqgan/model.safetensors",
        ]);
        fs::create_dir(dir.path().join("empty")).unwrap();
        for name in ["missing", "empty", "bundle", "vqgan"] {
            may_replace(&dir.path().join(name), &[]).unwrap();
        }
    }

    #[test]
    fn folders_that_no_command_has_made_and_files_are_not_replaced() {
        let dir = folder(&[
            "home/thesis.tex",
            "settings/config.yaml",
            "run/config.yaml",
            "run/model.safetensors",
            "run/checkpoints/1",
            "bundle/bundle.json",
            "bundle/vqgan/config.yaml",
            "bundle/vqgan/model.safetensors",
            "file",
        ]);
        for name in ["home", "run", "settings", "bundle/vqgan", ""] {
            let error = may_replace(&dir.path().join(name), &[]).unwrap_err();
            assert!(matches!(&error, BundleError::Foreign(_)), "{name}: {error}");
        }
        let error = may_replace(&dir.path().join("file"), &[]).unwrap_err();
        assert!(matches!(&error, BundleError::Io { .. }), "{error}");
    }

    #[test]
    fn what_is_read_is_not_replaced_by_whatever_name_it_goes() {
        let dir = folder(&["bundle/bundle.json", "bundle/vqgan/model.safetensors", "beside"]);
        let path = |name: &str| dir.path().join(name);
        let out = path("bundle");
        for input in [
            "bundle",
            "bundle/vqgan/model.safetensors",
            "bundle/vqgan/../../bundle/vqgan",
        ] {
            let error = may_replace(&out, &[&path("beside"), &path(input)]).unwrap_err();
            assert!(matches!(&error, BundleError::Input { .. }), "{input}: {error}");
        }
        may_replace(&out, &[&path("beside"), &path("missing")]).unwrap();
        // A name that begins alike is another folder.
        fs::create_dir(path("bundle-2")).unwrap();
        may_replace(&out, &[&path("bundle-2")]).unwrap();
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(&out, path("link")).unwrap();
            let error = may_replace(&out, &[&path("link/vqgan")]).unwrap_err();
            assert!(matches!(&error, BundleError::Input { .. }), "{error}");
        }
    }
}
