//! Findings: which there are, and how each changes the picture.

mod choose;
mod devices;
mod parenchyma;

use super::canvas::{Bounds, Canvas};
use super::random::{Purpose, Random};
use super::render::Scene;
use super::skeleton::Break;
use super::solid::Solid;
use super::thorax::{Changes, Layer, Thorax};
use super::truth::{Finding, Kind, Severity, Side};
use super::vessels::Perfusion;

pub(super) use choose::choose;

/// A finding to be drawn; `slot` chooses the random stream of its geometry.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) slot: u32,
    pub(super) finding: Finding,
}

impl Planned {
    fn random(&self, scene: &Scene) -> Random {
        Random::new(scene.seed, scene.index, Purpose::Finding(self.slot))
    }

    fn severity(&self) -> Severity {
        self.finding.severity.unwrap_or(Severity::Moderate)
    }

    fn side(&self) -> Side {
        self.finding.side.unwrap_or(Side::Right)
    }
}

/// What the findings do to the shape of the chest.
pub(super) fn changes(scene: &Scene) -> Changes {
    let mut changes = Changes::default();
    let body = &scene.body;
    for planned in &scene.findings {
        let mut random = planned.random(scene);
        let (side, severity) = (planned.side(), planned.severity());
        let away = -side.sign();
        match planned.finding.kind {
            Kind::Cardiomegaly { cardiothoracic_ratio } => changes.heart_ratio = Some(cardiothoracic_ratio),
            Kind::EnlargedMediastinum => {
                changes.wider_mediastinum = severity.of([0.45, 0.7, 1.0]) + random.between(0.0, 0.15);
            }
            Kind::PleuralEffusion => {
                let dome = match side {
                    Side::Right => body.dome,
                    Side::Left => body.dome + body.dome_drop,
                };
                // Small: the sulcus is blunt. Moderate: the dome is gone. Large: half the lung or more.
                let level = dome + severity.of([1.6, -2.6, -8.0]) + random.between(-0.6, 0.8);
                changes.layers[side as usize] = Some(Layer::Fluid {
                    level,
                    scale: random.between(1.5, 2.2),
                });
                changes.shift += away * severity.of([0.0, 0.0, 0.6]);
            }
            Kind::Pneumothorax => {
                let apex = severity.of([1.5, 2.9, 5.2]) * random.between(0.9, 1.15);
                changes.layers[side as usize] = Some(Layer::Air {
                    apex,
                    side: severity.of([0.45, 1.5, 4.6]) * random.between(0.9, 1.1),
                    reach: severity.of([6.5, 9.0, 12.0]),
                });
                changes.shift += away * severity.of([0.0, 0.0, 0.9]);
            }
            Kind::Atelectasis { volume_loss: true } => {
                changes.raised[side as usize] += severity.of([1.6, 2.6, 3.8]);
                changes.shift += side.sign() * severity.of([0.2, 0.4, 0.8]);
            }
            _ => {}
        }
    }
    changes
}

/// The broken ribs, in the order of the list; neighbours break about one line, and their pieces go the same way.
pub(super) fn breaks(scene: &Scene) -> Vec<Vec<Break>> {
    let broken = |planned: &Planned| match planned.finding.kind {
        Kind::RibFracture { rib, last } => {
            let mut random = planned.random(scene);
            let place = random.between(0.34, 0.48);
            let way = random.pick([-1.0, 1.0]);
            let one = |rib| Break {
                side: planned.side(),
                rib,
                place: place + random.between(-0.02, 0.02),
                gap: random.between(0.6, 1.0),
                step: way * random.between(1.1, 1.6),
            };
            Some((rib..=last).map(one).collect())
        }
        _ => None,
    };
    scene.findings.iter().filter_map(broken).collect()
}

/// How the pulmonary vessels are filled.
pub(super) fn perfusion(scene: &Scene) -> Perfusion {
    let edema = scene
        .findings
        .iter()
        .find(|planned| planned.finding.kind == Kind::Edema)
        .map(Planned::severity);
    let lying = scene.view == super::View::Ap;
    match edema {
        // Under congestion the upper vessels fill as well, and water around them blurs them.
        Some(severity) => Perfusion {
            upper: 1.15,
            lower: 1.12,
            blur: severity.of([0.3, 0.6, 0.9]),
        },
        None => Perfusion {
            upper: if lying { 0.9 } else { 0.76 },
            lower: 1.0,
            blur: 0.0,
        },
    }
}

