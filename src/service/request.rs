//! What can be asked of the service.

use std::time::Instant;

use bytes::Bytes;

use crate::radiograph::ImageFormat;

/// Whether the form of a reply is held to what the endpoint promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Constraint {
    /// Reports and answers are text only; a drawing is always one whole image.
    #[default]
    Auto,
    /// Anything may come, as the original generates.
    None,
}

/// How a reply is drawn. What is not given takes the task's default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options {
    /// 0 is greedy; at most 2.
    pub temperature: Option<f32>,
    /// Nucleus, above 0 and at most 1.
    pub top_p: Option<f32>,
    /// Only the k most probable tokens; 0 is off.
    pub top_k: Option<usize>,
    /// Guidance of a drawing, 1 (none) to 10.
    pub guidance: Option<f32>,
    /// How often a radiograph is read for a report or answer, each time moved a little; of several readings the one that the others agree
    /// with most counts. Not given: for a report the bundle's own number, unless the request has an instruction, a temperature above 0 or a constraint of its own; else once.
    pub readings: Option<usize>,
    /// Most new tokens. One that does not fit the context is refused, a default is shortened to fit.
    pub max_tokens: Option<usize>,
    /// Seed, below 2⁵³ so that every JSON reader keeps it; random when not given.
    pub seed: Option<u64>,
    /// Whether the form is held to.
    pub constraint: Constraint,
    /// Texts that end a reply where they first appear; they are not part of it.
    pub stop: Vec<String>,
}

/// What an instruction is given to work on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Material {
    /// Nothing: the prompt has no `Input:` block.
    None,
    /// A text, perhaps empty.
    Text(String),
    /// A radiograph: a PNG, JPEG or DICOM file.
    Image(Bytes),
}

/// One of the things the product does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// The report of a radiograph.
    Report {
        /// A PNG, JPEG or DICOM file.
        image: Bytes,
        /// Instead of the bundle's instruction.
        instruction: Option<String>,
    },
    /// Questions about one radiograph, answered together.
    Vqa {
        /// A PNG, JPEG or DICOM file.
        image: Bytes,
        /// At least one.
        questions: Vec<String>,
    },
    /// Radiographs drawn from a text. Image `i` has the seed `seed + i`.
    Draw {
        /// The report to draw.
        text: String,
        /// How many images.
        n: usize,
        /// How they are written.
        format: ImageFormat,
    },
    /// An instruction; text or an image comes back, as the model decides.
    Instruct {
        /// What to do.
        instruction: String,
        /// On what.
        material: Material,
        /// How an image is written, if one comes.
        format: ImageFormat,
    },
    /// A conversation laid out as an instruction; text comes back. Choice `i` has the seed `seed + i`.
    Chat {
        /// What to do.
        instruction: String,
        /// On what.
        material: Material,
        /// How many choices.
        n: usize,
    },
}

impl Task {
    /// Bytes of all its texts together.
    pub fn text_bytes(&self) -> usize {
        let of = |material: &Material| match material {
            Material::Text(text) => text.len(),
            Material::None | Material::Image(_) => 0,
        };
        match self {
            Self::Report { instruction, .. } => instruction.as_ref().map_or(0, String::len),
            Self::Vqa { questions, .. } => questions.iter().map(String::len).sum(),
            Self::Draw { text, .. } => text.len(),
            Self::Instruct {
                instruction, material, ..
            }
            | Self::Chat {
                instruction, material, ..
            } => instruction.len() + of(material),
        }
    }

    /// The task's name in metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Report { .. } => "report",
            Self::Vqa { .. } => "vqa",
            Self::Draw { .. } => "generate_image",
            Self::Instruct { .. } => "instruct",
            Self::Chat { .. } => "chat",
        }
    }
}

/// A task with its options.
#[derive(Clone, Debug)]
pub struct Request {
    /// What to do.
    pub task: Task,
    /// How.
    pub options: Options,
    /// When the request is given up.
    pub deadline: Option<Instant>,
}
