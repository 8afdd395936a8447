//! Trainable weights: one flat f32 tensor, with a leaf of the autograd graph for each name as a view into it.
//!
//! Optimizer, clipping and averaging then are a handful of kernels over one tensor, whatever the number of layers. Weights of
//! convolutions lie channels-last, as the networks run.

use std::collections::HashMap;

use rand::Rng;
use tch::{Device, Kind, Tensor};

use crate::model::ExpectedTensor;
use crate::model::checkpoint::Weights;
use crate::model::source::{LoadError, TensorSource};
use crate::train::common::TrainError;
use crate::train::common::random::{Purpose, generator, normal};

/// Leaves begin at multiples of this many elements (64 bytes).
const ALIGNMENT: usize = 16;

/// How fresh weights are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Initial {
    /// PyTorch's defaults: weights and biases of convolutions and linear layers U(±1/√fan_in), norms 1 and 0, embeddings as
    /// taming's code book, U(±1/rows).
    Torch,
    /// taming's discriminator: weights N(0, 0.02), scales of norms N(1, 0.02), biases as PyTorch's.
    Discriminator,
    /// GPT-NeoX in transformers: matrices and embeddings N(0, 0.02), biases 0, norms 1 and 0.
    Neox,
}

#[derive(Clone)]
struct Place {
    name: String,
    shape: Vec<i64>,
    start: i64,
    length: i64,
}

/// Named trainable tensors on one device.
pub struct Parameters {
    places: Vec<Place>,
    by_name: HashMap<String, usize>,
    /// All values, with zeros between where alignment asks for it.
    flat: Tensor,
    leaves: Vec<Tensor>,
}

impl Parameters {
    /// Fresh weights for `expected`, which depend on `seed` alone.
    pub fn fresh(expected: &[ExpectedTensor], initial: Initial, seed: u64, device: Device) -> Result<Self, TrainError> {
        let (places, total) = layout(expected);
        let mut values = vec![0f32; total];
        let fan_in: HashMap<&str, usize> = expected
            .iter()
            .filter(|t| t.shape.len() > 1)
            .filter_map(|t| Some((t.name.strip_suffix(".weight")?, t.shape[1..].iter().product())))
            .collect();
        for (number, (tensor, place)) in expected.iter().zip(&places).enumerate() {
            let mut rng = generator(seed, Purpose::Weights, number as u64);
            let (prefix, part) = tensor.name.rsplit_once('.').unwrap_or(("", &tensor.name));
            let out = &mut values[place.start as usize..(place.start + place.length) as usize];
            let mut uniform = |bound: f32| out.iter_mut().for_each(|v| *v = rng.random_range(-bound..=bound));
            match (initial, part, fan_in.get(prefix)) {
                (_, "weight", Some(_)) if prefix.ends_with("embedding") => uniform(1.0 / tensor.shape[0] as f32),
                (Initial::Discriminator, "weight", layer) => {
                    let mean = if layer.is_some() { 0.0 } else { 1.0 };
                    for v in out.iter_mut() {
                        *v = mean + 0.02 * normal(&mut rng);
                    }
                }
                (Initial::Neox, "weight", Some(_)) => out.iter_mut().for_each(|v| *v = 0.02 * normal(&mut rng)),
                (Initial::Neox, "bias", _) => {}
                (_, _, Some(&fan)) => uniform(1.0 / (fan.max(1) as f32).sqrt()),
                (_, "weight", None) => out.fill(1.0),
                _ => {}
            }
        }
        let flat = Tensor::from_slice(&values).f_to_device(device)?;
        Ok(Self::over(places, flat))
    }

    /// The weights of `source`, which must hold every tensor of `expected`.
    pub fn load(expected: &[ExpectedTensor], source: &dyn TensorSource, device: Device) -> Result<Self, TrainError> {
        let (places, total) = layout(expected);
        let flat = Tensor::f_zeros([total as i64], (Kind::Float, device))?;
        for (tensor, place) in expected.iter().zip(&places) {
            let stored = source.tensor(&tensor.name, &tensor.shape, Kind::Float, device)?;
            tch::no_grad(|| view(&flat, place).f_copy_(&stored.detach()))?;
        }
        Ok(Self::over(places, flat))
    }

    fn over(places: Vec<Place>, flat: Tensor) -> Self {
        let leaves = places
            .iter()
            .map(|p| view(&flat, p).detach().set_requires_grad(true))
            .collect();
        let by_name = places.iter().enumerate().map(|(i, p)| (p.name.clone(), i)).collect();
        Self {
            places,
            by_name,
            flat,
            leaves,
        }
    }

    /// Parameters of these names whose values are `flat`, which must be laid out as they are and stays theirs: nothing is copied.
    pub fn with_values(&self, flat: &Tensor) -> Self {
        Self::over(self.places.clone(), flat.shallow_clone())
    }

    /// The leaf of this name, with gradients.
    pub fn leaf(&self, name: &str) -> Option<&Tensor> {
        self.leaves.get(*self.by_name.get(name)?)
    }

    /// All values as one tensor `[n]`, f32. Changing it changes the leaves; do so only under `tch::no_grad`.
    pub fn flat(&self) -> &Tensor {
        &self.flat
    }

    /// A tensor laid out as these parameters (a gradient, a moment), all zeros.
    pub fn zeros(&self) -> Tensor {
        self.flat.zeros_like()
    }

    /// The part of `flat`, a tensor laid out as these parameters, that belongs to `name`, in that tensor's shape.
    pub fn part(&self, flat: &Tensor, name: &str) -> Option<Tensor> {
        Some(view(flat, self.places.get(*self.by_name.get(name)?)?))
    }

