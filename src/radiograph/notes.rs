//! What speaks against an image's being a frontal radiograph of a patient's chest, as far as that is cheap to see: the model describes a cat as it
//! describes a chest, and all its readings of it may agree.
//!
//! An image without a note need not be a radiograph.

use std::fmt;

use super::dicom::facts::{OtherModality, OtherPart, OtherView};
use super::{Channels, DicomFacts, Raster};

/// So many rows, and so many pixels of each, are looked at for colour.
const GRID: usize = 256;

/// A pixel is coloured from this difference between its strongest channel and its weakest on. The tint of a film and the noise of JPEG stay below.
const CHROMA: u8 = 48;

/// An image is in colour where more than one pixel of so many is coloured. Markers and labels take less.
const COLOURED: usize = 10;

/// One thing that is unusual about an image. Shown, it is a sentence; it holds nothing of the image but its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageNote {
    /// Too many pixels are coloured.
    Colour,
    /// The shorter side has fewer pixels than the model's square.
    Small {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
        /// Side of the model's square.
        side: usize,
    },
    /// One side is more than two and a half times as long as the other.
    Elongated {
        /// Width in pixels.
        width: usize,
        /// Height in pixels.
        height: usize,
    },
    /// The DICOM file names a view that is not frontal.
    View(OtherView),
    /// The DICOM file names a modality that makes no radiographs.
    Modality(OtherModality),
    /// The DICOM file names a part of the body that is not the chest, or not known.
    BodyPart(OtherPart),
    /// The file says that it is synthetic ([`says_synthetic`](super::says_synthetic)).
    Synthetic,
}

impl ImageNote {
    /// Every name that [`ImageNote::name`] gives.
    pub const NAMES: [&str; 7] = [
        "colour",
        "small",
        "elongated",
        "view",
        "modality",
        "body_part",
        "synthetic",
    ];

    /// What it is about, as meters have it.
    pub fn name(self) -> &'static str {
        let [colour, small, elongated, view, modality, body_part, synthetic] = Self::NAMES;
        match self {
            Self::Colour => colour,
            Self::Small { .. } => small,
            Self::Elongated { .. } => elongated,
            Self::View(_) => view,
            Self::Modality(_) => modality,
            Self::BodyPart(_) => body_part,
            Self::Synthetic => synthetic,
        }
    }
}

impl fmt::Display for ImageNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Colour => f.write_str("The image is in colour; a radiograph is grey."),
            Self::Small { width, height, side } => write!(
                f,
                "The image is {width} × {height} pixels, smaller than the {side} × {side} that the model sees; it was enlarged."
            ),
            Self::Elongated { width, height } => write!(
                f,
                "The image is {width} × {height} pixels, very elongated; the model saw only the square in its middle."
            ),
            Self::View(view) => write!(
                f,
                "The DICOM file says that the view is {}; the model reads frontal ones.",
                view.says()
            ),
            Self::Modality(modality) => write!(
                f,
                "The DICOM file's modality is {}; the model reads radiographs (CR, DX).",
                modality.says()
            ),
            Self::BodyPart(part) => write!(
                f,
                "The DICOM file says that it shows {}; the model reads chests.",
                part.says()
            ),
            Self::Synthetic => f.write_str("The file says of itself that it is synthetic: it shows no patient."),
        }
    }
}

/// What is unusual about a picture whose middle becomes the model's `side × side` square, and about what its DICOM file says of it.
pub fn image_notes(raster: &Raster, facts: DicomFacts, side: usize) -> Vec<ImageNote> {
    let (width, height) = (raster.width(), raster.height());
    let (shorter, longer) = (width.min(height), width.max(height));
    let notes = [
        is_coloured(raster).then_some(ImageNote::Colour),
        (shorter < side).then_some(ImageNote::Small { width, height, side }),
        (2 * longer > 5 * shorter).then_some(ImageNote::Elongated { width, height }),
        facts.view.map(ImageNote::View),
        facts.modality.map(ImageNote::Modality),
        facts.body_part.map(ImageNote::BodyPart),
    ];
    notes.into_iter().flatten().collect()
}

