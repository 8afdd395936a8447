//! Low-rank adapters (Hu et al. 2021, arXiv 2106.09685): the model stays as it is, small matrices beside it learn.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::TrainableNeox;
use crate::model::ExpectedTensor;
use crate::model::neox::{EMBED_IN, EMBED_OUT};
use crate::train::common::{Initial, Parameters, TrainError};

/// A matrix of every layer that can have an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LoraTarget {
    /// `attention.query_key_value`.
    Qkv,
    /// `attention.dense`.
    Dense,
    /// `mlp.dense_h_to_4h`.
    Up,
    /// `mlp.dense_4h_to_h`.
    Down,
}

impl LoraTarget {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Qkv, Self::Dense, Self::Up, Self::Down];

    fn module(self) -> &'static str {
        match self {
            Self::Qkv => "attention.query_key_value",
            Self::Dense => "attention.dense",
            Self::Up => "mlp.dense_h_to_4h",
            Self::Down => "mlp.dense_4h_to_h",
        }
    }
}

/// Adapters to train instead of the whole model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoraSettings {
    /// Rank of the change of each matrix.
    pub rank: usize,
    /// The change is scaled by `alpha / rank`.
    pub alpha: f64,
    /// Which matrices of the layers change.
    pub targets: Vec<LoraTarget>,
    /// Train the embeddings of tokens that the base model did not have, in full. Without it image codes stay as they were drawn.
    pub new_rows: bool,
}

impl Default for LoraSettings {
    fn default() -> Self {
        Self {
            rank: 16,
            alpha: 32.0,
            targets: LoraTarget::ALL.to_vec(),
            new_rows: true,
        }
    }
}

/// The adapters of a model.
pub(super) struct Adapters {
    pub(super) parameters: Parameters,
    scale: f64,
    /// The first token whose embeddings are among the parameters.
    rows_from: Option<usize>,
}

fn expected(name: String, shape: [usize; 2]) -> ExpectedTensor {
    ExpectedTensor {
        name,
        shape: shape.to_vec(),
    }
}

/// Name of an adapter's first matrix, `[rank, columns]`.
fn name_of_a(linear: &str) -> String {
    format!("{linear}.lora_A.weight")
}

/// Name of an adapter's second matrix, `[rows, rank]`.
fn name_of_b(linear: &str) -> String {
    format!("{linear}.lora_B.weight")
}

/// Name of the trained last rows of an embedding matrix.
fn name_of_rows(matrix: &str) -> String {
    format!("{matrix}.rows")
}

impl Adapters {
    /// The same with other values, in their memory.
    pub(super) fn with_values(&self, flat: &Tensor) -> Self {
        Self {
            parameters: self.parameters.with_values(flat),
            ..*self
        }
    }

    /// The adapter of a linear layer, if it has one: matrices `[rank, columns]` and `[rows, rank]`, and the scale of their product.
    pub(super) fn of(&self, linear: &str) -> Option<(&Tensor, &Tensor, f64)> {
        let leaf = |name: String| self.parameters.leaf(&name);
        Some((leaf(name_of_a(linear))?, leaf(name_of_b(linear))?, self.scale))
    }

    /// The trained last rows of an embedding matrix, and the token of the first.
    pub(super) fn rows_of(&self, matrix: &str) -> Option<(&Tensor, i64)> {
        let from = self.rows_from? as i64;
        Some((self.parameters.leaf(&name_of_rows(matrix))?, from))
    }

    /// `weight` of the model, with what was learned beside it.
    pub(super) fn merged(&self, name: &str, weight: &Tensor) -> Tensor {
        tch::no_grad(|| {
            if let Some((rows, from)) = self.rows_of(name) {
                return Tensor::cat(&[&weight.narrow(0, 0, from), rows], 0);
            }
            let linear = name.strip_suffix(".weight").unwrap_or_default();
            match self.of(linear) {
                Some((a, b, scale)) => weight + b.matmul(a) * scale,
                None => weight.detach(),
            }
        })
    }
}

impl TrainableNeox {
    /// The model with adapters. From now on they alone are trained, with the embeddings of new tokens if `settings` say so. The
    /// adapted model begins as the model itself: the first matrix of each adapter is drawn from U(±1/√columns) by `seed`, the second
    /// is zero (as peft does).
    ///
    /// # Errors
    /// Settings that adapt nothing, or there are adapters already.
    pub fn with_lora(mut self, settings: &LoraSettings, seed: u64) -> Result<Self, TrainError> {
        let wrong = |reason: &str| Err(TrainError::Settings(format!("LoRA: {reason}")));
        if self.adapters.is_some() {
            return wrong("the model has adapters already");
        }
        if settings.targets.is_empty() || settings.rank == 0 {
            return wrong("rank must be at least 1, and at least one matrix must be a target");
        }
        if !(settings.alpha.is_finite() && settings.alpha > 0.0) {
            return wrong("alpha must be a number above 0");
        }
        let rank = settings.rank;
        let all = self.config.expected_tensors();
        let mut tensors = Vec::new();
        for tensor in &all {
            let Some(linear) = tensor.name.strip_suffix(".weight") else {
                continue;
            };
            if let &[rows, columns] = tensor.shape.as_slice()
                && settings.targets.iter().any(|target| linear.ends_with(target.module()))
            {
                if rank > rows.min(columns) {
                    return wrong(&format!("rank {rank} is more than {linear} has, {}", rows.min(columns)));
                }
                tensors.push(expected(name_of_a(linear), [rank, columns]));
                tensors.push(expected(name_of_b(linear), [rows, rank]));
            }
        }
        let rows_from = self.grown_from.filter(|_| settings.new_rows);
        let embeddings: Vec<&ExpectedTensor> = all
            .iter()
            .filter(|t| rows_from.is_some() && [EMBED_IN, EMBED_OUT].contains(&&*t.name))
            .collect();
        for matrix in &embeddings {
            let new = self.config.vocab_size - rows_from.unwrap_or_default();
            tensors.push(expected(name_of_rows(&matrix.name), [new, self.config.hidden_size]));
        }
        // Drawn as linear layers are, and then set where they begin as something else.
        let parameters = Parameters::fresh(&tensors, Initial::Torch, seed, self.device)?;
        tch::no_grad(|| {
            for tensor in &tensors {
                let Some(mut leaf) = parameters.leaf(&tensor.name).map(Tensor::detach) else {
                    continue;
                };
                if tensor.name.ends_with(".lora_B.weight") {
                    let _ = leaf.zero_();
                } else if let Some(matrix) = tensor.name.strip_suffix(".rows")
                    && let Some(whole) = self.weights.leaf(matrix)
                {
                    let from = rows_from.unwrap_or_default() as i64;
                    leaf.f_copy_(&whole.narrow(0, from, leaf.size()[0]))?;
                }
            }
            Ok::<_, TrainError>(())
        })?;
        self.adapters = Some(Adapters {
            parameters,
            scale: settings.alpha / rank as f64,
            rows_from,
        });
        Ok(self)
    }

    /// A weight as it stands, with what adapters learned, without graph.
    pub(super) fn merged(&self, name: &str) -> Option<Tensor> {
        let weight = self.weights.leaf(name)?;
        Some(match &self.adapters {
            Some(adapters) => adapters.merged(name, weight),
            None => weight.detach(),
        })
    }
}
