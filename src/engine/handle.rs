//! The rest of the program's view of the engine: a handle that is cheap to clone, and the events of one job.
//!
//! Admission is decided in [`Engine::submit`] under a short lock that the worker never holds during a step,
//! so a refusal takes microseconds even when a step takes a second.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::constraint::TokenRules;
use super::farewell::{Departure, Farewell};
use super::shared::{Phase, Shared, Ticket};
use super::{Backend, BackendError, Caller, EngineError, Event, Facts, Job, Preparing, admission, worker};

/// How much the engine takes on, and when it gives up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Most jobs that wait.
    pub queue_jobs: usize,
    /// Most bytes that wait (images, prompts).
    pub queue_bytes: usize,
    /// Most sequences in one step; `None` for as many as the backend does well.
    pub max_batch: Option<usize>,
    /// Most prompt tokens in a step while other sequences decode, which bounds how long a long prompt holds up running streams; `None`
    /// for the backend's own measure. Where bits depend on it, prompts are cut at its multiples, whoever decodes.
    pub prefill_chunk: Option<usize>,
    /// Most prompt tokens in a step, over all prompts, while nobody decodes.
    pub idle_prefill_chunk: usize,
    /// Time given to the VQ-GAN between two token steps.
    pub vision_slice: Duration,
    /// Whether replies of text are drafted ahead, to be checked several tokens in a step. Which tokens come does not depend on it.
    pub speculation: bool,
    /// So many steps, or VQ-GAN passes, in a row that fail end the engine.
    pub faults_before_exit: u32,
    /// A step that takes longer than this makes the engine unhealthy.
    pub stall_after: Duration,
    /// A step that takes longer than this will never end: [`Engine::stopped`] resolves.
    pub give_up_after: Duration,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            queue_jobs: 256,
            queue_bytes: 256 << 20,
            max_batch: None,
            prefill_chunk: None,
            idle_prefill_chunk: 512,
            vision_slice: Duration::from_millis(20),
            speculation: true,
            faults_before_exit: 3,
            stall_after: Duration::from_secs(60),
            give_up_after: Duration::from_secs(300),
        }
    }
}

/// Where the engine stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineState {
    /// The model is being loaded.
    Loading,
    /// Work is taken.
    Ready,
    /// A step has been under way for longer than [`EngineConfig::stall_after`].
    Stalled,
    /// No new work is taken; what was admitted is finished.
    Draining,
    /// Loading failed, or too many steps or VQ-GAN passes in a row did. The text says why; the process should exit non-zero.
    Failed(String),
    /// The thread has ended in order.
    Stopped,
}

/// Counters since the start, and gauges of now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Jobs that wait for admission into the running set.
    pub queued_jobs: usize,
    /// Bytes they hold.
    pub queued_bytes: usize,
    /// Jobs in the running set.
    pub running_jobs: usize,
    /// Sequences with KV memory.
    pub running_sequences: usize,
    /// KV positions reserved.
    pub kv_tokens_used: usize,
    /// KV positions there are.
    pub kv_tokens_total: usize,
    /// Token steps run.
    pub steps: u64,
    /// Prompt tokens run.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub tokens_generated: u64,
    /// Tokens that were drafted.
    pub drafted_tokens: u64,
    /// Drafted tokens that came; the others were rolled back.
    pub accepted_tokens: u64,
    /// Images encoded.
    pub images_encoded: u64,
    /// Images drawn.
    pub images_drawn: u64,
    /// Steps and VQ-GAN passes that failed.
    pub step_faults: u64,
    /// Jobs that ended with [`Event::Done`], or whose caller had [`enough`](Events::enough) before.
    pub jobs_done: u64,
    /// Jobs that ended with [`Event::Failed`].
    pub jobs_failed: u64,
    /// Jobs whose caller left.
    pub jobs_cancelled: u64,
    /// Jobs refused because the queue, or their caller's share of it, was full.
    pub jobs_refused: u64,
}

/// That a job came before the engine began to drain, and whose it is, given by [`Engine::expect_room`] for [`Engine::submit_promised`]. It holds no
/// room.
#[derive(Debug)]
pub struct Promise(Caller);

/// The engine's handle. When the last clone is gone the thread finishes what was admitted and ends.
#[derive(Clone)]
pub struct Engine {
    owner: Arc<Owner>,
}

