//! What was put into the patient: tubes, lines, pacemakers, wires.

use crate::phantom::body::attenuation::METAL;
use crate::phantom::canvas::{Bounds, Canvas, Matter, Station, curve};
use crate::phantom::random::Random;
use crate::phantom::render::Scene;
use crate::phantom::thorax::Thorax;
use crate::phantom::truth::{Approach, LineTip, Side};
use crate::phantom::vessels::{main_bronchus, trachea_at};

/// Plastic loaded with barium.
const RADIOPAQUE: f32 = 1.9;

fn station(at: [f32; 3], radius: f32) -> Station {
    Station { at, radius }
}

/// A tube from the mouth to `above` cm over the carina; below zero it goes on into the right main bronchus.
pub(super) fn endotracheal_tube(scene: &Scene, canvas: &mut Canvas, thorax: &Thorax, above: f32) -> Bounds {
    let tip = thorax.carina[1] - above.max(0.2);
    let start = -8.0;
    let mut axis: Vec<_> = (0..=20)
        .map(|step| trachea_at(thorax, start + (tip - start) * step as f32 / 20.0))
        .collect();
    if above < 0.0 {
        axis.extend([0.3, 0.6, 0.9].map(|place| main_bronchus(&scene.body, thorax, Side::Right, place)));
    }
    let line = |aside: f32, radius: f32| -> Vec<_> {
        axis.iter()
            .map(|&[x, y, z]| station([x + aside, y, z], radius))
            .collect()
    };
    // Two faint walls and the marker stripe.
    for aside in [-0.42, 0.42] {
        canvas.tube(&scene.beam, &line(aside, 0.08), Matter::Solid(1.8));
    }
    let stripe = canvas.tube(&scene.beam, &line(0.25, 0.14), Matter::Solid(RADIOPAQUE * 2.0));
    let walls = canvas.tube(&scene.beam, &line(0.0, 0.40), Matter::Solid(0.12));
    stripe.join(walls)
}

/// The superior vena cava down to the right atrium: a point for each height from 0 (its top) over 1 (the atrium) to 1.5.
fn cava(scene: &Scene, thorax: &Thorax, place: f32) -> [f32; 3] {
    let carina = scene.body.carina;
    [
        thorax.shift - 1.9 - 0.35 * place,
        carina - 2.6 + 6.8 * place,
        2.0 + 0.6 * place,
    ]
}

/// From the side of entry to the top of the superior vena cava.
fn way_in(scene: &Scene, thorax: &Thorax, side: Side, approach: Approach, random: &mut Random) -> Vec<[f32; 3]> {
    let sign = side.sign();
    let top = cava(scene, thorax, 0.0);
    let clavicle = scene.body.clavicle;
    let mut points = match approach {
        Approach::InternalJugular => vec![
            [sign * random.between(4.0, 5.0), -8.0, 1.0],
            [sign * 3.8, -3.5, 2.0],
            [sign * 2.9, clavicle - 1.8, 2.5],
        ],
        Approach::Subclavian => vec![
            [sign * 8.0, clavicle + 1.0, 6.5],
            [sign * 6.5, clavicle - 1.0, 5.0],
            [sign * 4.6, clavicle - 1.4, 4.0],
            [sign * 2.9, clavicle - 0.5, 3.0],
        ],
        Approach::Peripheral => vec![
            [sign * (scene.body.half_width + 5.5), 17.0, 0.0],
            [sign * (scene.body.half_width + 2.6), 9.0, 0.0],
            [sign * (scene.body.half_width - 1.2), 3.8, 1.5],
            [sign * 7.5, clavicle - 1.2, 3.5],
            [sign * 4.0, clavicle - 1.0, 3.5],
        ],
    };
    if side == Side::Left {
        // The left brachiocephalic vein crosses the midline.
        points.push([sign * 1.4 + thorax.shift, clavicle + 0.5, 3.0]);
        points.push([0.5 * top[0] + thorax.shift, top[1] - 1.0, 3.0]);
    }
    points.push(top);
    points
}

/// A catheter from its entry to its tip.
pub(super) fn central_line(
    scene: &Scene,
    canvas: &mut Canvas,
    thorax: &Thorax,
    side: Side,
    approach: Approach,
    tip: LineTip,
    random: &mut Random,
) -> Bounds {
    let end = match tip {
        LineTip::SuperiorVenaCava => random.between(0.48, 0.62),
        LineTip::CavoatrialJunction => random.between(0.95, 1.05),
        LineTip::RightAtrium => random.between(1.42, 1.55),
    };
    let mut points = way_in(scene, thorax, side, approach, random);
    points.extend([0.35, 0.7, 1.0].map(|share| cava(scene, thorax, end * share)));
    let radius = if approach == Approach::Peripheral { 0.11 } else { 0.14 };
    let path: Vec<_> = points.into_iter().map(|at| station(at, radius)).collect();
    canvas.tube(&scene.beam, &curve(&path, 6), Matter::Solid(RADIOPAQUE * 1.8))
}

