//! Embeddings for more tokens: a text model's vocabulary, then the image codes.

use tch::{Device, Kind, Tensor};

use super::TrainableNeox;
use crate::model::neox::{EMBED_IN, EMBED_OUT};
use crate::model::source::{LoadError, TensorSource};
use crate::train::common::random::{Purpose, generator, normal};
use crate::train::common::{Parameters, TrainError};

/// Standard deviation of fresh embeddings (`initializer_range` of GPT-NeoX).
const DEVIATION: f32 = 0.02;

/// The old weights, with another number of rows in the embeddings.
struct Grown<'a> {
    old: &'a TrainableNeox,
    /// Rows at the beginning that stay.
    kept: usize,
    /// Rows at the end that stay there.
    last: usize,
    seed: u64,
}

impl TensorSource for Grown<'_> {
    fn tensor(&self, name: &str, shape: &[usize], kind: Kind, device: Device) -> Result<Tensor, LoadError> {
        let (place, [rows, width]) = match (name, shape) {
            (EMBED_IN, &[rows, width]) => (0, [rows, width]),
            (EMBED_OUT, &[rows, width]) => (1, [rows, width]),
            _ => return self.old.weights.tensor(name, shape, kind, device),
        };
        let has = self.old.config.vocab_size;
        let stored = self.old.weights.tensor(name, &[has, width], kind, device)?.detach();
        let new = rows - self.kept - self.last;
        let fresh = normals([new, width], self.seed, Purpose::NewRows, place) * f64::from(DEVIATION);
        let kept = stored.narrow(0, 0, self.kept as i64);
        let last = stored.narrow(0, (has - self.last) as i64, self.last as i64);
        Ok(Tensor::cat(&[kept, fresh.to_kind(kind).to_device(device), last], 0))
    }
}

/// Standard normal numbers, `[rows, width]`, f32.
pub(super) fn normals([rows, width]: [usize; 2], seed: u64, purpose: Purpose, place: u64) -> Tensor {
    let mut rng = generator(seed, purpose, place);
    let values: Vec<f32> = (0..rows * width).map(|_| normal(&mut rng)).collect();
    Tensor::from_slice(&values).view([rows as i64, width as i64])
}

impl TrainableNeox {
    /// The model with `rows` rows in embedding and output matrix. The first `kept` stay (the tokenizer's length before it was
    /// extended: base models store more rows than they have tokens, and what lies behind belongs to no token); the others are
    /// drawn from N(0, 0.02), as transformers' `resize_token_embeddings` does for GPT-NeoX, and depend on `seed` alone. With
    /// `kept == rows` the embeddings are cut.
    ///
    /// # Errors
    /// `kept` is more than there are, or than `rows`; or there are adapters already.
    pub fn grown(self, kept: usize, rows: usize, seed: u64) -> Result<Self, TrainError> {
        self.grown_between(kept, 0, rows, seed)
    }

    /// [`Self::grown`], but for the `last` rows, which stay too and are the last ones again: the new rows come between.
    ///
    /// # Errors
    /// As there.
    pub fn grown_between(self, kept: usize, last: usize, rows: usize, seed: u64) -> Result<Self, TrainError> {
        let has = self.config.vocab_size;
        if self.adapters.is_some() {
            let reason = "embeddings can only be grown before adapters are added";
            return Err(TrainError::Settings(reason.to_owned()));
        }
        let stay = kept.saturating_add(last);
        if stay > has || stay > rows || rows == 0 {
            return Err(TrainError::Settings(format!(
                "the base model has embeddings for {has} tokens, of which {stay} cannot be kept among {rows}; is its tokenizer that of \
                 another model?"
            )));
        }
        let mut config = self.config.clone();
        config.vocab_size = rows;
        let source = Grown {
            old: &self,
            kept,
            last,
            seed,
        };
        let weights = Parameters::load(&config.expected_tensors(), &source, self.device)?;
        let mut grown = Self::over(&config, weights, self.device);
        grown.grown_from = (kept < rows).then_some(kept);
        Ok(grown)
    }

    /// Sets the embeddings of the image codes from the VQ-GAN's code book, so that codes that look alike begin alike: its vectors
    /// (`code_book`: `[codes, width]`), centred and mapped by a random projection, with the deviation 0.02 of fresh embeddings. `first` is
    /// the token of code 0. An output matrix of its own gets a projection of its own.
    ///
    /// # Errors
    /// The codes do not lie in the vocabulary, or the code book holds nothing to tell them apart.
    pub fn init_codes_from(&self, first: usize, code_book: &Tensor, seed: u64) -> Result<(), TrainError> {
        let (codes, width) = code_book.size2()?;
        if first as i64 + codes > self.config.vocab_size as i64 || self.adapters.is_some() {
            return Err(TrainError::Settings(format!(
                "{codes} image codes from token {first} on do not fit into a vocabulary of {}, or adapters are there already",
                self.config.vocab_size
            )));
        }
        let book = code_book.detach().to_kind(Kind::Float).to_device(Device::Cpu);
        let book = &book - book.mean_dim([0i64].as_slice(), true, Kind::Float);
        let hidden = self.config.hidden_size;
        for (place, name) in [EMBED_IN, EMBED_OUT].into_iter().enumerate() {
            let Some(leaf) = self.weights.leaf(name) else { continue };
            let projection = normals([width as usize, hidden], seed, Purpose::Projection, place as u64);
            let vectors = book.matmul(&projection);
            let deviation = vectors.square().mean(Kind::Float).sqrt().double_value(&[]);
            if !(deviation.is_finite() && deviation > 0.0) {
                let reason = "the VQ-GAN's code vectors are all the same or not finite; train the VQ-GAN first";
                return Err(TrainError::Settings(reason.to_owned()));
            }
            let vectors = vectors * (f64::from(DEVIATION) / deviation);
            tch::no_grad(|| leaf.narrow(0, first as i64, codes).f_copy_(&vectors))?;
        }
        Ok(())
    }
}
