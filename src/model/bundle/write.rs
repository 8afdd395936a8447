//! Writes a bundle beside its place and moves it there when it is whole.

use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::manifest::{DefaultInstructions, Defaults, FORMAT, FileEntry, Manifest};
use super::{BundleError, CONFIG, DRAFTS, MANIFEST, Partial, Progress, TOKENIZER, VQGAN_CONFIG, WEIGHTS, sha256};
use crate::basics::hex;
use crate::model::vqgan::VqganConfig;

/// What a maker says of its bundle; the rest of the manifest follows from the files.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Name; `None` takes the folder's.
    pub name: Option<String>,
    /// The command that makes it, for example `convert`.
    pub command: &'static str,
    /// The files or settings it is made from.
    pub made_from: String,
    /// Whether the weights were trained.
    pub trained: bool,
    /// What must be said with every answer, if anything.
    pub warning: Option<String>,
    /// Licence of the weights.
    pub licence: String,
    /// What the model is for.
    pub intended_use: String,
    /// Instructions used where a request brings none.
    pub instructions: DefaultInstructions,
    /// Limits and sampling.
    pub defaults: Defaults,
}

/// A bundle being written. Until [`finish`](Self::finish) it lies in a hidden folder beside its place, which is removed if the
/// work fails; so a bundle is whole or not there.
#[derive(Debug)]
pub struct BundleWriter {
    out: PathBuf,
    partial: Partial,
}

impl BundleWriter {
    /// Begins a bundle at `out`, which must be empty or missing unless `force` allows to replace it.
    pub fn create(out: &Path, force: bool) -> Result<Self, BundleError> {
        let partial = Partial::create(out, force)?;
        let vqgan = partial.path("vqgan");
        fs::create_dir_all(&vqgan).map_err(BundleError::io(&vqgan))?;
        Ok(Self {
            out: out.to_owned(),
            partial,
        })
    }

    /// The path at which a file of the bundle is to be written.
    pub fn path(&self, name: &str) -> PathBuf {
        self.partial.path(name)
    }

    /// Writes a small file.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), BundleError> {
        self.partial.write(name, bytes)
    }

    /// Checksums every file, writes the manifest and moves the bundle to its place when the disk has all of it.
    pub fn finish(
        self,
        draft: Draft,
        vqgan: &VqganConfig,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Manifest, BundleError> {
        let mut names: Vec<String> = [CONFIG, TOKENIZER, WEIGHTS, VQGAN_CONFIG, super::VQGAN_WEIGHTS]
            .map(str::to_owned)
            .into();
        names.extend(self.path(DRAFTS).is_file().then(|| DRAFTS.to_owned()));
        names.sort();
        let mut files = Vec::new();
        for path in names {
            let file = self.path(&path);
            let size = file.metadata().map_err(BundleError::io(&file))?.len();
            files.push(FileEntry {
                path,
                size,
                sha256: String::new(),
            });
        }
        let total = files.iter().map(|entry| entry.size).sum();
        let mut before = 0;
        for entry in &mut files {
            let file = self.path(&entry.path);
            let what = "checksums";
            entry.sha256 = sha256(&file, &mut |done| {
                progress(Progress {
                    what,
                    done: before + done,
                    total,
                })
            })?;
            before += entry.size;
        }
        let folder = self.out.file_name().map(|name| name.to_string_lossy().into_owned());
        let manifest = Manifest {
            format: FORMAT,
            name: draft.name.or(folder).unwrap_or_else(|| "llm-cxr".to_owned()),
            version: version(&files),
            created_by: format!(
                "{} {} {}",
                env!("CARGO_PKG_NAME"),
                env!("CARGO_PKG_VERSION"),
                draft.command
            ),
            made_from: draft.made_from,
            trained: draft.trained,
            warning: draft.warning,
            licence: draft.licence,
            intended_use: draft.intended_use,
            default_instructions: draft.instructions,
            defaults: draft.defaults,
            codes_per_image: vqgan.codes_per_image(),
            image_side: vqgan.resolution,
            files,
        };
        self.write(MANIFEST, &json(&manifest, &self.path(MANIFEST))?)?;
        self.partial.finish()?;
        Ok(manifest)
    }
}

/// The manifest as it is written to `file`.
pub(super) fn json(manifest: &Manifest, file: &Path) -> Result<Vec<u8>, BundleError> {
    let mut json = serde_json::to_vec_pretty(manifest).map_err(|e| BundleError::Manifest {
        file: file.to_owned(),
        reason: e.to_string(),
    })?;
    json.push(b'\n');
    Ok(json)
}

/// A hidden path beside `out`, on the same disk.
pub(super) fn sibling(out: &Path, suffix: &str) -> Result<PathBuf, BundleError> {
    let name = out.file_name().ok_or_else(|| {
        let reason = std::io::Error::new(
            std::io::ErrorKind::InvalidInput,
            "is not the name of a folder to be made",
        );
        BundleError::Io {
            file: out.to_owned(),
            reason,
        }
    })?;
    Ok(out.with_file_name(format!(".{}.{suffix}", name.to_string_lossy())))
}

/// A version that follows from the contents.
pub(super) fn version(files: &[FileEntry]) -> String {
    let mut hash = Sha256::new();
    for entry in files {
        hash.update(entry.path.as_bytes());
        hash.update(entry.sha256.as_bytes());
    }
    hex(&hash.finalize()[..6])
}
