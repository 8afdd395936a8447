//! What a run leaves: a whole bundle, or the folder of a language model.

use std::path::Path;

use serde_json::json;
use tch::{Device, Kind, Tensor};

use super::base::VqganFiles;
use super::settings::SaveDtype;
use crate::model::bundle::{BundleWriter, CONFIG, DRAFTS, Draft, TOKENIZER, VQGAN_CONFIG, VQGAN_WEIGHTS, WEIGHTS};
use crate::model::checkpoint::{Dtype, SafetensorsWriter, TensorInfo};
use crate::model::drafts::DraftTable;
use crate::model::neox::{Activation, NeoxConfig};
use crate::train::common::TrainError;

/// `config.json` as transformers reads it.
pub fn config_json(config: &NeoxConfig, dtype: SaveDtype) -> String {
    let head = config.head_dim() as f64;
    let activation = match config.hidden_act {
        Activation::Gelu => "gelu",
        Activation::GeluTanh => "gelu_new",
        Activation::Relu => "relu",
    };
    // The program that reads it rounds down.
    let exact = config.rotary_ndims as f64 / head;
    let rotary_pct = match (head * exact) as usize == config.rotary_ndims {
        true => exact,
        false => (config.rotary_ndims as f64 + 0.5) / head,
    };
    let value = json!({
        "architectures": ["GPTNeoXForCausalLM"],
        "model_type": "gpt_neox",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_position_embeddings,
        "rotary_pct": rotary_pct,
        "rotary_emb_base": config.rotary_base,
        "use_parallel_residual": config.use_parallel_residual,
        "layer_norm_eps": config.layer_norm_eps,
        "hidden_act": activation,
        "tie_word_embeddings": config.tie_word_embeddings,
        "attention_bias": config.attention_bias,
        "torch_dtype": if dtype == SaveDtype::Bf16 { "bfloat16" } else { "float32" },
        "bos_token_id": 0,
        "eos_token_id": 0,
    });
    format!("{value:#}\n")
}

/// Writes tensors as safetensors in `dtype`.
pub fn write_weights(path: &Path, tensors: &[(String, Tensor)], dtype: SaveDtype) -> Result<(), TrainError> {
    let (kind, stored) = match dtype {
        SaveDtype::F32 => (Kind::Float, Dtype::F32),
        SaveDtype::Bf16 => (Kind::BFloat16, Dtype::BF16),
    };
    let info = |t: &Tensor| TensorInfo {
        dtype: stored,
        shape: t.size().iter().map(|&d| d as usize).collect(),
    };
    let header: Vec<_> = tensors.iter().map(|(name, t)| (name.clone(), info(t))).collect();
    let mut writer = SafetensorsWriter::create(path, &header)?;
    for (name, tensor) in tensors {
        let values = tensor
            .detach()
            .f_to_device(Device::Cpu)?
            .f_to_kind(kind)?
            .f_contiguous()?;
        let count = values.numel();
        let mut bytes = vec![0u8; count * stored.size()];
        values.f_copy_data_u8(&mut bytes, count)?;
        writer.write(name, &bytes)?;
    }
    Ok(writer.finish()?)
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
        write_weights(&writer.path(WEIGHTS), self.tensors, self.dtype)?;
        for (name, file) in [(VQGAN_CONFIG, &vqgan.yaml), (VQGAN_WEIGHTS, &vqgan.weights)] {
            std::fs::copy(file, writer.path(name)).map_err(|e| TrainError::io(file, e))?;
        }
        if !self.drafts.is_empty() {
            self.drafts.write(&writer.path(DRAFTS))?;
        }
        writer.finish(draft, &vqgan.config, &mut |_| {})?;
        Ok(())
    }

    /// Writes a Hugging Face folder to `out`, each file whole or not at all.
    pub fn folder(&self, out: &Path) -> Result<(), TrainError> {
        use crate::train::common::checkpoint::write_whole;
        std::fs::create_dir_all(out).map_err(|e| TrainError::io(out, e))?;
        write_whole(&out.join(CONFIG), config_json(self.config, self.dtype).as_bytes())?;
        write_whole(&out.join(TOKENIZER), self.tokenizer)?;
        let (new, place) = (out.join("model.new"), out.join(WEIGHTS));
        write_weights(&new, self.tensors, self.dtype)?;
        std::fs::rename(&new, &place).map_err(|e| TrainError::io(&place, e))
    }
}
