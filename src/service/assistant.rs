//! From a request to a job of the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::consensus;
use super::limits::{Limits, SEED_END};
use super::reply::Plan;
use super::{Constraint, ImageDesk, Material, ModelCard, Options, Reply, Request, ServiceError, Task};
use crate::engine::{Engine, EngineError, EngineState, Facts, Job, Rule, Sampling, SequenceSpec};
use crate::radiograph::{ImageFormat, Pixels};
use crate::vocabulary::{Input, Prompt, Vocabulary};

/// Texts of more bytes than this are tokenised on a blocking thread: some take tens of milliseconds, and probes must not wait for them.
const LONG_TEXT: usize = 2 << 10;

/// The product: takes requests, gives replies. Cheap to clone.
#[derive(Clone)]
pub struct Assistant(Arc<Inner>);

struct Inner {
    engine: Engine,
    vocabulary: Vocabulary,
    card: ModelCard,
    desk: ImageDesk,
    limits: Limits,
    preparing: AtomicUsize,
}

/// A place among the jobs that are being prepared.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What differs between tasks once their texts are checked.
struct Draft {
    prompts: Vec<Prompt>,
    image: Option<bytes::Bytes>,
    rule: Rule,
    /// Temperature and top_p when the request gives none.
    sampled: bool,
    max_tokens: usize,
    watch: bool,
    drawing: Option<ImageFormat>,
    must_draw: bool,
    /// The prompt that guidance holds a drawing against.
    guide: Option<Prompt>,
    /// How often the image is read: of so many neighbouring prompts, each about the image moved in its own way, one reply is chosen.
    readings: usize,
}

impl Assistant {
    /// Puts the parts together. `engine` may still be loading.
    pub fn new(engine: Engine, vocabulary: Vocabulary, card: ModelCard, desk: ImageDesk, limits: Limits) -> Self {
        let preparing = AtomicUsize::new(0);
        Self(Arc::new(Inner {
            engine,
            vocabulary,
            card,
            desk,
            limits,
            preparing,
        }))
    }

    /// The engine underneath.
    pub fn engine(&self) -> &Engine {
        &self.0.engine
    }

    /// Where images are read and written.
    pub fn desk(&self) -> &ImageDesk {
        &self.0.desk
    }

    /// What is known of the model.
    pub fn card(&self) -> &ModelCard {
        &self.0.card
    }

    /// What one request may ask for.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }

    /// The token space.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.0.vocabulary
    }

    /// Takes a request in, or refuses it. The reply is cancelled when it is dropped.
    ///
    /// # Errors
    /// By the engine's state and queue, before anything is decoded; for options and texts out of their limits; for images that
    /// cannot be read; and when prompt and reply do not fit the context.
    pub async fn start(&self, request: Request) -> Result<Reply, ServiceError> {
        let begun = Instant::now();
        let inner = &*self.0;
        let facts = inner.ready_facts()?;
        let Request {
            task,
            options,
            deadline,
        } = request;
        inner.limits.check_options(&options)?;
        let _place = inner.place()?;
        let plan = self.lay_out(task, &options, facts).await?;
        let images = inner.read_image(plan.image.clone(), plan.readings, deadline).await?;
        let preprocess = begun.elapsed();
        let job = Job {
            images,
            sequences: plan.sequences.clone(),
            codes: Vec::new(),
            deadline,
        };
        let events = inner.engine.submit(job)?;
        let parts = (inner.vocabulary.clone(), inner.desk.clone());
        Ok(Reply::new(events, plan, &options, parts, begun, preprocess))
    }

    /// Tokenises a task's texts and plans its replies.
    async fn lay_out(&self, task: Task, options: &Options, facts: Arc<Facts>) -> Result<Plan, ServiceError> {
        let long = task.text_bytes() > LONG_TEXT;
        let (inner, options) = (Arc::clone(&self.0), options.clone());
        let work = move || inner.plan(inner.draft(task, &options, &facts)?, &options, &facts);
        if long {
            tokio::task::spawn_blocking(work)
                .await
                .map_err(|_| ServiceError::Worker)?
        } else {
            work()
        }
    }
}

impl Inner {
    /// The model's facts, if it takes work.
    fn ready_facts(&self) -> Result<Arc<Facts>, EngineError> {
        match self.engine.state() {
            EngineState::Loading => Err(EngineError::Loading),
            EngineState::Draining => Err(EngineError::ShuttingDown),
            EngineState::Failed(_) | EngineState::Stopped => Err(EngineError::Stopped),
            EngineState::Ready | EngineState::Stalled => self.engine.facts().ok_or(EngineError::Loading),
        }
    }

