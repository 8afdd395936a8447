//! Who is imaged: build, chest and heart of a patient, and how deep the breath was.

use super::View;
use super::random::Random;

/// Attenuation per cm at the effective energy of a chest radiograph (about 60 keV).
pub(super) mod attenuation {
    pub(in crate::phantom) const SOFT: f32 = 0.20;
    /// Inflated lung: a quarter of the density of water.
    pub(in crate::phantom) const LUNG: f32 = 0.055;
    /// Cortical bone, more than the soft tissue it replaces.
    pub(in crate::phantom) const CORTEX: f32 = 0.34;
    /// Cancellous bone with marrow, more than soft tissue.
    pub(in crate::phantom) const MARROW: f32 = 0.085;
    /// Metal, more than soft tissue.
    pub(in crate::phantom) const METAL: f32 = 4.0;
}

/// A patient. Lengths in cm; y = 0 at the lung apices.
#[derive(Clone, Debug)]
pub(super) struct Body {
    pub(super) female: bool,
    pub(super) age: u8,
    /// Largest half-width and half-depth of the inside of the chest.
    pub(super) half_width: f32,
    pub(super) half_depth: f32,
    /// Thickness of the chest wall at the side.
    pub(super) wall: f32,
    /// Soft tissue before and behind the chest together.
    pub(super) padding: f32,
    /// Height of the right dome of the diaphragm, and how much lower the left is.
    pub(super) dome: f32,
    pub(super) dome_drop: f32,
    /// How far a dome rises above the sulcus at its side.
    pub(super) dome_height: f32,
    /// Lowest point of the lungs.
    pub(super) base: f32,
    /// Breast thickness at its thickest, half-width, and height of its lower fold; 0 for men.
    pub(super) breast: [f32; 3],
    /// Cardiothoracic ratio in a PA view at full inspiration when nothing is wrong.
    pub(super) heart_ratio: f32,
    /// Angle of the long axis of the heart under the horizontal: small in broad chests.
    pub(super) heart_angle: f32,
    pub(super) knob: f32,
    pub(super) mediastinum: f32,
    pub(super) carina: f32,
    /// Slope of the ribs: fall from back to front in cm at mid-chest.
    pub(super) rib_fall: f32,
    pub(super) rib_width: f32,
    /// Density of bone relative to a young adult.
    pub(super) bone: f32,
    pub(super) clavicle: f32,
    pub(super) clavicle_slope: f32,
    pub(super) gastric: f32,
    pub(super) vessel_strength: f32,
    pub(super) texture: u32,
}

impl Body {
    /// A patient; the same stream gives the same patient.
    pub(super) fn sample(random: &mut Random) -> Self {
        let female = random.chance(0.48);
        let age = random.normal(57.0, 17.0).clamp(19.0, 96.0) as u8;
        // Fatness: 0 thin, 1 ordinary, 2.5 obese.
        let fat = random.normal(1.0, 0.5).max(0.1);
        let scale = random.normal(if female { 0.95 } else { 1.03 }, 0.035);
        let broad = random.normal(1.0, 0.045) + 0.02 * (fat - 1.0);
        let old = (f32::from(age) - 50.0) / 40.0;
        let breast = if female {
            [
                random.between(0.9, 2.3) + 1.0 * fat,
                random.between(5.6, 7.0) * scale,
                random.between(21.0, 25.0) * scale,
            ]
        } else {
            [0.0; 3]
        };
        let dome = random.normal(22.8, 1.2) * scale;
        let dome_height = random.normal(4.9, 0.5) * scale;
        Self {
            female,
            age,
            half_width: 13.3 * scale * broad,
            half_depth: random.normal(9.4, 0.7) * scale,
            wall: 1.9 + 1.3 * fat + random.between(0.0, 0.6),
            padding: 3.4 + 2.6 * fat,
            dome,
            dome_drop: random.normal(1.3, 0.5),
            dome_height,
            base: dome + dome_height + 1.6,
            breast,
            heart_ratio: random.between(0.41, 0.48) + 0.008 * old,
            heart_angle: random.normal(40.0, 6.0).to_radians() - 0.06 * (fat - 1.0),
            knob: random.normal(1.75, 0.16) + 0.3 * old.max(0.0),
            mediastinum: random.normal(2.5, 0.18) + 0.15 * (fat - 1.0),
            carina: random.normal(8.1, 0.45) * scale,
            rib_fall: random.normal(7.6, 1.1) * scale,
            rib_width: random.normal(0.68, 0.05) * scale,
            bone: (1.0 - 0.18 * old.max(-0.3)) * random.between(0.85, 1.15),
            clavicle: random.normal(3.6, 0.7),
            clavicle_slope: random.normal(0.2, 0.05),
            gastric: if random.chance(0.78) {
                random.between(1.4, 3.4)
            } else {
                0.0
            },
            vessel_strength: random.between(0.85, 1.15),
            texture: random.bits(),
        }
    }

    /// The same patient at a given view: bedside films catch shallower breaths, higher diaphragms and wider hearts.
    pub(super) fn breathing(mut self, random: &mut Random, view: View) -> Self {
        let shallow = match view {
            View::Pa => random.between(0.0, 0.8),
            View::Ap => random.between(0.4, 3.2),
        };
        self.dome -= shallow;
        self.base -= 0.8 * shallow;
        self.heart_ratio += 0.012 * shallow;
        self.heart_angle -= 0.06 * shallow;
        self.clavicle -= if view == View::Ap {
            random.between(0.3, 1.6)
        } else {
            0.0
        };
        self
    }
}
