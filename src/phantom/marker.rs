//! What lies on the picture rather than in the patient: side marker and collimator.

use super::View;
use super::random::Random;
use super::truth::Side;

/// Strokes of a letter in a box of 1 × 1, y downwards.
fn strokes(letter: Side) -> &'static [[f32; 4]] {
    match letter {
        Side::Left => &[[0.1, 0.0, 0.1, 1.0], [0.1, 1.0, 0.7, 1.0]],
        Side::Right => &[
            [0.1, 0.0, 0.1, 1.0],
            [0.1, 0.0, 0.5, 0.0],
            [0.5, 0.0, 0.7, 0.14],
            [0.7, 0.14, 0.7, 0.36],
            [0.7, 0.36, 0.5, 0.5],
            [0.5, 0.5, 0.1, 0.5],
            [0.38, 0.5, 0.75, 1.0],
        ],
    }
}

/// A lead letter in an upper corner: L on the patient's left, R on the right, sometimes none.
pub(super) fn side_marker(grey: &mut [f32], size: usize, random: &mut Random) {
    let side = random.pick([Side::Left, Side::Right]);
    let shown = random.chance(0.8);
    let height = random.between(0.028, 0.042) * size as f32;
    let from_edge = random.between(0.04, 0.10) * size as f32;
    let top = random.between(0.04, 0.16) * size as f32;
    let brightness = random.between(205.0, 250.0);
    if !shown {
        return;
    }
    let left = match side {
        Side::Left => size as f32 - from_edge - 0.8 * height,
        Side::Right => from_edge,
    };
    let half = (0.085 * height).max(0.5);
    let reach = half + 1.0;
    let area = |low: f32, high: f32| (low - reach).max(0.0) as usize..((high + reach).max(0.0) as usize).min(size);
    for row in area(top, top + height) {
        for column in area(left, left + 0.8 * height) {
            let (x, y) = ((column as f32 + 0.5 - left) / height, (row as f32 + 0.5 - top) / height);
            let distance = strokes(side)
                .iter()
                .map(|&[x0, y0, x1, y1]| {
                    let (dx, dy) = (x1 - x0, y1 - y0);
                    let t = (((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy)).clamp(0.0, 1.0);
                    (x - x0 - t * dx).hypot(y - y0 - t * dy)
                })
                .fold(f32::MAX, f32::min);
            let cover = (half + 0.5 - distance * height).clamp(0.0, 1.0);
            let value = &mut grey[row * size + column];
            *value += (brightness - *value).max(0.0) * cover;
        }
    }
}

/// The shutters of the collimator: black at some edges, more often on films from the bucky.
pub(super) fn collimate(grey: &mut [f32], size: usize, view: View, random: &mut Random) {
    let probability = if view == View::Pa { 0.35 } else { 0.2 };
    let shutters: [f32; 4] = [(); 4].map(|()| {
        let (closed, width) = (random.chance(probability), random.between(0.005, 0.028));
        if closed { width * size as f32 } else { -1.0 }
    });
    let lean: [f32; 4] = [(); 4].map(|()| random.normal(0.0, 0.006));
    for row in 0..size {
        for column in 0..size {
            let (x, y) = (column as f32 + 0.5, row as f32 + 0.5);
            let far = size as f32;
            let distances = [
                x - shutters[0] + lean[0] * y,
                far - x - shutters[1] + lean[1] * y,
                y - shutters[2] + lean[2] * x,
                far - y - shutters[3] + lean[3] * x,
            ];
            let open = distances
                .iter()
                .zip(&shutters)
                .filter(|&(_, &shutter)| shutter > 0.0)
                .map(|(&distance, _)| (distance + 0.5).clamp(0.0, 1.0))
                .fold(1.0, f32::min);
            if open < 1.0 {
                let value = &mut grey[row * size + column];
                *value = 3.0 + (*value - 3.0) * open;
            }
        }
    }
}
