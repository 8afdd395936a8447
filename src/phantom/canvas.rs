//! The attenuation picture and closed-form line integrals of tubes, drawn into it.

use super::beam::{Beam, Point};

/// Part of the picture in pixels: columns `left … right`, rows `top … bottom`, the ends not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Bounds {
    /// First column.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// One past the last column.
    pub right: usize,
    /// One past the last row.
    pub bottom: usize,
}

impl Bounds {
    /// Nothing yet: grows with [`Self::include`].
    pub(super) const EMPTY: Self = Self {
        left: usize::MAX,
        top: usize::MAX,
        right: 0,
        bottom: 0,
    };

    pub(super) fn include(&mut self, column: usize, row: usize) {
        self.left = self.left.min(column);
        self.top = self.top.min(row);
        self.right = self.right.max(column + 1);
        self.bottom = self.bottom.max(row + 1);
    }

    pub(super) fn join(self, other: Self) -> Self {
        Self {
            left: self.left.min(other.left),
            top: self.top.min(other.top),
            right: self.right.max(other.right),
            bottom: self.bottom.max(other.bottom),
        }
    }

    /// Whether there is no pixel inside.
    pub fn is_empty(&self) -> bool {
        self.left >= self.right || self.top >= self.bottom
    }

    /// Whether the pixel lies inside.
    pub fn contains(&self, column: usize, row: usize) -> bool {
        (self.left..self.right).contains(&column) && (self.top..self.bottom).contains(&row)
    }

    /// The middle, in pixels.
    pub fn centre(&self) -> (usize, usize) {
        ((self.left + self.right) / 2, (self.top + self.bottom) / 2)
    }
}

/// One station of a tube: where its axis runs and how wide it is there, in cm.
#[derive(Clone, Copy, Debug)]
pub(super) struct Station {
    pub(super) at: Point,
    pub(super) radius: f32,
}

/// What a tube is made of. Values are attenuation per cm, less that of what it replaces.
#[derive(Clone, Copy, Debug)]
pub(super) enum Matter {
    /// The same throughout.
    Solid(f32),
    /// Bone: a cortical shell around marrow. The section is flat: `flatness` × the radius towards the beam.
    Bone {
        cortex: f32,
        marrow: f32,
        shell: f32,
        flatness: f32,
    },
}

/// `size × size` values of ∫ μ dl along the rays, row-major.
#[derive(Clone, Debug)]
pub(super) struct Canvas {
    pub(super) size: usize,
    pub(super) values: Vec<f32>,
    /// The tube being drawn: the largest line integral over its pieces, so that joints do not count twice.
    scratch: Vec<f32>,
}

impl Canvas {
    pub(super) fn new(size: usize) -> Self {
        Self {
            size,
            values: vec![0.0; size * size],
            scratch: vec![0.0; size * size],
        }
    }

    /// Adds a tube, multiplied pixel by pixel with `weight(index, x, y)` (1 = all of it). Returns the pixels it shows in.
    pub(super) fn tube_where(
        &mut self,
        beam: &Beam,
        stations: &[Station],
        matter: Matter,
        weight: impl Fn(usize, f32, f32) -> f32,
    ) -> Bounds {
        let mut touched = Bounds::EMPTY;
        for pair in stations.windows(2) {
            if let [from, to] = pair {
                touched = touched.join(self.piece(beam, from, to, matter));
            }
        }
        let mut seen = Bounds::EMPTY;
        for row in touched.top..touched.bottom.max(touched.top) {
            for column in touched.left..touched.right.max(touched.left) {
                let index = row * self.size + column;
                let value = std::mem::take(&mut self.scratch[index]);
                if value != 0.0 {
                    let value = value * weight(index, column as f32 + 0.5, row as f32 + 0.5);
                    self.values[index] += value;
                    if value.abs() > 0.01 {
                        seen.include(column, row);
                    }
                }
            }
        }
        seen
    }

    /// [`Self::tube_where`] with all of it.
    pub(super) fn tube(&mut self, beam: &Beam, stations: &[Station], matter: Matter) -> Bounds {
        self.tube_where(beam, stations, matter, |_, _, _| 1.0)
    }

