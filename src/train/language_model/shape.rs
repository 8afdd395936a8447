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
        sizes.config().map_err(|reason| TrainError::no_shape(&reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shape_that_no_model_has_is_told_by_its_flags() {
        let shape = Shape {
            rows: 300,
            hidden: 64,
            layers: 2,
            heads: 3,
            context: 128,
            tied: false,
        };
        let told = shape.config().unwrap_err().to_string();
        assert!(
            told.ends_with("the flags give is none that a model has: --hidden: 64 is not a multiple of --heads 3"),
            "{told}"
        );
        let layers = Shape {
            layers: 0,
            heads: 4,
            ..shape
        };
        let told = layers.config().unwrap_err().to_string();
        assert!(
            told.contains("--layers: is 0") && !told.contains("config.json"),
            "{told}"
        );
    }
}
