//! What a run leaves: a whole bundle, or the folder of a language model.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::model::bundle::{BundleWriter, CONFIG, DRAFTS, Draft, TOKENIZER, VQGAN_CONFIG, VQGAN_WEIGHTS, WEIGHTS};
use crate::model::checkpoint::Dtype;
use crate::model::drafts::DraftTable;
use crate::model::neox::NeoxConfig;
use crate::train::common::TrainError;
use crate::train::common::store::{copy_file, replace_tensors, write_tensors, write_whole};
use crate::train::vqgan::VqganFiles;

/// Type in which exported weights are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum SaveDtype {
    /// 32-bit floats.
    #[default]
    F32,
    /// bfloat16.
    Bf16,
}

/// `config.json` for weights that are stored so.
fn config_json(config: &NeoxConfig, dtype: SaveDtype) -> String {
    config.to_json(match dtype {
        SaveDtype::F32 => "float32",
        SaveDtype::Bf16 => "bfloat16",
    })
}

/// The type in which weights are stored.
fn stored(dtype: SaveDtype) -> Dtype {
    match dtype {
        SaveDtype::F32 => Dtype::F32,
        SaveDtype::Bf16 => Dtype::BF16,
    }
}

/// A language model with its tokenizer.
pub struct Exported<'a> {
    /// Its shape.
    pub config: &'a NeoxConfig,
    /// Its tensors by their Hugging Face names.
    pub tensors: &'a [(String, Tensor)],
    /// `tokenizer.json`.
    pub tokenizer: &'a [u8],
    /// Type to store.
    pub dtype: SaveDtype,
    /// What drafts of replies are made from.
    pub drafts: &'a DraftTable,
}

impl Exported<'_> {
    /// Writes a bundle to `out`; one that is there is replaced when the new one is whole.
    pub fn bundle(&self, out: &Path, vqgan: &VqganFiles, draft: Draft) -> Result<(), TrainError> {
        let writer = BundleWriter::create(out, true)?;
        writer.write(CONFIG, config_json(self.config, self.dtype).as_bytes())?;
        writer.write(TOKENIZER, self.tokenizer)?;
        write_tensors(&writer.path(WEIGHTS), self.tensors, stored(self.dtype))?;
        for (name, file) in [(VQGAN_CONFIG, &vqgan.yaml), (VQGAN_WEIGHTS, &vqgan.weights)] {
            copy_file(file, &writer.path(name)).map_err(|(path, reason)| TrainError::io(&path, reason))?;
        }
        if !self.drafts.is_empty() {
            self.drafts.write(&writer.path(DRAFTS))?;
        }
        writer.finish(draft, &vqgan.config, &mut |_| {})?;
        Ok(())
    }

    /// Writes a Hugging Face folder to `out`, each file whole or not at all.
    pub fn folder(&self, out: &Path) -> Result<(), TrainError> {
        std::fs::create_dir_all(out).map_err(|e| TrainError::io(out, e))?;
        write_whole(&out.join(CONFIG), config_json(self.config, self.dtype).as_bytes())?;
        write_whole(&out.join(TOKENIZER), self.tokenizer)?;
        replace_tensors(&out.join(WEIGHTS), self.tensors, stored(self.dtype))
    }
}
