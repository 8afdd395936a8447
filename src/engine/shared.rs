//! What the handles and the engine's thread share: the mailbox under a short lock, the phase, the heartbeat.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::farewell::Farewell;
use super::queue::{Full, NoRoom, Queue, Removed, Standing};
use super::{Caller, EngineConfig, EngineError, Event, Facts, Job, Preparing, Stats, TokenRules};

/// A job that was admitted, and where its events go.
pub(super) struct Ticket {
    pub(super) job: Job,
    pub(super) events: mpsc::UnboundedSender<Event>,
    /// As in [`Events`](super::Events).
    pub(super) farewell: Arc<Farewell>,
    pub(super) submitted: Instant,
}

/// The life of the engine's thread.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    Loading,
    Ready,
    Failed(String),
    Stopped,
}

/// Answered with the result of a computation on the device.
pub(super) type HealthReply = oneshot::Sender<Result<(), EngineError>>;

/// What the worker finds when it looks.
struct Mailbox {
    queue: Queue<Ticket>,
    health: Vec<HealthReply>,
    /// No handle is left: finish and end.
    closed: bool,
    draining: bool,
    /// The thread has ended.
    ended: bool,
    refused: u64,
}

/// Shared by all handles and the thread.
pub(super) struct Shared {
    pub(super) config: EngineConfig,
    pub(super) rules: TokenRules,
    mailbox: Mutex<Mailbox>,
    news: Condvar,
    phase: watch::Sender<Phase>,
    facts: OnceLock<Arc<Facts>>,
    /// Jobs admitted and not yet ended.
    jobs: watch::Sender<usize>,
    stats: Mutex<Stats>,
    draining: AtomicBool,
    /// Cancelled when every job is to end now; callers then read `cut_why`.
    cut: CancellationToken,
    cut_why: OnceLock<EngineError>,
    started: Instant,
    /// Milliseconds after `started` (plus one) when the call into the backend under way began; 0 when none is.
    busy_since: AtomicU64,
}

/// Locks are held for a few instructions that do not panic; should one do so anyway, the data is still whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl From<NoRoom> for EngineError {
    fn from(NoRoom { retry_after, held }: NoRoom) -> Self {
        match held {
            Some(jobs) => Self::ShareHeld { jobs, retry_after },
            None => Self::QueueFull { retry_after },
        }
    }
}

/// What the worker takes from the mailbox before a step.
#[derive(Default)]
pub(super) struct Mail {
    /// Jobs that may join now.
    pub(super) joining: Vec<Ticket>,
    /// Jobs that ended while they waited.
    pub(super) removed: Vec<(Ticket, Removed)>,
    /// Who asks for health.
    pub(super) health: Vec<HealthReply>,
    /// Nothing is left to do and nobody is left to ask.
    pub(super) over: bool,
}

impl Shared {
    pub(super) fn new(config: EngineConfig, rules: TokenRules) -> Self {
        let mailbox = Mailbox {
            queue: Queue::new(config.queue_jobs, config.queue_bytes),
            health: Vec::new(),
            closed: false,
            draining: false,
            ended: false,
            refused: 0,
        };
        Self {
            config,
            rules,
            mailbox: Mutex::new(mailbox),
            news: Condvar::new(),
            phase: watch::Sender::new(Phase::Loading),
            facts: OnceLock::new(),
            jobs: watch::Sender::new(0),
            stats: Mutex::default(),
            draining: AtomicBool::new(false),
            cut: CancellationToken::new(),
            cut_why: OnceLock::new(),
            started: Instant::now(),
            busy_since: AtomicU64::new(0),
        }
    }

    // ---- for the handles ----

    pub(super) fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    pub(super) fn facts(&self) -> Option<Arc<Facts>> {
        self.facts.get().cloned()
    }

    pub(super) async fn wait_phase(&self, wanted: impl FnMut(&Phase) -> bool) -> Phase {
        let mut phase = self.phase.subscribe();
        // The sender lives as long as `self`, so the wait cannot fail.
        phase
            .wait_for(wanted)
            .await
            .map_or(Phase::Stopped, |phase| phase.clone())
    }

