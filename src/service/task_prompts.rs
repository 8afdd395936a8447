//! A task, its texts checked and laid out as prompts.

use bytes::Bytes;

use super::{Constraint, Limits, Material, ModelCard, Options, ServiceError, Task};
use crate::engine::{EngineError, Facts, Rule, image_len};
use crate::radiograph::ImageFormat;
use crate::vocabulary::{Input, Prompt, Vocabulary};

/// What a reply is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Text.
    Text,
    /// Text that answers a question; yes is weighed against no at its first token.
    Answer,
    /// An image, and no text.
    Drawing(ImageFormat),
    /// Text, an image or both, as the model decides.
    Open(ImageFormat),
}

impl Form {
    /// What may come next in such a reply.
    pub(super) fn rule(self, constraint: Constraint) -> Rule {
        match (self, constraint) {
            (Self::Text | Self::Answer, Constraint::Auto) => Rule::Text,
            (Self::Drawing(_), Constraint::Auto) => Rule::Image,
            (Self::Open(_), _) | (_, Constraint::None) => Rule::Free,
        }
    }

    /// How an image in such a reply is written; `None` where none is drawn.
    pub(super) fn drawn_as(self) -> Option<ImageFormat> {
        match self {
            Self::Text | Self::Answer => None,
            Self::Drawing(format) | Self::Open(format) => Some(format),
        }
    }

    /// Whether an image must come, and text does not count.
    pub(super) fn must_draw(self) -> bool {
        matches!(self, Self::Drawing(_))
    }
}

/// A task laid out as prompts, with what its replies need to know.
pub(super) struct TaskPrompts {
    pub(super) form: Form,
    /// One for each reply.
    pub(super) prompts: Vec<Prompt>,
    /// The prompt that guidance holds a drawing against.
    pub(super) guide: Option<Prompt>,
    /// The file that the prompts are about.
    pub(super) image: Option<Bytes>,
    /// How often it is read: of so many neighbouring prompts, each about the image moved in its own way, one reply is chosen.
    pub(super) readings: usize,
    /// Whether replies are sampled when the request has no temperature.
    pub(super) sampled: bool,
    /// Most new tokens when the request does not say.
    pub(super) max_tokens: usize,
}

/// Lays a request's task out, and plans its replies.
pub(super) struct Planner<'a> {
    pub(super) vocabulary: &'a Vocabulary,
    pub(super) card: &'a ModelCard,
    pub(super) limits: &'a Limits,
    pub(super) facts: &'a Facts,
    pub(super) options: &'a Options,
}

