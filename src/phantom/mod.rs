//! Phantom radiographs: synthetic frontal chest X-rays with known findings, reports and questions.
//!
//! ```text
//! (seed, index) ─ findings, body, beam ─ Scene ─ projection (Beer–Lambert) ─ exposure ─ pixels
//!                       └─ Truth ─ report, labels, questions
//! ```
//!
//! An analytic thorax is projected in closed form: lungs are what organs leave of the chest along each ray, bones and
//! vessels are tubes. Every study has ChaCha streams of its own, keyed by seed and index: study i is the same however many
//! are made, in whatever order, on however many threads.

mod beam;
mod body;
mod cage;
mod canvas;
mod dataset;
mod error;
mod finding;
mod gas;
mod imaging;
mod labels;
mod marker;
mod noise;
mod questions;
mod random;
mod render;
mod report;
mod sheet;
mod skeleton;
mod soft_tissue;
mod solid;
#[cfg(test)]
mod tests;
mod thorax;
mod truth;
mod vessels;

use crate::radiograph::Pixels;
use random::{Purpose, Random};

pub use canvas::Bounds;
pub use dataset::{Summary, check_studies, write_dataset};
pub use error::PhantomError;
pub use labels::{LABELS, Label, NO_FINDING};
pub use questions::QuestionAnswer;
pub use report::Report;
pub use sheet::contact_sheet;
pub use truth::{Approach, Finding, Kind, LineTip, Severity, Side, Truth, TubePosition, View, Zone};

/// A maker of studies of one seed and size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phantom {
    seed: u64,
    size: usize,
}

/// One synthetic study.
#[derive(Clone, Debug)]
pub struct Study {
    /// The picture, `size × size`, grey.
    pub pixels: Pixels,
    /// What is known about it.
    pub truth: Truth,
    /// What a radiologist would write.
    pub report: Report,
    /// What the report says about the observations of [`LABELS`].
    pub labels: [Label; 14],
    /// Questions with answers.
    pub vqa: Vec<QuestionAnswer>,
    /// Direction of the beam.
    pub view: View,
}

impl Phantom {
    /// Sides of pictures that can be made, in pixels; only even ones.
    pub const SIZES: std::ops::RangeInclusive<usize> = 64..=2048;
    /// As many as the numbers of the layout reach.
    pub const MAX_STUDIES: u64 = 4_000_000;
    /// Studies come in blocks, within which they are divided among patients.
    const BLOCK: u64 = 8;

    /// A maker of studies; `size` is the side of the pictures in pixels.
    ///
    /// # Errors
    /// [`PhantomError::Size`]: an odd size, or one outside [`Self::SIZES`].
    pub fn new(seed: u64, size: usize) -> Result<Self, PhantomError> {
        match Self::SIZES.contains(&size) && size.is_multiple_of(2) {
            true => Ok(Self { seed, size }),
            false => Err(PhantomError::Size(size)),
        }
    }

    /// The patient of a study, and the number of the study among the patient's: one to three studies each.
    pub fn patient(&self, index: u64) -> (u64, u64) {
        let (block, place) = (index / Self::BLOCK, index % Self::BLOCK);
        let mut random = Random::new(self.seed, block, Purpose::Family);
        let (mut first, mut patient) = (0, block * Self::BLOCK);
        loop {
            let count = random.weighted([(1, 0.6), (2, 0.28), (3, 0.12)]);
            if place < first + count {
                return (patient, place - first);
            }
            first += count;
            patient += 1;
        }
    }

    /// Study number `index`. The same seed, index and size give the same study.
    pub fn study(&self, index: u64) -> Study {
        let (scene, chosen) = self.scene(index);
        let projection = scene.project();
        let grey = scene.expose(&projection);
        let findings = chosen
            .into_iter()
            .zip(&projection.bounds)
            .map(|(mut finding, &bounds)| {
                finding.bounds = bounds;
                if let Kind::Cardiomegaly { cardiothoracic_ratio } = &mut finding.kind {
                    *cardiothoracic_ratio = projection.thorax.cardiothoracic_ratio;
                }
                finding
            });
        let truth = Truth {
            seed: self.seed,
            index,
            patient: scene.patient,
            view: scene.view,
            size: self.size,
            cm_per_pixel: scene.beam.cm_per_pixel,
            female: scene.body.female,
            age: scene.body.age,
            cardiothoracic_ratio: projection.thorax.cardiothoracic_ratio,
            findings: findings.collect(),
        };
        let (report, denied) = report::write(&truth, &mut Random::new(self.seed, index, Purpose::Report));
        let rgb = grey.into_iter().flat_map(|value| [value; 3]).collect();
        // One value per pixel of a square picture: always the right length.
        Study {
            pixels: Pixels::new(self.size, self.size, rgb).expect("one value per pixel of a square picture"),
            labels: labels::labels(&truth, &denied),
            vqa: questions::ask(&truth, &mut Random::new(self.seed, index, Purpose::Questions)),
            view: truth.view,
            report,
            truth,
        }
    }

    fn scene(&self, index: u64) -> (render::Scene, Vec<Finding>) {
        let (patient, _) = self.patient(index);
        let chosen = finding::choose(&mut Random::new(self.seed, index, Purpose::Findings));
        let mut pose = Random::new(self.seed, index, Purpose::Pose);
        let body = body::Body::sample(&mut Random::new(self.seed, patient, Purpose::Body));
        let body = body.breathing(&mut pose, chosen.view);
        let findings = (0..).zip(&chosen.findings).map(|(slot, finding)| finding::Planned {
            slot,
            finding: finding.clone(),
        });
        let scene = render::Scene {
            seed: self.seed,
            index,
            patient,
            view: chosen.view,
            beam: beam::Beam::sample(&mut pose, &body, chosen.view, self.size),
            findings: findings.collect(),
            body,
        };
        (scene, chosen.findings)
    }
}