    pub(super) async fn wait_idle(&self) {
        let mut jobs = self.jobs.subscribe();
        // As above: the sender lives as long as `self`.
        let _ = jobs.wait_for(|&jobs| jobs == 0).await;
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    pub(super) fn drain(&self) {
        lock(&self.mailbox).draining = true;
        self.draining.store(true, Ordering::Relaxed);
    }

    pub(super) fn cut_off(&self, why: EngineError) {
        self.drain();
        self.cut_why.get_or_init(|| why);
        self.cut.cancel();
        self.news.notify_all();
    }

    /// Cancelled by [`Shared::cut_off`].
    pub(super) fn cut(&self) -> CancellationToken {
        self.cut.clone()
    }

    /// Resolves once jobs are cut off, with why.
    pub(super) async fn wait_cut_off(&self) -> EngineError {
        self.cut.cancelled().await;
        self.cut_why()
    }

    /// Why jobs were cut off.
    pub(super) fn cut_why(&self) -> EngineError {
        self.cut_why.get().cloned().unwrap_or(EngineError::Stopped)
    }

    pub(super) fn close(&self) {
        lock(&self.mailbox).closed = true;
        self.news.notify_all();
    }

    /// With `promised` also while draining: whoever drains waits for what was promised, or cuts it off.
    pub(super) fn admit(
        &self,
        caller: Caller,
        ticket: Ticket,
        bytes: usize,
        promised: bool,
    ) -> Result<(), EngineError> {
        let mut mailbox = lock(&self.mailbox);
        if mailbox.ended {
            return Err(EngineError::Stopped);
        }
        if mailbox.draining && !promised {
            return Err(EngineError::ShuttingDown);
        }
        if self.cut.is_cancelled() {
            return Err(self.cut_why());
        }
        let (deadline, now) = (ticket.job.deadline, ticket.submitted);
        if let Err(Full { item, why }) = mailbox.queue.push(caller, ticket, bytes, deadline, now) {
            mailbox.refused += 1;
            drop(mailbox);
            // Its images are freed outside the lock.
            drop(item);
            return Err(why.into());
        }
        self.jobs.send_modify(|jobs| *jobs += 1);
        drop(mailbox);
        self.news.notify_all();
        Ok(())
    }

    /// Refuses, and counts it, where there will be no room for one more job of this caller while others are being prepared.
    pub(super) fn expect_room(&self, caller: Caller, beside: Preparing) -> Result<(), EngineError> {
        let mut mailbox = lock(&self.mailbox);
        if mailbox.draining {
            return Err(EngineError::ShuttingDown);
        }
        match mailbox.queue.full_beside(caller, beside, Instant::now()) {
            None => Ok(()),
            Some(why) => {
                mailbox.refused += 1;
                Err(why.into())
            }
        }
    }

    pub(super) fn ask_health(&self, reply: HealthReply) -> Result<(), EngineError> {
        let mut mailbox = lock(&self.mailbox);
        if mailbox.ended {
            return Err(EngineError::Stopped);
        }
        // Probes that have timed out must not pile up behind a step that hangs.
        mailbox.health.retain(|waiting| !waiting.is_closed());
        mailbox.health.push(reply);
        drop(mailbox);
        self.news.notify_all();
        Ok(())
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.busy_for() > self.config.stall_after
    }

    /// How long the call into the backend that is under way has taken so far.
    fn busy_for(&self) -> Duration {
        match self.busy_since.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => self.started.elapsed().saturating_sub(Duration::from_millis(since - 1)),
        }
    }

    /// Resolves when a call into the backend has taken longer than [`EngineConfig::give_up_after`].
    pub(super) async fn wait_hung(&self) {
        let limit = self.config.give_up_after;
        while self.busy_for() <= limit {
            tokio::time::sleep((limit / 4).max(Duration::from_millis(1))).await;
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let mut stats = *lock(&self.stats);
        let mailbox = lock(&self.mailbox);
        stats.queued_jobs = mailbox.queue.len();
        stats.queued_bytes = mailbox.queue.bytes();
        stats.jobs_refused = mailbox.refused;
        stats
    }

    // ---- for the thread ----

    /// Takes what has come. `room` says whether a job that stands there in the queue may join, and takes its part of the room; it is asked
    /// anew after each that does. With `idle` it waits until there is something.
    pub(super) fn take_mail(&self, idle: bool, mut room: impl FnMut(&Job, Standing) -> bool) -> Mail {
        let mut mailbox = lock(&self.mailbox);
        loop {
            let mut mail = Mail {
                removed: mailbox.queue.sweep(Instant::now(), |t| t.events.is_closed()),
                ..Mail::default()
            };
            mail.health = std::mem::take(&mut mailbox.health);
            while let Some(ticket) = mailbox.queue.pop_if(|ticket, place| room(&ticket.job, place)) {
                mail.joining.push(ticket);
            }
            let nothing = mail.joining.is_empty() && mail.removed.is_empty() && mail.health.is_empty();
            mail.over = idle && nothing && mailbox.closed;
            if !idle || !nothing || mail.over {
                return mail;
            }
            mailbox = self.news.wait(mailbox).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Says that so many admitted jobs have ended and their callers have been told.
    pub(super) fn departed(&self, count: usize) {
        if count > 0 {
            let mut mailbox = lock(&self.mailbox);
            self.jobs.send_modify(|jobs| *jobs = jobs.saturating_sub(count));
            let rest = *self.jobs.borrow() == 0;
            mailbox
                .queue
                .departed(u32::try_from(count).unwrap_or(u32::MAX), rest, Instant::now());
        }
    }

    pub(super) fn loaded(&self, facts: Arc<Facts>) {
        self.facts.get_or_init(|| facts);
        self.phase.send_replace(Phase::Ready);
    }

    /// The thread is at its end: who waits is answered, who comes is refused.
    pub(super) fn end(&self, phase: Phase) {
        let mut mailbox = lock(&self.mailbox);
        mailbox.ended = true;
        while let Some(ticket) = mailbox.queue.pop() {
            // A caller that has left needs no answer.
            let _ = ticket.events.send(Event::Failed(EngineError::Stopped));
        }
        for reply in mailbox.health.drain(..) {
            let _ = reply.send(Err(EngineError::Stopped));
        }
        drop(mailbox);
        self.busy_since.store(0, Ordering::Relaxed);
        self.phase.send_replace(phase);
        self.jobs.send_replace(0);
    }

    /// Runs a call into the backend under the watchdog's eye.
    pub(super) fn watched<R>(&self, call: impl FnOnce() -> R) -> R {
        let since = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1) + 1;
        self.busy_since.store(since, Ordering::Relaxed);
        let result = call();
        self.busy_since.store(0, Ordering::Relaxed);
        result
    }

    /// Shows how far the thread has come; gives the whole picture, the queue included.
    pub(super) fn publish(&self, stats: Stats) -> Stats {
        *lock(&self.stats) = stats;
        self.stats()
    }
}
