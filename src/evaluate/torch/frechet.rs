//! Fréchet distance of two sets of feature vectors (Heusel et al. 2017), each reduced to mean and covariance as it comes.

use tch::{Device, Kind, Tensor};

use crate::train::common::TrainError;

/// Running mean and covariance of feature vectors, in f64.
pub struct Moments {
    count: u64,
    /// `[d]`.
    sum: Tensor,
    /// `[d, d]`, sum of outer products.
    products: Tensor,
}

impl Moments {
    /// Of vectors of length `width`.
    pub fn new(width: usize) -> Self {
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Double, Device::Cpu));
        Self {
            count: 0,
            sum: zeros(&[width as i64]),
            products: zeros(&[width as i64, width as i64]),
        }
    }

    /// How many vectors were added.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Adds the rows of `features`, `[n, width]`.
    pub fn add(&mut self, features: &Tensor) -> Result<(), TrainError> {
        let rows = features.to_device(Device::Cpu).to_kind(Kind::Double);
        self.count += rows.size2()?.0 as u64;
        self.sum = self
            .sum
            .f_add(&rows.sum_dim_intlist([0i64].as_slice(), false, Kind::Double))?;
        self.products = self.products.f_add(&rows.transpose(0, 1).matmul(&rows))?;
        Ok(())
    }

    /// Of both sets together.
    pub fn with(&self, other: &Self) -> Self {
        Self {
            count: self.count + other.count,
            sum: &self.sum + &other.sum,
            products: &self.products + &other.products,
        }
    }

    /// Mean `[d]` and covariance `[d, d]` with n − 1 in the denominator.
    fn mean_and_covariance(&self) -> (Tensor, Tensor) {
        let n = self.count as f64;
        let mean = &self.sum / n;
        let covariance = (&self.products - mean.outer(&mean) * n) / (n - 1.0);
        (mean, covariance)
    }

    /// |m₁ − m₂|² + tr(C₁ + C₂ − 2 (C₁ C₂)^½), the trace of the root by the eigenvalues of C₁^½ C₂ C₁^½. `None` where either has fewer
    /// than two vectors.
    pub fn distance(&self, other: &Self) -> Result<Option<f64>, TrainError> {
        if self.count < 2 || other.count < 2 {
            return Ok(None);
        }
        let ((m1, c1), (m2, c2)) = (self.mean_and_covariance(), other.mean_and_covariance());
        let (values, vectors) = c1.f_linalg_eigh("L")?;
        let root = (&vectors * values.clamp_min(0.0).sqrt()).matmul(&vectors.transpose(0, 1));
        let between = root.matmul(&c2).matmul(&root);
        // Rounding leaves it a little asymmetric and its smallest eigenvalues a little below 0.
        let between = (&between + between.transpose(0, 1)) / 2.0;
        let roots = between.f_linalg_eigvalsh("L")?.clamp_min(0.0).sqrt().sum(Kind::Double);
        let means = (m1 - m2).square().sum(Kind::Double);
        let distance = means + c1.trace() + c2.trace() - roots * 2.0;
        Ok(Some(distance.f_double_value(&[])?.max(0.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(rows: &[Vec<f64>]) -> Moments {
        let mut moments = Moments::new(rows[0].len());
        // In two parts, as batches come.
        for part in rows.chunks(rows.len() / 2 + 1) {
            let flat: Vec<f64> = part.iter().flatten().copied().collect();
            moments
                .add(&Tensor::from_slice(&flat).view([part.len() as i64, -1]))
                .unwrap();
        }
        moments
    }

    #[test]
    fn the_distance_agrees_with_scipy() {
        let text = include_str!("../../../tests/fixtures/evaluate/scores.json");
        let value: serde_json::Value = serde_json::from_str(text).unwrap();
        let rows = |name: &str| serde_json::from_value::<Vec<Vec<f64>>>(value["frechet"][name].clone()).unwrap();
        let (a, b) = (moments(&rows("a")), moments(&rows("b")));
        let wanted = value["frechet"]["distance"].as_f64().unwrap();
        let found = a.distance(&b).unwrap().unwrap();
        assert!((found - wanted).abs() < 1e-8 * wanted, "{found} against {wanted}");
        assert!((b.distance(&a).unwrap().unwrap() - wanted).abs() < 1e-8 * wanted);
        assert!(a.distance(&a).unwrap().unwrap() < 1e-10);
    }

    #[test]
    fn fewer_than_two_vectors_have_no_distance() {
        let one = moments(&[vec![1.0, 2.0]]);
        assert_eq!(one.distance(&moments(&[vec![1.0, 2.0], vec![2.0, 2.0]])).unwrap(), None);
    }
}
