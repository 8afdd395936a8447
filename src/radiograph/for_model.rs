//! The original's way from a picture to the square the VQ-GAN takes.

use super::resample::{self, Window};
use super::{Channels, Pixels, Raster};

/// Resizes so that the shorter side is `side` (Pillow's LANCZOS, 8-bit) and cuts out the central `side × side` square.
///
/// Sizes and offsets are rounded to even as Python's `round` does, as the original and torchvision do. Only the square
/// is computed, so that a strip of 1 × 16,384 costs no more than its shape suggests. A `side` of 0 gives no pixels.
pub fn for_model(raster: &Raster, side: usize) -> Pixels {
    let ratio = side as f64 / raster.width().min(raster.height()) as f64;
    let scaled = |length: usize| ((ratio * length as f64).round_ties_even() as usize).max(side);
    let (width, height) = (scaled(raster.width()), scaled(raster.height()));
    let centred = |length: usize| ((length - side) as f64 / 2.0).round_ties_even() as usize;
    let window = Window {
        left: centred(width),
        top: centred(height),
        width: side,
        height: side,
    };
    let square = resample::lanczos(raster, width, height, window);
    let rgb = match raster.channels() {
        Channels::Rgb => square,
        Channels::Grey => square.into_iter().flat_map(|grey| [grey; 3]).collect(),
    };
    Pixels::square(side, rgb)
}
