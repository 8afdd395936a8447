//! Findings within the lung: clouds, bands, balls and septal lines.

use crate::phantom::beam::Beam;
use crate::phantom::body::attenuation;
use crate::phantom::canvas::{Bounds, Canvas, Matter, Station, curve};
use crate::phantom::noise::{Noise, smoothstep};
use crate::phantom::random::Random;
use crate::phantom::render::Scene;
use crate::phantom::thorax::Thorax;
use crate::phantom::truth::{Severity, Side, Zone};
use crate::phantom::vessels::hilum;

/// The lungs as projected: `depth` is the length of lung for each pixel.
pub(super) struct Lung<'a> {
    pub(super) scene: &'a Scene,
    pub(super) thorax: &'a Thorax,
    pub(super) depth: &'a [f32],
}

/// Filled lung less the air-filled lung it replaces.
const FILLED: f32 = attenuation::SOFT - attenuation::LUNG;
/// What is fainter than this does not count as shown.
const VISIBLE: f32 = 0.03;

/// A round part of a cloud: middle (cm on the detector) and radius.
type Puff = ([f32; 2], f32);

impl Lung<'_> {
    fn beam(&self) -> &Beam {
        &self.scene.beam
    }

    /// A place in the zone where there is lung to see; `margin` cm from the edges of the zone.
    fn place(&self, side: Side, zone: Option<Zone>, least: f32, random: &mut Random) -> [f32; 3] {
        let dome = self.thorax.domes[side as usize];
        let (top, bottom) = match zone {
            Some(Zone::Upper) => (0.10, 0.31),
            Some(Zone::Mid) => (0.37, 0.63),
            Some(Zone::Lower) => (0.69, 0.95),
            None => (0.12, 0.92),
        };
        let mut best = ([side.sign() * 7.0, 0.5 * (top + bottom) * dome, 0.0], 0.0);
        for _ in 0..24 {
            let point = [
                side.sign() * random.between(3.6, 0.84 * self.scene.body.half_width),
                random.between(top, bottom) * dome,
                random.between(-4.0, 4.0),
            ];
            let here = self.thorax.depth_at(self.beam(), point);
            if here > best.1 {
                best = (point, here);
            }
            if here > least {
                break;
            }
        }
        best.0
    }

    /// Fills lung in a cloud of puffs. `density` is what the middle gains per cm, `thickness` how many cm of lung take part,
    /// `grain` the size of its texture and `rough` its strength.
    #[expect(clippy::too_many_arguments, reason = "the cloud is described by its numbers")]
    fn cloud(
        &self,
        canvas: &mut Canvas,
        side: Side,
        puffs: &[Puff],
        density: f32,
        thickness: f32,
        grain: f32,
        rough: f32,
        random: &mut Random,
    ) -> Bounds {
        let (edge, inside) = (Noise::new(random.bits()), Noise::new(random.bits()));
        let (beam, size) = (self.beam(), canvas.size);
        let mut bounds = Bounds::EMPTY;
        for row in 0..size {
            for column in 0..size {
                let index = row * size + column;
                let lung = self.depth[index];
                if lung < 0.2 {
                    continue;
                }
                let [u, v] = beam.to_detector([column as f32 + 0.5, row as f32 + 0.5]);
                if u * side.sign() < 0.0 {
                    continue;
                }
                let mut clear = 1.0;
                for &([cu, cv], radius) in puffs {
                    let square = ((u - cu) * (u - cu) + (v - cv) * (v - cv)) / (radius * radius);
                    if square < 2.6 {
                        clear *= 1.0 - smoothstep(1.25, 0.25, square * (1.0 + 0.35 * edge.smooth(u / 1.1, v / 1.1)));
                    }
                }
                let filled = 1.0 - clear;
                if filled > 0.001 {
                    let mottle = 1.0 + rough * inside.fractal(u / grain, v / grain, 3, 0.6);
                    let gain = density * filled * mottle.max(0.1) * lung.min(thickness);
                    canvas.values[index] += gain;
                    if gain > VISIBLE {
                        bounds.include(column, row);
                    }
                }
            }
        }
        bounds
    }

    fn puffs(&self, centre: [f32; 3], radius: f32, count: usize, random: &mut Random) -> Vec<Puff> {
        let [u, v] = self.beam().on_detector(centre);
        let mut puffs = vec![([u, v], 0.85 * radius)];
        for _ in 1..count {
            let (turn, away) = (
                random.between(0.0, std::f32::consts::TAU),
                random.between(0.35, 0.8) * radius,
            );
            let puff = [u + away * turn.cos(), v + 0.9 * away * turn.sin()];
            puffs.push((puff, random.between(0.4, 0.7) * radius));
        }
        puffs
    }

    /// Filled alveoli, dense and cloudy, with air-filled bronchi or without.
    pub(super) fn consolidation(
        &self,
        canvas: &mut Canvas,
        side: Side,
        zone: Option<Zone>,
        severity: Severity,
        air_bronchograms: bool,
        random: &mut Random,
    ) -> Bounds {
        let radius = severity.of([2.6, 3.7, 5.0]) * random.between(0.92, 1.1);
        let centre = self.place(side, zone, 6.0, random);
        let puffs = self.puffs(centre, radius, 6, random);
        let thickness = severity.of([4.5, 6.0, 8.0]);
        let bounds = self.cloud(canvas, side, &puffs, 0.82 * FILLED, thickness, 1.4, 0.22, random);
        if air_bronchograms {
            let root = hilum(&self.scene.body, self.thorax, side);
            let away = (centre[1] - root[1]).atan2((centre[0] - root[0]).abs());
            for branch in 0..5 {
                // From the side of the hilum through the cloud, spreading out.
                let turn = away + 0.30 * (branch as f32 - 2.0) + random.between(-0.08, 0.08);
                let along = |share: f32, bend: f32| Station {
                    at: [
                        centre[0] + side.sign() * radius * share * (turn + bend).cos(),
                        centre[1] + radius * share * (turn + bend).sin() + 0.16 * radius * (branch as f32 - 2.0),
                        centre[2],
                    ],
                    radius: 0.25 - 0.06 * share.max(0.0),
                };
                let path = curve(
                    &[along(-0.8, 0.1), along(-0.2, 0.0), along(0.3, 0.05), along(0.75, 0.2)],
                    5,
                );
                let depth = self.depth;
                canvas.tube_where(
                    self.beam(),
                    &path,
                    Matter::Solid(-1.5 * attenuation::SOFT),
                    |index, _, _| smoothstep(0.2, 2.5, depth[index]),
                );
            }
        }
        bounds
    }

    /// A hazy shadow without structure through which vessels still show.
    pub(super) fn haze(
        &self,
        canvas: &mut Canvas,
        side: Side,
        zone: Option<Zone>,
        severity: Severity,
        random: &mut Random,
    ) -> Bounds {
        let radius = severity.of([3.0, 3.8, 4.8]) * random.between(0.92, 1.1);
        let centre = self.place(side, zone, 7.0, random);
        let puffs = self.puffs(centre, radius, 4, random);
        let density = severity.of([0.30, 0.35, 0.40]) * FILLED;
        self.cloud(canvas, side, &puffs, density, 8.0, 2.5, 0.10, random)
    }

    /// Water: septal lines at the bases, then bat wings around the hila, then nearly everywhere.
    pub(super) fn edema(&self, canvas: &mut Canvas, severity: Severity, random: &mut Random) -> Bounds {
        let mut bounds = Bounds::EMPTY;
        let body = &self.scene.body;
        for side in [Side::Right, Side::Left] {
            let root = hilum(body, self.thorax, side);
            let spread = severity.of([4.2, 5.2, 6.6]) * random.between(0.95, 1.1);
            let at = |x: f32, y: f32| {
                self.beam()
                    .on_detector([root[0] + side.sign() * x, root[1] + y, root[2]])
            };
            let puffs = [
                (at(1.8, 0.8), spread),
                (at(2.8, -3.0), 0.72 * spread),
                (at(3.4, 5.0), 0.85 * spread),
            ];
            let density = severity.of([0.24, 0.42, 0.62]) * FILLED;
            let cloud = self.cloud(canvas, side, &puffs, density, 7.0, 0.9, 0.5, random);
            bounds = bounds.join(cloud);
            let dome = self.thorax.domes[side as usize];
            for line in 0..6 + 2 * severity.level() {
                let y = dome - 4.6 + 0.72 * line as f32 + random.between(-0.15, 0.15);
                let wall = self.thorax.cage.wall(y).lateral;
                let length = random.between(1.1, 1.9);
                let s = |x: f32, y: f32| Station {
                    at: [side.sign() * x, y, 0.5],
                    radius: 0.07,
                };
                let path = [
                    s(wall - 0.1, y),
                    s(wall - 0.1 - length, y + random.between(-0.15, 0.15)),
                ];
                bounds = bounds.join(canvas.tube(self.beam(), &path, Matter::Solid(0.85)));
            }
        }
        bounds
    }

    /// Bands of airless lung above the diaphragm; with loss of volume also a shadow over the raised dome.
    pub(super) fn atelectasis(
        &self,
        canvas: &mut Canvas,
        side: Side,
        severity: Severity,
        volume_loss: bool,
        random: &mut Random,
    ) -> Bounds {
        let dome = self.thorax.domes[side as usize];
        let sign = side.sign();
        let width = self.scene.body.half_width;
        let mut bounds = Bounds::EMPTY;
        let depth = self.depth;
        for band in 0..severity.of([2, 3, 4]) {
            let y = dome - 1.6 - 1.7 * band as f32 + random.between(-0.5, 0.5);
            let from = random.between(0.34, 0.46) * width;
            let to = from + random.between(4.2, 6.5);
            let tilt = random.between(-1.0, 1.0);
            let s = |x: f32, y: f32, radius: f32| Station {
                at: [sign * x, y, 0.0],
                radius,
            };
            let path = curve(
                &[
                    s(from, y, 0.18),
                    s(0.5 * (from + to), y + 0.5 * tilt + random.between(-0.2, 0.2), 0.38),
                    s(to.min(0.9 * width), y + tilt, 0.20),
                ],
                8,
            );
            // A plate seen edge on is deeper than it is high.
            bounds = bounds.join(
                canvas.tube_where(self.beam(), &path, Matter::Solid(4.5 * FILLED), |index, _, _| {
                    smoothstep(0.3, 3.0, depth[index])
                }),
            );
        }
        if volume_loss {
            let centre = [sign * random.between(4.2, 6.0), dome - 0.5, -4.0];
            let [u, v] = self.beam().on_detector(centre);
            let puffs = [([u, v], severity.of([3.0, 3.8, 4.6])), ([u - 1.5 * sign, v + 1.5], 3.4)];
            bounds = bounds.join(self.cloud(canvas, side, &puffs, 0.6 * FILLED, 6.0, 2.0, 0.1, random));
            let sulcus = [sign * width, self.scene.body.base, 0.0];
            for corner in [[sign * 1.5, dome - 1.0, 0.0], sulcus] {
                let [x, y] = self.beam().project(corner);
                bounds.include(x.max(0.0) as usize, y.max(0.0) as usize);
            }
        }
        bounds
    }

    /// A ball in the lung: smooth and dense if calcified, otherwise lobulated.
    pub(super) fn lesion(
        &self,
        canvas: &mut Canvas,
        side: Side,
        zone: Option<Zone>,
        diameter: f32,
        calcified: bool,
        random: &mut Random,
    ) -> Bounds {
        let [x, y, z] = self.place(side, zone, 8.5, random);
        let beam = self.beam();
        let [u, v] = beam.on_detector([x, y, z]);
        let radius = 0.5 * diameter * beam.magnification(z);
        let noise = Noise::new(random.bits());
        let (lobes, turn) = (random.between(2.5, 5.0), random.between(0.0, 6.0));
        let rough = if calcified { 0.02 } else { random.between(0.06, 0.13) };
        let density = if calcified { 0.34 } else { 1.4 * FILLED };
        let mut bounds = Bounds::EMPTY;
        for row in 0..canvas.size {
            for column in 0..canvas.size {
                let [pu, pv] = beam.to_detector([column as f32 + 0.5, row as f32 + 0.5]);
                let (du, dv) = (pu - u, pv - v);
                let square = (du * du + dv * dv) / (radius * radius);
                if square > 1.8 {
                    continue;
                }
                let angle = dv.atan2(du);
                let border = 1.0 + rough * ((angle * lobes.round() + turn).sin() + noise.smooth(3.0 * angle, 0.0));
                let inside = 1.0 - square / (border * border);
                if inside > 0.0 {
                    // Large masses are flattened so that they do not outshine bone.
                    let gain = density * 2.0 * radius.min(1.7) * inside.sqrt();
                    canvas.values[row * canvas.size + column] += gain;
                    if gain > 0.01 {
                        bounds.include(column, row);
                    }
                }
            }
        }
        bounds
    }
}
