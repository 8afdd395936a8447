//! What the service knows of the model it serves: plain facts, no files.

use crate::model::bundle::{Bundle, Manifest};

/// The facts of a bundle that show in answers and set defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelCard {
    /// Name of the bundle.
    pub name: String,
    /// Its version.
    pub revision: String,
    /// SHA-256 of its manifest, hexadecimal.
    pub manifest_sha256: String,
    /// Whether the weights were trained; if not, answers are noise and say so.
    pub trained: bool,
    /// What the bundle wants said with every answer; of one that was read, also that the model is untrained, if it is.
    pub caution: Option<String>,
    /// Licence of the weights.
    pub licence: String,
    /// What the model is meant for.
    pub intended_use: String,
    /// Instruction of a report request that brings none.
    pub report_instruction: String,
    /// Instruction put before the text of a drawing request.
    pub draw_instruction: String,
    /// Most new tokens of a report that sets no limit.
    pub report_max_tokens: usize,
    /// Most new tokens of an answer to a question that sets no limit.
    pub vqa_max_tokens: usize,
    /// Most new tokens of an instruction that sets no limit.
    pub instruct_max_tokens: usize,
    /// Temperature of drawings and free instructions; reports and answers are greedy.
    pub temperature: f32,
    /// Nucleus of the same.
    pub top_p: f32,
    /// Guidance of drawings; 1 is none.
    pub guidance: f32,
    /// Readings of a report that the bundle's own instruction asks for.
    pub readings: usize,
    /// Side of the model's square images, in pixels.
    pub image_side: usize,
}

const UNTRAINED: &str =
    "This model is untrained: its weights are random, and every answer and image is noise without meaning.";

impl ModelCard {
    /// What must be said with every answer: the bundle's own words, or that the model is untrained.
    pub fn warning(&self) -> Option<&str> {
        self.caution.as_deref().or((!self.trained).then_some(UNTRAINED))
    }

    /// The card of a bundle with this manifest, whose SHA-256 is `manifest_sha256`.
    fn of(manifest: &Manifest, manifest_sha256: &str) -> Self {
        let (instructions, defaults) = (&manifest.default_instructions, &manifest.defaults);
        // No words of a bundle's own take the place of this.
        let untrained = (!manifest.trained).then_some(UNTRAINED);
        let said: Vec<&str> = untrained.into_iter().chain(manifest.caution()).collect();
        Self {
            name: manifest.name.clone(),
            revision: manifest.version.clone(),
            manifest_sha256: manifest_sha256.to_owned(),
            trained: manifest.trained,
            caution: (!said.is_empty()).then(|| said.join(" ")),
            licence: manifest.licence.clone(),
            intended_use: manifest.intended_use.clone(),
            report_instruction: instructions.report.clone(),
            draw_instruction: instructions.draw.clone(),
            report_max_tokens: defaults.report_max_tokens,
            vqa_max_tokens: defaults.vqa_max_tokens,
            instruct_max_tokens: defaults.instruct_max_tokens,
            temperature: defaults.temperature,
            top_p: defaults.top_p,
            guidance: defaults.guidance,
            readings: defaults.readings,
            image_side: manifest.image_side,
        }
    }
}

impl From<&Bundle> for ModelCard {
    fn from(bundle: &Bundle) -> Self {
        Self::of(&bundle.manifest, &bundle.manifest_sha256)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::bundle::{DefaultInstructions, Defaults};

    fn manifest(trained: bool, warning: Option<&str>) -> Manifest {
        Manifest {
            format: 1,
            name: "bundle".to_owned(),
            version: "1".to_owned(),
            created_by: String::new(),
            made_from: String::new(),
            trained,
            warning: warning.map(str::to_owned),
            licence: String::new(),
            intended_use: String::new(),
            default_instructions: DefaultInstructions::default(),
            defaults: Defaults::default(),
            codes_per_image: 16,
            image_side: 16,
            files: Vec::new(),
        }
    }

    #[test]
    fn a_model_that_is_untrained_says_so_whatever_else_its_bundle_wants_said() {
        let said = |trained, warning| {
            let card = ModelCard::of(&manifest(trained, warning), "");
            card.warning().map(str::to_owned)
        };
        assert_eq!(said(true, None), None);
        assert_eq!(said(true, Some(" \n")), None, "blanks say nothing");
        assert_eq!(said(true, Some("Small. ")).as_deref(), Some("Small."));
        for blank in [None, Some(""), Some("  ")] {
            assert_eq!(said(false, blank).as_deref(), Some(UNTRAINED));
        }
        assert_eq!(said(false, Some("Small.")), Some(format!("{UNTRAINED} Small.")));
    }
}
