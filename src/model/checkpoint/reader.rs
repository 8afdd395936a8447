//! One view of a checkpoint, whichever files it is in.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::torch_file::TorchFile;
use super::{CheckpointError, TensorInfo, Weights, hf_folder};

/// The tensors of a checkpoint: safetensors or files of `torch.save`, one or many.
pub struct CheckpointReader {
    root: PathBuf,
    parts: Vec<Part>,
    /// Where each tensor is.
    index: BTreeMap<String, Place>,
}

/// The part that holds a tensor, and the name it has there.
struct Place {
    part: usize,
    stored: String,
}

enum Part {
    Safetensors(Weights),
    Torch(TorchFile),
}

impl CheckpointReader {
    /// Opens a file: safetensors by its suffix, else what torch.save writes.
    pub fn open_file(path: &Path) -> Result<Self, CheckpointError> {
        Self::open(path, &[path.to_owned()])
    }

    /// Opens a Hugging Face folder: `model.safetensors` or `pytorch_model.bin`, whole or in shards with an index.
    /// safetensors is preferred.
    pub fn open_folder(dir: &Path) -> Result<Self, CheckpointError> {
        let found = hf_folder::locate(dir)?;
        let reader = Self::open(dir, &found.files)?;
        for (name, file) in &found.listed {
            if reader.file_of(name) != Some(file) {
                return Err(CheckpointError::Missing {
                    file: file.clone(),
                    tensor: name.clone(),
                });
            }
        }
        Ok(reader)
    }

    fn open(root: &Path, paths: &[PathBuf]) -> Result<Self, CheckpointError> {
        let mut reader = Self {
            root: root.to_owned(),
            parts: Vec::new(),
            index: BTreeMap::new(),
        };
        for path in paths {
            let part = if path.extension().is_some_and(|suffix| suffix == "safetensors") {
                Part::Safetensors(Weights::open(std::slice::from_ref(path))?)
            } else {
                Part::Torch(TorchFile::open(path)?)
            };
            let names: Vec<String> = match &part {
                Part::Safetensors(weights) => weights.names().map(str::to_owned).collect(),
                Part::Torch(file) => file.names().map(str::to_owned).collect(),
            };
            for name in names {
                if let Some(first) = reader.file_of(&name) {
                    return Err(CheckpointError::Duplicate {
                        tensor: name,
                        first: first.to_owned(),
                        second: path.clone(),
                    });
                }
                let part = reader.parts.len();
                let stored = name.clone();
                reader.index.insert(name, Place { part, stored });
            }
            reader.parts.push(part);
        }
        Ok(reader)
    }

    /// Gives a tensor that is stored under the name `from` the name `to`, unless something has that name.
    pub fn rename(&mut self, from: &str, to: &str) {
        if !self.index.contains_key(to)
            && let Some(place) = self.index.remove(from)
        {
            self.index.insert(to.to_owned(), place);
        }
    }

    /// The file or folder that was opened.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Names of the tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.index.keys().map(String::as_str)
    }

    /// Type and shape of a tensor.
    pub fn info(&self, name: &str) -> Option<&TensorInfo> {
        match self.place(name)? {
            (Part::Safetensors(weights), stored) => weights.info(stored),
            (Part::Torch(file), stored) => file.info(stored),
        }
    }

    /// The file that holds a tensor.
    pub fn file_of(&self, name: &str) -> Option<&Path> {
        match self.place(name)? {
            (Part::Safetensors(weights), stored) => weights.file_of(stored),
            (Part::Torch(file), _) => Some(file.path()),
        }
    }

    /// What stands under a name that is not a plain tensor (a sparse one, a number, an unknown object), for messages.
    pub fn other(&self, name: &str) -> Option<&str> {
        self.parts.iter().find_map(|part| match part {
            Part::Safetensors(_) => None,
            Part::Torch(file) => file.others().get(name).map(String::as_str),
        })
    }

    /// Values of a tensor: little-endian, row-major; borrowed from the file where they lie in order.
    pub fn read(&self, name: &str) -> Result<Cow<'_, [u8]>, CheckpointError> {
        let missing = || CheckpointError::Missing {
            file: self.root.clone(),
            tensor: name.to_owned(),
        };
        match self.place(name).ok_or_else(missing)? {
            (Part::Safetensors(weights), stored) => weights.bytes(stored).map(Cow::Borrowed).ok_or_else(missing),
            (Part::Torch(file), stored) => file.read(stored),
        }
    }

    fn place(&self, name: &str) -> Option<(&Part, &str)> {
        let place = self.index.get(name)?;
        Some((self.parts.get(place.part)?, &place.stored))
    }
}
