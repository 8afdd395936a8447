//! From a request to a job of the engine.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::consensus;
use super::deadline::within;
use super::plan::Plan;
use super::task_prompts::Planner;
use super::{ImageDesk, Limits, ModelCard, Options, Reply, Request, ServiceError, Task, blocking};
use crate::engine::{Caller, Engine, EngineError, Facts, Job, Preparing, Promise};
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
    preparing: Places,
}

/// How many jobs of each caller are being prepared; nothing of those that have none.
#[derive(Default)]
struct Places(Mutex<BTreeMap<Caller, usize>>);

impl Places {
    /// The lock is held for a few instructions that do not panic; should one do so anyway, the counts are still whole.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Caller, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the jobs that are being prepared.
struct Place<'a> {
    among: &'a Places,
    caller: Caller,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut places = self.among.lock();
        let left = places.get(&self.caller).map_or(0, |count| count.saturating_sub(1));
        match left {
            0 => places.remove(&self.caller),
            _ => places.insert(self.caller, left),
        };
    }
}

impl Assistant {
    /// Puts the parts together. `engine` may still be loading.
    pub fn new(engine: Engine, vocabulary: Vocabulary, card: ModelCard, desk: ImageDesk, limits: Limits) -> Self {
        Self(Arc::new(Inner {
            engine,
            vocabulary,
            card,
            desk,
            limits,
            preparing: Places::default(),
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

    /// As [`Self::start_for`], for the only caller there is.
    ///
    /// # Errors
    /// As there.
    pub async fn start(&self, request: Request) -> Result<Reply, ServiceError> {
        self.start_for(Caller::ONLY, request).await
    }

    /// Takes a request of this caller in, or refuses it. The reply is cancelled when it is dropped.
    ///
    /// # Errors
    /// By the engine's state and queue, before anything is decoded; for options and texts out of their limits; for images that
    /// cannot be read; and when prompt and reply do not fit the context.
    pub async fn start_for(&self, caller: Caller, request: Request) -> Result<Reply, ServiceError> {
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
        let (_place, promise) = inner.place(caller)?;
        let desk = inner.desk.of(caller);
        let plan = self.lay_out(task, &options, facts).await?;
        let (images, notes) = inner
            .read_image(&desk, plan.image.clone(), plan.readings, deadline)
            .await?;
        let preprocess = begun.elapsed();
        let job = Job {
            images,
            sequences: plan.sequences.clone(),
            codes: Vec::new(),
            deadline,
        };
        let events = inner.engine.submit_promised(job, promise)?;
        let parts = (inner.vocabulary.clone(), desk);
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
    /// A place for one more job of this caller, counting those being prepared with those that wait in the engine.
    fn place(&self, caller: Caller) -> Result<(Place<'_>, Promise), EngineError> {
        let among = &self.preparing;
        let mut places = among.lock();
        let beside = Preparing {
            own: places.get(&caller).copied().unwrap_or(0),
            all: places.values().sum(),
        };
        let promise = self.engine.expect_room(caller, beside)?;
        *places.entry(caller).or_insert(0) += 1;
        drop(places);
        Ok((Place { among, caller }, promise))
    }

    /// The views of an image that are read, and what is unusual about it.
    async fn read_image(
        &self,
        desk: &ImageDesk,
        file: Option<bytes::Bytes>,
        readings: usize,
        deadline: Option<Instant>,
    ) -> Result<(Vec<Arc<Pixels>>, Vec<ImageNote>), ServiceError> {
        let Some(file) = file else {
            return Ok((Vec::new(), Vec::new()));
        };
        let seen = within(deadline, self.engine.wait_cut_off(), desk.read(file)).await?;
        let cells = self.engine.facts().map_or(0, |facts| facts.codes_per_image.isqrt());
        Ok((consensus::views(&seen.pixels, readings, cells), seen.notes))
    }
}
