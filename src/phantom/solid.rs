//! Solids that take room from the lungs. Each answers, in closed form, where a ray enters and leaves it.

use super::beam::{Beam, Point};

/// A solid in detector coordinates (u, v in cm, magnified), depth z along the beam.
#[derive(Clone, Debug)]
pub(super) enum Solid {
    /// An ellipsoid, turned in the plane of the picture.
    Ellipsoid {
        centre: Point,
        axes: [f32; 3],
        turn: (f32, f32),
    },
    /// The upper half of an ellipsoid with a cylinder below it: a dome of the diaphragm.
    Dome { centre: Point, axes: [f32; 3] },
    /// A vertical column of elliptical section whose middle and half-width vary with height.
    Column {
        top: f32,
        step: f32,
        stations: Vec<[f32; 2]>,
        z: f32,
        half_depth: f32,
    },
}

impl Solid {
    /// An ellipsoid of the patient, its first axis turned by `angle` (downwards to the patient's left).
    pub(super) fn ellipsoid(beam: &Beam, centre: Point, axes: [f32; 3], angle: f32) -> Self {
        let scale = beam.magnification(centre[2]);
        let [u, v] = beam.on_detector(centre);
        Self::Ellipsoid {
            centre: [u, v, centre[2]],
            axes: [axes[0] * scale, axes[1] * scale, axes[2]],
            turn: angle.sin_cos(),
        }
    }

    pub(super) fn dome(beam: &Beam, centre: Point, axes: [f32; 3]) -> Self {
        let scale = beam.magnification(centre[2]);
        let [u, v] = beam.on_detector(centre);
        Self::Dome {
            centre: [u, v, centre[2]],
            axes: [axes[0] * scale, axes[1] * scale, axes[2]],
        }
    }

    /// A column through `outline`: heights with middle and half-width, from above downwards.
    pub(super) fn column(beam: &Beam, outline: &[[f32; 3]], z: f32, half_depth: f32) -> Self {
        let scale = beam.magnification(z);
        let placed: Vec<[f32; 3]> = outline
            .iter()
            .map(|&[y, x, half]| {
                let [u, v] = beam.on_detector([x, y, z]);
                [v, u, half * scale]
            })
            .collect();
        let (top, bottom) = match (placed.first(), placed.last()) {
            (Some(first), Some(last)) => (first[0], last[0]),
            _ => (0.0, 0.0),
        };
        let step = 0.1;
        let count = ((bottom - top) / step).max(0.0) as usize + 1;
        let stations = (0..count)
            .map(|index| {
                let v = top + step * index as f32;
                let below = placed
                    .partition_point(|station| station[0] <= v)
                    .clamp(1, placed.len() - 1);
                let ([v0, u0, a0], [v1, u1, a1]) = (placed[below - 1], placed[below]);
                let t = super::noise::smoothstep(v0, v1.max(v0 + 1e-3), v);
                [u0 + (u1 - u0) * t, a0 + (a1 - a0) * t]
            })
            .collect();
        Self::Column {
            top,
            step,
            stations,
            z,
            half_depth,
        }
    }

    /// Where the ray at (u, v) enters and leaves.
    pub(super) fn interval(&self, u: f32, v: f32) -> Option<(f32, f32)> {
        let (square, z, half_depth) = match self {
            Self::Ellipsoid { centre, axes, turn } => {
                let (x, y) = (u - centre[0], v - centre[1]);
                let (sin, cos) = *turn;
                let along = (cos * x + sin * y) / axes[0];
                let across = (cos * y - sin * x) / axes[1];
                (along * along + across * across, centre[2], axes[2])
            }
            Self::Dome { centre, axes } => {
                let x = (u - centre[0]) / axes[0];
                let y = ((v - centre[1]) / axes[1]).min(0.0);
                (x * x + y * y, centre[2], axes[2])
            }
            Self::Column {
                top,
                step,
                stations,
                z,
                half_depth,
            } => {
                let place = (v - top) / step;
                if place < 0.0 {
                    return None;
                }
                let &[middle, half] = stations.get(place as usize)?;
                let x = (u - middle) / half;
                (x * x * x.abs(), *z, *half_depth)
            }
        };
        (square < 1.0).then(|| {
            let reach = half_depth * (1.0 - square).sqrt();
            (z - reach, z + reach)
        })
    }

    /// Length of the ray at (u, v) inside.
    pub(super) fn chord(&self, u: f32, v: f32) -> f32 {
        self.interval(u, v).map_or(0.0, |(enter, leave)| leave - enter)
    }

    /// Leftmost and rightmost u of an ellipsoid; the middle of anything else.
    pub(super) fn extent(&self) -> (f32, f32) {
        match self {
            Self::Ellipsoid { centre, axes, turn } => {
                let reach = (axes[0] * turn.1).hypot(axes[1] * turn.0);
                (centre[0] - reach, centre[0] + reach)
            }
            Self::Dome { centre, axes } => (centre[0] - axes[0], centre[0] + axes[0]),
            Self::Column { stations, .. } => stations.iter().fold((f32::MAX, f32::MIN), |(low, high), &[u, half]| {
                (low.min(u - half), high.max(u + half))
            }),
        }
    }

    /// Highest and lowest v.
    pub(super) fn height(&self) -> (f32, f32) {
        match self {
            Self::Ellipsoid { centre, axes, turn } => {
                let reach = (axes[0] * turn.0).hypot(axes[1] * turn.1);
                (centre[1] - reach, centre[1] + reach)
            }
            Self::Dome { centre, axes } => (centre[1] - axes[1], centre[1]),
            Self::Column {
                top, step, stations, ..
            } => (*top, top + step * stations.len() as f32),
        }
    }
}

/// Length of `whole` that no interval of `holes` covers. Sorts `holes`.
pub(super) fn uncovered(whole: (f32, f32), holes: &mut [(f32, f32)]) -> f32 {
    holes.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let (mut at, mut free) = (whole.0, 0.0);
    for &(enter, leave) in holes.iter() {
        if enter >= whole.1 {
            break;
        }
        free += (enter - at).max(0.0);
        at = at.max(leave);
    }
    free + (whole.1 - at).max(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_left_of_a_ray_is_what_a_fine_count_finds(
            mut holes in prop::collection::vec((-5.0f32..5.0, 0.0f32..4.0).prop_map(|(from, length)| (from, from + length)), 0..6)
        ) {
            let whole = (-3.0f32, 3.0f32);
            let steps = 6000;
            let free = (0..steps)
                .map(|step| whole.0 + 6.0 * (step as f32 + 0.5) / steps as f32)
                .filter(|&z| holes.iter().all(|&(enter, leave)| z < enter || z > leave))
                .count();
            let counted = 6.0 * free as f32 / steps as f32;
            prop_assert!((uncovered(whole, &mut holes) - counted).abs() < 0.02);
        }
    }

    #[test]
    fn the_chord_through_the_middle_of_a_sphere_is_its_diameter() {
        let sphere = Solid::Ellipsoid {
            centre: [1.0, 2.0, 3.0],
            axes: [1.5; 3],
            turn: (0.0, 1.0),
        };
        assert_eq!(sphere.interval(1.0, 2.0), Some((1.5, 4.5)));
        assert_eq!(sphere.interval(2.6, 2.0), None);
        assert_eq!(sphere.extent(), (-0.5, 2.5));
    }
}
