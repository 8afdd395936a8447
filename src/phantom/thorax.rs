//! Lungs among what takes their room: heart, great vessels, spine, diaphragm, and what lies between lung and chest wall.

use super::beam::Beam;
use super::body::{Body, attenuation};
use super::cage::{Cage, Section};
use super::canvas::{Bounds, Canvas};
use super::solid::{Solid, uncovered};
use super::truth::Side;

/// What findings do to the shape of the chest.
#[derive(Clone, Debug, Default)]
pub(super) struct Changes {
    /// Cardiothoracic ratio to reach, as projected.
    pub(super) heart_ratio: Option<f32>,
    /// Half-width of the upper mediastinum relative to normal, less 1.
    pub(super) wider_mediastinum: f32,
    /// How far the right and the left dome are pulled up, in cm.
    pub(super) raised: [f32; 2],
    /// Displacement of heart and mediastinum towards the patient's left, in cm.
    pub(super) shift: f32,
    /// What lies between lung and chest wall, right and left.
    pub(super) layers: [Option<Layer>; 2],
}

/// What lies between lung and chest wall on one side.
#[derive(Clone, Copy, Debug)]
pub(super) enum Layer {
    /// Fluid: `level` is the height where its layer is 1.6 cm thick at the side; it grows e-fold every `scale` cm downwards.
    Fluid { level: f32, scale: f32 },
    /// Air: thickness at the apex and at the side, fading over `reach` cm from the apex.
    Air { apex: f32, side: f32, reach: f32 },
}

impl Layer {
    fn thickness(&self, y: f32) -> f32 {
        match *self {
            Self::Fluid { level, scale } => (1.6 * ((y - level) / scale).exp()).min(40.0),
            Self::Air { apex, side, reach } => {
                let fade = (-(y / reach) * (y / reach)).exp();
                side * (1.0 - fade) + apex * fade
            }
        }
    }

    /// Share of the layer that also lies before and behind the lung.
    fn front(&self) -> f32 {
        match self {
            Self::Fluid { .. } => 0.75,
            Self::Air { .. } => 0.45,
        }
    }

    /// The whole lung sinks from the apex under air.
    fn drop(&self) -> f32 {
        match self {
            Self::Fluid { .. } => 0.0,
            Self::Air { apex, .. } => 0.75 * apex,
        }
    }
}

/// Number of heights with a section of their own.
const ROWS: usize = 640;
const ROW_CM: f32 = 0.06;

/// The chest as projected: everything in detector coordinates.
#[derive(Clone, Debug)]
pub(super) struct Thorax {
    pub(super) cage: Cage,
    scale: f32,
    offset: f32,
    sections: Vec<Option<Section>>,
    inner: [Option<Vec<Option<Section>>>; 2],
    fluid: [bool; 2],
    pub(super) heart: Vec<Solid>,
    pub(super) mediastinum: Vec<Solid>,
    obstacles: Vec<Solid>,
    /// Height of the right and the left dome.
    pub(super) domes: [f32; 2],
    pub(super) carina: [f32; 3],
    pub(super) shift: f32,
    pub(super) cardiothoracic_ratio: f32,
}

/// Lengths of the lung and of the layer around it along one ray, in cm.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Air {
    pub(super) lung: f32,
    pub(super) layer: f32,
    /// Edge of the lung under a layer of air: the visceral pleura.
    pub(super) pleura: f32,
}