/// Draws what is not already part of the thorax. Returns where each finding shows. `depth` is the length of lung for each
/// pixel, `layers` and `broken` where pleural layers and broken ribs were drawn.
pub(super) fn draw(
    scene: &Scene,
    canvas: &mut Canvas,
    thorax: &Thorax,
    depth: &[f32],
    layers: [Bounds; 2],
    broken: &[Bounds],
) -> Vec<Bounds> {
    let mut broken = broken.iter().copied();
    let mut shown = Vec::with_capacity(scene.findings.len());
    for planned in &scene.findings {
        let mut random = planned.random(scene);
        let lung = parenchyma::Lung { scene, thorax, depth };
        let (side, severity) = (planned.side(), planned.severity());
        let zone = planned.finding.zone;
        shown.push(match planned.finding.kind {
            Kind::Cardiomegaly { .. } => outline(scene, &thorax.heart, None),
            Kind::EnlargedMediastinum => outline(
                scene,
                thorax.mediastinum.get(..4).unwrap_or_default(),
                Some((0.5, scene.body.carina + 6.5)),
            ),
            Kind::PleuralEffusion | Kind::Pneumothorax => layers[side as usize],
            Kind::RibFracture { .. } => broken.next().unwrap_or(Bounds::EMPTY),
            Kind::Consolidation { air_bronchograms } => {
                lung.consolidation(canvas, side, zone, severity, air_bronchograms, &mut random)
            }
            Kind::LungOpacity => lung.haze(canvas, side, zone, severity, &mut random),
            Kind::Edema => lung.edema(canvas, severity, &mut random),
            Kind::Atelectasis { volume_loss } => lung.atelectasis(canvas, side, severity, volume_loss, &mut random),
            Kind::LungLesion { diameter_cm, calcified } => {
                lung.lesion(canvas, side, zone, diameter_cm, calcified, &mut random)
            }
            Kind::EndotrachealTube {
                tip_above_carina_cm, ..
            } => devices::endotracheal_tube(scene, canvas, thorax, tip_above_carina_cm),
            Kind::Pacemaker { leads } => devices::pacemaker(scene, canvas, thorax, side, leads, &mut random),
            Kind::CentralLine { approach, tip } => {
                devices::central_line(scene, canvas, thorax, side, approach, tip, &mut random)
            }
            Kind::SternalWires { count } => devices::sternal_wires(scene, canvas, count, &mut random),
        });
    }
    shown.into_iter().map(|bounds| within(bounds, canvas.size)).collect()
}

/// The box around solids, cut to a range of heights of the patient.
fn outline(scene: &Scene, solids: &[Solid], heights: Option<(f32, f32)>) -> Bounds {
    let beam = &scene.beam;
    let (mut box_u, mut box_v) = ((f32::MAX, f32::MIN), (f32::MAX, f32::MIN));
    for solid in solids {
        let ((left, right), (top, bottom)) = (solid.extent(), solid.height());
        box_u = (box_u.0.min(left), box_u.1.max(right));
        box_v = (box_v.0.min(top), box_v.1.max(bottom));
    }
    if let Some((top, bottom)) = heights {
        let on_detector = |y: f32| beam.on_detector([0.0, y, 0.0])[1];
        box_v = (box_v.0.max(on_detector(top)), box_v.1.min(on_detector(bottom)));
    }
    let mut bounds = Bounds::EMPTY;
    for u in [box_u.0, box_u.1] {
        for v in [box_v.0, box_v.1] {
            let [x, y] = beam.to_picture([u, v]);
            bounds.include(x.max(0.0) as usize, y.max(0.0) as usize);
        }
    }
    bounds
}

/// The part of the bounds on the picture; one pixel in the nearest corner if there is none.
fn within(bounds: Bounds, size: usize) -> Bounds {
    let (left, top) = (bounds.left.min(size - 1), bounds.top.min(size - 1));
    Bounds {
        left,
        top,
        right: bounds.right.clamp(left + 1, size),
        bottom: bounds.bottom.clamp(top + 1, size),
    }
}
