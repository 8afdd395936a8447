//! Images as a feature network takes them, and its maps as a vector.

use tch::{Kind, Tensor};

/// `x`, `[n, c, h, w]`, with `channels` (1 or 3: a mean of the colours, or grey three times) and `side` pixels a side (the mean of the pixels
/// that fall together).
pub fn fitted(x: &Tensor, channels: usize, side: usize) -> Tensor {
    let (_, has, rows, columns) = x.size4().unwrap_or((0, 0, 0, 0));
    let x = match (has, channels) {
        (3, 1) => x.mean_dim([1i64].as_slice(), true, Kind::Float),
        (1, 3) => x.repeat([1, 3, 1, 1]),
        _ => x.shallow_clone(),
    };
    let side = side as i64;
    match (rows, columns) == (side, side) {
        true => x,
        false => x.adaptive_avg_pool2d([side, side]),
    }
}

/// The mean and the maximum of each channel of `maps`, `[n, c, h, w]` (f32), as `[n, 2c]`: what a linear reader of findings sees.
pub fn gathered(maps: &Tensor) -> Tensor {
    let mean = maps.mean_dim([2i64, 3].as_slice(), false, Kind::Float);
    Tensor::cat(&[mean, maps.amax([2, 3], false)], 1)
}
