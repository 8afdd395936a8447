//! Ribs, clavicles, scapulae, humeri and spine.

use super::View;
use super::beam::Beam;
use super::body::{Body, attenuation};
use super::cage::Cage;
use super::canvas::{Bounds, Canvas, Matter, Station, curve};
use super::random::Random;
use super::truth::Side;

/// A break in a rib.
#[derive(Clone, Copy, Debug)]
pub(super) struct Break {
    pub(super) side: Side,
    /// 1 to 12.
    pub(super) rib: u8,
    /// Where: 0 at the spine, 1 at the anterior end.
    pub(super) place: f32,
    /// Distance between the ends along the rib, and step of the far piece, in cm.
    pub(super) gap: f32,
    pub(super) step: f32,
}

fn bone(body: &Body, shell: f32, flatness: f32) -> Matter {
    Matter::Bone {
        cortex: attenuation::CORTEX * body.bone,
        marrow: attenuation::MARROW * body.bone,
        shell,
        flatness,
    }
}

/// Height of the head of rib 1 … 12 at the spine.
fn rib_height(body: &Body, rib: u8) -> f32 {
    let spacing = (body.base + 1.2) / 11.6;
    -0.9 + spacing * f32::from(rib - 1) * (0.94 + 0.005 * f32::from(rib))
}

/// A point of the axis of a rib; `place` runs from the spine (0) to the anterior end (1).
pub(super) fn rib_point(body: &Body, cage: &Cage, side: Side, rib: u8, place: f32) -> [f32; 3] {
    let number = f32::from(rib);
    // The upper ribs are short and steep; the last two float and end at the side.
    let end = match rib {
        1 => 2.55,
        2 => 2.62,
        3..=7 => 2.62 - 0.03 * (number - 3.0),
        8..=10 => 2.45 - 0.12 * (number - 8.0),
        11 => 1.55,
        _ => 1.15,
    };
    let begin = 0.16;
    let turn = begin + (end - begin) * place;
    let fall = body.rib_fall * (0.55 + 0.065 * (number - 1.0)).min(1.05);
    // Level at the back, steepest at the side, rising again a little in front.
    let share = turn / std::f32::consts::PI;
    let descent = fall * (share - 0.13 * (2.0 * std::f32::consts::PI * share).sin() / 1.4);
    cage.on_wall(side, turn, (rib_height(body, rib) + descent).max(0.35), 0.35)
}

fn draw_rib(
    canvas: &mut Canvas,
    beam: &Beam,
    body: &Body,
    cage: &Cage,
    side: Side,
    rib: u8,
    broken: Option<&Break>,
) -> Bounds {
    let radius = body.rib_width
        * if rib == 1 {
            1.1
        } else if rib >= 11 {
            0.8
        } else {
            1.0
        };
    let pieces = 44;
    let station = |place: f32, step: f32| {
        let mut at = rib_point(body, cage, side, rib, place);
        at[1] += step;
        // Broader and thinner towards the cartilage, narrow at the neck.
        let width = 0.86 + 0.28 * place;
        Station {
            at,
            radius: radius * width,
        }
    };
    let path = |from: f32, to: f32, step: f32| -> Vec<Station> {
        (0..=pieces)
            .map(|piece| {
                let place = from + (to - from) * piece as f32 / pieces as f32;
                let near = broken.map_or(0.0, |broken| {
                    (1.0 - (place - broken.place).abs() / 0.10).clamp(0.0, 1.0)
                });
                station(place, step * near)
            })
            .collect()
    };
    let matter = bone(body, 0.13, 0.62);
    let Some(broken) = broken else {
        return canvas.tube(beam, &path(0.0, 1.0, 0.0), matter);
    };
    let half_gap = broken.gap / 2.0 / (2.4 * body.half_width);
    canvas.tube(beam, &path(0.0, broken.place - half_gap, -0.5 * broken.step), matter);
    canvas.tube(beam, &path(broken.place + half_gap, 1.0, 0.5 * broken.step), matter);
    // Blood between rib and pleura: a spindle along the break, bulging into the lung.
    let swelling = |away: f32| Station {
        at: station(broken.place + 0.055 * away, 0.0).at,
        radius: 0.35 + 0.75 * (1.0 - away * away),
    };
    let spindle: Vec<Station> = (-4..=4).map(|step| swelling(step as f32 / 4.0)).collect();
    canvas.tube(beam, &spindle, Matter::Solid(attenuation::SOFT - attenuation::LUNG));
    let [x, y] = beam.project(station(broken.place, 0.0).at);
    let reach = 3.0 / beam.cm_per_pixel;
    let edge = |value: f32| value.clamp(0.0, beam.size as f32) as usize;
    Bounds {
        left: edge(x - reach),
        top: edge(y - reach),
        right: edge(x + reach) + 1,
        bottom: edge(y + reach) + 1,
    }
}

