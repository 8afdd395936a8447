//! Smooth random textures.

/// Fractal value noise over the plane: smooth, about 0, mostly within ±1. Pure function of seed and place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noise {
    seed: u32,
}

impl Noise {
    pub(super) fn new(seed: u32) -> Self {
        Self { seed }
    }

    /// One octave with features of size 1.
    pub(super) fn smooth(self, x: f32, y: f32) -> f32 {
        let (left, top) = (x.floor(), y.floor());
        let ease = |t: f32| t * t * (3.0 - 2.0 * t);
        let (u, v) = (ease(x - left), ease(y - top));
        let (column, row) = (left as i32, top as i32);
        let above = lerp(self.at(column, row), self.at(column + 1, row), u);
        let below = lerp(self.at(column, row + 1), self.at(column + 1, row + 1), u);
        lerp(above, below, v)
    }

    /// `octaves` octaves, each half as large and `gain` as strong as the one before, the first of size 1.
    pub(super) fn fractal(self, x: f32, y: f32, octaves: u32, gain: f32) -> f32 {
        let (mut sum, mut scale, mut strength) = (0.0, 1.0, 1.0);
        for octave in 0..octaves {
            let shift = 17.3 * octave as f32;
            sum += strength * self.smooth(x * scale + shift, y * scale - shift);
            scale *= 2.0;
            strength *= gain;
        }
        sum
    }

    /// Value of a lattice point in [-1, 1): an integer hash (finaliser of MurmurHash3).
    fn at(self, column: i32, row: i32) -> f32 {
        let mut hash = self.seed ^ (column as u32).wrapping_mul(0x9e37_79b1) ^ (row as u32).wrapping_mul(0x85eb_ca77);
        hash ^= hash >> 16;
        hash = hash.wrapping_mul(0x85eb_ca6b);
        hash ^= hash >> 13;
        hash = hash.wrapping_mul(0xc2b2_ae35);
        hash ^= hash >> 16;
        (hash >> 8) as f32 / (1 << 23) as f32 - 1.0
    }
}

pub(super) fn lerp(a: f32, b: f32, t: f32) -> f32 {
    a + (b - a) * t
}

/// 0 below `low`, 1 above `high`, smooth between.
pub(super) fn smoothstep(low: f32, high: f32, x: f32) -> f32 {
    let t = ((x - low) / (high - low)).clamp(0.0, 1.0);
    t * t * (3.0 - 2.0 * t)
}
