//! The patch discriminator (Isola et al. 2017; taming `NLayerDiscriminator` with batch norms).

use tch::{Device, Kind, Tensor};

use crate::model::ExpectedTensor;
use crate::model::source::TensorSource;
use crate::train::common::{Initial, Parameters, TrainError};

struct Stage {
    number: usize,
    input: usize,
    output: usize,
    stride: i64,
    /// Followed by a batch norm (of the next number) and a leaky ReLU.
    norm: bool,
}

/// A patch discriminator's trainable weights, named as in taming (`main.0.weight` …).
pub struct Discriminator {
    stages: Vec<Stage>,
    /// Its weights.
    pub parameters: Parameters,
    device: Device,
}

impl Discriminator {
    /// Fresh weights for images of `channels`; `width` filters in the first layer, `layers` strided layers.
    pub fn new(channels: usize, width: usize, layers: usize, seed: u64, device: Device) -> Result<Self, TrainError> {
        let stages = stages(channels, width, layers);
        let mut expected = Vec::new();
        let mut add = |name: String, shape: &[usize]| {
            expected.push(ExpectedTensor {
                name,
                shape: shape.to_vec(),
            });
        };
        for stage in &stages {
            let (prefix, norm) = (format!("main.{}", stage.number), format!("main.{}", stage.number + 1));
            add(format!("{prefix}.weight"), &[stage.output, stage.input, 4, 4]);
            if stage.norm {
                add(format!("{norm}.weight"), &[stage.output]);
                add(format!("{norm}.bias"), &[stage.output]);
            } else {
                add(format!("{prefix}.bias"), &[stage.output]);
            }
        }
        Ok(Self {
            // Another stream of numbers than the generator's.
            parameters: Parameters::fresh(&expected, Initial::Discriminator, seed ^ 0xd15c, device)?,
            stages,
            device,
        })
    }

    /// One logit for each patch of `x` (`[n, c, side, side]`): high for real. Batch norms use the batch's own statistics.
    pub fn forward(&self, x: &Tensor, kind: Kind) -> Result<Tensor, TrainError> {
        let get = |name: String, shape: &[usize], kind| self.parameters.tensor(&name, shape, kind, self.device);
        let slope = Tensor::from_slice(&[0.2f32]).to_device(self.device).to_kind(kind);
        let mut h = x.to_kind(kind);
        for (at, stage) in self.stages.iter().enumerate() {
            let (prefix, norm) = (format!("main.{}", stage.number), format!("main.{}", stage.number + 1));
            let weight = get(format!("{prefix}.weight"), &[stage.output, stage.input, 4, 4], kind)?;
            let bias = (!stage.norm)
                .then(|| get(format!("{prefix}.bias"), &[stage.output], kind))
                .transpose()?;
            h = h.f_conv2d(&weight, bias.as_ref(), [stage.stride; 2], [1; 2], [1; 2], 1)?;
            if stage.norm {
                let scale = get(format!("{norm}.weight"), &[stage.output], Kind::Float)?;
                let shift = get(format!("{norm}.bias"), &[stage.output], Kind::Float)?;
                let none = None::<&Tensor>;
                h = h.f_batch_norm(Some(&scale), Some(&shift), none, none, true, 0.1, 1e-5, true)?;
            }
            if at + 1 < self.stages.len() {
                h = h.f_prelu(&slope)?;
            }
        }
        Ok(h.to_kind(Kind::Float))
    }
}

fn stages(channels: usize, width: usize, layers: usize) -> Vec<Stage> {
    let mut stages = vec![Stage {
        number: 0,
        input: channels,
        output: width,
        stride: 2,
        norm: false,
    }];
    let mut input = width;
    for n in 1..=layers {
        let output = width * (1usize << n.min(3));
        stages.push(Stage {
            number: 3 * n - 1,
            input,
            output,
            stride: if n < layers { 2 } else { 1 },
            norm: true,
        });
        input = output;
    }
    stages.push(Stage {
        number: 3 * layers + 2,
        input,
        output: 1,
        stride: 1,
        norm: false,
    });
    stages
}
