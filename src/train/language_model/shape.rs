//! The shape of a new language model.

use crate::model::neox::{NeoxConfig, NeoxSizes};
use crate::train::common::TrainError;

/// A shape given by flags.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Rows of the embedding.
    pub rows: usize,
    /// Width.
    pub hidden: usize,
    /// Layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Longest sequence.
    pub context: usize,
    /// The output matrix is the embedding.
    pub tied: bool,
}

impl Shape {
    /// The configuration of a GPT-NeoX of this shape, checked.
    pub fn config(&self) -> Result<NeoxConfig, TrainError> {
        let sizes = NeoxSizes {
            vocab_size: self.rows,
            hidden_size: self.hidden,
            num_hidden_layers: self.layers,
            num_attention_heads: self.heads,
            intermediate_size: self.hidden.saturating_mul(4),
            max_position_embeddings: self.context,
            tie_word_embeddings: self.tied,
        };
        Ok(sizes.config()?)
    }
}