/// Tells the worker when the last handle is gone.
struct Owner {
    shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl Engine {
    /// Starts the engine's thread and returns at once; `make` loads the model inside that thread.
    ///
    /// Failure to load, and a vocabulary that does not agree with `rules`, show in [`Engine::state`] and [`Engine::ready`].
    pub fn start<F>(config: EngineConfig, rules: TokenRules, make: F) -> Self
    where
        F: FnOnce() -> Result<Box<dyn Backend>, BackendError> + Send + 'static,
    {
        let shared = Arc::new(Shared::new(config, rules));
        let thread = Arc::clone(&shared);
        let spawned = std::thread::Builder::new()
            .name("engine".into())
            .spawn(move || worker::run(thread, make));
        if let Err(error) = spawned {
            shared.end(Phase::Failed(format!(
                "the engine's thread could not be started: {error}"
            )));
        }
        Self {
            owner: Arc::new(Owner { shared }),
        }
    }

    fn shared(&self) -> &Shared {
        &self.owner.shared
    }

    /// Where the engine stands.
    pub fn state(&self) -> EngineState {
        let shared = self.shared();
        match shared.phase() {
            Phase::Failed(why) => EngineState::Failed(why),
            Phase::Stopped => EngineState::Stopped,
            _ if shared.is_draining() => EngineState::Draining,
            Phase::Loading => EngineState::Loading,
            Phase::Ready if shared.is_stalled() => EngineState::Stalled,
            Phase::Ready => EngineState::Ready,
        }
    }

    /// Waits until the model is loaded.
    ///
    /// # Errors
    /// [`EngineError::Load`] when loading failed, [`EngineError::Stopped`] when the thread has ended.
    pub async fn ready(&self) -> Result<Arc<Facts>, EngineError> {
        match (
            self.shared().wait_phase(|phase| !matches!(phase, Phase::Loading)).await,
            self.facts(),
        ) {
            (Phase::Ready, Some(facts)) => Ok(facts),
            (Phase::Failed(why), None) => Err(EngineError::Load(why)),
            _ => Err(EngineError::Stopped),
        }
    }

    /// What is known of the model, once it is loaded.
    pub fn facts(&self) -> Option<Arc<Facts>> {
        self.shared().facts()
    }

    /// What is known of the model, if work is taken; else why it is not.
    ///
    /// # Errors
    /// [`EngineError::Loading`], [`EngineError::ShuttingDown`], [`EngineError::Stalled`] and [`EngineError::Stopped`] by the engine's state.
    pub fn accepting(&self) -> Result<Arc<Facts>, EngineError> {
        match self.state() {
            EngineState::Ready => self.facts().ok_or(EngineError::Loading),
            EngineState::Loading => Err(EngineError::Loading),
            EngineState::Draining => Err(EngineError::ShuttingDown),
            EngineState::Stalled => Err(EngineError::Stalled),
            EngineState::Failed(_) | EngineState::Stopped => Err(EngineError::Stopped),
        }
    }

    /// Admits a job of [`Caller::ONLY`] or refuses it, at once.
    ///
    /// # Errors
    /// Those of [`Self::accepting`]; [`EngineError::ContextExceeded`] and [`EngineError::Unacceptable`] for jobs that can never run;
    /// [`EngineError::DeadlineExceeded`] for a deadline already past; [`EngineError::QueueFull`] when there is no room.
    pub fn submit(&self, job: Job) -> Result<Events, EngineError> {
        let facts = self.accepting()?;
        self.take(job, &facts, None)
    }

    /// As [`Self::submit`], for a job that was promised room, and its caller: it is taken also where the engine has begun to drain since.
    ///
    /// # Errors
    /// Those of [`Self::submit`] but for draining; [`EngineError::ShareHeld`] where its caller has filled its share of the queue since; why jobs were
    /// cut off, where they were.
    pub fn submit_promised(&self, job: Job, promise: Promise) -> Result<Events, EngineError> {
        let facts = match self.accepting() {
            Err(EngineError::ShuttingDown) => self.facts().ok_or(EngineError::ShuttingDown)?,
            accepting => accepting?,
        };
        self.take(job, &facts, Some(promise))
    }

    fn take(&self, job: Job, facts: &Facts, promise: Option<Promise>) -> Result<Events, EngineError> {
        let shared = self.shared();
        admission::check(&job, facts, &shared.rules)?;
        let now = Instant::now();
        let deadline = job.deadline;
        if deadline.is_some_and(|d| d <= now) {
            return Err(EngineError::DeadlineExceeded);
        }
        let bytes = job.bytes();
        if bytes > shared.config.queue_bytes {
            return Err(EngineError::Unacceptable(format!(
                "it holds {bytes} bytes, more than the whole queue may ({})",
                shared.config.queue_bytes
            )));
        }
        let (sender, receiver) = mpsc::unbounded_channel();
        let farewell = Arc::<Farewell>::default();
        let caller = promise.as_ref().map_or(Caller::ONLY, |promise| promise.0);
        shared.admit(
            caller,
            Ticket {
                job,
                events: sender,
                farewell: Arc::clone(&farewell),
                submitted: now,
            },
            bytes,
            promise.is_some(),
        )?;
        Ok(Events {
            receiver,
            farewell,
            deadline,
            alarm: None,
            cut: Box::pin(shared.cut().cancelled_owned()),
            engine: Arc::clone(&self.owner.shared),
            ended: false,
        })
    }

    /// Whether there will be room for one more job of this caller while those `beside` it are being prepared; a refusal counts as one.
    ///
    /// # Errors
    /// [`EngineError::QueueFull`] and [`EngineError::ShareHeld`]; [`EngineError::ShuttingDown`] once the engine drains.
    pub fn expect_room(&self, caller: Caller, beside: Preparing) -> Result<Promise, EngineError> {
        self.shared().expect_room(caller, beside).map(|()| Promise(caller))
    }

    /// A small real computation, through the engine's thread and the device. Bound it with a timeout of your own.
    ///
    /// # Errors
    /// By the engine's state as in [`Engine::submit`] (draining is no error), or [`EngineError::Step`] when the device fails.
    pub async fn health(&self) -> Result<(), EngineError> {
        let shared = self.shared();
        match shared.phase() {
            Phase::Loading => return Err(EngineError::Loading),
            Phase::Failed(_) | Phase::Stopped => return Err(EngineError::Stopped),
            Phase::Ready if shared.is_stalled() => return Err(EngineError::Stalled),
            Phase::Ready => {}
        }
        let (sender, receiver) = oneshot::channel();
        shared.ask_health(sender)?;
        receiver.await.unwrap_or(Err(EngineError::Stopped))
    }

    /// Refuses new work from now on; what was admitted, or was promised room, is finished.
    pub fn drain(&self) {
        self.shared().drain();
    }

    /// Resolves when nothing is queued or running.
    pub async fn idle(&self) {
        self.shared().wait_idle().await;
    }

    /// Ends every job that waits or runs, now, with `why`; no new work is taken. Callers are told even while the device hangs.
    pub fn cut_off(&self, why: EngineError) {
        self.shared().cut_off(why);
    }

    /// Resolves once jobs are cut off, with why: for what is done for a job outside of the engine.
    pub async fn wait_cut_off(&self) -> EngineError {
        self.shared().wait_cut_off().await
    }

    /// Resolves with the reason when the engine's thread has ended, or will never come back from the device; the process should
    /// then exit non-zero. Needs a tokio runtime with its timer.
    pub async fn stopped(&self) -> String {
        let shared = self.shared();
        tokio::select! {
            phase = shared.wait_phase(|phase| matches!(phase, Phase::Failed(_) | Phase::Stopped)) => match phase {
                Phase::Failed(why) => why,
                _ => EngineError::Stopped.to_string(),
            },
            () = shared.wait_hung() => {
                format!("the device has not answered for {} s; it hangs", shared.config.give_up_after.as_secs_f64())
            }
        }
    }

    /// Counters and gauges.
    pub fn stats(&self) -> Stats {
        self.shared().stats()
    }
}

/// The events of one job, in order, ending with exactly one [`Event::Done`] or [`Event::Failed`]. Dropping it cancels the job, unless its caller has
/// said that it has [`enough`](Events::enough).
///
/// The job's deadline, and [`Engine::cut_off`], hold here too, so that its caller is answered in time even while the device hangs.
pub struct Events {
    receiver: mpsc::UnboundedReceiver<Event>,
    /// How the worker is to count a job that nobody listens to any more.
    farewell: Arc<Farewell>,
    deadline: Option<Instant>,
    alarm: Option<Pin<Box<tokio::time::Sleep>>>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    engine: Arc<Shared>,
    ended: bool,
}

impl Events {
    /// The next event; `None` after the last. Needs a tokio runtime with its timer where the job has a deadline.
    pub async fn next(&mut self) -> Option<Event> {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    /// The caller has what it wanted, as where a reply came to a text that ends it: nothing more comes. The job is taken out before the next step,
    /// and counts as done rather than as cancelled.
    pub fn enough(&mut self) {
        if !self.ended {
            self.ended = true;
            // Closing shows it to the worker, together with what was written before.
            self.farewell.say(Departure::Enough);
            self.receiver.close();
        }
    }

    /// The caller was told an error that arose outside the engine: the job has failed, and nobody has left. Nothing more comes.
    pub fn failed(&mut self) {
        if !self.ended {
            self.ended = true;
            self.farewell.say(Departure::GivenUp);
            self.receiver.close();
        }
    }

    /// When the job is given up.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// As [`Engine::wait_cut_off`].
    pub fn wait_cut_off(&self) -> impl Future<Output = EngineError> + Send + use<> {
        let engine = Arc::clone(&self.engine);
        async move { engine.wait_cut_off().await }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(event) = self.receiver.poll_recv(context) {
            return Poll::Ready(Some(self.note(event)));
        }
        if self.cut.as_mut().poll(context).is_ready() {
            let why = self.engine.cut_why();
            return Poll::Ready(Some(self.give_up(why)));
        }
        let Some(deadline) = self.deadline else {
            return Poll::Pending;
        };
        let alarm = self
            .alarm
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline.into())));
        match alarm.as_mut().poll(context) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => Poll::Ready(Some(self.give_up(EngineError::DeadlineExceeded))),
        }
    }

    /// Ends the job with an error from here. Closing makes the worker see that nobody listens, and what was said that the job has failed.
    fn give_up(&mut self, why: EngineError) -> Event {
        self.farewell.say(Departure::GivenUp);
        self.receiver.close();
        self.note(Some(Event::Failed(why)))
    }

    /// Keeps the promise of one last event, also when the thread ended without a word.
    fn note(&mut self, event: Option<Event>) -> Event {
        let event = event.unwrap_or(Event::Failed(EngineError::Stopped));
        self.ended = matches!(event, Event::Done | Event::Failed(_));
        event
    }
}

impl futures::Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.get_mut().poll(context)
    }
}
