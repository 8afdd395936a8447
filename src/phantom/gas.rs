//! Gas in the abdomen: the stomach's bubble under the left dome, and now and then a loop of colon.

use super::View;
use super::beam::Beam;
use super::body::{Body, attenuation};
use super::canvas::Canvas;
use super::noise::Noise;
use super::random::Random;
use super::solid::Solid;
use super::thorax::Thorax;

/// Takes the gas out of the abdomen.
pub(super) fn abdominal(
    canvas: &mut Canvas,
    beam: &Beam,
    body: &Body,
    thorax: &Thorax,
    view: View,
    random: &mut Random,
) {
    let noise = Noise::new(random.bits());
    let left = thorax.domes[1];
    let mut bubbles = Vec::new();
    if body.gastric > 0.0 {
        let radius = body.gastric;
        let x = random.between(0.36, 0.55) * body.half_width;
        // Standing, the fluid in the stomach is level and the bubble ends there.
        let level = if view == View::Pa {
            random.between(0.15, 0.6)
        } else {
            9.0
        };
        bubbles.push((
            [x, left + 1.0 + 0.9 * radius, 1.0],
            [1.25 * radius, radius, 0.9 * radius],
            level,
        ));
    }
    if random.chance(0.35) {
        let mut x = random.between(0.1, 0.5) * body.half_width;
        let mut y = left + random.between(4.0, 6.0);
        for _ in 0..3 + random.below(5) {
            let radius = random.between(0.8, 1.5);
            bubbles.push(([x, y, 3.0], [radius * 1.1, radius, radius], 9.0));
            x += random.between(1.0, 2.0);
            y += random.between(-0.9, 0.5);
        }
    }
    for (centre, axes, level) in bubbles {
        let solid = Solid::ellipsoid(beam, centre, axes, 0.0);
        let (low, high) = solid.extent();
        let (top, bottom) = solid.height();
        let [middle, floor] = beam.on_detector([centre[0], centre[1] + level * axes[1], centre[2]]);
        let corners = [[low, top], [high, top], [low, bottom], [high, bottom]].map(|corner| beam.to_picture(corner));
        let range = |axis: usize| {
            let values = corners.map(|corner| corner[axis]);
            let from = values.iter().copied().fold(f32::MAX, f32::min).max(0.0) as usize;
            let to = values.iter().copied().fold(0.0, f32::max).ceil() as usize;
            from..(to + 1).min(canvas.size)
        };
        for row in range(1) {
            for column in range(0) {
                let [u, v] = beam.to_detector([column as f32 + 0.5, row as f32 + 0.5]);
                let wave = 0.25 * noise.smooth(u * 0.6, v * 0.6);
                let edge = ((floor - v) / beam.cm_per_pixel + 0.5).clamp(0.0, 1.0);
                let chord = solid.chord(middle + (u - middle) * (1.0 + wave), v + wave);
                canvas.values[row * canvas.size + column] -= 0.8 * attenuation::SOFT * chord * edge;
            }
        }
    }
}
