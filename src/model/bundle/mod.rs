//! The bundle: one folder with everything the server loads.
//!
//! `bundle.json` (the [`Manifest`]), `config.json`, `tokenizer.json`, `model.safetensors` or shards of it,
//! `vqgan/config.yaml`, `vqgan/model.safetensors`, perhaps `drafts.safetensors`. Weights are safetensors only: nothing in a bundle can run
//! code.

mod add;
mod error;
pub mod folders;
mod held;
mod inspect;
mod manifest;
mod partial;
mod replace;
mod restate;
mod write;

use std::path::{Component, Path, PathBuf};

use super::checkpoint::{CheckpointError, Weights};
use super::drafts::DraftTable;
use super::neox::NeoxConfig;
use super::vqgan::VqganConfig;
use crate::basics::sha256_file;
use crate::vocabulary::Vocabulary;

pub use add::add_file;
pub use error::BundleError;
pub(crate) use inspect::size;
pub use inspect::{Checksums, Inspection, Network, inspect};
pub use manifest::{DefaultInstructions, Defaults, FORMAT, FileEntry, GUIDANCE, Manifest, READINGS};
pub(crate) use partial::Partial;
pub use replace::may_replace;
pub use restate::restate;
pub use write::{BundleWriter, Draft};

pub(crate) const MANIFEST: &str = "bundle.json";

/// The bundle in a run's folder, or the folder that is given.
pub fn find_bundle(given: &Path) -> PathBuf {
    let inner = given.join("bundle");
    // One that cannot be looked at may be a bundle: opening it says what stands in the way.
    let may_be = |folder: &Path| !matches!(is_bundle(folder), Ok(false));
    match !may_be(given) && may_be(&inner) {
        true => inner,
        false => given.to_owned(),
    }
}

/// Whether a folder has a manifest. A folder that may not be looked into is not one that has none.
fn is_bundle(folder: &Path) -> std::io::Result<bool> {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    match folder.join(MANIFEST).metadata() {
        Ok(found) => Ok(found.is_file()),
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(false),
        Err(error) => Err(error),
    }
}

pub(crate) const CONFIG: &str = "config.json";
pub(crate) const TOKENIZER: &str = "tokenizer.json";
pub(crate) const WEIGHTS: &str = "model.safetensors";
pub(crate) const DRAFTS: &str = "drafts.safetensors";
pub(crate) const VQGAN_CONFIG: &str = "vqgan/config.yaml";
pub(crate) const VQGAN_WEIGHTS: &str = "vqgan/model.safetensors";

/// How far a long piece of work has come, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// What is being worked on.
    pub what: &'a str,
    /// Bytes done.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// A bundle that has been opened: its small files are read, its weights are not.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The folder.
    pub dir: PathBuf,
    /// `bundle.json`.
    pub manifest: Manifest,
    /// SHA-256 of `bundle.json` as it was read, hexadecimal. It stands for the whole bundle: the manifest lists the checksums of all other
    /// files, and holds texts and defaults that its version does not follow from.
    pub manifest_sha256: String,
    /// Shape of the language model.
    pub neox: NeoxConfig,
    /// Shape of the VQ-GAN.
    pub vqgan: VqganConfig,
    tokenizer: Vec<u8>,
}

