//! Everything outside the chest: trunk, neck, shoulders, arms, breasts. Smooth, so half the resolution is enough.

use super::View;
use super::beam::Beam;
use super::body::{Body, attenuation};
use super::cage::Cage;
use super::canvas::Canvas;
use super::noise::smoothstep;
use super::random::Random;
use super::solid::Solid;
use super::truth::Side;

/// Soft tissue as if there were no lungs.
pub(super) struct SoftTissue {
    cage: Cage,
    scale: f32,
    offset: f32,
    wall: f32,
    padding: f32,
    limbs: Vec<Solid>,
    breasts: Vec<([f32; 2], [f32; 3])>,
}

impl SoftTissue {
    pub(super) fn new(body: &Body, beam: &Beam, view: View, random: &mut Random) -> Self {
        let fat = body.wall - 1.9;
        let mut limbs = vec![Solid::ellipsoid(
            beam,
            [0.0, -9.0, -1.5],
            [6.2 + 0.6 * fat, 13.0, 6.2 + 0.4 * fat],
            0.0,
        )];
        let abduction = match view {
            View::Pa => random.between(0.15, 0.5),
            View::Ap => random.between(0.05, 0.25),
        };
        for side in [Side::Right, Side::Left] {
            let sign = side.sign();
            let droop = random.normal(0.0, 0.3);
            let slope = sign * (0.32 + 0.03 * droop);
            // Trapezius, deltoid and upper arm, muscle over the scapula.
            limbs.push(Solid::ellipsoid(
                beam,
                [sign * 9.0, 0.6 + droop, -2.0],
                [11.0, 4.9, 5.6 + 0.4 * fat],
                slope,
            ));
            let shoulder = body.half_width + 4.2;
            limbs.push(Solid::ellipsoid(
                beam,
                [sign * shoulder, 4.6 + droop, -1.0],
                [5.2 + 0.3 * fat, 6.4, 6.3 + 0.4 * fat],
                0.0,
            ));
            limbs.push(Solid::ellipsoid(
                beam,
                [sign * (shoulder + 1.6 + 12.0 * abduction), 16.5 + droop, -1.0],
                [4.4 + 0.5 * fat, 14.0, 4.9 + 0.4 * fat],
                -sign * abduction,
            ));
            // Pectoral and latissimus folds.
            limbs.push(Solid::ellipsoid(
                beam,
                [sign * (body.half_width - 0.8), 7.5, 2.0],
                [4.6, 5.6, 1.9 + 0.3 * fat],
                -sign * 0.9,
            ));
        }
        let [thick, half, fold] = body.breast;
        let mut breasts = Vec::new();
        if thick > 0.0 {
            for side in [Side::Right, Side::Left] {
                let centre = [
                    side.sign() * (0.62 * body.half_width + 0.25 * fat) + random.normal(0.0, 0.3),
                    fold - 0.85 * half + random.normal(0.0, 0.4),
                    body.half_depth,
                ];
                let scale = beam.magnification(centre[2]);
                let thickness = thick * random.between(0.9, 1.1);
                breasts.push((beam.on_detector(centre), [half * scale, 0.85 * half * scale, thickness]));
            }
        }
        Self {
            cage: Cage::new(body),
            scale: beam.magnification(0.0),
            offset: beam.on_detector([0.0; 3])[1],
            wall: body.wall,
            padding: body.padding,
            limbs,
            breasts,
        }
    }

    /// Length of soft tissue along the ray at (u, v), in cm.
    fn thickness(&self, u: f32, v: f32) -> f32 {
        let (x, y) = (u.abs() / self.scale, (v - self.offset) / self.scale);
        let wall = self.cage.wall(y.max(6.5));
        // The trunk narrows at the waist and ends under the shoulders.
        let below = smoothstep(14.0, 34.0, y);
        let half = wall.lateral + self.wall * (1.0 + 0.3 * smoothstep(6.0, 0.0, y)) - 0.8 * below;
        let depth = 2.0 * wall.half_depth + self.padding;
        let place = x / half;
        let trunk = match place < 1.0 && y > -4.0 {
            true => depth * (1.0 - place.powf(2.8)).powf(1.0 / 2.2) * smoothstep(-4.0, 4.0, y),
            false => 0.0,
        };
        // A fourth-power mean joins the parts without a seam where they run into each other.
        let fourth = |length: f32| (length * length) * (length * length);
        let joined = self
            .limbs
            .iter()
            .fold(fourth(trunk), |sum, limb| sum + fourth(limb.chord(u, v)));
        let mut sum = joined.sqrt().sqrt();
        for &([cu, cv], [half, height, thick]) in &self.breasts {
            let (x, y) = ((u - cu) / half, (v - cv) / height);
            // A breast hangs: full at its lower fold, fading upwards.
            let y = if y < 0.0 { 0.62 * y } else { y };
            let square = x * x + y * y;
            if square < 1.0 {
                sum += thick * (1.0 - square).powf(0.5) * (0.55 + 0.45 * smoothstep(-1.0, 0.5, y));
            }
        }
        sum
    }

    /// Adds the tissue to the canvas, cast at every second pixel and interpolated.
    pub(super) fn cast(&self, beam: &Beam, canvas: &mut Canvas) {
        let size = canvas.size;
        let coarse = size / 2 + 2;
        let grid: Vec<f32> = (0..coarse * coarse)
            .map(|index| {
                let (row, column) = (index / coarse, index % coarse);
                let [u, v] = beam.to_detector([2.0 * column as f32 - 0.5, 2.0 * row as f32 - 0.5]);
                attenuation::SOFT * self.thickness(u, v)
            })
            .collect();
        for row in 0..size {
            for column in 0..size {
                let (y, x) = ((row as f32 + 1.0) / 2.0, (column as f32 + 1.0) / 2.0);
                let (top, left) = (y as usize, x as usize);
                let (t, s) = (y - top as f32, x - left as f32);
                let at = top * coarse + left;
                let above = grid[at] + (grid[at + 1] - grid[at]) * s;
                let below = grid[at + coarse] + (grid[at + coarse + 1] - grid[at + coarse]) * s;
                canvas.values[row * size + column] += above + (below - above) * t;
            }
        }
    }
}