impl Thorax {
    pub(super) fn new(body: &Body, beam: &Beam, changes: &Changes) -> Self {
        let cage = Cage::new(body);
        let shift = changes.shift;
        let domes = [
            body.dome - changes.raised[0],
            body.dome + body.dome_drop - changes.raised[1],
        ];
        let mediastinum = mediastinum(body, beam, changes);
        let scale = beam.magnification(0.0);
        let chest = 2.0 * cage.half_width() * scale;
        let floor = body.dome + 0.6 * body.dome_drop - 0.4 * (changes.raised[0] + changes.raised[1]).min(3.0);
        // Bedside films magnify the heart: what is normal there is wider.
        let wanted = changes
            .heart_ratio
            .unwrap_or(body.heart_ratio * beam.magnification(3.0) / scale);
        let ratio = |solids: &[Solid]| {
            let (left, right) = solids.iter().fold((f32::MAX, f32::MIN), |(low, high), solid| {
                let (from, to) = solid.extent();
                (low.min(from), high.max(to))
            });
            (right - left) / chest
        };
        let first = heart(body, beam, 1.0, floor, shift);
        let size = wanted / ratio(&first);
        let heart = heart(body, beam, size, floor, shift);
        let mut obstacles = diaphragm(body, beam, domes);
        obstacles.extend(mediastinum.iter().cloned());
        obstacles.extend(heart.iter().cloned());
        let heights = (0..ROWS).map(|row| row as f32 * ROW_CM);
        let sections: Vec<_> = heights.clone().map(|y| cage.section(y)).collect();
        let inner = changes.layers.map(|layer| {
            layer.map(|layer| {
                heights
                    .clone()
                    .map(|y| {
                        Some(
                            cage.section(y - layer.drop())?
                                .within(layer.thickness(y), layer.front()),
                        )
                    })
                    .collect()
            })
        });
        Self {
            scale,
            offset: beam.on_detector([0.0; 3])[1],
            sections,
            inner,
            fluid: changes.layers.map(|layer| matches!(layer, Some(Layer::Fluid { .. }))),
            cardiothoracic_ratio: ratio(&heart),
            heart,
            mediastinum,
            obstacles,
            domes,
            carina: [shift - 0.2, body.carina, -1.0],
            shift,
            cage,
        }
    }

    /// Lung and layer along the ray at (u, v).
    pub(super) fn air(&self, u: f32, v: f32) -> Air {
        let (x, y) = (u / self.scale, (v - self.offset) / self.scale);
        let side = if x < 0.0 { Side::Right } else { Side::Left } as usize;
        let row = (y / ROW_CM) as usize;
        if y < 0.0 {
            return Air::default();
        }
        let Some(whole) = self
            .sections
            .get(row)
            .copied()
            .flatten()
            .and_then(|section| section.interval(x.abs()))
        else {
            return Air::default();
        };
        let mut holes = [(0.0, 0.0); 16];
        let mut count = 0;
        for solid in &self.obstacles {
            if let (Some(interval), Some(hole)) = (solid.interval(u, v), holes.get_mut(count)) {
                *hole = interval;
                count += 1;
            }
        }
        let holes = &mut holes[..count];
        let free = uncovered(whole, holes);
        let Some(inner) = &self.inner[side] else {
            return Air {
                lung: free,
                ..Air::default()
            };
        };
        let section = inner.get(row).copied().flatten();
        let mut inside = |section: Option<Section>| {
            section
                .and_then(|section| section.interval(x.abs()))
                .map_or(0.0, |(enter, leave)| {
                    uncovered((enter.max(whole.0), leave.min(whole.1)), holes)
                })
        };
        let lung = inside(section);
        // A membrane of 0.8 mm, seen edge on.
        let pleura = match self.fluid[side] {
            true => 0.0,
            false => lung - inside(section.map(|section| section.within(0.08, 0.0))),
        };
        Air {
            lung,
            layer: (free - lung).max(0.0),
            pleura,
        }
    }

    /// Length of lung that shows at a point of the patient, in cm.
    pub(super) fn depth_at(&self, beam: &Beam, point: [f32; 3]) -> f32 {
        let [u, v] = beam.on_detector(point);
        self.air(u, v).lung
    }

    /// Casts every ray: takes the lungs (and air around them) out of the soft tissue already on the canvas. Returns the
    /// length of lung for each pixel, and where the layers show, right and left.
    pub(super) fn cast(&self, beam: &Beam, canvas: &mut Canvas) -> (Vec<f32>, [Bounds; 2]) {
        let size = canvas.size;
        let mut depth = vec![0.0; size * size];
        let mut bounds = [Bounds::EMPTY; 2];
        for row in 0..size {
            for column in 0..size {
                let [u, v] = beam.to_detector([column as f32 + 0.5, row as f32 + 0.5]);
                let air = self.air(u, v);
                let side = if u < 0.0 { Side::Right } else { Side::Left } as usize;
                let index = row * size + column;
                depth[index] = air.lung;
                let value = &mut canvas.values[index];
                *value -= (attenuation::SOFT - attenuation::LUNG) * air.lung;
                if air.layer > 0.0 && !self.fluid[side] {
                    *value -= attenuation::SOFT * air.layer;
                    *value += attenuation::SOFT * air.pleura;
                }
                if air.layer > 0.4 {
                    bounds[side].include(column, row);
                }
            }
        }
        (depth, bounds)
    }
}

