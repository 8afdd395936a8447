//! What the service knows of the model it serves: plain facts, no files.

use crate::model::bundle::Manifest;

/// The facts of a bundle that show in answers and set defaults.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelCard {
    /// Name of the bundle.
    pub name: String,
    /// Its version.
    pub revision: String,
    /// Whether the weights were trained; if not, answers are noise and say so.
    pub trained: bool,
    /// What the bundle wants said with every answer.
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

impl ModelCard {
    /// What must be said with every answer: the bundle's own words, or that the model is untrained.
    pub fn warning(&self) -> Option<&str> {
        const UNTRAINED: &str =
            "This model is untrained: its weights are random, and every answer and image is noise without meaning.";
        self.caution.as_deref().or((!self.trained).then_some(UNTRAINED))
    }
}

impl From<&Manifest> for ModelCard {
    fn from(manifest: &Manifest) -> Self {
        let (instructions, defaults) = (&manifest.default_instructions, &manifest.defaults);
        Self {
            name: manifest.name.clone(),
            revision: manifest.version.clone(),
            trained: manifest.trained,
            caution: manifest.warning.clone(),
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
