//! The inside of the chest: a cross-section for every height, swept from the apices to the base.

use super::body::Body;
use super::truth::Side;

/// Horizontal section of one half of the chest: |(x − middle)/half|ᵖ + |(z − depth)/half_depth|ᵖ ≤ 1 with p = [`POWER`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Section {
    pub(super) medial: f32,
    pub(super) lateral: f32,
    pub(super) half_depth: f32,
    pub(super) z: f32,
}

/// Between an ellipse (2) and a box: a chest is D-shaped.
const POWER: f32 = 2.4;

impl Section {
    /// Where a ray at distance `x` from the midline (positive on this side) enters and leaves, if it does.
    pub(super) fn interval(&self, x: f32) -> Option<(f32, f32)> {
        let half = (self.lateral - self.medial) / 2.0;
        if half <= 0.05 || self.half_depth <= 0.05 {
            return None;
        }
        let place = ((x - self.medial) / half - 1.0).abs();
        if place >= 1.0 {
            return None;
        }
        let reach = self.half_depth * (1.0 - place.powf(POWER)).powf(1.0 / POWER);
        Some((self.z - reach, self.z + reach))
    }

    /// The section inside a layer on the chest wall; `front` is how much of its thickness lies before and behind.
    pub(super) fn within(&self, layer: f32, front: f32) -> Self {
        Self {
            lateral: self.lateral - layer,
            half_depth: self.half_depth - front * layer,
            ..*self
        }
    }
}

/// The inner surface of the chest.
#[derive(Clone, Debug)]
pub(super) struct Cage {
    half_width: f32,
    half_depth: f32,
    widest: f32,
    apex: f32,
    base: f32,
}

impl Cage {
    pub(super) fn new(body: &Body) -> Self {
        Self {
            half_width: body.half_width,
            half_depth: body.half_depth,
            widest: 22.0 * body.half_width / 13.3,
            apex: 0.30 * body.half_width,
            base: body.base,
        }
    }

    /// The section at height y; `None` above the apices and below the base. Both halves are alike.
    pub(super) fn section(&self, y: f32) -> Option<Section> {
        (y > 0.0 && y < self.base).then(|| self.wall(y))
    }

    /// As [`Self::section`], continued below the base, where ribs still run.
    pub(super) fn wall(&self, y: f32) -> Section {
        let rise = (1.0 - y / self.widest).clamp(0.0, 1.0);
        let medial = (1.0 - y / (0.42 * self.widest)).clamp(0.0, 1.0);
        Section {
            medial: self.apex - (self.apex - 0.3) * (1.0 - medial * medial).sqrt(),
            lateral: self.apex + (self.half_width - self.apex) * (1.0 - rise.powf(2.35)).sqrt(),
            half_depth: self.half_depth * (1.0 - rise.powf(2.1)).sqrt(),
            // The front of the chest slopes: the apices lie far back.
            z: -3.2 * rise * rise,
        }
    }

    /// A point on the wall, at angle `turn` from the back (0) over the side (π/2) to the front (π); `out` cm outside.
    pub(super) fn on_wall(&self, side: Side, turn: f32, y: f32, out: f32) -> [f32; 3] {
        let wall = self.wall(y);
        let round = |value: f32| value.signum() * value.abs().powf(2.0 / POWER);
        let x = (wall.lateral + out) * round(turn.sin());
        [side.sign() * x, y, wall.z - (wall.half_depth + out) * round(turn.cos())]
    }

    pub(super) fn half_width(&self) -> f32 {
        self.half_width
    }
}