    /// A place for one more job, counting those being prepared with those that wait in the engine.
    fn place(&self) -> Result<Place<'_>, EngineError> {
        let before = self.preparing.fetch_add(1, Ordering::Relaxed);
        let place = Place(&self.preparing);
        self.engine.expect_room(before)?;
        Ok(place)
    }

    async fn read_image(
        &self,
        file: Option<bytes::Bytes>,
        readings: usize,
        deadline: Option<Instant>,
    ) -> Result<Vec<Arc<Pixels>>, ServiceError> {
        let Some(file) = file else { return Ok(Vec::new()) };
        let reading = self.desk.read(file);
        let pixels = match deadline {
            None => reading.await?,
            Some(at) => tokio::time::timeout_at(at.into(), reading)
                .await
                .map_err(|_| EngineError::DeadlineExceeded)??,
        };
        let cells = self.engine.facts().map_or(0, |facts| facts.codes_per_image.isqrt());
        Ok(consensus::views(&pixels, readings, cells))
    }

    /// Checks a task's texts and lays its prompts out.
    fn draft(&self, task: Task, options: &Options, facts: &Facts) -> Result<Draft, ServiceError> {
        let text_rule = if options.constraint == Constraint::Auto {
            Rule::Text
        } else {
            Rule::Free
        };
        let greedy_text = |prompts, image, max_tokens| Draft {
            prompts,
            image,
            rule: text_rule,
            sampled: false,
            max_tokens,
            watch: false,
            drawing: None,
            must_draw: false,
            guide: None,
            readings: 1,
        };
        match task {
            Task::Report { image, instruction } => {
                let own = instruction.as_deref();
                let text = own.unwrap_or(&self.card.report_instruction);
                self.limits.check_text("instruction", text)?;
                let greedy = options.temperature.is_none_or(|t| t == 0.0);
                let usual = own.is_none() && greedy && text_rule == Rule::Text;
                let readings = options.readings.unwrap_or(if usual { self.card.readings } else { 1 });
                let prompt = self.vocabulary.prompt(text, Input::Image(0));
                let prompt = match own {
                    None => prompt.with_usual_instruction(),
                    Some(_) => prompt,
                };
                let prompts = (0..readings).map(|view| prompt.about(view)).collect();
                Ok(Draft {
                    readings,
                    ..greedy_text(prompts, Some(image), self.card.report_max_tokens)
                })
            }
            Task::Vqa { image, questions } => {
                if questions.is_empty() || questions.len() > self.limits.questions {
                    let message = format!("send from 1 to {} questions at a time", self.limits.questions);
                    return Err(ServiceError::parameter("questions", message));
                }
                let readings = options.readings.unwrap_or(1);
                let mut prompts = Vec::new();
                for question in &questions {
                    if question.trim().is_empty() {
                        return Err(ServiceError::parameter("question", "a question must not be empty"));
                    }
                    self.limits.check_text("question", question)?;
                    let prompt = self.vocabulary.prompt(question, Input::Image(0));
                    // The other questions need not be tokenised when one is too long already.
                    room(&prompt, 1, facts)?;
                    prompts.extend((0..readings).map(|view| prompt.about(view)));
                }
                let draft = greedy_text(prompts, Some(image), self.card.vqa_max_tokens);
                Ok(Draft {
                    watch: true,
                    readings,
                    ..draft
                })
            }
            Task::Draw { text, n, format } => {
                self.limits.check_count(n)?;
                self.limits.check_text("text", &text)?;
                let prompt = self.vocabulary.prompt(&self.card.draw_instruction, Input::Text(&text));
                let free = options.constraint == Constraint::None;
                if free && options.guidance.is_some_and(|g| g > 1.0) {
                    let message =
                        "`guidance` needs the whole image that `constraint: auto` promises; leave one of them out";
                    return Err(ServiceError::parameter("guidance", message));
                }
                let whole_image = facts.codes_per_image + 3;
                if !free && options.max_tokens.is_some_and(|m| m < whole_image) {
                    let message = format!("an image takes {whole_image} tokens; leave `max_tokens` out");
                    return Err(ServiceError::parameter("max_tokens", message));
                }
                Ok(Draft {
                    prompts: vec![prompt; n],
                    image: None,
                    rule: if free { Rule::Free } else { Rule::Image },
                    sampled: true,
                    // The original allows 300 tokens for its 256 codes.
                    max_tokens: if free { facts.codes_per_image + 44 } else { whole_image },
                    watch: false,
                    drawing: Some(format),
                    must_draw: true,
                    guide: (!free).then(|| self.vocabulary.prompt(&self.card.draw_instruction, Input::None)),
                    readings: 1,
                })
            }
            Task::Instruct {
                instruction,
                material,
                format,
            } => {
                let (prompt, image) = self.lay_out(&instruction, material)?;
                let draft = greedy_text(vec![prompt], image, self.card.instruct_max_tokens);
                Ok(Draft {
                    rule: Rule::Free,
                    sampled: true,
                    drawing: Some(format),
                    ..draft
                })
            }
            Task::Chat {
                instruction,
                material,
                n,
            } => {
                self.limits.check_count(n)?;
                let (prompt, image) = self.lay_out(&instruction, material)?;
                let sampled = image.is_none();
                let draft = greedy_text(vec![prompt; n], image, self.card.instruct_max_tokens);
                Ok(Draft { sampled, ..draft })
            }
        }
    }

    fn lay_out(&self, instruction: &str, material: Material) -> Result<(Prompt, Option<bytes::Bytes>), ServiceError> {
        if instruction.trim().is_empty() {
            return Err(ServiceError::parameter(
                "instruction",
                "`instruction` must not be empty",
            ));
        }
        self.limits.check_text("instruction", instruction)?;
        Ok(match material {
            Material::None => (self.vocabulary.prompt(instruction, Input::None), None),
            Material::Text(text) => {
                self.limits.check_text("input", &text)?;
                (self.vocabulary.prompt(instruction, Input::Text(&text)), None)
            }
            Material::Image(file) => (self.vocabulary.prompt(instruction, Input::Image(0)), Some(file)),
        })
    }

    /// Fits the reply into the context and gives every sequence its sampling.
    fn plan(&self, draft: Draft, options: &Options, facts: &Facts) -> Result<Plan, ServiceError> {
        if options.top_k.is_some_and(|k| k > facts.vocabulary) {
            let message = format!("`top_k` must be from 0 (off) to {}", facts.vocabulary);
            return Err(ServiceError::parameter("top_k", message));
        }
        let (temperature, top_p) = if draft.sampled {
            (self.card.temperature, self.card.top_p)
        } else {
            (0.0, 1.0)
        };
        let first = Sampling {
            temperature: options.temperature.unwrap_or(temperature),
            // A temperature of one's own on a greedy task samples as the original does.
            top_p: options
                .top_p
                .unwrap_or(if options.temperature.is_some_and(|t| t > 0.0) {
                    self.card.top_p
                } else {
                    top_p
                }),
            top_k: options.top_k.unwrap_or(0),
            seed: options.seed.unwrap_or_else(|| rand::random_range(0..SEED_END)),
            guidance: match (&draft.guide, options.guidance) {
                (Some(_), Some(asked)) => asked,
                // The bundle's own is left out where both prompts would never fit the memory: nobody asked for it.
                (Some(guide), None) if draft.prompts.iter().all(|prompt| pair_fits(prompt, guide, facts)) => {
                    self.card.guidance
                }
                _ => 1.0,
            },
        };
        let guide = draft.guide.filter(|_| first.guidance != 1.0);
        let watch = if draft.watch {
            let (yes, no) = self.vocabulary.yes_no();
            vec![yes, no]
        } else {
            Vec::new()
        };
        let mut sequences = Vec::new();
        for (index, prompt) in draft.prompts.into_iter().enumerate() {
            let reply = options.max_tokens.unwrap_or(draft.max_tokens);
            let may_shrink = options.max_tokens.is_none() && draft.rule != Rule::Image;
            let max_new_tokens = if may_shrink {
                reply.min(room(&prompt, 1, facts)?)
            } else {
                room(&prompt, reply, facts)?;
                reply
            };
            sequences.push(SequenceSpec {
                prompt,
                rule: draft.rule,
                sampling: Sampling {
                    seed: first.seed.wrapping_add(index as u64) % SEED_END,
                    ..first
                },
                max_new_tokens,
                watch: watch.clone(),
                guide: guide.clone(),
                draw: draft.drawing.is_some(),
            });
        }
        Ok(Plan {
            sequences,
            sampling: first,
            image: draft.image,
            drawing: draft.drawing.unwrap_or(ImageFormat::Png),
            must_draw: draft.must_draw,
            readings: draft.readings,
            codes_per_image: facts.codes_per_image,
        })
    }
}

/// Whether KV memory holds both prompts of a guided drawing, each with its image.
fn pair_fits(prompt: &Prompt, guide: &Prompt, facts: &Facts) -> bool {
    let codes = facts.codes_per_image;
    prompt.len(codes) + guide.len(codes) + 2 * (codes + 3) <= facts.kv_tokens
}

/// Tokens that the context leaves for a reply to `prompt`.
///
/// # Errors
/// When they are fewer than `wanted`.
fn room(prompt: &Prompt, wanted: usize, facts: &Facts) -> Result<usize, EngineError> {
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
