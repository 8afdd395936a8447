//! Fields that several routes take, with the words that they know. The contract lists the same words.

use serde_json::Value;

use crate::http::error::{ApiError, ErrorCode};
use crate::http::intake::fields::{Fields, wrong};
use crate::radiograph::ImageFormat;
use crate::service::{Constraint, Options, SEED_END};

/// The words of `constraint`.
pub const CONSTRAINTS: [(&str, Constraint); 2] = [("auto", Constraint::Auto), ("none", Constraint::None)];

/// The words of `format` and `output_format`.
pub const FORMATS: [(&str, ImageFormat); 2] = [("png", ImageFormat::Png), ("jpeg", ImageFormat::Jpeg)];

/// The words of `include`.
static PARTS: [(&str, Part); 3] = [
    ("token_ids", Part::TokenIds),
    ("codes", Part::Codes),
    // Of answers to questions alone, and last for that.
    ("probabilities", Part::Probabilities),
];

/// A part that `include` may add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `token_ids`.
    TokenIds,
    /// `codes`.
    Codes,
    /// `probabilities`.
    Probabilities,
}

/// What `include` takes, of a route that answers questions or of another.
pub fn parts(of_answers: bool) -> &'static [(&'static str, Part)] {
    match of_answers {
        true => &PARTS,
        false => &PARTS[..2],
    }
}

/// The options that all of the product's own endpoints share.
pub fn take_options(fields: &mut Fields) -> Result<Options, ApiError> {
    Ok(Options {
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        top_k: fields.count("top_k")?,
        max_tokens: fields.count("max_tokens")?,
        seed: fields.integer("seed")?,
        ..Options::default()
    })
}

/// A seed as the OpenAI API has it, any whole number of 64 bits, folded into the range of ours.
pub fn take_seed(fields: &mut Fields) -> Result<Option<u64>, ApiError> {
    let Some(value) = fields.value("seed") else {
        return Ok(None);
    };
    let seed = value.as_i64().map(i128::from);
    let seed = seed
        .or_else(|| value.as_u64().map(i128::from))
        .or_else(|| with_point(&value));
    let ours = i128::from(i64::MIN)..=i128::from(u64::MAX);
    match seed {
        Some(seed) if ours.contains(&seed) => Ok(Some(seed.rem_euclid(i128::from(SEED_END)) as u64)),
        Some(_) => {
            let message = "`seed` must be a whole number of at most 64 bits.";
            Err(ApiError::about(ErrorCode::InvalidParameter, "seed", message))
        }
        None => Err(wrong("seed", "a whole number")),
    }
}

/// The whole number that is written with a point, as `-7.0`, or has more digits than 64 bits hold; of one that is larger still, the largest.
fn with_point(value: &Value) -> Option<i128> {
    let number = value.as_f64().filter(|number| number.fract() == 0.0);
    number.map(|number| number as i128)
}

/// Whether a drawing or a text is held to its form; it is where nothing is said.
pub fn take_constraint(fields: &mut Fields) -> Result<Constraint, ApiError> {
    Ok(fields.choice("constraint", &CONSTRAINTS)?.unwrap_or_default())
}

/// What a drawing is to be written as, by the field of this name.
pub fn take_format(fields: &mut Fields, name: &'static str) -> Result<Option<ImageFormat>, ApiError> {
    fields.choice(name, &FORMATS)
}

/// Parts that `include` adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Include {
    /// `token_ids`.
    pub token_ids: bool,
    /// `codes`.
    pub codes: bool,
    /// `probabilities`.
    pub probabilities: bool,
}

impl Include {
    /// Reads the field `include` of a route that knows `token_ids` and `codes`.
    pub fn take(fields: &mut Fields) -> Result<Self, ApiError> {
        Self::take_of(fields, parts(false))
    }

    /// Reads the field `include` of a route that knows `probabilities` too.
    pub fn take_with_probabilities(fields: &mut Fields) -> Result<Self, ApiError> {
        Self::take_of(fields, parts(true))
    }

    fn take_of(fields: &mut Fields, known: &[(&str, Part)]) -> Result<Self, ApiError> {
        let mut include = Self::default();
        for word in fields.texts("include", true)?.unwrap_or_default() {
            match known.iter().find(|(name, _)| *name == word) {
                Some((_, Part::TokenIds)) => include.token_ids = true,
                Some((_, Part::Codes)) => include.codes = true,
                Some((_, Part::Probabilities)) => include.probabilities = true,
                None => {
                    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
                    let message = format!("`include` takes {} here.", names.join(", "));
                    return Err(ApiError::about(ErrorCode::InvalidParameter, "include", message));
                }
            }
        }
        Ok(include)
    }

    /// Whether anything is to be added.
    pub fn any(self) -> bool {
        self.token_ids || self.codes || self.probabilities
    }
}