/// All 24 ribs. Returns where each break shows, in the order given.
pub(super) fn ribs(canvas: &mut Canvas, beam: &Beam, body: &Body, cage: &Cage, breaks: &[Vec<Break>]) -> Vec<Bounds> {
    let mut shown = vec![Bounds::EMPTY; breaks.len()];
    for side in [Side::Right, Side::Left] {
        for rib in 1..=12 {
            let broken = breaks.iter().zip(&mut shown).find_map(|(together, place)| {
                let broken = together
                    .iter()
                    .find(|broken| broken.side == side && broken.rib == rib)?;
                Some((broken, place))
            });
            let bounds = draw_rib(
                canvas,
                beam,
                body,
                cage,
                side,
                rib,
                broken.as_ref().map(|(broken, _)| *broken),
            );
            if let Some((_, place)) = broken {
                *place = place.join(bounds);
            }
        }
    }
    shown
}

/// Clavicles, scapulae and the heads of the humeri.
pub(super) fn shoulder_girdle(canvas: &mut Canvas, beam: &Beam, body: &Body, view: View, random: &mut Random) {
    for side in [Side::Right, Side::Left] {
        let sign = side.sign();
        let width = body.half_width;
        let (low, rise) = (body.clavicle + random.normal(0.0, 0.15), body.clavicle_slope * width);
        let s = |at: Point3, radius: f32| Station {
            at: [sign * at.0, at.1, at.2],
            radius,
        };
        let clavicle = curve(
            &[
                s((1.5, low, 6.6), 1.0),
                s((3.6, low - 0.30 * rise, 6.6), 0.66),
                s((7.0, low - 0.75 * rise, 5.6), 0.55),
                s((10.5, low - 1.10 * rise, 2.2), 0.56),
                s((13.0, low - 1.30 * rise, 0.2), 0.66),
                s((14.6, low - 1.25 * rise, -0.6), 0.60),
            ],
            8,
        );
        canvas.tube(beam, &clavicle, bone(body, 0.17, 0.95));
        // Standing with the arms turned in, the scapulae swing out of the lungs.
        let out = match view {
            View::Pa => random.between(1.6, 3.6),
            View::Ap => random.between(-0.8, 1.6),
        };
        let x = |value: f32| value / 13.3 * width + out;
        let z = -7.5;
        let lateral = curve(
            &[
                s((x(12.6), 3.0, z + 3.0), 0.75),
                s((x(11.0), 8.0, z + 1.0), 0.42),
                s((x(8.9), 14.2, z), 0.34),
            ],
            8,
        );
        let medial = curve(
            &[
                s((x(8.9), 14.2, z), 0.26),
                s((x(6.4), 8.5, z), 0.18),
                s((x(6.3), 3.2, z), 0.18),
                s((x(8.0), 0.9, z), 0.2),
            ],
            8,
        );
        let spine = curve(
            &[
                s((x(6.5), 3.6, z - 1.0), 0.3),
                s((x(10.0), 1.8, z - 1.8), 0.42),
                s((x(13.4), -0.6, z + 1.0), 0.6),
            ],
            8,
        );
        let coracoid = curve(&[s((x(11.2), 1.6, z + 3.0), 0.5), s((x(11.9), 2.2, z + 6.5), 0.45)], 4);
        for border in [&lateral, &medial, &spine, &coracoid] {
            canvas.tube(beam, border, bone(body, 0.13, 0.85));
        }
        // The blade: a thin plate, as one broad flat stroke between its borders.
        let blade = curve(
            &[
                s((x(10.0), 2.8, z), 2.2),
                s((x(9.2), 7.0, z), 1.9),
                s((x(8.9), 12.8, z), 0.6),
            ],
            6,
        );
        canvas.tube(beam, &blade, Matter::Solid(0.018 * body.bone));
        let head = x(14.4).min(width + 4.2 + 0.5 * out);
        let humerus = [
            s((head, 3.0, -1.0), 2.1),
            s((head + 0.6, 4.6, -1.0), 1.9),
            s((head + 1.3, 7.5, -1.0), 1.2),
            s((head + 2.6 + 0.3 * out, 22.0, -1.0), 1.1),
        ];
        canvas.tube(beam, &curve(&humerus, 14), bone(body, 0.30, 0.85));
    }
}

