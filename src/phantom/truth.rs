//! What is known about a study: the ground truth its picture and its texts are made from.

use serde::{Deserialize, Serialize};

use super::canvas::Bounds;

/// Direction of the beam in a frontal radiograph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum View {
    /// From back to front, the patient standing: the heart lies at the detector.
    #[serde(rename = "PA")]
    Pa,
    /// From front to back, mostly at the bedside: the heart is magnified, the inspiration shallower.
    #[serde(rename = "AP")]
    Ap,
}

impl View {
    /// As in the DICOM attribute View Position: `PA` or `AP`.
    pub fn code(self) -> &'static str {
        match self {
            Self::Pa => "PA",
            Self::Ap => "AP",
        }
    }
}

/// A side of the patient. The patient's left is on the right of the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// The patient's right.
    Right,
    /// The patient's left.
    Left,
}

impl Side {
    /// `right` or `left`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Right => "right",
            Self::Left => "left",
        }
    }

    /// The other one.
    pub fn opposite(self) -> Self {
        match self {
            Self::Right => Self::Left,
            Self::Left => Self::Right,
        }
    }

    /// Sign of x on this side.
    pub(super) fn sign(self) -> f32 {
        match self {
            Self::Right => -1.0,
            Self::Left => 1.0,
        }
    }
}

/// Thirds of the lung from apex to base.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Zone {
    /// Upper third.
    Upper,
    /// Middle third.
    Mid,
    /// Lower third.
    Lower,
}

impl Zone {
    /// `upper`, `mid` or `lower`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Upper => "upper",
            Self::Mid => "mid",
            Self::Lower => "lower",
        }
    }
}

/// How much of it there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Mild, small.
    Mild,
    /// Moderate.
    Moderate,
    /// Severe, large.
    Severe,
}

impl Severity {
    /// 0, 1 or 2.
    pub(super) fn level(self) -> usize {
        self as usize
    }

    /// `[mild, moderate, severe][level]`.
    pub(super) fn of<T: Copy>(self, [mild, moderate, severe]: [T; 3]) -> T {
        match self {
            Self::Mild => mild,
            Self::Moderate => moderate,
            Self::Severe => severe,
        }
    }
}

/// How a central venous line was put in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approach {
    /// Through the neck.
    InternalJugular,
    /// Under the clavicle.
    Subclavian,
    /// Through the arm (PICC).
    Peripheral,
}

/// Where a central venous line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineTip {
    /// In the superior vena cava, as it should.
    SuperiorVenaCava,
    /// Where the superior vena cava enters the right atrium, as it should.
    CavoatrialJunction,
    /// In the right atrium: too deep.
    RightAtrium,
}

/// Where an endotracheal tube ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TubePosition {
    /// 3 to 6 cm above the carina.
    Satisfactory,
    /// More than 7 cm above the carina.
    High,
    /// Less than 2 cm above the carina.
    Low,
    /// Past the carina, in the right main bronchus.
    RightMainBronchus,
}

/// What a finding is, with what is particular to its kind.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// The heart is too large for the chest.
    Cardiomegaly {
        /// Width of the heart ÷ inner width of the chest, as projected.
        cardiothoracic_ratio: f32,
    },
    /// The upper mediastinum is too wide.
    EnlargedMediastinum,
    /// Fluid between lung and chest wall.
    PleuralEffusion,
    /// Air between lung and chest wall.
    Pneumothorax,
    /// Alveoli full of fluid or pus.
    Consolidation {
        /// Air-filled bronchi show in it. Reports call it pneumonia then, and only consider pneumonia otherwise.
        air_bronchograms: bool,
    },
    /// Hazy shadow of no particular cause.
    LungOpacity,
    /// Water in the lungs, both sides.
    Edema,
    /// Part of a lung without air.
    Atelectasis {
        /// The lower lobe has lost volume and the diaphragm is raised; otherwise there are linear bands only.
        volume_loss: bool,
    },
    /// Round shadow: a nodule up to 3 cm, a mass beyond.
    LungLesion {
        /// Diameter in cm.
        diameter_cm: f32,
        /// Dense, sharp and benign in look.
        calcified: bool,
    },
    /// A broken rib, or neighbours broken by one blow.
    RibFracture {
        /// Number of the uppermost broken rib, 1 to 12.
        rib: u8,
        /// Number of the lowest; the same where one rib is broken.
        last: u8,
    },
    /// A tube in the trachea.
    EndotrachealTube {
        /// Whether it lies well.
        position: TubePosition,
        /// Height of its tip over the carina in cm; negative below.
        tip_above_carina_cm: f32,
    },
    /// A pacemaker; the side is that of its generator.
    Pacemaker {
        /// One (right ventricle) or two (right atrium too).
        leads: u8,
    },
    /// A central venous line; the side is that of its entry.
    CentralLine {
        /// Where it enters.
        approach: Approach,
        /// Where it ends.
        tip: LineTip,
    },
    /// Wires that close the sternum after heart surgery.
    SternalWires {
        /// How many.
        count: u8,
    },
}

impl Kind {
    /// Whether it was put in by someone.
    pub fn is_device(&self) -> bool {
        matches!(
            self,
            Self::EndotrachealTube { .. }
                | Self::Pacemaker { .. }
                | Self::CentralLine { .. }
                | Self::SternalWires { .. }
        )
    }

    /// Whether nobody who has it stands before a detector.
    pub fn needs_a_bed(&self) -> bool {
        matches!(self, Self::EndotrachealTube { .. })
    }

    /// Whether both are findings of one kind, whatever their particulars.
    pub fn same(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// One finding of a study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What it is.
    #[serde(flatten)]
    pub kind: Kind,
    /// The patient's side; none for what is on both or in the middle. A finding on both sides that differs between them
    /// (effusions, opacities) is two findings.
    pub side: Option<Side>,
    /// Where in the lung.
    pub zone: Option<Zone>,
    /// How much of it.
    pub severity: Option<Severity>,
    /// The part of the picture it shows in.
    pub bounds: Bounds,
}

/// Everything known about a study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Truth {
    /// The seed of the data set.
    pub seed: u64,
    /// The number of the study in the data set.
    pub index: u64,
    /// The number of the patient in the data set.
    pub patient: u64,
    /// Direction of the beam.
    pub view: View,
    /// Side of the picture in pixels.
    pub size: usize,
    /// Size of a pixel at the detector.
    pub cm_per_pixel: f32,
    /// Whether breast shadows are to be expected.
    pub female: bool,
    /// Years.
    pub age: u8,
    /// Width of the heart ÷ inner width of the chest, as projected.
    pub cardiothoracic_ratio: f32,
    /// What is wrong, and what was put in. Empty: a normal study.
    pub findings: Vec<Finding>,
}

impl Truth {
    /// Whether nothing is wrong; devices do not count, as in CheXpert's No Finding.
    pub fn is_normal(&self) -> bool {
        self.findings.iter().all(|finding| finding.kind.is_device())
    }

    /// The findings of which `which` is true.
    pub fn of(&self, which: impl Fn(&Kind) -> bool) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| which(&finding.kind))
    }

    /// Whether there is a finding of which `which` is true.
    pub fn any(&self, which: impl Fn(&Kind) -> bool) -> bool {
        self.of(which).next().is_some()
    }
}
