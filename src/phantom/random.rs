//! Random numbers that depend on nothing but the study they are drawn for.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a stream of random numbers is for. Each purpose has a stream of its own, so that a draw more in one place changes
/// nothing elsewhere: the same thorax can be projected with and without a finding.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// Which studies of a block belong to which patient. Index: the block.
    Family,
    /// The patient's body. Index: the patient.
    Body,
    /// Which findings there are. Index: the study.
    Findings,
    /// How the patient stands and breathes, and where the beam goes. Index: the study.
    Pose,
    /// Vessels and lung texture. Index: the patient.
    Vessels,
    /// Geometry of the finding in this place of the list. Index: the study.
    Finding(u32),
    /// Exposure, scatter, noise, collimation and markers. Index: the study.
    Imaging,
    /// Wording of the report. Index: the study.
    Report,
    /// Choice and wording of questions. Index: the study.
    Questions,
}

impl Purpose {
    fn number(self) -> u64 {
        match self {
            Self::Family => 1,
            Self::Body => 2,
            Self::Findings => 3,
            Self::Pose => 4,
            Self::Vessels => 5,
            Self::Imaging => 6,
            Self::Report => 7,
            Self::Questions => 8,
            Self::Finding(slot) => 0x100 + u64::from(slot),
        }
    }
}

/// A ChaCha stream keyed by seed, index and purpose.
#[derive(Clone, Debug)]
pub(super) struct Random(ChaCha8Rng);

impl Random {
    pub(super) fn new(seed: u64, index: u64, purpose: Purpose) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&index.to_le_bytes());
        key[16..24].copy_from_slice(&purpose.number().to_le_bytes());
        Self(ChaCha8Rng::from_seed(key))
    }

    /// Even in `[low, high)`.
    pub(super) fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * self.0.random::<f32>()
    }

    /// Normal, cut at 2.5 standard deviations so that no body is impossible.
    pub(super) fn normal(&mut self, mean: f32, deviation: f32) -> f32 {
        let radius = (-2.0 * (1.0 - self.0.random::<f32>()).ln()).sqrt();
        let angle = std::f32::consts::TAU * self.0.random::<f32>();
        mean + deviation * (radius * angle.cos()).clamp(-2.5, 2.5)
    }

    pub(super) fn chance(&mut self, probability: f32) -> bool {
        self.0.random::<f32>() < probability
    }

    /// Even in `0 … count - 1`; 0 when `count` is 0.
    pub(super) fn below(&mut self, count: usize) -> usize {
        self.0.random_range(0..count.max(1))
    }

    pub(super) fn bits(&mut self) -> u32 {
        self.0.random()
    }

    /// One of the choices, each as likely as the others.
    pub(super) fn pick<T: Copy, const N: usize>(&mut self, choices: [T; N]) -> T {
        const { assert!(N > 0, "there is something to pick") };
        choices[self.below(N)]
    }

    /// One of the choices, by weight.
    pub(super) fn weighted<T: Copy, const N: usize>(&mut self, choices: [(T, f32); N]) -> T {
        const { assert!(N > 0, "there is something to pick") };
        let mut rest = self.between(0.0, choices.iter().map(|&(_, weight)| weight).sum());
        for (choice, weight) in choices {
            if rest < weight {
                return choice;
            }
            rest -= weight;
        }
        choices[N - 1].0
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}
