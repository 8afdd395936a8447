//! Random numbers that depend on (seed, purpose, place) alone, so that a resumed run needs no saved generator state.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// What random numbers are drawn for; each purpose has a stream of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Initial weights; the place is the tensor's number.
    Weights,
    /// Order of a data set; the place is the source's number and the epoch.
    Order,
    /// Anything drawn during a step; the place is the step.
    Step,
    /// Initial code book; the place is the step at which it is made.
    CodeBook,
    /// Rows added to embeddings; the place is 0 for the embedding, 1 for the output matrix.
    NewRows,
    /// The projection of code-book vectors to embeddings; places as for rows.
    Projection,
    /// How an image of a stream is moved; the place is its position.
    Shift,
}

/// The generator for `purpose` at `place`.
pub fn generator(seed: u64, purpose: Purpose, place: u64) -> ChaCha8Rng {
    let mut key = [0u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8] = purpose as u8;
    let mut rng = ChaCha8Rng::from_seed(key);
    rng.set_stream(place);
    rng
}

/// A standard normal number (Box & Muller 1958).
pub fn normal(rng: &mut impl Rng) -> f32 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    (radius * (std::f64::consts::TAU * rng.random::<f64>()).cos()) as f32
}
