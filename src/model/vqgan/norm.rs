//! GroupNorm, alone and with the swish that follows it.

use tch::{Device, Kind, Tensor};

use super::config::GROUPS;
use super::layers::Memory;
use crate::model::kernels::{GroupNorm, Kernels, Team, Value, in_large_pages};
use crate::model::source::{LoadError, TensorSource, floats};

/// Epsilon of taming's GroupNorms.
const EPSILON: f64 = 1e-6;

/// The weights of a GroupNorm.
pub(crate) struct Norm {
    weight: Tensor,
    bias: Tensor,
    /// Scales and shifts for our own kernels: where neither a gradient nor the reference's bits are wanted.
    values: Option<(Vec<f32>, Vec<f32>)>,
}

impl Norm {
    /// The tensors `{name}.weight` and `{name}.bias` of `source`, for images that lie in `memory`.
    pub(crate) fn load(
        source: &dyn TensorSource,
        name: &str,
        channels: usize,
        memory: Memory,
        kind: Kind,
        device: Device,
    ) -> Result<Self, LoadError> {
        let tensor = |part: &str| source.tensor(&format!("{name}.{part}"), &[channels], kind, device);
        let (weight, bias) = (tensor("weight")?, tensor("bias")?);
        let trained = weight.requires_grad() || bias.requires_grad();
        let ours = device == Device::Cpu && memory == Memory::ChannelsLast && !trained;
        let values = (ours && GroupNorm::takes(channels, GROUPS)).then(|| (floats(&weight), floats(&bias)));
        Ok(Self { weight, bias, values })
    }

    /// `x`: `[n, channels, h, w]` → the same shape.
    pub(crate) fn forward(&self, x: &Tensor) -> Tensor {
        let libtorch = || x.group_norm(GROUPS as i64, Some(&self.weight), Some(&self.bias), EPSILON, true);
        self.fused(x, false).unwrap_or_else(libtorch)
    }

    /// [`Self::forward`], then x·σ(x).
    pub(crate) fn swish(&self, x: &Tensor) -> Tensor {
        if let Some(out) = self.fused(x, true) {
            return out;
        }
        let x = self.forward(x);
        match x.kind() {
            // The reference's two products, to keep its bits.
            Kind::Float => &x * x.sigmoid(),
            // Half precision has none to keep.
            _ => x.silu(),
        }
    }

    /// By our own kernels; `None` where they are not for `x`.
    fn fused(&self, x: &Tensor, swish: bool) -> Option<Tensor> {
        let (weight, bias) = self.values.as_ref()?;
        let (n, c, h, w) = x.size4().ok()?;
        let innermost = x.stride() == [h * w * c, 1, w * c, c];
        if !innermost || x.device() != Device::Cpu || x.requires_grad() || c as usize != weight.len() {
            return None;
        }
        let norm = GroupNorm {
            weight,
            bias,
            groups: GROUPS,
            eps: EPSILON as f32,
            swish,
        };
        match x.kind() {
            Kind::Float => Some(run::<f32>(&norm, x, n as usize)),
            Kind::BFloat16 => Some(run::<u16>(&norm, x, n as usize)),
            _ => None,
        }
    }
}

/// Norms `x`, `n` images whose values are held as `E`, without gaps and with channels innermost.
fn run<E: Value>(norm: &GroupNorm<'_>, x: &Tensor, n: usize) -> Tensor {
    // Keeps the strides.
    let out = x.empty_like();
    // SAFETY: both tensors are of this kind, on the CPU and without gaps, as the callers saw; `out` is nobody else's yet. What libtorch left in it
    // is not initialised as Rust means it: it is only written to, and any bits are a number.
    let (from, to) = unsafe {
        (
            std::slice::from_raw_parts(x.data_ptr().cast::<E>(), x.numel()),
            std::slice::from_raw_parts_mut(out.data_ptr().cast::<E>(), x.numel()),
        )
    };
    let team = Team::new(tch::get_num_threads().max(1) as usize);
    in_large_pages(to);
    norm.run(Kernels::best(), &team, from, n, to);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::source::RandomSource;

    #[test]
    fn our_kernels_norm_as_libtorch_does_and_planar_images_are_left_to_it() {
        let (channels, cpu) = (64, Device::Cpu);
        for kind in [Kind::Float, Kind::BFloat16] {
            let tolerance = if kind == Kind::Float { 5e-5 } else { 3e-2 };
            let source = RandomSource::new(1);
            let load = |memory| Norm::load(&source, "norm", channels, memory, kind, cpu).unwrap();
            let (ours, theirs) = (load(Memory::ChannelsLast), load(Memory::Planar));
            for (n, side) in [(1, 12), (3, 17), (2, 2)] {
                let x = source.tensor("x", &[n, channels, side, side], kind, cpu).unwrap() * 100.0 + 7.0;
                let x = Memory::ChannelsLast.lay(&x);
                for (ours, theirs) in [
                    (ours.forward(&x), theirs.forward(&x)),
                    (ours.swish(&x), theirs.swish(&x)),
                ] {
                    assert_eq!(ours.stride(), x.stride());
                    let apart = (ours - theirs).to_kind(Kind::Float).abs().max();
                    assert!(apart.double_value(&[]) < tolerance, "{kind:?} {n} {side} {apart}");
                }
                let planar = Memory::Planar.lay(&x);
                assert!(theirs.fused(&x, true).is_none() && ours.fused(&x, true).is_some());
                assert!(ours.fused(&planar, true).is_none());
                // The last image alone gives the same bits.
                let last = n as i64 - 1;
                let alone = ours.swish(&Memory::ChannelsLast.lay(&x.narrow(0, last, 1)));
                assert_eq!(alone, ours.swish(&x).narrow(0, last, 1));
            }
        }
    }
}
