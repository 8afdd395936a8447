//! The X-ray beam: where a point of the patient falls on the picture.
//!
//! Patient coordinates in centimetres: x towards the patient's left, y towards the feet (0 at the lung apices), z towards
//! the front. Pictures are shown as if facing the patient, so the patient's left is on the right of the picture in PA and
//! AP views alike.

use super::View;
use super::body::Body;
use super::random::Random;

/// A point of the patient: x, y, z in cm.
pub(super) type Point = [f32; 3];

/// A projection onto a square picture.
///
/// The beam diverges: structures are magnified by their distance from the detector. Rays are taken as parallel within one
/// structure, which keeps every line integral in closed form; over the depth of a chest the difference is below a
/// millimetre.
#[derive(Clone, Debug)]
pub(super) struct Beam {
    /// Side of the picture in pixels.
    pub(super) size: usize,
    pub(super) cm_per_pixel: f32,
    centre: [f32; 2],
    yaw: f32,
    tilt: f32,
    roll: (f32, f32),
    source_cm: f32,
    detector_z: f32,
    view: View,
}

impl Beam {
    /// A beam as it may be set up for this body.
    pub(super) fn sample(random: &mut Random, body: &Body, view: View, size: usize) -> Self {
        let upright = view == View::Pa;
        let spread = if upright { 1.0 } else { 1.8 };
        let yaw = random.normal(0.0, 2.2 * spread).to_radians();
        let tilt = if upright {
            random.normal(0.0, 1.5)
        } else {
            random.normal(4.0, 3.0)
        }
        .to_radians();
        let roll = random.normal(0.0, 0.8 * spread).to_radians();
        let width = 2.0 * (body.half_width + 0.75 * body.wall) * random.between(0.98, 1.1);
        let height = body.base + random.between(6.5, 10.0);
        let field = width.max(height).clamp(27.0, 44.0);
        let top = random.between(-4.6, -2.6);
        Self {
            size,
            cm_per_pixel: field / size as f32,
            centre: [random.normal(0.0, 0.5 * spread), top + field / 2.0],
            yaw: yaw.sin(),
            tilt: tilt.tan(),
            roll: roll.sin_cos(),
            source_cm: if upright { 180.0 } else { random.between(100.0, 130.0) },
            detector_z: body.half_depth + 4.0,
            view,
        }
    }

    /// How much larger than life something at depth z falls on the detector.
    pub(super) fn magnification(&self, z: f32) -> f32 {
        let to_detector = match self.view {
            View::Pa => self.detector_z - z,
            View::Ap => self.detector_z + z,
        };
        self.source_cm / (self.source_cm - to_detector)
    }

    /// On the detector, in cm, patient axes: rotation of the patient moves what lies in front against what lies behind.
    pub(super) fn on_detector(&self, [x, y, z]: Point) -> [f32; 2] {
        let scale = self.magnification(z);
        let middle = 12.0;
        [
            (x + z * self.yaw) * scale,
            (y - middle + z * self.tilt) * scale + middle,
        ]
    }

    /// Detector (cm) → picture (pixels, centre of the first pixel at 0.5).
    pub(super) fn to_picture(&self, [u, v]: [f32; 2]) -> [f32; 2] {
        let (sin, cos) = self.roll;
        let (x, y) = (
            (u - self.centre[0]) / self.cm_per_pixel,
            (v - self.centre[1]) / self.cm_per_pixel,
        );
        let half = self.size as f32 / 2.0;
        [cos * x - sin * y + half, sin * x + cos * y + half]
    }

    /// Picture (pixels) → detector (cm).
    pub(super) fn to_detector(&self, [column, row]: [f32; 2]) -> [f32; 2] {
        let (sin, cos) = self.roll;
        let half = self.size as f32 / 2.0;
        let (x, y) = (column - half, row - half);
        [
            (cos * x + sin * y) * self.cm_per_pixel + self.centre[0],
            (cos * y - sin * x) * self.cm_per_pixel + self.centre[1],
        ]
    }

    /// A point of the patient on the picture, in pixels.
    pub(super) fn project(&self, point: Point) -> [f32; 2] {
        self.to_picture(self.on_detector(point))
    }
}
