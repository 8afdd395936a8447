//! The code book's care: made from data at the start, dead codes revived, use counted.

use rand::Rng;
use rand::seq::index::sample;
use tch::{Device, Kind, Tensor};

use super::generator::{CODE_BOOK, nearest};
use crate::train::common::random::{Purpose, generator, normal};
use crate::train::common::{Parameters, TrainError, Trainer};

/// Rounds of k-means for the first code book.
const ROUNDS: usize = 10;

/// How far a latent that is drawn again is moved, in standard deviations of the latents.
const SHAKE: f64 = 1e-3;

/// How often each code was used since dead ones were last looked for.
pub struct Use(pub(super) Vec<i64>);

impl Use {
    /// Of a book of so many codes.
    pub fn new(codes: usize) -> Self {
        Self(vec![0; codes])
    }

    /// Counts indices `[n]`.
    pub fn count(&mut self, codes: &Tensor) -> Result<(), TrainError> {
        let counts = Vec::<i64>::try_from(
            codes
                .bincount(None::<&Tensor>, self.0.len() as i64)
                .to_device(Device::Cpu),
        )?;
        self.0.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
        Ok(())
    }

    /// Perplexity of the use, exp(entropy): how many codes, used equally, would carry as much.
    pub fn perplexity(&self) -> f64 {
        let total: i64 = self.0.iter().sum();
        let share = |&n: &i64| n as f64 / total.max(1) as f64;
        let entropy: f64 = self.0.iter().filter(|&&n| n > 0).map(share).map(|p| -p * p.ln()).sum();
        entropy.exp()
    }

    /// Share of codes used at all.
    pub fn share_used(&self) -> f64 {
        self.0.iter().filter(|&&n| n > 0).count() as f64 / self.0.len().max(1) as f64
    }
}

/// `count` vectors (`[count, d]`) drawn from latents (`[n, d]`): no latent twice as long as there are others. Where there are too few, those that
/// are drawn again are moved a little: two equal vectors would be one code, and the second of them never used.
fn drawn(latents: &Tensor, count: usize, rng: &mut impl Rng) -> Result<Tensor, TrainError> {
    let (total, width) = latents.size2()?;
    let mut picked: Vec<i64> = sample(rng, total as usize, count.min(total as usize))
        .iter()
        .map(|i| i as i64)
        .collect();
    let once = picked.len();
    picked.extend((once..count).map(|_| rng.random_range(0..total)));
    let vectors = latents.index_select(0, &Tensor::from_slice(&picked).to_device(latents.device()));
    if once == count {
        return Ok(vectors);
    }
    let again = (count - once) as i64;
    let noise: Vec<f32> = (0..again * width).map(|_| normal(rng)).collect();
    let noise = Tensor::from_slice(&noise)
        .view([again, width])
        .to_device(latents.device())
        .to_kind(latents.kind());
    let moved = vectors.narrow(0, once as i64, again) + noise * (latents.std(false) * SHAKE);
    Ok(Tensor::f_cat(&[vectors.narrow(0, 0, once as i64), moved], 0)?)
}

/// Makes the code book from latents (`[n, d]`) by k-means (Lloyd), begun at latents drawn at random: that of the weights and that of their
/// average, of which the random vectors that were there are no part.
pub(super) fn from_data(
    parameters: &Parameters,
    average: Option<&Tensor>,
    latents: &Tensor,
    (seed, step): (u64, u64),
) -> Result<(), TrainError> {
    let Some(leaf) = parameters.leaf(CODE_BOOK) else {
        return Ok(());
    };
    tch::no_grad(|| {
        let (count, total) = (leaf.size2()?.0 as usize, latents.size2()?.0 as usize);
        let mut rng = generator(seed, Purpose::CodeBook, step);
        let device = latents.device();
        let mut centres = drawn(latents, count, &mut rng)?;
        let ones = Tensor::ones([total as i64], (Kind::Float, device));
        for _ in 0..ROUNDS {
            let owner = nearest(latents, &centres);
            let sums = centres.zeros_like().f_index_add_(0, &owner, latents)?;
            let sizes = Tensor::zeros([count as i64], (Kind::Float, device)).f_index_add_(0, &owner, &ones)?;
            let sizes = sizes.unsqueeze(1);
            // A centre that owns nothing stays where it is.
            centres = (sums / sizes.clamp_min(1.0)).where_self(&sizes.gt(0.0), &centres);
        }
        for flat in [Some(parameters.flat()), average].into_iter().flatten() {
            if let Some(mut book) = parameters.part(flat, CODE_BOOK) {
                book.f_copy_(&centres)?;
            }
        }
        Ok(())
    })
}

/// Replaces every code that was not used by a latent of the batch (`[n, d]`), each by another one, in the weights and their average, and forgets its
/// moments. Use is counted anew.
pub(super) fn revive(
    parameters: &Parameters,
    trainer: &mut Trainer,
    used: &mut Use,
    latents: &Tensor,
    (seed, step): (u64, u64),
) -> Result<(), TrainError> {
    let dead: Vec<i64> = (0i64..)
        .zip(&used.0)
        .filter(|(_, n)| **n == 0)
        .map(|(i, _)| i)
        .collect();
    used.0.fill(0);
    if dead.is_empty() {
        return Ok(());
    }
    let mut rng = generator(seed, Purpose::Step, step);
    let rows = Tensor::from_slice(&dead).to_device(latents.device());
    tch::no_grad(|| {
        let vectors = drawn(latents, dead.len(), &mut rng)?;
        for flat in [Some(parameters.flat()), trainer.average()].into_iter().flatten() {
            if let Some(mut book) = parameters.part(flat, CODE_BOOK) {
                let _ = book.f_index_copy_(0, &rows, &vectors)?;
            }
        }
        Ok::<_, TrainError>(())
    })?;
    trainer.forget_rows(parameters, CODE_BOOK, &rows);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_latent_is_drawn_twice_while_there_are_others_and_one_that_is_drawn_again_is_moved_a_little() {
        let latents = Tensor::arange(24, (Kind::Float, Device::Cpu)).view([12, 2]);
        let draw = |count| drawn(&latents, count, &mut generator(1, Purpose::Step, 7)).unwrap();
        let distinct = |vectors: &Tensor| {
            let values = Vec::<f32>::try_from(vectors.view([-1])).unwrap();
            let rows = values.chunks(2).map(|row| (row[0].to_bits(), row[1].to_bits()));
            rows.collect::<BTreeSet<_>>().len()
        };
        for count in [1, 12, 30] {
            assert_eq!(distinct(&draw(count)), count);
        }
        let vectors = draw(30);
        let away = (&vectors - latents.index_select(0, &nearest(&vectors, &latents))).abs();
        let most = |from, rows| away.narrow(0, from, rows).max().double_value(&[]);
        assert_eq!(most(0, 12), 0.0);
        assert!(most(12, 18) > 0.0 && most(12, 18) < 0.1);
        // A run that is taken up draws the same.
        assert!(vectors.equal(&draw(30)));
    }
}
