//! The classifier's network: maps, feature vector and logits of images.

use std::path::Path;

use tch::{Device, Kind, Tensor};

use super::config::{ClassifierConfig, GROUPS};
use crate::model::checkpoint::Weights;
use crate::model::source::{LoadError, TensorSource};
use crate::model::vqgan::Memory;
use crate::train::common::{TrainError, fitted, gathered};

struct Conv(Tensor, Tensor);
struct Norm(Tensor, Tensor);

struct DenseLayer {
    norm1: Norm,
    conv1: Conv,
    norm2: Norm,
    conv2: Conv,
}

/// A classifier with its weights.
pub struct Classifier {
    config: ClassifierConfig,
    fine: Option<(Conv, Norm)>,
    stem: Conv,
    blocks: Vec<Vec<DenseLayer>>,
    transitions: Vec<(Norm, Conv)>,
    norm: Norm,
    head: (Tensor, Tensor),
    memory: Memory,
    kind: Kind,
}

/// What the classifier makes of a batch, in f32.
pub struct Seen {
    /// Feature maps after each block, `[n, c, h, w]`.
    pub maps: Vec<Tensor>,
    /// Feature vectors, `[n, features]`.
    pub vector: Tensor,
    /// Logits, `[n, labels]`.
    pub logits: Tensor,
}

impl Classifier {
    /// Takes its tensors from `source`; computes in `kind`.
    pub fn load(
        config: &ClassifierConfig,
        source: &dyn TensorSource,
        kind: Kind,
        device: Device,
    ) -> Result<Self, LoadError> {
        let memory = Memory::for_training(device);
        let conv = |name: &str, input: usize, output: usize, kernel: usize| {
            let weight = source.tensor(
                &format!("{name}.weight"),
                &[output, input, kernel, kernel],
                kind,
                device,
            )?;
            let weight = memory.lay(&weight);
            let bias = source.tensor(&format!("{name}.bias"), &[output], kind, device)?;
            Ok::<_, LoadError>(Conv(weight, bias))
        };
        let norm = |name: &str, width: usize| {
            let part = |end: &str| source.tensor(&format!("{name}.{end}"), &[width], kind, device);
            Ok::<_, LoadError>(Norm(part("weight")?, part("bias")?))
        };
        let (widths, growth) = (config.widths(), config.growth);
        let (mut blocks, mut transitions) = (Vec::new(), Vec::new());
        let mut width = config.stem();
        for (b, (&layers, &next)) in config.blocks.iter().zip(widths.iter().skip(1)).enumerate() {
            let mut block = Vec::new();
            for l in 0..layers {
                let name = format!("block.{b}.{l}");
                block.push(DenseLayer {
                    norm1: norm(&format!("{name}.norm1"), width)?,
                    conv1: conv(&format!("{name}.conv1"), width, 4 * growth, 1)?,
                    norm2: norm(&format!("{name}.norm2"), 4 * growth)?,
                    conv2: conv(&format!("{name}.conv2"), 4 * growth, growth, 3)?,
                });
                width += growth;
            }
            blocks.push(block);
            if b + 1 < config.blocks.len() {
                let name = format!("transition.{b}");
                let transition = (
                    norm(&format!("{name}.norm"), width)?,
                    conv(&format!("{name}.conv"), width, next, 1)?,
                );
                transitions.push(transition);
                width = next;
            }
        }
        let labels = config.labels.len();
        let head = (
            source.tensor("head.weight", &[labels, config.features()], Kind::Float, device)?,
            source.tensor("head.bias", &[labels], Kind::Float, device)?,
        );
        let fine = match config.stem_layers {
            2 => Some((
                conv("fine", config.channels, config.stem(), 3)?,
                norm("fine.norm", config.stem())?,
            )),
            _ => None,
        };
        Ok(Self {
            fine,
            stem: conv("stem", config.stem_input(), config.stem(), 3)?,
            norm: norm("norm", width)?,
            config: config.clone(),
            blocks,
            transitions,
            head,
            memory,
            kind,
        })
    }

    /// Reads a folder with `config.json` and `model.safetensors`, as `llm-cxr-train classifier` leaves it.
    pub fn open(folder: &Path, kind: Kind, device: Device) -> Result<Self, TrainError> {
        let config = ClassifierConfig::read(folder)?;
        let weights = Weights::open(&[folder.join("model.safetensors")])?;
        Ok(Self::load(&config, &weights, kind, device)?)
    }

    /// Its shape and labels.
    pub fn config(&self) -> &ClassifierConfig {
        &self.config
    }

    /// `x`: `[n, channels, side, side]` in [−1, 1]; another number of channels or side is converted.
    pub fn see(&self, x: &Tensor) -> Seen {
        let x = fitted(x, self.config.channels, self.config.resolution);
        let x = self.memory.lay(&x.to_kind(self.kind));
        let x = match &self.fine {
            Some((conv, norm)) => norm.forward(&conv.forward(&x, 1, 1)).relu(),
            None => x,
        };
        let mut h = self.stem.forward(&x, 2, 1);
        let mut maps = Vec::new();
        for (b, block) in self.blocks.iter().enumerate() {
            for layer in block {
                let grown = layer.conv1.forward(&layer.norm1.forward(&h).relu(), 1, 0);
                let grown = layer.conv2.forward(&layer.norm2.forward(&grown).relu(), 1, 1);
                h = Tensor::cat(&[&h, &grown], 1);
            }
            match self.transitions.get(b) {
                Some((norm, conv)) => {
                    let seen = norm.forward(&h).relu();
                    h = conv.forward(&seen, 1, 0);
                    h = h.avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None::<i64>);
                    maps.push(seen.to_kind(Kind::Float));
                }
                None => h = self.norm.forward(&h).relu(),
            }
        }
        let h = h.to_kind(Kind::Float);
        let vector = gathered(&h);
        maps.push(h);
        Seen {
            logits: vector.linear(&self.head.0, Some(&self.head.1)),
            vector,
            maps,
        }
    }
}

impl Conv {
    fn forward(&self, x: &Tensor, stride: i64, padding: i64) -> Tensor {
        x.conv2d(&self.0, Some(&self.1), [stride; 2], [padding; 2], [1; 2], 1)
    }
}

impl Norm {
    fn forward(&self, x: &Tensor) -> Tensor {
        x.group_norm(GROUPS as i64, Some(&self.0), Some(&self.1), 1e-5, true)
    }
}
