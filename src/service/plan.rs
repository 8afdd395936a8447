//! From the prompts of a task to what is asked of the engine: every reply fitted into the context, with its sampling.

use bytes::Bytes;

use super::ServiceError;
use super::limits::SEED_END;
use super::task_prompts::{Form, Planner, TaskPrompts, room};
use crate::engine::{Facts, Rule, Sampling, SequenceSpec, image_len};
use crate::vocabulary::Prompt;

/// What was asked of the engine, with what the answer needs to know of it.
pub(super) struct Plan {
    pub(super) form: Form,
    pub(super) sequences: Vec<SequenceSpec>,
    /// Of the first reply; the others differ in their seeds.
    pub(super) sampling: Sampling,
    /// The file that the replies are about.
    pub(super) image: Option<Bytes>,
    /// Of so many neighbouring replies one is chosen.
    pub(super) readings: usize,
    pub(super) codes_per_image: usize,
}

impl Planner<'_> {
    /// Fits the replies into the context and gives each its sampling.
    ///
    /// # Errors
    /// When `top_k` is out of its range, or prompt and reply do not fit the context.
    pub(super) fn plan(&self, task: TaskPrompts) -> Result<Plan, ServiceError> {
        let sampling = self.sampling(&task)?;
        let guide = task.guide.filter(|_| sampling.guidance != 1.0);
        let rule = task.form.rule(self.options.constraint);
        let watch = match task.form {
            Form::Answer => {
                let (yes, no) = self.vocabulary.yes_no();
                vec![yes, no]
            }
            Form::Text | Form::Drawing(_) | Form::Open(_) => Vec::new(),
        };
        let mut sequences = Vec::new();
        for (index, prompt) in task.prompts.into_iter().enumerate() {
            sequences.push(SequenceSpec {
                max_new_tokens: self.most_new_tokens(&prompt, rule, task.max_tokens)?,
                prompt,
                rule,
                sampling: Sampling {
                    seed: sampling.seed.wrapping_add(index as u64) % SEED_END,
                    ..sampling
                },
                watch: watch.clone(),
                guide: guide.clone(),
                draw: task.form.drawn_as().is_some(),
            });
        }
        Ok(Plan {
            form: task.form,
            sequences,
            sampling,
            image: task.image,
            readings: task.readings,
            codes_per_image: self.facts.codes_per_image,
        })
    }

    /// The sampling of the first reply: what the request says, and what the bundle says where it does not.
    fn sampling(&self, task: &TaskPrompts) -> Result<Sampling, ServiceError> {
        let (card, options) = (self.card, self.options);
        if options.top_k.is_some_and(|k| k > self.facts.vocabulary) {
            let message = format!("`top_k` must be from 0 (off) to {}", self.facts.vocabulary);
            return Err(ServiceError::parameter("top_k", message));
        }
        let usual_temperature = if task.sampled { card.temperature } else { 0.0 };
        // A temperature of one's own on a greedy task samples as the original does.
        let nucleus = task.sampled || options.temperature.is_some_and(|t| t > 0.0);
        let usual_top_p = if nucleus { card.top_p } else { 1.0 };
        Ok(Sampling {
            temperature: options.temperature.unwrap_or(usual_temperature),
            top_p: options.top_p.unwrap_or(usual_top_p),
            top_k: options.top_k.unwrap_or(0),
            seed: options.seed.unwrap_or_else(|| rand::random_range(0..SEED_END)),
            guidance: match (&task.guide, options.guidance) {
                (Some(_), Some(asked)) => asked,
                // The bundle's own is left out where both prompts would never fit the memory: nobody asked for it.
                (Some(guide), None) if task.prompts.iter().all(|prompt| pair_fits(prompt, guide, self.facts)) => {
                    card.guidance
                }
                _ => 1.0,
            },
        })
    }

    /// Most new tokens of a reply. What was asked for must fit the context; a default is shortened to fit. An image takes what it takes, however much
    /// more was granted, and must fit.
    fn most_new_tokens(&self, prompt: &Prompt, rule: Rule, usual: usize) -> Result<usize, ServiceError> {
        match (rule, self.options.max_tokens) {
            (Rule::Image, _) => self.room_to_draw(prompt),
            (_, Some(asked)) => room(prompt, asked, self.facts).map(|_| asked).map_err(Into::into),
            (_, None) => Ok(usual.min(room(prompt, 1, self.facts)?)),
        }
    }

    /// Tokens of an image, which must fit. Where they do not, only a shorter text helps.
    fn room_to_draw(&self, prompt: &Prompt) -> Result<usize, ServiceError> {
        let (codes, context) = (self.facts.codes_per_image, self.facts.context);
        let (prompt, image) = (prompt.len(codes), image_len(codes));
        match prompt + image <= context {
            true => Ok(image),
            false => Err(ServiceError::NoRoomToDraw { prompt, image, context }),
        }
    }
}

/// Whether KV memory holds both prompts of a guided drawing, each with its image.
fn pair_fits(prompt: &Prompt, guide: &Prompt, facts: &Facts) -> bool {
    let codes = facts.codes_per_image;
    prompt.len(codes) + guide.len(codes) + 2 * image_len(codes) <= facts.kv_tokens
}
