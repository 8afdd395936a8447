//! The shape of the language model: the base's, or the one that flags give.

use std::path::Path;

use super::settings::FinetuneSettings;
use crate::model::neox::NeoxConfig;
use crate::train::common::TrainError;
use crate::train::language_model::Shape;

/// Width, where neither a base nor a flag says it.
pub(super) const HIDDEN: usize = 256;
/// Layers, likewise.
pub(super) const LAYERS: usize = 6;
/// Attention heads, likewise.
pub(super) const HEADS: usize = 4;
/// Longest sequence, likewise.
pub(super) const CONTEXT: usize = 512;

impl FinetuneSettings {
    /// The shape of fresh weights, with `rows` tokens.
    pub(super) fn shape(&self, rows: usize) -> Shape {
        Shape {
            rows,
            hidden: self.hidden.unwrap_or(HIDDEN),
            layers: self.layers.unwrap_or(LAYERS),
            heads: self.heads.unwrap_or(HEADS),
            context: self.context.unwrap_or(CONTEXT),
            tied: self.tied,
        }
    }

    /// Refuses flags that say another shape than `there` is, which is that of `base`.
    pub(super) fn check_shape(&self, base: &Path, there: &NeoxConfig) -> Result<(), TrainError> {
        let sizes = [
            ("hidden", self.hidden, there.hidden_size),
            ("layers", self.layers, there.num_hidden_layers),
            ("heads", self.heads, there.num_attention_heads),
            ("context", self.context, there.max_position_embeddings),
        ];
        let others = sizes.into_iter().filter_map(|(flag, asked, is)| {
            let asked = asked.filter(|asked| *asked != is)?;
            Some(format!("--{flag} is {asked}, there it is {is}"))
        });
        let mut others: Vec<String> = others.collect();
        if self.tied && !there.tie_word_embeddings {
            others.push("--tied is given, there the output matrix is one of its own".to_owned());
        }
        match others.is_empty() {
            true => Ok(()),
            false => Err(TrainError::Settings(format!(
                "{} has another shape than is asked for ({}); leave out what says the shape, or --base",
                base.display(),
                others.join(", ")
            ))),
        }
    }

    /// With the shape that the model has, as `run.json` keeps it.
    pub(super) fn filled(&self, shape: &NeoxConfig) -> Self {
        Self {
            hidden: Some(shape.hidden_size),
            layers: Some(shape.num_hidden_layers),
            heads: Some(shape.num_attention_heads),
            context: Some(shape.max_position_embeddings),
            tied: shape.tie_word_embeddings,
            ..self.clone()
        }
    }
}