impl Bundle {
    /// Opens a folder: reads manifest, configurations and tokenizer, and checks that every listed file is there with its size.
    /// Contents are checked by [`verify`](Self::verify).
    pub fn open(dir: &Path) -> Result<Self, BundleError> {
        let path = dir.join(MANIFEST);
        if !is_bundle(dir).map_err(BundleError::reading(&path))? {
            return Err(BundleError::NotABundle(dir.to_owned()));
        }
        let bytes = std::fs::read(&path).map_err(BundleError::reading(&path))?;
        let manifest = parse_manifest(&path, &bytes)?;
        for entry in &manifest.files {
            let file = dir.join(&entry.path);
            let found = match file.metadata() {
                Ok(found) if found.is_file() => found.len(),
                Ok(_) => return Err(BundleError::MissingFile(file)),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return Err(BundleError::MissingFile(file));
                }
                Err(error) => return Err(BundleError::reading(&file)(error)),
            };
            if found != entry.size {
                return Err(BundleError::Size {
                    file,
                    listed: entry.size,
                    found,
                });
            }
        }
        let read = |name: &str| {
            let file = dir.join(name);
            std::fs::read(&file).map_err(BundleError::reading(&file))
        };
        let config = |reason| BundleError::Config {
            dir: dir.to_owned(),
            reason,
        };
        let neox = NeoxConfig::from_json(&read(CONFIG)?).map_err(config)?;
        let vqgan = VqganConfig::from_yaml(&read(VQGAN_CONFIG)?).map_err(config)?;
        for (key, listed, found) in [
            ("codes_per_image", manifest.codes_per_image, vqgan.codes_per_image()),
            ("image_side", manifest.image_side, vqgan.resolution),
        ] {
            if listed != found {
                let reason = format!("{key} is {listed}, but by {VQGAN_CONFIG} it is {found}");
                return Err(BundleError::Manifest { file: path, reason });
            }
        }
        Ok(Self {
            dir: dir.to_owned(),
            manifest,
            manifest_sha256: crate::basics::sha256(&bytes),
            neox,
            vqgan,
            tokenizer: read(TOKENIZER)?,
        })
    }

    /// Compares every file with its checksum. Reads the whole bundle.
    pub fn verify(&self, progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), BundleError> {
        let total = self.manifest.files.iter().map(|entry| entry.size).sum();
        let mut before = 0;
        for entry in &self.manifest.files {
            let file = self.dir.join(&entry.path);
            let what = entry.path.as_str();
            let found = sha256(&file, &mut |done| {
                progress(Progress {
                    what,
                    done: before + done,
                    total,
                })
            })?;
            if found != entry.sha256 {
                return Err(BundleError::Checksum {
                    file,
                    listed: entry.sha256.clone(),
                    found,
                });
            }
            before += entry.size;
        }
        Ok(())
    }

    /// The bundle's token space. Its size must be the rows of the model's embedding.
    pub fn vocabulary(&self) -> Result<Vocabulary, BundleError> {
        token_space(&self.dir, &self.tokenizer, &self.neox, &self.vqgan)
    }

    /// The language model's weights, mapped.
    pub fn neox_weights(&self) -> Result<Weights, CheckpointError> {
        self.weights("model")
    }

    /// Bytes of the files that hold them.
    pub fn neox_bytes(&self) -> u64 {
        self.weight_files("model").map(|entry| entry.size).sum()
    }

    /// The VQ-GAN's weights, mapped.
    pub fn vqgan_weights(&self) -> Result<Weights, CheckpointError> {
        self.weights("vqgan/model")
    }

    /// The table that drafts of replies are made from; an empty one where the bundle has none.
    pub fn drafts(&self) -> Result<DraftTable, CheckpointError> {
        match self.manifest.files.iter().any(|entry| entry.path == DRAFTS) {
            true => DraftTable::read(&self.dir.join(DRAFTS)),
            false => Ok(DraftTable::default()),
        }
    }

    fn weights(&self, prefix: &str) -> Result<Weights, CheckpointError> {
        let files = self.weight_files(prefix);
        Weights::open(&files.map(|entry| self.dir.join(&entry.path)).collect::<Vec<_>>())
    }

    fn weight_files(&self, prefix: &str) -> impl Iterator<Item = &FileEntry> {
        let files = self.manifest.files.iter();
        files.filter(move |entry| entry.path.starts_with(prefix) && entry.path.ends_with(".safetensors"))
    }
}

/// Reads a tokenizer as the vocabulary of these two networks. `dir` is named in errors.
pub(crate) fn token_space(
    dir: &Path,
    tokenizer: &[u8],
    neox: &NeoxConfig,
    vqgan: &VqganConfig,
) -> Result<Vocabulary, BundleError> {
    let vocabulary = Vocabulary::from_bytes(tokenizer, vqgan.n_embed, vqgan.codes_per_image()).map_err(|reason| {
        BundleError::Vocabulary {
            dir: dir.to_owned(),
            reason,
        }
    })?;
    if vocabulary.len() != neox.vocab_size {
        let (text, codes) = (vocabulary.text_len(), vqgan.n_embed);
        return Err(BundleError::VocabularySize {
            file: dir.join(CONFIG),
            rows: neox.vocab_size,
            text,
            codes,
        });
    }
    Ok(vocabulary)
}