    fn piece(&mut self, beam: &Beam, from: &Station, to: &Station, matter: Matter) -> Bounds {
        let (a, b) = (beam.project(from.at), beam.project(to.at));
        let scale = beam.magnification((from.at[2] + to.at[2]) / 2.0) / beam.cm_per_pixel;
        let (dx, dy) = (b[0] - a[0], b[1] - a[1]);
        let flat = (dx * dx + dy * dy).sqrt();
        let depth = (to.at[2] - from.at[2]) * scale;
        // A tube that runs along the beam is longer for the ray; never more than the tube itself.
        let longest = if matches!(matter, Matter::Solid(_)) { 1.5 } else { 2.2 };
        let slant = ((flat * flat + depth * depth).sqrt() / flat.max(1e-3)).min(longest);
        // Thinner than a pixel: as wide as the pixel, and paler, so that its mass is kept.
        let spread = 0.45;
        let width = |radius: f32| {
            let true_radius = radius * scale;
            let shown = (true_radius * true_radius + spread * spread).sqrt();
            (shown, true_radius * true_radius / (shown * shown))
        };
        let (shown_a, mass_a) = width(from.radius);
        let (shown_b, mass_b) = width(to.radius);
        let reach = shown_a.max(shown_b) + 0.5;
        let last = self.size as f32;
        let clip = |low: f32, high: f32| ((low - reach).clamp(0.0, last), (high + reach + 1.0).clamp(0.0, last));
        let (left, right) = clip(a[0].min(b[0]), a[0].max(b[0]));
        let (top, bottom) = clip(a[1].min(b[1]), a[1].max(b[1]));
        let bounds = Bounds {
            left: left as usize,
            top: top as usize,
            right: right as usize,
            bottom: bottom as usize,
        };
        let inverse = 1.0 / (flat * flat).max(1e-6);
        for row in bounds.top..bounds.bottom {
            let y = row as f32 + 0.5 - a[1];
            for column in bounds.left..bounds.right {
                let x = column as f32 + 0.5 - a[0];
                let t = ((x * dx + y * dy) * inverse).clamp(0.0, 1.0);
                let (ox, oy) = (x - t * dx, y - t * dy);
                let distance = ox * ox + oy * oy;
                let shown = shown_a + (shown_b - shown_a) * t;
                if distance >= shown * shown {
                    continue;
                }
                let mass = mass_a + (mass_b - mass_a) * t;
                let chord = 2.0 * (shown * shown - distance).sqrt() / scale * mass;
                let value = match matter {
                    Matter::Solid(density) => density * chord * slant,
                    Matter::Bone {
                        cortex,
                        marrow,
                        shell,
                        flatness,
                    } => {
                        let inner_radius = (shown - shell * scale).max(0.0);
                        let inner = 2.0 * (inner_radius * inner_radius - distance).max(0.0).sqrt() / scale * mass;
                        // The shell is as thick towards the beam as across, whatever the flatness.
                        let inner = inner * (flatness - 0.5 * shell / from.radius.max(shell)).max(0.0);
                        (cortex * (flatness * chord - inner) + marrow * inner) * slant
                    }
                };
                let index = row * self.size + column;
                if value.abs() > self.scratch[index].abs() {
                    self.scratch[index] = value;
                }
            }
        }
        bounds
    }
}

/// A smooth curve through the points (Catmull–Rom), `steps` stations between two of them.
pub(super) fn curve(points: &[Station], steps: usize) -> Vec<Station> {
    let mut path = Vec::with_capacity(points.len() * steps);
    let Some((&first, &last)) = points.first().zip(points.last()) else {
        return path;
    };
    for (index, pair) in points.windows(2).enumerate() {
        let &[from, to] = pair else { continue };
        let before = index
            .checked_sub(1)
            .and_then(|i| points.get(i))
            .copied()
            .unwrap_or(first);
        let after = points.get(index + 2).copied().unwrap_or(last);
        for step in 0..steps {
            let t = step as f32 / steps as f32;
            let (t2, t3) = (t * t, t * t * t);
            let blend = |p: f32, q: f32, r: f32, s: f32| {
                0.5 * (2.0 * q
                    + (r - p) * t
                    + (2.0 * p - 5.0 * q + 4.0 * r - s) * t2
                    + (3.0 * q - p - 3.0 * r + s) * t3)
            };
            let axis = |k: usize| blend(before.at[k], from.at[k], to.at[k], after.at[k]);
            path.push(Station {
                at: [axis(0), axis(1), axis(2)],
                radius: from.radius + (to.radius - from.radius) * t,
            });
        }
    }
    path.push(last);
    path
}