/// A generator under the skin of the chest and leads through the veins into the heart.
pub(super) fn pacemaker(
    scene: &Scene,
    canvas: &mut Canvas,
    thorax: &Thorax,
    side: Side,
    leads: u8,
    random: &mut Random,
) -> Bounds {
    let sign = side.sign();
    let beam = &scene.beam;
    let middle = [
        sign * random.between(0.60, 0.72) * scene.body.half_width,
        random.between(5.2, 7.2),
        9.5,
    ];
    let tilt = sign * random.between(-0.15, 0.35);
    let scale = beam.magnification(middle[2]);
    let [u, v] = beam.on_detector(middle);
    let mut bounds = Bounds::EMPTY;
    for row in 0..canvas.size {
        for column in 0..canvas.size {
            let [pu, pv] = beam.to_detector([column as f32 + 0.5, row as f32 + 0.5]);
            let (du, dv) = ((pu - u) / scale, (pv - v) / scale);
            let (sin, cos) = tilt.sin_cos();
            let (x, y) = ((cos * du + sin * dv) / 2.25, (cos * dv - sin * du) / 1.95);
            let square = (x * x).powi(2) + (y * y).powi(2);
            // The can is solid; its header is pale.
            let inside = smooth_edge(1.0 - square);
            if inside > 0.0 {
                let metal = if y < -0.55 { 0.9 } else { 1.9 };
                canvas.values[row * canvas.size + column] += metal * inside;
                bounds.include(column, row);
            }
        }
    }
    let floor = scene.body.dome;
    let (mx, my) = (middle[0], middle[1]);
    for lead in 0..leads {
        let mut points = vec![
            [mx - sign * 0.6, my - 1.6, 9.0],
            [mx + sign * 0.8, my - 2.9, 8.0],
            [sign * 7.4, scene.body.clavicle - 0.6, 6.0],
        ];
        points.extend(
            way_in(scene, thorax, side, Approach::Subclavian, random)
                .into_iter()
                .skip(2),
        );
        points.extend([0.4, 0.8].map(|place| cava(scene, thorax, place)));
        let shift = thorax.shift;
        let ventricle = lead == 0;
        if ventricle {
            points.extend([
                [shift - 2.6, floor - 5.2, 2.5],
                [shift - 0.8, floor - 2.2, 4.0],
                [shift + 2.2, floor - 1.0, 5.0],
                [shift + random.between(4.6, 5.6), floor - random.between(0.9, 1.6), 5.5],
            ]);
        } else {
            points.extend([
                [shift - 2.9, floor - 6.4, 2.0],
                [shift - 2.3, floor - 5.0, 3.5],
                [shift - 1.0, floor - 5.9, 4.5],
                [shift - 0.9, floor - 7.2, 4.5],
            ]);
        }
        let path: Vec<_> = points.iter().map(|&at| station(at, 0.085)).collect();
        let smooth = curve(&path, 6);
        bounds = bounds.join(canvas.tube(beam, &smooth, Matter::Solid(0.75 * METAL)));
        if let Some(tip) = smooth.get(smooth.len().saturating_sub(3)..) {
            let tip: Vec<_> = tip.iter().map(|end| station(end.at, 0.14)).collect();
            bounds = bounds.join(canvas.tube(beam, &tip, Matter::Solid(METAL)));
        }
    }
    bounds
}

fn smooth_edge(inside: f32) -> f32 {
    crate::phantom::noise::smoothstep(0.0, 0.25, inside)
}

/// Twisted loops down the middle of the sternum.
pub(super) fn sternal_wires(scene: &Scene, canvas: &mut Canvas, count: u8, random: &mut Random) -> Bounds {
    let mut bounds = Bounds::EMPTY;
    let length = 0.60 * scene.body.dome;
    for wire in 0..count {
        let y = 5.2 + length * f32::from(wire) / f32::from(count.max(2) - 1) * random.between(0.97, 1.03);
        let x = random.normal(0.0, 0.18);
        let lean = random.normal(0.0, 0.12);
        let wide = random.between(0.75, 1.0);
        let s = |dx: f32, dy: f32| station([x + dx * wide, y + dy + lean * dx, 8.5], 0.08);
        let path = curve(
            &[
                s(-0.1, 0.3),
                s(-0.9, 0.22),
                s(-1.0, -0.12),
                s(0.0, -0.25),
                s(1.0, -0.12),
                s(0.9, 0.22),
                s(0.1, 0.3),
                s(0.25, 0.62),
            ],
            4,
        );
        bounds = bounds.join(canvas.tube(&scene.beam, &path, Matter::Solid(2.4 * METAL)));
    }
    bounds
}