fn read_manifest(path: &Path) -> Result<Manifest, BundleError> {
    parse_manifest(path, &std::fs::read(path).map_err(BundleError::reading(path))?)
}

/// The manifest in `bytes`, which were read from `path`.
fn parse_manifest(path: &Path, bytes: &[u8]) -> Result<Manifest, BundleError> {
    let wrong = |reason: String| BundleError::Manifest {
        file: path.to_owned(),
        reason,
    };
    let manifest: Manifest =
        serde_json::from_slice(bytes).map_err(|e| wrong(format!("is not the manifest of a bundle: {e}")))?;
    if manifest.format != FORMAT {
        let reason = format!(
            "has format {}; this program reads format {FORMAT}: update it, or convert again",
            manifest.format
        );
        return Err(wrong(reason));
    }
    manifest.defaults.check().map_err(wrong)?;
    for entry in &manifest.files {
        // A manifest must not lead out of its folder.
        if !Path::new(&entry.path)
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
        {
            return Err(wrong(format!("lists a file outside the bundle: {:?}", entry.path)));
        }
    }
    for needed in [CONFIG, TOKENIZER, VQGAN_CONFIG, VQGAN_WEIGHTS] {
        if !manifest.files.iter().any(|entry| entry.path == needed) {
            return Err(wrong(format!(
                "does not list {needed}, so its content cannot be checked"
            )));
        }
    }
    Ok(manifest)
}

/// SHA-256 of a file, hexadecimal. `progress` is told how many bytes are done.
fn sha256(path: &Path, progress: &mut dyn FnMut(u64)) -> Result<String, BundleError> {
    sha256_file(path, progress).map_err(BundleError::reading(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_is_found_in_the_folder_of_its_run_too() {
        let dir = tempfile::tempdir().unwrap();
        let (run, bundle) = (dir.path().to_owned(), dir.path().join("bundle"));
        assert_eq!(find_bundle(&run), run);
        std::fs::create_dir(&bundle).unwrap();
        std::fs::write(bundle.join(MANIFEST), "{}").unwrap();
        assert_eq!((find_bundle(&run), find_bundle(&bundle)), (bundle.clone(), bundle));
    }

    #[test]
    fn a_folder_that_cannot_be_looked_into_is_not_told_to_have_no_manifest() {
        let dir = tempfile::tempdir().unwrap();
        let (run, bundle) = (dir.path(), dir.path().join("bundle"));
        assert!(matches!(Bundle::open(run), Err(BundleError::NotABundle(_))));
        std::fs::write(run.join("a file"), "").unwrap();
        assert!(matches!(
            Bundle::open(&run.join("a file")),
            Err(BundleError::NotABundle(_))
        ));
        // Not even root can follow a link that leads to itself; rights do not keep root, as which tests may run, from anything.
        std::fs::create_dir(&bundle).unwrap();
        std::os::unix::fs::symlink(MANIFEST, bundle.join(MANIFEST)).unwrap();
        assert_eq!(find_bundle(run), bundle);
        assert!(matches!(Bundle::open(&bundle), Err(BundleError::Io { .. })));
    }

    #[test]
    fn what_may_not_be_read_tells_whose_rights_are_lacking() {
        let denied = BundleError::reading(Path::new("b/bundle.json"))(std::io::ErrorKind::PermissionDenied.into());
        // SAFETY: it has no preconditions.
        let uid = unsafe { libc::geteuid() };
        let told = denied.to_string();
        assert!(told.starts_with("b/bundle.json: "), "{told}");
        assert!(told.contains(&format!("must be readable by uid {uid}")), "{told}");
        let gone = BundleError::reading(Path::new("b"))(std::io::ErrorKind::NotFound.into());
        assert!(!gone.to_string().contains("uid"), "{gone}");
    }
}
