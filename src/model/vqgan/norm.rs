//! GroupNorm, alone and with the swish that follows it.

use tch::{Device, Kind, Tensor};

use super::config::GROUPS;
use super::convolution::team;
use super::layers::Memory;
use crate::model::kernels::{GroupNorm, Kernels, Value, in_large_pages};
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
        match self.ours(x, false) {
            Some(norm) => normed(&norm, Some(x), x.empty_like()),
            None => self.libtorchs(x),
        }
    }

    /// [`Self::forward`], then x·σ(x).
    pub(crate) fn swish(&self, x: &Tensor) -> Tensor {
        match self.ours(x, true) {
            Some(norm) => normed(&norm, Some(x), x.empty_like()),
            None => self.libtorchs_swish(x),
        }
    }

    /// The same of images that nobody else holds: in their own memory where our kernels are used.
    pub(crate) fn swish_over(&self, x: Tensor) -> Tensor {
        match self.ours(&x, true) {
            Some(norm) => normed(&norm, None, x),
            None => self.libtorchs_swish(&x),
        }
    }

    fn libtorchs(&self, x: &Tensor) -> Tensor {
        x.group_norm(GROUPS as i64, Some(&self.weight), Some(&self.bias), EPSILON, true)
    }

    fn libtorchs_swish(&self, x: &Tensor) -> Tensor {
        let x = self.libtorchs(x);
        match x.kind() {
            // The reference's two products, to keep its bits.
            Kind::Float => &x * x.sigmoid(),
            // Half precision has none to keep.
            _ => x.silu(),
        }
    }

    /// Our own kernel, where it is for images that lie as `x` does.
    fn ours(&self, x: &Tensor, swish: bool) -> Option<GroupNorm<'_>> {
        let (weight, bias) = self.values.as_ref()?;
        let (_, c, h, w) = x.size4().ok()?;
        let innermost = x.stride() == [h * w * c, 1, w * c, c];
        let kind = [Kind::Float, Kind::BFloat16].contains(&x.kind());
        let ours = innermost && kind && x.device() == Device::Cpu && !x.requires_grad() && c as usize == weight.len();
        ours.then_some(GroupNorm {
            weight,
            bias,
            groups: GROUPS,
            eps: EPSILON as f32,
            swish,
        })
    }
}

/// Norms `x`, or what is in `out`, into `out`: as [`Norm::ours`] wants them, and of one shape.
fn normed(norm: &GroupNorm<'_>, x: Option<&Tensor>, out: Tensor) -> Tensor {
    match out.kind() {
        Kind::BFloat16 => run::<u16>(norm, x, &out),
        _ => run::<f32>(norm, x, &out),
    }
    out
}

/// The same where values are held as `E`.
fn run<E: Value>(norm: &GroupNorm<'_>, x: Option<&Tensor>, out: &Tensor) {
    let count = out.numel();
    if count == 0 {
        return;
    }
    // SAFETY: both tensors are of this kind, on the CPU and without gaps, as the callers saw; nobody else holds `out`. Where libtorch has just made
    // it, what is in it is not initialised as Rust means it: it is only written to then, and any bits are a number.
    let (from, to) = unsafe {
        (
            x.map(|x| std::slice::from_raw_parts(x.data_ptr().cast::<E>(), count)),
            std::slice::from_raw_parts_mut(out.data_ptr().cast::<E>(), count),
        )
    };
    in_large_pages(to);
    norm.run(Kernels::best(), &team(), from, out.size()[0] as usize, to);
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
                    (ours.swish_over(x.copy()), theirs.swish_over(x.copy())),
                ] {
                    assert_eq!(ours.stride(), x.stride());
                    let apart = (ours - theirs).to_kind(Kind::Float).abs().max();
                    assert!(apart.double_value(&[]) < tolerance, "{kind:?} {n} {side} {apart}");
                }
                let planar = Memory::Planar.lay(&x);
                assert!(theirs.ours(&x, true).is_none() && ours.ours(&x, true).is_some());
                assert!(ours.ours(&planar, true).is_none());
                // The last image alone gives the same bits.
                let last = n as i64 - 1;
                let alone = ours.swish(&Memory::ChannelsLast.lay(&x.narrow(0, last, 1)));
                assert_eq!(alone, ours.swish(&x).narrow(0, last, 1));
            }
        }
    }
}