/// Whether more than a few pixels are coloured, of those on a grid.
fn is_coloured(raster: &Raster) -> bool {
    if raster.channels() == Channels::Grey {
        return false;
    }
    let (down, across) = (raster.height().div_ceil(GRID), raster.width().div_ceil(GRID));
    let (mut seen, mut coloured) = (0, 0);
    for y in (0..raster.height()).step_by(down) {
        let (pixels, _) = raster.row(y).as_chunks::<3>();
        for [red, green, blue] in pixels.iter().step_by(across) {
            let chroma = red.max(green).max(blue) - red.min(green).min(blue);
            seen += 1;
            coloured += usize::from(chroma >= CHROMA);
        }
    }
    COLOURED * coloured > seen
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rgb(width: usize, height: usize, pixel: impl Fn(usize, usize) -> [u8; 3]) -> Raster {
        let places = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
        let samples = places.flat_map(|(x, y)| pixel(x, y)).collect();
        Raster::new(width, height, Channels::Rgb, samples).unwrap()
    }

    /// The names of what is noted where the model sees 16 × 16 pixels.
    fn noted(raster: &Raster) -> Vec<&'static str> {
        let notes = image_notes(raster, DicomFacts::default(), 16);
        notes.into_iter().map(ImageNote::name).collect()
    }

    /// Any level, from a place; the same at each call.
    fn noise(x: usize, y: usize, channel: usize) -> u8 {
        let mixed = ((x * 31 + y) * 3 + channel).wrapping_mul(0x9e37_79b9_7f4a_7c15_u64 as usize);
        (mixed >> 40) as u8
    }

    #[test]
    fn a_picture_in_colour_is_noted_whether_it_is_noise_or_drawn() {
        let noise = rgb(600, 500, |x, y| [0, 1, 2].map(|channel| noise(x, y, channel)));
        assert_eq!(noted(&noise), ["colour"]);
        // An orange animal that takes a third of a grey picture.
        let animal = rgb(90, 90, |x, y| match (30..60).contains(&x) {
            true => [200, 140, (y % 90) as u8],
            false => [120; 3],
        });
        assert_eq!(noted(&animal), ["colour"]);
    }

    #[test]
    fn grey_a_tint_noise_of_colour_and_a_coloured_label_are_not() {
        let ramp = |x: usize, y: usize| ((x + y) % 256) as u8;
        for (name, raster) in [
            ("grey", rgb(300, 280, |x, y| [ramp(x, y); 3])),
            (
                "tinted",
                rgb(300, 280, |x, y| {
                    let level = f32::from(ramp(x, y));
                    [level as u8, (0.93 * level) as u8, (0.83 * level) as u8]
                }),
            ),
            (
                "noise of JPEG",
                rgb(300, 280, |x, y| {
                    [0, 1, 2].map(|channel| ramp(x, y).saturating_add(noise(x, y, channel) % 32))
                }),
            ),
            (
                "a label",
                rgb(300, 280, |x, y| match x < 90 && y < 60 {
                    true => [255, 220, 0],
                    false => [ramp(x, y); 3],
                }),
            ),
        ] {
            assert!(noted(&raster).is_empty(), "{name}");
        }
        let grey = Raster::new(20, 20, Channels::Grey, vec![9; 400]).unwrap();
        assert!(noted(&grey).is_empty());
    }

    #[test]
    fn a_picture_that_is_small_or_elongated_is_noted_from_there_on() {
        let sized =
            |width: usize, height: usize| Raster::new(width, height, Channels::Grey, vec![9; width * height]).unwrap();
        assert!(noted(&sized(16, 40)).is_empty());
        assert_eq!(noted(&sized(16, 41)), ["elongated"]);
        assert_eq!(noted(&sized(15, 16)), ["small"]);
        assert_eq!(noted(&sized(300, 2)), ["small", "elongated"]);
        let told = image_notes(&sized(8, 9), DicomFacts::default(), 16)[0].to_string();
        assert!(told.contains("8 × 9 pixels, smaller than the 16 × 16"), "{told}");
    }

    #[test]
    fn what_a_dicom_file_says_is_noted() {
        let facts = DicomFacts {
            view: Some(OtherView::Lateral),
            modality: Some(OtherModality::Mr),
            body_part: Some(OtherPart::Other),
        };
        let grey = Raster::new(16, 16, Channels::Grey, vec![9; 256]).unwrap();
        let notes = image_notes(&grey, facts, 16);
        let names: Vec<_> = notes.iter().map(|note| note.name()).collect();
        assert_eq!(names, ["view", "modality", "body_part"]);
        let told: Vec<_> = notes.iter().map(ToString::to_string).collect();
        assert!(told[0].contains("lateral") && told[1].contains("MR") && told[2].contains("not known here"));
    }
}
