//! What the service knows of the model it serves: plain facts, no files.

/// The facts of a bundle that show in answers and set defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelCard {
    /// Name of the bundle.
    pub name: String,
    /// Its version.
    pub revision: String,
    /// Whether the weights were trained; if not, answers are noise and say so.
    pub trained: bool,
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
    /// Side of the model's square images, in pixels.
    pub image_side: usize,
}

impl ModelCard {
    /// What must be said with every answer of an untrained model.
    pub fn warning(&self) -> Option<&'static str> {
        const UNTRAINED: &str =
            "This model is untrained: its weights are random, and every answer and image is noise without meaning.";
        (!self.trained).then_some(UNTRAINED)
    }
}

impl Default for ModelCard {
    /// A nameless trained model with the original's instructions and limits.
    fn default() -> Self {
        Self {
            name: "llm-cxr".to_owned(),
            revision: "0".to_owned(),
            trained: true,
            licence: "unknown".to_owned(),
            intended_use: "research".to_owned(),
            report_instruction: "Generate free-text radiology reports for the entered chest X-ray images.".to_owned(),
            draw_instruction:
                "Generate a chest X-ray image that corresponds to the entered free-text radiology report \
                               for the chest X-ray image."
                    .to_owned(),
            report_max_tokens: 128,
            vqa_max_tokens: 128,
            instruct_max_tokens: 512,
            image_side: 256,
        }
    }
}