    /// Gradient of `loss` (a scalar) with respect to every leaf, as one tensor laid out as the parameters. Leaves that the loss does not
    /// depend on have zeros.
    pub fn gradient(&self, loss: &Tensor) -> Result<Tensor, TrainError> {
        let into = self.zeros();
        self.add_gradient(loss, |_| true, &[], &into)?;
        Ok(into)
    }

    /// Adds the gradient of `loss` (a scalar) with respect to the leaves that `which` picks by name to `into`, which is laid out as
    /// the parameters. Gives the gradients with respect to `inputs` (undefined where the loss does not depend on one).
    pub fn add_gradient(
        &self,
        loss: &Tensor,
        which: impl Fn(&str) -> bool,
        inputs: &[&Tensor],
        into: &Tensor,
    ) -> Result<Vec<Tensor>, TrainError> {
        let (places, leaves): (Vec<&Place>, Vec<&Tensor>) = self
            .places
            .iter()
            .zip(&self.leaves)
            .filter(|(place, _)| which(&place.name))
            .unzip();
        let wanted: Vec<&Tensor> = leaves.into_iter().chain(inputs.iter().copied()).collect();
        let mut grads = Tensor::f_run_backward(&[loss], &wanted, false, false)?;
        let of_inputs = grads.split_off(places.len());
        tch::no_grad(|| {
            for (grad, place) in grads.iter().zip(places).filter(|(grad, _)| grad.defined()) {
                let _ = view(into, place).f_add_(grad)?;
            }
            Ok(of_inputs)
        })
    }

    /// Names with views into `flat` (these parameters, or something laid out like them), for a checkpoint: they change as it does.
    pub fn named(&self, prefix: &str, flat: &Tensor) -> Vec<(String, Tensor)> {
        let name = |p: &Place| format!("{prefix}{}", p.name);
        self.places.iter().map(|p| (name(p), view(flat, p))).collect()
    }

    /// Reads into `flat` (these parameters, or something laid out like them) what [`Self::named`] gave to a checkpoint.
    pub fn read(&self, prefix: &str, flat: &Tensor, weights: &Weights) -> Result<(), TrainError> {
        self.read_those(prefix, flat, weights, |_| true)
    }

    /// The same for the tensors that `which` picks by name; the others stay as they are.
    pub fn read_those(
        &self,
        prefix: &str,
        flat: &Tensor,
        weights: &Weights,
        which: impl Fn(&str) -> bool,
    ) -> Result<(), TrainError> {
        tch::no_grad(|| {
            for place in self.places.iter().filter(|place| which(&place.name)) {
                let shape: Vec<usize> = place.shape.iter().map(|&d| d as usize).collect();
                let stored = weights.tensor(
                    &format!("{prefix}{}", place.name),
                    &shape,
                    Kind::Float,
                    self.flat.device(),
                )?;
                view(flat, place).f_copy_(&stored)?;
            }
            Ok(())
        })
    }
}

impl TensorSource for Parameters {
    /// The leaf in this kind (a differentiable cast where it is not f32): a network loaded from here trains these parameters.
    fn tensor(&self, name: &str, shape: &[usize], kind: Kind, _: Device) -> Result<Tensor, LoadError> {
        let leaf = self
            .leaf(name)
            .ok_or_else(|| LoadError::Source(format!("there is no parameter `{name}`")))?;
        let dims: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
        if leaf.size() != dims {
            let reason = format!("parameter `{name}` has shape {:?}, not {shape:?}", leaf.size());
            return Err(LoadError::Source(reason));
        }
        Ok(leaf.to_kind(kind))
    }
}

/// Other values in the layout of some parameters (an average of them), as a source of tensors without gradients.
pub struct FlatSource<'a> {
    parameters: &'a Parameters,
    flat: &'a Tensor,
}

impl<'a> FlatSource<'a> {
    /// `flat` must be laid out as `parameters`.
    pub fn new(parameters: &'a Parameters, flat: &'a Tensor) -> Self {
        Self { parameters, flat }
    }
}

impl TensorSource for FlatSource<'_> {
    fn tensor(&self, name: &str, shape: &[usize], kind: Kind, device: Device) -> Result<Tensor, LoadError> {
        // The leaf checks name and shape.
        let _ = self.parameters.tensor(name, shape, Kind::Float, device)?;
        let part = self.parameters.part(self.flat, name);
        part.map(|t| t.detach().to_kind(kind))
            .ok_or_else(|| LoadError::Source(format!("there is no parameter `{name}`")))
    }
}

/// Scales `gradient` so that its norm is at most `limit`; gives the norm before.
pub fn clip(gradient: &mut Tensor, limit: f64) -> Tensor {
    let norm = gradient.norm();
    if limit > 0.0 {
        // As torch.nn.utils.clip_grad_norm_.
        let factor = (limit / (&norm + 1e-6)).clamp_max(1.0);
        let _ = gradient.g_mul_(&factor);
    }
    norm
}

fn layout(expected: &[ExpectedTensor]) -> (Vec<Place>, usize) {
    let mut at = 0usize;
    let places = expected
        .iter()
        .map(|t| {
            let length = t.shape.iter().product::<usize>();
            let start = at;
            at = (at + length).next_multiple_of(ALIGNMENT);
            Place {
                name: t.name.clone(),
                shape: t.shape.iter().map(|&d| d as i64).collect(),
                start: start as i64,
                length: length as i64,
            }
        })
        .collect();
    (places, at)
}

/// The place's values in `flat`, in the tensor's shape.
fn view(flat: &Tensor, place: &Place) -> Tensor {
    let values = flat.narrow(0, place.start, place.length);
    match place.shape[..] {
        [o, i, h, w] => values.view([o, h, w, i]).permute([0, 3, 1, 2]),
        _ => values.view(place.shape.as_slice()),
    }
}