impl Planner<'_> {
    /// Checks the task's texts and lays its prompts out.
    ///
    /// # Errors
    /// For texts and counts out of their limits, and for options that the task cannot have.
    pub(super) fn prompts(&self, task: Task) -> Result<TaskPrompts, ServiceError> {
        match task {
            Task::Report { image, instruction } => self.report(image, instruction.as_deref()),
            Task::Vqa { image, questions } => self.answers(image, &questions),
            Task::Draw { text, n, format } => self.drawings(&text, n, format),
            Task::Instruct {
                instruction,
                material,
                format,
            } => self.open(&instruction, material, format),
            Task::Chat {
                instruction,
                material,
                n,
            } => self.chat(&instruction, material, n),
        }
    }

    fn report(&self, image: Bytes, own: Option<&str>) -> Result<TaskPrompts, ServiceError> {
        // A form's field that was left empty is no instruction.
        let own = own.filter(|text| !text.trim().is_empty());
        let text = own.unwrap_or(&self.card.report_instruction);
        self.limits.check_text("instruction", text)?;
        let greedy = self.options.temperature.is_none_or(|t| t == 0.0);
        let usual = own.is_none() && greedy && self.options.constraint == Constraint::Auto;
        let readings = self
            .options
            .readings
            .unwrap_or(if usual { self.card.readings } else { 1 });
        let prompt = self.vocabulary.prompt(text, Input::Image(0));
        let prompt = match own {
            None => prompt.with_usual_instruction(),
            Some(_) => {
                self.check_room(&prompt, "instruction", ("a", Input::Image(0)))?;
                prompt
            }
        };
        Ok(TaskPrompts {
            form: Form::Text,
            prompts: (0..readings).map(|view| prompt.about(view)).collect(),
            guide: None,
            image: Some(image),
            readings,
            sampled: false,
            max_tokens: self.card.report_max_tokens,
        })
    }

    fn answers(&self, image: Bytes, questions: &[String]) -> Result<TaskPrompts, ServiceError> {
        if questions.is_empty() || questions.len() > self.limits.questions {
            let message = format!("send from 1 to {} questions at a time", self.limits.questions);
            return Err(ServiceError::parameter("questions", message));
        }
        let readings = self.options.readings.unwrap_or(1);
        let mut prompts = Vec::new();
        for question in questions {
            if question.trim().is_empty() {
                return Err(ServiceError::parameter("question", "a question must not be empty"));
            }
            self.limits.check_text("question", question)?;
            let prompt = self.vocabulary.prompt(question, Input::Image(0));
            // The other questions need not be tokenised when one is too long already.
            self.check_room(&prompt, "question", ("a", Input::Image(0)))?;
            prompts.extend((0..readings).map(|view| prompt.about(view)));
        }
        Ok(TaskPrompts {
            form: Form::Answer,
            prompts,
            guide: None,
            image: Some(image),
            readings,
            sampled: false,
            max_tokens: self.card.vqa_max_tokens,
        })
    }

    fn drawings(&self, text: &str, n: usize, format: ImageFormat) -> Result<TaskPrompts, ServiceError> {
        self.limits.check_count(n)?;
        if text.trim().is_empty() {
            let message = "`text` must not be empty; say what the image is to show";
            return Err(ServiceError::parameter("text", message));
        }
        self.limits.check_text("text", text)?;
        let instruction = &self.card.draw_instruction;
        let prompt = self.vocabulary.prompt(instruction, Input::Text(text));
        let free = self.options.constraint == Constraint::None;
        if free && self.options.guidance.is_some_and(|g| g > 1.0) {
            let message = "`guidance` needs the whole image that `constraint: auto` promises; leave one of them out";
            return Err(ServiceError::parameter("guidance", message));
        }
        let whole_image = image_len(self.facts.codes_per_image);
        if !free && self.options.max_tokens.is_some_and(|m| m < whole_image) {
            let message = format!("an image takes {whole_image} tokens; leave `max_tokens` out");
            return Err(ServiceError::parameter("max_tokens", message));
        }
        Ok(TaskPrompts {
            form: Form::Drawing(format),
            prompts: vec![prompt; n],
            guide: (!free).then(|| self.vocabulary.prompt(instruction, Input::None)),
            image: None,
            readings: 1,
            sampled: true,
            max_tokens: match free {
                // The original allows 300 tokens for its 256 codes.
                true => self.facts.codes_per_image + 44,
                false => whole_image,
            },
        })
    }

    fn open(&self, instruction: &str, material: Material, format: ImageFormat) -> Result<TaskPrompts, ServiceError> {
        let (prompt, image) = self.instruction(instruction, material)?;
        Ok(TaskPrompts {
            form: Form::Open(format),
            prompts: vec![prompt],
            guide: None,
            image,
            readings: 1,
            sampled: true,
            max_tokens: self.card.instruct_max_tokens,
        })
    }

    fn chat(&self, instruction: &str, material: Material, n: usize) -> Result<TaskPrompts, ServiceError> {
        self.limits.check_count(n)?;
        let (prompt, image) = self.instruction(instruction, material)?;
        Ok(TaskPrompts {
            form: Form::Text,
            prompts: vec![prompt; n],
            guide: None,
            // About an image there is one thing to say, else many.
            sampled: image.is_none(),
            image,
            readings: 1,
            max_tokens: self.card.instruct_max_tokens,
        })
    }

    /// The prompt of an instruction, and the image that it is about.
    fn instruction(&self, instruction: &str, material: Material) -> Result<(Prompt, Option<Bytes>), ServiceError> {
        if instruction.trim().is_empty() {
            let message = "`instruction` must not be empty";
            return Err(ServiceError::parameter("instruction", message));
        }
        self.limits.check_text("instruction", instruction)?;
        Ok(match material {
            Material::None => {
                let prompt = self.vocabulary.prompt(instruction, Input::None);
                self.check_room(&prompt, "instruction", ("a", Input::None))?;
                (prompt, None)
            }
            Material::Text(text) => {
                self.limits.check_text("input", &text)?;
                let prompt = self.vocabulary.prompt(instruction, Input::Text(&text));
                // The longer of the two is the one to shorten.
                match text.len() >= instruction.len() {
                    true => self.check_room(&prompt, "input", (instruction, Input::Text("a")))?,
                    false => self.check_room(&prompt, "instruction", ("a", Input::Text(&text)))?,
                }
                (prompt, None)
            }
            Material::Image(file) => {
                let prompt = self.vocabulary.prompt(instruction, Input::Image(0));
                self.check_room(&prompt, "instruction", ("a", Input::Image(0)))?;
                (prompt, Some(file))
            }
        })
    }

    /// Whether a prompt leaves room for a reply, of one token at least. If not, the text of the field `param` is to be shorter; the last argument is
    /// instruction and input of the same prompt with one letter in its place.
    fn check_room(
        &self,
        prompt: &Prompt,
        param: &'static str,
        (instruction, input): (&str, Input<'_>),
    ) -> Result<(), ServiceError> {
        let (codes, context) = (self.facts.codes_per_image, self.facts.context);
        let length = prompt.len(codes);
        if length < context {
            return Ok(());
        }
        let around = self.vocabulary.prompt(instruction, input).len(codes).saturating_sub(1);
        Err(ServiceError::NoRoomToReply {
            param,
            text: length.saturating_sub(around),
            room: context.saturating_sub(around + 1),
        })
    }
}

/// Tokens that the context leaves for a reply to `prompt`.
///
/// # Errors
/// When they are fewer than `wanted`.
pub(super) fn room(prompt: &Prompt, wanted: usize, facts: &Facts) -> Result<usize, EngineError> {
    let (length, context) = (prompt.len(facts.codes_per_image), facts.context);
    let room = context.saturating_sub(length);
    if wanted > room {
        return Err(EngineError::ContextExceeded {
            prompt: length,
            reply: wanted,
            context,
        });
    }
    Ok(room)
}
