//! The labels that a network learns, as targets with a mask.

use std::collections::HashMap;

use tch::{Device, Kind, Reduction, Tensor};

use super::images::ImageBatch;
use crate::train::common::TrainError;
use crate::train::data::{SUPPORT_DEVICES, is_normal};

/// Label of a sample whose every finding that is not named is absent: it is called normal.
pub(super) const ALL_OTHERS: &str = "*";

/// Begins the name of a label that is an answer to a question; those stay unknown where all others are absent.
pub(super) const ANSWER: &str = "answer: ";

/// Names of labels, in the order of a network's logits.
pub struct Labels {
    numbers: HashMap<String, usize>,
    names: Vec<String>,
    /// Whether each is an answer.
    answers: Vec<bool>,
    /// What each is in an image that is called normal.
    of_normal: Vec<OfNormal>,
    count: usize,
}

/// What calling an image normal says of a label.
#[derive(Clone, Copy)]
enum OfNormal {
    /// It is a finding: as [`ALL_OTHERS`] says.
    Other,
    /// It says the same in another word.
    Same,
    /// Nothing: an answer, or lines and tubes.
    Unknown,
}

impl OfNormal {
    fn of(name: &str) -> Self {
        if is_normal(name) {
            Self::Same
        } else if name.starts_with(ANSWER) || name.eq_ignore_ascii_case(SUPPORT_DEVICES) {
            Self::Unknown
        } else {
            Self::Other
        }
    }
}

impl Labels {
    /// These names; they are compared without regard to case.
    pub fn new(names: &[String]) -> Self {
        let numbers = names.iter().enumerate().map(|(n, name)| (name.to_lowercase(), n));
        Self {
            numbers: numbers.rev().collect(),
            names: names.to_vec(),
            answers: names.iter().map(|name| name.starts_with(ANSWER)).collect(),
            of_normal: names.iter().map(|name| OfNormal::of(name)).collect(),
            count: names.len(),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Names of those that are findings, not answers to questions, with their places.
    pub fn findings(&self) -> impl Iterator<Item = (&str, usize)> {
        let places = self.names.iter().zip(&self.answers).enumerate();
        places.filter_map(|(at, (name, answer))| (!answer).then_some((name.as_str(), at)))
    }

    /// Targets `[n, labels]` and a mask of the same shape, both f32: 1 where the label is known.
    pub fn targets(&self, batch: &ImageBatch, device: Device) -> (Tensor, Tensor) {
        let size = batch.labels.len() * self.count;
        let (mut target, mut mask) = (vec![0f32; size], vec![0f32; size]);
        for (image, labels) in batch.labels.iter().enumerate() {
            let row = image * self.count..(image + 1) * self.count;
            if let Some((_, value)) = labels.iter().find(|(name, _)| name == ALL_OTHERS) {
                for (place, of_normal) in row.clone().zip(&self.of_normal) {
                    let said = match of_normal {
                        OfNormal::Other => *value,
                        OfNormal::Same => 1.0,
                        OfNormal::Unknown => continue,
                    };
                    target[place] = said;
                    mask[place] = 1.0;
                }
            }
            // The first of several values of a label counts.
            for (name, value) in labels.iter().rev() {
                if let Some(number) = self.numbers.get(&name.to_lowercase()) {
                    target[row.start + number] = *value;
                    mask[row.start + number] = 1.0;
                }
            }
        }
        let shape = [batch.labels.len() as i64, self.count as i64];
        let tensor = |v: &[f32]| Tensor::from_slice(v).view(shape).to_device(device);
        (tensor(&target), tensor(&mask))
    }

    /// Mean cross entropy of `logits`, `[n, labels]`, over the labels that are known of `batch`: a scalar; 0 where none is.
    pub fn loss(&self, logits: &Tensor, batch: &ImageBatch, device: Device) -> Result<Tensor, TrainError> {
        let (target, mask) = self.targets(batch, device);
        let none = None::<&Tensor>;
        let each = logits.f_binary_cross_entropy_with_logits(&target, none, none, Reduction::None)?;
        let known = mask.f_sum(Kind::Float)?.f_clamp_min(1.0)?;
        Ok(each.f_mul(&mask)?.f_sum(Kind::Float)?.f_div(&known)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_labels_have_targets_and_normal_means_that_every_other_one_is_absent() {
        let names = ["Edema", "Fracture", "No Finding", "answer: PA or AP? PA."];
        let labels = Labels::new(&names.map(str::to_owned));
        let known = |list: &[(&str, f32)]| list.iter().map(|(n, v)| ((*n).to_owned(), *v)).collect();
        let batch = ImageBatch {
            labels: vec![
                known(&[("edema", 1.0), ("Edema", 0.0), ("other", 1.0)]),
                known(&[("No Finding", 1.0), ("*", 0.0)]),
            ],
            ..ImageBatch::default()
        };
        let (target, mask) = labels.targets(&batch, Device::Cpu);
        let rows = |t: Tensor| Vec::<f32>::try_from(t.view([-1])).unwrap();
        assert_eq!(rows(target), [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        assert_eq!(rows(mask), [1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0]);
    }

    #[test]
    fn an_image_called_normal_is_so_in_every_word_for_it_and_may_have_devices() {
        let names = ["No Finding", "Normal", "support devices", "Edema"];
        let labels = Labels::new(&names.map(str::to_owned));
        let of = |known: &[(&str, f32)]| {
            let batch = ImageBatch {
                labels: vec![known.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()],
                ..ImageBatch::default()
            };
            let (target, mask) = labels.targets(&batch, Device::Cpu);
            let row = |t: Tensor| Vec::<f32>::try_from(t.view([-1])).unwrap();
            (row(target), row(mask))
        };
        let normal = of(&[("NORMAL", 1.0), (ALL_OTHERS, 0.0)]);
        assert_eq!(normal, (vec![1.0, 1.0, 0.0, 0.0], vec![1.0, 1.0, 0.0, 1.0]));
        // What is named counts.
        let tubes = of(&[("Normal", 1.0), ("Support Devices", 1.0), (ALL_OTHERS, 0.0)]);
        assert_eq!(tubes, (vec![1.0, 1.0, 1.0, 0.0], vec![1.0; 4]));
    }

    #[test]
    fn the_loss_is_that_of_known_labels_alone() {
        let labels = Labels::new(&["Edema".to_owned(), "Fracture".to_owned()]);
        let batch = |known: Vec<(String, f32)>| ImageBatch {
            labels: vec![known],
            ..ImageBatch::default()
        };
        let loss = |logits: [f32; 2], known| {
            let logits = Tensor::from_slice(&logits).view([1, 2]);
            labels
                .loss(&logits, &batch(known), Device::Cpu)
                .unwrap()
                .double_value(&[])
        };
        let edema = || vec![("Edema".to_owned(), 1.0)];
        assert!((loss([0.0, 9.0], edema()) - 2f64.ln()).abs() < 1e-6);
        assert_eq!(loss([0.0, 9.0], edema()), loss([0.0, -9.0], edema()));
        assert_eq!(loss([5.0, 5.0], Vec::new()), 0.0);
    }
}
