//! A scene → attenuation → the picture.

use super::View;
use super::beam::Beam;
use super::body::Body;
use super::canvas::{Bounds, Canvas};
use super::finding::{self, Planned};
use super::gas;
use super::imaging::{self, Exposure};
use super::marker;
use super::noise::Noise;
use super::random::{Purpose, Random};
use super::skeleton;
use super::soft_tissue::SoftTissue;
use super::thorax::Thorax;
use super::vessels;

/// Everything that decides a picture.
#[derive(Clone, Debug)]
pub(super) struct Scene {
    pub(super) seed: u64,
    pub(super) index: u64,
    pub(super) patient: u64,
    pub(super) view: View,
    pub(super) body: Body,
    pub(super) beam: Beam,
    /// What is wrong; the place in the list chooses the random stream of a finding's geometry.
    pub(super) findings: Vec<Planned>,
}

/// A projected scene before it meets the detector.
pub(super) struct Projection {
    /// ∫ μ dl for each pixel.
    pub(super) canvas: Canvas,
    /// Where each finding shows, in order.
    pub(super) bounds: Vec<Bounds>,
    pub(super) thorax: Thorax,
}

impl Scene {
    fn stream(&self, purpose: Purpose) -> Random {
        Random::new(self.seed, self.index, purpose)
    }

    /// Projects the scene.
    pub(super) fn project(&self) -> Projection {
        let (body, beam) = (&self.body, &self.beam);
        let mut canvas = Canvas::new(beam.size);
        let changes = finding::changes(self);
        let thorax = Thorax::new(body, beam, &changes);
        let mut pose = Random::new(self.seed, self.index ^ (1 << 63), Purpose::Pose);
        SoftTissue::new(body, beam, self.view, &mut pose).cast(beam, &mut canvas);
        let (depth, layers) = thorax.cast(beam, &mut canvas);
        gas::abdominal(&mut canvas, beam, body, &thorax, self.view, &mut pose);
        skeleton::spine(&mut canvas, beam, body, &mut pose);
        let breaks = finding::breaks(self);
        let broken = skeleton::ribs(&mut canvas, beam, body, &thorax.cage, &breaks);
        skeleton::shoulder_girdle(&mut canvas, beam, body, self.view, &mut pose);
        vessels::airways(&mut canvas, beam, body, &thorax);
        let perfusion = finding::perfusion(self);
        let mut vessel_random = Random::new(self.seed, self.patient, Purpose::Vessels);
        vessels::pulmonary(&mut canvas, beam, body, &thorax, &depth, perfusion, &mut vessel_random);
        texture(&mut canvas, beam, body, &depth);
        let bounds = finding::draw(self, &mut canvas, &thorax, &depth, layers, &broken);
        Projection { canvas, bounds, thorax }
    }

    /// Exposes a projection: grey values, `size × size`.
    pub(super) fn expose(&self, projection: &Projection) -> Vec<u8> {
        let size = self.beam.size;
        let mut random = self.stream(Purpose::Imaging);
        let exposure = Exposure::sample(&mut random, self.view);
        let mut marks = Random::new(self.seed, self.index ^ (1 << 63), Purpose::Imaging);
        let mut grey = imaging::expose(&projection.canvas, &exposure, &mut random);
        marker::side_marker(&mut grey, size, &mut marks);
        marker::collimate(&mut grey, size, self.view, &mut marks);
        grey.into_iter()
            .map(|value| value.round().clamp(0.0, 255.0) as u8)
            .collect()
    }
}

/// Interstitium and vessels too fine to be drawn one by one.
fn texture(canvas: &mut Canvas, beam: &Beam, body: &Body, depth: &[f32]) {
    let noise = Noise::new(body.texture);
    for (index, (&lung, value)) in depth.iter().zip(&mut canvas.values).enumerate() {
        if lung > 0.0 {
            let (row, column) = (index / canvas.size, index % canvas.size);
            let [u, v] = beam.to_detector([column as f32 + 0.5, row as f32 + 0.5]);
            *value += 0.0032 * lung * noise.fractal(u * 0.8, v * 0.8, 4, 0.75);
        }
    }
}
