//! Shape of the classifier, as its `config.json` has it.

use std::io::ErrorKind;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::model::ExpectedTensor;
use crate::train::common::TrainError;

/// Groups of every GroupNorm; all widths are multiples of it.
pub(super) const GROUPS: usize = 8;

/// A DenseNet (Huang et al. 2017) with group norms instead of batch norms, so that it has no state beside its weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierConfig {
    /// Side of the images in pixels.
    pub resolution: usize,
    /// Channels of the images: 1 or 3.
    pub channels: usize,
    /// Convolutions before the first block, 1 or 2: the last one halves the side, one before it looks at every pixel.
    #[serde(default = "one")]
    pub stem_layers: usize,
    /// Channels that each layer adds, a multiple of 8.
    pub growth: usize,
    /// Layers of each dense block; between blocks the side is halved.
    pub blocks: Vec<usize>,
    /// Names of the labels, in the order of the logits.
    pub labels: Vec<String>,
}

impl ClassifierConfig {
    /// Checks that such a network exists.
    pub fn check(&self) -> Result<(), TrainError> {
        let wrong = |text: String| Err(TrainError::Settings(text));
        if self.labels.is_empty() {
            return wrong(
                "the classifier has no labels; name them with --labels, or train on data that has some".to_owned(),
            );
        }
        if self.growth == 0 || !self.growth.is_multiple_of(GROUPS) || self.growth > 1024 {
            return wrong(format!(
                "growth is {}; it must be a multiple of {GROUPS} up to 1024",
                self.growth
            ));
        }
        if self.channels != 1 && self.channels != 3 {
            return wrong(format!("channels is {}; an image has 1 or 3", self.channels));
        }
        if !(1..=2).contains(&self.stem_layers) {
            return wrong(format!("stem_layers is {}; it may be 1 or 2", self.stem_layers));
        }
        let halvings = self.blocks.len();
        if self.blocks.is_empty() || halvings > 8 || self.blocks.iter().any(|&n| n == 0 || n > 128) {
            return wrong(format!(
                "blocks {:?} is not a list of 1 to 8 numbers from 1 to 128",
                self.blocks
            ));
        }
        if self.resolution >> halvings == 0 || self.resolution > 4096 {
            return wrong(format!(
                "resolution {} cannot be halved {halvings} times",
                self.resolution
            ));
        }
        Ok(())
    }

    /// Reads `config.json` in `folder`.
    pub fn read(folder: &Path) -> Result<Self, TrainError> {
        let path = folder.join("config.json");
        let bytes = std::fs::read(&path).map_err(|reason| match reason.kind() {
            ErrorKind::NotFound => TrainError::Settings(format!(
                "{} holds no classifier: give the folder with config.json and model.safetensors that `classifier` leaves in its run's",
                folder.display()
            )),
            _ => TrainError::io(&path, reason),
        })?;
        let config: Self = serde_json::from_slice(&bytes)
            .map_err(|e| TrainError::Settings(format!("{} is not a classifier's: {e}", path.display())))?;
        config.check()?;
        Ok(config)
    }

    /// Channels after the stem.
    pub(super) fn stem(&self) -> usize {
        2 * self.growth
    }

    /// Channels into the convolution that halves the side first.
    pub(super) fn stem_input(&self) -> usize {
        match self.stem_layers {
            2 => self.stem(),
            _ => self.channels,
        }
    }

    /// Channels into each block, and out of the last one.
    pub(super) fn widths(&self) -> Vec<usize> {
        let mut widths = vec![self.stem()];
        for (number, layers) in self.blocks.iter().enumerate() {
            let grown = widths[number] + layers * self.growth;
            let last = number + 1 == self.blocks.len();
            widths.push(if last { grown } else { half(grown) });
        }
        widths
    }

    /// Length of the feature vector: mean and maximum of every channel.
    pub fn features(&self) -> usize {
        2 * self.widths().last().copied().unwrap_or(0)
    }

    /// Every tensor of the network.
    pub fn expected_tensors(&self) -> Vec<ExpectedTensor> {
        let mut out = Vec::new();
        let mut add = |name: String, shape: &[usize]| {
            out.push(ExpectedTensor {
                name,
                shape: shape.to_vec(),
            });
        };
        let mut conv = |name: &str, input: usize, output: usize, kernel: usize| {
            add(format!("{name}.weight"), &[output, input, kernel, kernel]);
            add(format!("{name}.bias"), &[output]);
        };
        let widths = self.widths();
        let mut norms = Vec::new();
        if self.stem_layers == 2 {
            conv("fine", self.channels, self.stem(), 3);
            norms.push(("fine.norm".to_owned(), self.stem()));
        }
        conv("stem", self.stem_input(), self.stem(), 3);
        for (b, &layers) in self.blocks.iter().enumerate() {
            let mut width = widths[b];
            for l in 0..layers {
                let name = format!("block.{b}.{l}");
                norms.push((format!("{name}.norm1"), width));
                conv(&format!("{name}.conv1"), width, 4 * self.growth, 1);
                norms.push((format!("{name}.norm2"), 4 * self.growth));
                conv(&format!("{name}.conv2"), 4 * self.growth, self.growth, 3);
                width += self.growth;
            }
            if b + 1 < self.blocks.len() {
                norms.push((format!("transition.{b}.norm"), width));
                conv(&format!("transition.{b}.conv"), width, widths[b + 1], 1);
            } else {
                norms.push(("norm".to_owned(), width));
            }
        }
        for (name, width) in norms {
            add(format!("{name}.weight"), &[width]);
            add(format!("{name}.bias"), &[width]);
        }
        add("head.weight".to_owned(), &[self.labels.len(), self.features()]);
        add("head.bias".to_owned(), &[self.labels.len()]);
        out
    }
}

/// What a `config.json` without `stem_layers` means.
fn one() -> usize {
    1
}

/// About half of `width`, a multiple of the groups.
fn half(width: usize) -> usize {
    (width / 2).next_multiple_of(GROUPS)
}
