//! Learning rates as functions of the step.

use serde::{Deserialize, Serialize};

/// How the learning rate goes on after its warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Stays.
    #[default]
    Constant,
    /// Falls in a straight line that is at the floor one step behind the last.
    Linear,
    /// Falls along half a cosine that is at the floor one step behind the last (Loshchilov & Hutter 2017, without restarts).
    Cosine,
    /// DeepSpeed's `WarmupLR` with logarithmic warm-up, `lr·ln(i+1)/ln(w)` for `w` steps, then constant.
    WarmupLog,
}

/// A learning-rate schedule.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    /// Learning rate at its height.
    pub peak: f64,
    /// Steps of warm-up.
    pub warmup: u64,
    /// Steps of the whole run.
    pub steps: u64,
    /// What follows the warm-up.
    pub shape: Shape,
    /// Where linear and cosine end, as a share of the peak.
    pub floor: f64,
}

impl Schedule {
    /// Learning rate of `step`, counted from 0.
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warmup {
            let step = step as f64;
            let share = match self.shape {
                // One step of warm-up would divide by ln 1.
                Shape::WarmupLog if self.warmup > 1 => (step + 1.0).ln() / (self.warmup as f64).ln(),
                _ => (step + 1.0) / self.warmup as f64,
            };
            return self.peak * share;
        }
        let rest = self.steps.saturating_sub(self.warmup).max(1);
        let along = ((step - self.warmup) as f64 / rest as f64).min(1.0);
        let height = match self.shape {
            Shape::Constant | Shape::WarmupLog => return self.peak,
            Shape::Linear => 1.0 - along,
            Shape::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * along).cos()),
        };
        self.peak * (self.floor + (1.0 - self.floor) * height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(shape: Shape, warmup: u64) -> Schedule {
        Schedule {
            peak: 2.0,
            warmup,
            steps: 110,
            shape,
            floor: 0.1,
        }
    }

    #[test]
    fn the_logarithmic_warm_up_is_deepspeeds() {
        let s = schedule(Shape::WarmupLog, 50);
        assert_eq!(s.rate(0), 0.0);
        assert!((s.rate(24) - 2.0 * 25f64.ln() / 50f64.ln()).abs() < 1e-12);
        assert_eq!((s.rate(49), s.rate(50), s.rate(5000)), (2.0, 2.0, 2.0));
    }

    #[test]
    fn every_shape_warms_up_to_its_peak_and_the_falling_ones_end_at_their_floor() {
        for shape in [Shape::Constant, Shape::Linear, Shape::Cosine] {
            let s = schedule(shape, 10);
            assert!((s.rate(0) - 0.2).abs() < 1e-12 && (s.rate(9) - 2.0).abs() < 1e-12);
            assert!((s.rate(10) - 2.0).abs() < 1e-12);
            let end = if shape == Shape::Constant { 2.0 } else { 0.2 };
            assert!((s.rate(110) - end).abs() < 1e-12, "{shape:?}");
            assert!((s.rate(10_000) - end).abs() < 1e-12, "{shape:?}");
        }
        let middle = schedule(Shape::Cosine, 10).rate(60);
        assert!((middle - 2.0 * (0.1 + 0.9 * 0.5)).abs() < 1e-12);
    }
}
