//! Token sequences and their labels, checked before they reach the network.

use tch::{Device, Tensor};

use crate::model::neox::NeoxConfig;
use crate::train::common::TrainError;

/// The label of a token that carries no loss.
pub const IGNORED: i64 = -100;

/// Token sequences of one (micro) batch, padded on the right to a common length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TokenBatch {
    /// Sequences.
    pub rows: usize,
    /// Tokens of each, padding included.
    pub length: usize,
    /// Token ids, `rows · length`, row by row. Padding may be any id: nothing before it sees it.
    pub ids: Vec<i64>,
    /// Labels in the same places: the token that is to be predicted there from those before it (its own id, as in transformers), or
    /// [`IGNORED`]. That of a sequence's first token is never counted.
    pub labels: Vec<i64>,
    /// What each label of a sequence weighs in the loss, a number for each sequence. Empty: 1.
    pub weights: Vec<f32>,
}

/// A batch on the device.
pub(super) struct Prepared {
    /// `[rows, length]`, i64.
    pub(super) ids: Tensor,
    /// The positions whose output is wanted, as indices into `rows · length`: each stands before a label.
    pub(super) from: Tensor,
    /// The tokens that are to be predicted there.
    pub(super) targets: Tensor,
    /// What each weighs, f32. `None`: 1.
    pub(super) weights: Option<Tensor>,
    /// How many there are.
    pub(super) count: u64,
}

impl TokenBatch {
    /// The number of labels that count.
    pub fn labelled(&self) -> u64 {
        self.positions().count() as u64
    }

    /// What the labels that count weigh together.
    pub fn weight(&self) -> f64 {
        self.positions().map(|(from, _)| f64::from(self.weight_at(from))).sum()
    }

    /// What a label predicted at this position weighs.
    fn weight_at(&self, from: i64) -> f32 {
        let row = from as usize / self.length.max(1);
        self.weights.get(row).copied().unwrap_or(1.0)
    }

    /// Where each label that counts is predicted from, and the label.
    fn positions(&self) -> impl Iterator<Item = (i64, i64)> {
        let length = self.length.max(1);
        let labels = self.labels.iter().enumerate();
        labels
            .filter(move |(at, label)| at % length > 0 && **label != IGNORED)
            .map(|(at, &label)| (at as i64 - 1, label))
    }

    pub(super) fn prepare(&self, config: &NeoxConfig, device: Device) -> Result<Prepared, TrainError> {
        let total = self.rows * self.length;
        if total == 0 || self.ids.len() != total || self.labels.len() != total {
            return Err(TrainError::Settings(format!(
                "a batch of {} sequences of {} tokens needs {total} ids and labels, not {} and {}",
                self.rows,
                self.length,
                self.ids.len(),
                self.labels.len()
            )));
        }
        if self.length > config.max_position_embeddings {
            return Err(TrainError::Settings(format!(
                "a sequence has {} tokens and the model takes {}; drop or shorten longer ones",
                self.length, config.max_position_embeddings
            )));
        }
        let vocabulary = 0..config.vocab_size as i64;
        let unknown = |&id: &i64| !vocabulary.contains(&id);
        let labels = self.labels.iter().copied().filter(|&label| label != IGNORED);
        if let Some(id) = self.ids.iter().copied().chain(labels).find(unknown) {
            return Err(TrainError::Settings(format!(
                "token {id} is outside of the model's vocabulary of {}; the tokenizer belongs to another model, or the embeddings \
                 were not grown",
                config.vocab_size
            )));
        }
        let (from, targets): (Vec<i64>, Vec<i64>) = self.positions().unzip();
        let weights: Vec<f32> = from.iter().map(|&from| self.weight_at(from)).collect();
        let weights = (!self.weights.is_empty()).then(|| Tensor::from_slice(&weights).f_to_device(device));
        let put = |values: &[i64]| Tensor::from_slice(values).f_to_device(device);
        Ok(Prepared {
            ids: put(&self.ids)?.f_view([self.rows as i64, self.length as i64])?,
            from: put(&from)?,
            targets: put(&targets)?,
            weights: weights.transpose()?,
            count: from.len() as u64,
        })
    }
}
