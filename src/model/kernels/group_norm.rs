//! GroupNorm and swish over images whose channels lie innermost.
//!
//! libtorch passes over an image for the norm, for the sigmoid and for the product, and in a small VQ-GAN that takes longer than the convolutions.
//! Here an image is read twice and written once. What is added up does not depend on the number of threads or images.

use super::lanes::{Element, Lanes, exp, widen};
use super::sets::Kernels;
use super::team::{Shared, Team};
use super::tiles::TileKernels;

/// Channels are a multiple of this: whole vectors of every instruction set.
const CHANNELS: usize = 16;

/// Values that one thread sums up or writes at a time.
const PIECE: usize = 8192;

/// Pixels summed up by themselves: short runs of additions keep their roundings small.
const RUN: usize = 32;

/// GroupNorm (Wu & He 2018), and what may follow it.
pub struct GroupNorm<'a> {
    /// Scales, one per channel.
    pub weight: &'a [f32],
    /// Shifts, one per channel.
    pub bias: &'a [f32],
    /// Groups of neighbouring channels.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f32,
    /// Whether `y·σ(y)` follows.
    pub swish: bool,
}

/// What kernels do with the values of one kind.
#[derive(Clone, Copy)]
pub struct PixelKernels<E> {
    /// Adds each channel's differences from a shift to its sums, and their squares.
    pub(super) sum: unsafe fn(&Pixels<E>, *const f32, *mut f32, *mut f32),
    /// `value·scale + shift` for each channel.
    pub(super) scale: unsafe fn(&Pixels<E>, *const f32, *const f32, *mut E),
    /// The same, and `y·σ(y)` of it.
    pub(super) swish: unsafe fn(&Pixels<E>, *const f32, *const f32, *mut E),
}

/// Neighbouring pixels.
pub(super) struct Pixels<E> {
    data: *const E,
    count: usize,
    channels: usize,
}

/// A kind of value that images are held in: f32, or the bits of bf16.
pub trait Value: Copy + Send + Sync {
    /// Nought.
    const ZERO: Self;
    /// The kernels for it.
    fn kernels(kernels: &Kernels) -> &PixelKernels<Self>;
    /// Those for tiles of it.
    fn tile_kernels(kernels: &Kernels) -> &TileKernels<Self>;
    /// In f32.
    fn wide(self) -> f32;
}

impl Value for f32 {
    const ZERO: Self = 0.0;

    fn kernels(kernels: &Kernels) -> &PixelKernels<Self> {
        &kernels.pixels_f32
    }

    fn tile_kernels(kernels: &Kernels) -> &TileKernels<Self> {
        &kernels.tiles_f32
    }

    fn wide(self) -> f32 {
        self
    }
}

impl Value for u16 {
    const ZERO: Self = 0;

    fn kernels(kernels: &Kernels) -> &PixelKernels<Self> {
        &kernels.pixels_bf16
    }

    fn tile_kernels(kernels: &Kernels) -> &TileKernels<Self> {
        &kernels.tiles_bf16
    }

    fn wide(self) -> f32 {
        widen(self)
    }
}

/// # Safety
/// The instruction set of `L` is there; shifts and sums are good for the channels, which are a multiple of [`CHANNELS`].
#[inline(always)]
pub(super) unsafe fn sum<L: Lanes, E: Element>(
    pixels: &Pixels<E>,
    shifts: *const f32,
    sums: *mut f32,
    squares: *mut f32,
) {
    // SAFETY: whole vectors inside each pixel.
    unsafe {
        for channel in (0..pixels.channels).step_by(L::WIDTH) {
            let shift = L::load(shifts.add(channel));
            let (mut total, mut square) = (L::load(sums.add(channel)), L::load(squares.add(channel)));
            for start in (0..pixels.count).step_by(RUN) {
                let (mut run, mut run_square) = (L::splat(0.0), L::splat(0.0));
                for pixel in start..pixels.count.min(start + RUN) {
                    let value = E::load::<L>(pixels.data.add(pixel * pixels.channels + channel)).sub(shift);
                    run = run.add(value);
                    run_square = value.mul_add(value, run_square);
                }
                total = total.add(run);
                square = square.add(run_square);
            }
            total.store(sums.add(channel));
            square.store(squares.add(channel));
        }
    }
}