type Point3 = (f32, f32, f32);

/// Vertebrae C6 to L2: bodies with end plates, pedicles, spinous and transverse processes.
pub(super) fn spine(canvas: &mut Canvas, beam: &Beam, body: &Body, random: &mut Random) {
    let spacing = (body.base + 1.2) / 11.6;
    let curve_x = random.normal(0.0, 0.35);
    let s = |x: f32, y: f32, z: f32, radius: f32| Station { at: [x, y, z], radius };
    for number in -2..=14_i32 {
        let level = number as f32;
        let y = -0.9 + spacing * (level - 1.0) + 0.3;
        let height = spacing * 0.80;
        let half = 1.35 + 0.045 * (level + 2.0);
        let x = curve_x * ((y - 2.0) / 9.0).sin();
        let z = -6.5;
        let strength = body.bone;
        // Body: a stack of horizontal strokes would be ragged, a box of four borders and a core is enough.
        let core = [
            s(x - 0.45 * half, y, z, 0.55 * height),
            s(x + 0.45 * half, y, z, 0.55 * height),
        ];
        canvas.tube(beam, &core, Matter::Solid(attenuation::MARROW * strength * 0.95));
        for edge in [-0.5, 0.5] {
            let plate = [
                s(x - half, y + edge * height, z, 0.14),
                s(x + half, y + edge * height, z, 0.14),
            ];
            canvas.tube(beam, &plate, Matter::Solid(0.75 * strength));
        }
        for sign in [-1.0, 1.0] {
            let wall = curve(
                &[
                    s(x + sign * half, y - 0.46 * height, z, 0.13),
                    s(x + sign * 0.9 * half, y, z, 0.13),
                    s(x + sign * half, y + 0.46 * height, z, 0.13),
                ],
                3,
            );
            canvas.tube(beam, &wall, Matter::Solid(0.5 * strength));
            let pedicle = [
                s(x + sign * 0.62 * half, y - 0.24 * height, z - 2.0, 0.34),
                s(x + sign * 0.62 * half, y - 0.04 * height, z - 2.0, 0.34),
            ];
            canvas.tube(beam, &pedicle, bone(body, 0.13, 1.0));
            let process = [
                s(x + sign * 0.7 * half, y - 0.1 * height, z - 2.5, 0.40),
                s(x + sign * (half + 1.3), y - 0.25 * height, z - 3.5, 0.36),
            ];
            canvas.tube(beam, &process, bone(body, 0.11, 0.7));
        }
        let spinous = [
            s(x, y + 0.15 * height, z - 4.0, 0.2),
            s(x, y + 0.55 * height, z - 5.5, 0.3),
        ];
        canvas.tube(beam, &spinous, bone(body, 0.12, 1.4));
    }
}
