//! From a request to a job of the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::consensus;
use super::deadline::within;
use super::plan::Plan;
use super::task_prompts::Planner;
use super::{ImageDesk, Limits, ModelCard, Options, Reply, Request, ServiceError, Task, blocking};
use crate::engine::{Engine, EngineError, Facts, Job, Promise};
use crate::radiograph::{ImageNote, Pixels};
use crate::vocabulary::Vocabulary;

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
        let facts = inner.engine.accepting()?;
        let Request {
            task,
            options,
            deadline,
        } = request;
        inner.limits.check_options(&options)?;
        // From here on a drain no longer refuses it, however long its image takes to be read.
        let (_place, promise) = inner.place()?;
        let plan = self.lay_out(task, &options, facts).await?;
        let (images, notes) = inner.read_image(plan.image.clone(), plan.readings, deadline).await?;
        let preprocess = begun.elapsed();
        let job = Job {
            images,
            sequences: plan.sequences.clone(),
            codes: Vec::new(),
            deadline,
        };
        let events = inner.engine.submit_promised(job, promise)?;
        let parts = (inner.vocabulary.clone(), inner.desk.clone());
        Ok(Reply::new(events, plan, &options, parts, begun, preprocess).with_notes(notes))
    }

    /// Tokenises a task's texts and plans its replies.
    async fn lay_out(&self, task: Task, options: &Options, facts: Arc<Facts>) -> Result<Plan, ServiceError> {
        let long = task.text_bytes() > LONG_TEXT;
        let (inner, options) = (Arc::clone(&self.0), options.clone());
        let work = move || {
            let planner = Planner {
                vocabulary: &inner.vocabulary,
                card: &inner.card,
                limits: &inner.limits,
                facts: &facts,
                options: &options,
            };
            planner.plan(planner.prompts(task)?)
        };
        if long {
            blocking(work).await.map_err(|_| ServiceError::Worker)?
        } else {
            work()
        }
    }
}

impl Inner {
    /// A place for one more job, counting those being prepared with those that wait in the engine.
    fn place(&self) -> Result<(Place<'_>, Promise), EngineError> {
        let before = self.preparing.fetch_add(1, Ordering::Relaxed);
        let place = Place(&self.preparing);
        let promise = self.engine.expect_room(before)?;
        Ok((place, promise))
    }

    /// The views of an image that are read, and what is unusual about it.
    async fn read_image(
        &self,
        file: Option<bytes::Bytes>,
        readings: usize,
        deadline: Option<Instant>,
    ) -> Result<(Vec<Arc<Pixels>>, Vec<ImageNote>), ServiceError> {
        let Some(file) = file else {
            return Ok((Vec::new(), Vec::new()));
        };
        let seen = within(deadline, self.engine.wait_cut_off(), self.desk.read(file)).await?;
        let cells = self.engine.facts().map_or(0, |facts| facts.codes_per_image.isqrt());
        Ok((consensus::views(&seen.pixels, readings, cells), seen.notes))
    }
}