/// Both domes of the diaphragm, right first.
fn diaphragm(body: &Body, beam: &Beam, domes: [f32; 2]) -> Vec<Solid> {
    // The central tendon closes the gap between the domes.
    let middle = domes[0].max(domes[1]) + 0.4;
    let tendon = Solid::dome(
        beam,
        [0.4, middle + 3.0, 0.0],
        [0.5 * body.half_width, 3.0, 1.2 * body.half_depth],
    );
    [Side::Right, Side::Left]
        .into_iter()
        .zip(domes)
        .map(|(side, top)| {
            // The sulcus stays where it is when a dome is pulled up.
            let height = body.dome_height + 0.6 * (body.dome - top).max(0.0);
            let half = 0.555 * body.half_width;
            let centre = [side.sign() * 0.47 * body.half_width, top + height, 0.8];
            Solid::dome(beam, centre, [half, height, 1.12 * body.half_depth])
        })
        .chain([tendon])
        .collect()
}

/// Upper mediastinum with the great vessels, aortic knob, descending aorta, spine.
fn mediastinum(body: &Body, beam: &Beam, changes: &Changes) -> Vec<Solid> {
    let (wide, carina, shift) = (body.mediastinum, body.carina, changes.shift);
    let factor = 1.0 + changes.wider_mediastinum;
    let bottom = body.base + 3.0;
    let column = [
        [-4.0, 0.0, 0.95 * wide],
        [0.5, 0.1 * shift, 0.95 * wide],
        [3.0, 0.6 * shift, wide * (1.0 + 0.75 * changes.wider_mediastinum)],
        [carina - 1.0, shift, 1.02 * wide * factor],
        [
            carina + 3.0,
            shift - 0.15,
            0.8 * wide * (1.0 + 0.6 * changes.wider_mediastinum),
        ],
        [carina + 7.0, shift - 0.2, 0.3 * wide],
    ];
    // Below the hila only oesophagus, aorta and ligaments remain beside the spine.
    let lower = [
        [carina, shift, 0.8 * wide],
        [carina + 6.0, 0.7 * shift, 0.72 * wide],
        [bottom, 0.0, 0.85 * wide],
    ];
    let knob = body.knob * (1.0 + 0.45 * changes.wider_mediastinum);
    let aorta = [
        [carina - 2.5, 1.5 + shift, 1.2],
        [carina + 3.0, 1.7 + shift, 1.25],
        [carina + 10.0, 1.1 + 0.6 * shift, 1.2],
        [bottom, 0.4, 1.1],
    ];
    let spine = [[-6.0, 0.0, 1.9], [12.0, 0.0, 2.0], [bottom, 0.0, 2.4]];
    vec![
        Solid::column(beam, &column, 1.5, 5.4),
        Solid::column(beam, &lower, -3.0, 3.6),
        Solid::ellipsoid(
            beam,
            [0.55 * wide + 0.55 * knob + shift, carina - 2.2, -1.0],
            [knob, 1.08 * knob, 2.8],
            0.0,
        ),
        // Superior vena cava and ascending aorta bulge to the right above the atrium.
        Solid::ellipsoid(
            beam,
            [-0.35 * wide * factor + shift, carina + 1.8, 2.0],
            [0.82 * wide, 4.4, 3.0],
            0.0,
        ),
        Solid::column(beam, &aorta, -5.0, 1.3),
        Solid::column(beam, &spine, -7.5, 2.6),
    ]
}

/// Ventricles, atria, pulmonary trunk; `size` 1 is a ratio of about one half. The heart stands on the diaphragm at `floor`.
fn heart(body: &Body, beam: &Beam, size: f32, floor: f32, shift: f32) -> Vec<Solid> {
    let angle = body.heart_angle;
    let part = |x: f32, y: f32, z: f32, axes: [f32; 3], turn: f32| {
        let centre = [0.3 + x * size + shift, floor + 0.7 + y * size, z];
        Solid::ellipsoid(beam, centre, axes.map(|axis| axis * size), turn)
    };
    vec![
        part(2.75, -3.9, 2.5, [6.4, 4.4, 6.4], angle),
        part(0.4, -2.8, 3.8, [5.0, 3.2, 5.4], 0.1),
        part(-2.0, -5.2, 1.5, [2.9, 4.6, 6.0], 0.1),
        part(0.6, -7.8, 0.5, [3.7, 3.9, 4.6], 0.2),
        part(2.2, -9.2, 2.0, [1.9, 3.3, 3.4], 0.30),
    ]
}
