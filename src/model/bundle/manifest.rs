//! `bundle.json`: what a bundle is, and what its files must be.

use serde::{Deserialize, Serialize};

/// Version of the layout of `bundle.json` that this program writes and reads.
pub const FORMAT: u32 = 1;

/// The manifest of a bundle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this layout.
    pub format: u32,
    /// Name, shown in every answer.
    pub name: String,
    /// Version of the weights: twelve hexadecimal digits that follow from the files.
    pub version: String,
    /// The program and command that made the bundle.
    pub created_by: String,
    /// The files or settings it was made from.
    pub made_from: String,
    /// Whether the weights were trained. If not, every answer is noise, and says so.
    pub trained: bool,
    /// What must be said with every answer, if anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warning: Option<String>,
    /// Licence of the weights.
    pub licence: String,
    /// What the model is for, and what not.
    pub intended_use: String,
    /// Instructions used where a request brings none.
    pub default_instructions: DefaultInstructions,
    /// Limits and sampling used where a request sets none.
    pub defaults: Defaults,
    /// Codes of one image.
    pub codes_per_image: usize,
    /// Side of the model's square images, in pixels.
    pub image_side: usize,
    /// Every other file of the bundle, sorted by path.
    pub files: Vec<FileEntry>,
}

/// Instructions used where a request brings none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefaultInstructions {
    /// For a report on an image.
    pub report: String,
    /// Before the text of an image to be drawn.
    pub draw: String,
}

impl DefaultInstructions {
    /// The first of the ten wordings of each task that the published checkpoints were tuned with (hyn2028/llm-cxr).
    pub fn published() -> Self {
        Self {
            draw: "Generate a chest X-ray image that corresponds to the entered free-text radiology reports for the chest X-ray image."
                .to_owned(),
            ..Self::default()
        }
    }
}

/// What models are trained with here. That of drawings differs from [`DefaultInstructions::published`] by a letter, with which those that
/// are there have learned it.
impl Default for DefaultInstructions {
    fn default() -> Self {
        Self {
            report: "Generate free-text radiology reports for the entered chest X-ray images.".to_owned(),
            draw: "Generate a chest X-ray image that corresponds to the entered free-text radiology report for the chest X-ray image."
                .to_owned(),
        }
    }
}

/// Limits and sampling used where a request sets none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Defaults {
    /// Most new tokens of a report.
    pub report_max_tokens: usize,
    /// Most new tokens of an answer to a question.
    pub vqa_max_tokens: usize,
    /// Most new tokens of an instruction's answer.
    pub instruct_max_tokens: usize,
    /// Temperature of image codes and of free instructions; reports and answers are greedy.
    pub temperature: f32,
    /// Nucleus of the same.
    pub top_p: f32,
    /// Guidance of drawings, within [`GUIDANCE`]: how far their logits are carried on from those without a report, through those with it.
    /// 1, which is none, where a manifest does not name it.
    #[serde(default = "unguided", skip_serializing_if = "is_unguided")]
    pub guidance: f32,
    /// How often a radiograph is read for a report, within [`READINGS`], each time moved a little; of several readings the one that the
    /// others agree with most is the report. 1 where a manifest does not name it.
    #[serde(default = "one_reading", skip_serializing_if = "is_one_reading")]
    pub readings: usize,
}

/// How often a radiograph may be read for one answer.
pub const READINGS: std::ops::RangeInclusive<usize> = 1..=16;

fn one_reading() -> usize {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands it over so.
fn is_one_reading(readings: &usize) -> bool {
    *readings == 1
}

/// What guidance may be.
pub const GUIDANCE: std::ops::RangeInclusive<f32> = 1.0..=10.0;

fn unguided() -> f32 {
    1.0
}

#[allow(clippy::trivially_copy_pass_by_ref)] // serde hands it over so.
fn is_unguided(guidance: &f32) -> bool {
    *guidance == 1.0
}

impl Manifest {
    /// What must be said with every answer. A warning of blanks is none.
    pub fn caution(&self) -> Option<&str> {
        self.warning
            .as_deref()
            .map(str::trim)
            .filter(|warning| !warning.is_empty())
    }
}

impl Defaults {
    /// What is out of its range, in words.
    pub(super) fn check(&self) -> Result<(), String> {
        let tokens = |name: &'static str, most: usize| (name, most >= 1, "1..".to_owned());
        let ranges = [
            tokens("report_max_tokens", self.report_max_tokens),
            tokens("vqa_max_tokens", self.vqa_max_tokens),
            tokens("instruct_max_tokens", self.instruct_max_tokens),
            (
                "temperature",
                (0.0..=2.0).contains(&self.temperature),
                "0..=2".to_owned(),
            ),
            (
                "top_p",
                self.top_p > 0.0 && self.top_p <= 1.0,
                "0..=1, and not 0".to_owned(),
            ),
            ("guidance", GUIDANCE.contains(&self.guidance), format!("{GUIDANCE:?}")),
            ("readings", READINGS.contains(&self.readings), format!("{READINGS:?}")),
        ];
        match ranges.into_iter().find(|(_, holds, _)| !holds) {
            None => Ok(()),
            Some((name, _, range)) => Err(format!("has a default {name} that is not within {range}")),
        }
    }
}

impl Default for Defaults {
    /// The original's.
    fn default() -> Self {
        Self {
            report_max_tokens: 128,
            vqa_max_tokens: 128,
            instruct_max_tokens: 512,
            temperature: 1.0,
            top_p: 0.92,
            guidance: unguided(),
            readings: one_reading(),
        }
    }
}

/// A file of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Path below the bundle's folder, with `/`.
    pub path: String,
    /// Length in bytes.
    pub size: u64,
    /// SHA-256, hexadecimal.
    pub sha256: String,
}

#[cfg(test)]
impl Manifest {
    /// That of a small untrained bundle of these files, for tests.
    pub(super) fn listing(files: Vec<FileEntry>) -> Self {
        Self {
            format: FORMAT,
            name: "small".to_owned(),
            version: super::write::version(&files),
            created_by: String::new(),
            made_from: String::new(),
            trained: false,
            warning: None,
            licence: String::new(),
            intended_use: String::new(),
            default_instructions: DefaultInstructions::default(),
            defaults: Defaults::default(),
            codes_per_image: 1,
            image_side: 8,
            files,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_out_of_range_are_named_and_what_a_manifest_leaves_out_is_off() {
        let read = |change: serde_json::Value| -> Result<Defaults, String> {
            let mut json = serde_json::to_value(Defaults::default()).map_err(|e| e.to_string())?;
            json.as_object_mut()
                .unwrap()
                .extend(change.as_object().unwrap().clone());
            let defaults: Defaults = serde_json::from_value(json).map_err(|e| e.to_string())?;
            defaults.check().map(|()| defaults)
        };
        let usual = read(serde_json::json!({})).unwrap();
        assert_eq!((usual.guidance, usual.readings), (1.0, 1));
        assert_eq!(read(serde_json::json!({"readings": 8})).unwrap().readings, 8);
        for (name, value) in [
            ("report_max_tokens", serde_json::json!(0)),
            ("vqa_max_tokens", serde_json::json!(0)),
            ("instruct_max_tokens", serde_json::json!(0)),
            ("readings", serde_json::json!(0)),
            ("guidance", serde_json::json!(0.5)),
            ("temperature", serde_json::json!(3.0)),
            ("top_p", serde_json::json!(0.0)),
        ] {
            let wrong = read(serde_json::json!({name: value})).unwrap_err();
            assert!(wrong.contains(name), "{wrong}");
        }
    }
}