/// # Safety
/// The instruction set of `L` is there; scales and shifts are good for the channels, which are a multiple of [`CHANNELS`], and `out` for as many
/// values as the pixels have.
#[inline(always)]
pub(super) unsafe fn scale<L: Lanes, E: Element, const SWISH: bool>(
    pixels: &Pixels<E>,
    scales: *const f32,
    shifts: *const f32,
    out: *mut E,
) {
    // SAFETY: whole vectors inside each pixel.
    unsafe {
        let (zero, one) = (L::splat(0.0), L::splat(1.0));
        for pixel in 0..pixels.count {
            for channel in (0..pixels.channels).step_by(L::WIDTH) {
                let at = pixel * pixels.channels + channel;
                let value = E::load::<L>(pixels.data.add(at));
                let mut y = value.mul_add(L::load(scales.add(channel)), L::load(shifts.add(channel)));
                if SWISH {
                    y = y.div(exp(zero.sub(y)).add(one));
                }
                E::store(y, out.add(at));
            }
        }
    }
}

/// Compiles the kernels of one instruction set for values of one kind.
macro_rules! pixels {
    ($module:ident, $lanes:ty, $value:ty $(, $feature:literal)?) => {
        mod $module {
            use crate::model::kernels::group_norm::{self, PixelKernels, Pixels};

            // SAFETY (of every block below): the caller has the feature, and the same promises hold.
            $(#[target_feature(enable = $feature)])?
            unsafe fn sum(pixels: &Pixels<$value>, shifts: *const f32, sums: *mut f32, squares: *mut f32) {
                unsafe { group_norm::sum::<$lanes, $value>(pixels, shifts, sums, squares) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn scale(pixels: &Pixels<$value>, scales: *const f32, shifts: *const f32, out: *mut $value) {
                unsafe { group_norm::scale::<$lanes, $value, false>(pixels, scales, shifts, out) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn swish(pixels: &Pixels<$value>, scales: *const f32, shifts: *const f32, out: *mut $value) {
                unsafe { group_norm::scale::<$lanes, $value, true>(pixels, scales, shifts, out) }
            }

            pub(super) const KERNELS: PixelKernels<$value> = PixelKernels { sum, scale, swish };
        }
    };
}
pub(super) use pixels;

impl GroupNorm<'_> {
    /// Whether [`Self::run`] takes images of so many channels.
    pub fn takes(channels: usize, groups: usize) -> bool {
        channels.is_multiple_of(CHANNELS) && groups > 0 && channels.is_multiple_of(groups)
    }

    /// Norms each of `images` images, `x`: `[images, pixels, channels]`, into `out`, which is as long; without `x` what is in `out`.
    ///
    /// # Panics
    /// If the lengths do not agree, or [`Self::takes`] says no.
    pub fn run<E: Value>(&self, kernels: &Kernels, team: &Team, x: Option<&[E]>, images: usize, out: &mut [E]) {
        let channels = self.weight.len();
        assert!(self.bias.len() == channels && Self::takes(channels, self.groups));
        let pixels = out.len() / images.max(1) / channels;
        assert!(out.len() == images * pixels * channels && x.is_none_or(|x| x.len() == out.len()));
        if out.is_empty() {
            return;
        }
        let set = E::kernels(kernels);
        let piece = (PIECE / channels).max(1);
        let pieces = pixels.div_ceil(piece);
        let part = |number: usize| {
            let (image, start) = (number / pieces, number % pieces * piece);
            let count = piece.min(pixels - start);
            let at = (image * pixels + start) * channels;
            (image, at, count)
        };
        // Per piece: sums of its channels, then of their squares.
        let mut sums = vec![0f32; images * pieces * 2 * channels];
        // Per image: scales of its channels, then shifts.
        let mut affine = vec![0f32; images * 2 * channels];
        let (sums, affine, out) = (Shared::new(&mut sums), Shared::new(&mut affine), Shared::new(out));
        // SAFETY (of every block below): each piece, and each image, is one thread's alone between two barriers, and `out` is written after the last
        // one, piece by piece; lengths were checked above, and the instruction set when `kernels` was given away.
        let given = |at: usize, count: usize| match x {
            Some(x) => &x[at..at + count],
            None => unsafe { out.part(at, count) },
        };
        let first = |image: usize| given(image * pixels * channels, channels);
        team.run(|worker| {
            let mut shifts = vec![0f32; channels];
            while let Some(taken) = worker.take(images * pieces, 1) {
                for number in taken {
                    let (image, at, count) = part(number);
                    for (shift, value) in shifts.iter_mut().zip(first(image)) {
                        *shift = value.wide();
                    }
                    let data = given(at, count * channels).as_ptr();
                    let part = Pixels { data, count, channels };
                    unsafe {
                        let (sums, squares) = sums
                            .part_mut(number * 2 * channels, 2 * channels)
                            .split_at_mut(channels);
                        (set.sum)(&part, shifts.as_ptr(), sums.as_mut_ptr(), squares.as_mut_ptr());
                    }
                }
            }
            worker.barrier();
            while let Some(taken) = worker.take(images, 1) {
                for image in taken {
                    unsafe {
                        let sums = sums.part(image * pieces * 2 * channels, pieces * 2 * channels);
                        let affine = affine.part_mut(image * 2 * channels, 2 * channels);
                        self.affine(first(image), sums, pixels, affine);
                    }
                }
            }
            worker.barrier();
            let kernel = if self.swish { set.swish } else { set.scale };
            while let Some(taken) = worker.take(images * pieces, 1) {
                for number in taken {
                    let (image, at, count) = part(number);
                    unsafe {
                        let (scales, shifts) = affine.part(image * 2 * channels, 2 * channels).split_at(channels);
                        let out = out.part_mut(at, count * channels).as_mut_ptr();
                        // Each value is read before it is written over.
                        let data = x.map_or(out.cast_const(), |x| x[at..at + count * channels].as_ptr());
                        let part = Pixels { data, count, channels };
                        kernel(&part, scales.as_ptr(), shifts.as_ptr(), out);
                    }
                }
            }
        });
    }

    /// What each channel of one image is multiplied with, then what is added to it. `sums` are of differences from the channels of the `first`
    /// pixel, which keeps a variance exact where the mean is far from zero.
    fn affine<E: Value>(&self, first: &[E], sums: &[f32], pixels: usize, affine: &mut [f32]) {
        let channels = first.len();
        let width = channels / self.groups;
        let count = pixels as f64;
        let mut means = vec![0f64; width];
        for start in (0..channels).step_by(width) {
            let mut within = 0.0;
            for (channel, mean) in (start..).zip(&mut means) {
                let column = |offset: usize| {
                    let pieces = sums.chunks_exact(2 * channels);
                    pieces.map(|piece| f64::from(piece[offset + channel])).sum::<f64>()
                };
                let (total, square) = (column(0), column(channels));
                within += square - total * total / count;
                *mean = f64::from(first[channel].wide()) + total / count;
            }
            let mean = means.iter().sum::<f64>() / width as f64;
            let between: f64 = means.iter().map(|m| (m - mean).powi(2)).sum();
            let variance = (within / count + between) / width as f64;
            let scale = 1.0 / (variance.max(0.0) + f64::from(self.eps)).sqrt();
            for channel in start..start + width {
                let weight = f64::from(self.weight[channel]) * scale;
                affine[channel] = weight as f32;
                affine[channels + channel] = (f64::from(self.bias[channel]) - mean * weight) as f32;
            }
        }
    }
}
