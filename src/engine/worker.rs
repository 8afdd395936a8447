//! The engine's thread: loads the model, then turns: mail, departures, one token step, a slice of VQ-GAN.
//!
//! Every call into the backend runs under the watchdog's eye and with panics caught. A call that fails ends the jobs that took
//! part in it, with a typed error, and no others; too many failures in a row end the engine, which the process must notice
//! ([`Engine::stopped`](super::Engine::stopped)). A step that gives logits of no use to some of its jobs ends these, and is no failure.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::mpsc;

use super::farewell::{Departure, Farewell};
use super::queue::Removed;
use super::sampler::SampleError;
use super::scheduler::{JobId, Plan, Scheduler};
use super::shared::{Mail, Phase, Shared, Ticket};
use super::{Backend, BackendError, EngineError, Event, Facts, Stats, admission, metrics};

/// The body of the thread.
pub(super) fn run<F>(shared: Arc<Shared>, make: F)
where
    F: FnOnce() -> Result<Box<dyn Backend>, BackendError>,
{
    let end = match catch_unwind(AssertUnwindSafe(|| load_and_serve(&shared, make))) {
        Ok(end) => end,
        Err(_) => Phase::Failed("the engine's thread panicked".into()),
    };
    if let Phase::Failed(why) = &end {
        tracing::error!(reason = %why, "the engine has ended");
    }
    shared.end(end);
}

fn load_and_serve<F>(shared: &Arc<Shared>, make: F) -> Phase
where
    F: FnOnce() -> Result<Box<dyn Backend>, BackendError>,
{
    let backend = match guarded(make) {
        Ok(backend) => backend,
        Err(error) => return Phase::Failed(error.0),
    };
    let facts = Arc::new(backend.facts().clone());
    if let Err(why) = admission::agree(&facts, &shared.rules) {
        return Phase::Failed(why);
    }
    let mut worker = Worker::new(Arc::clone(shared), backend, Arc::clone(&facts));
    worker.publish();
    shared.loaded(facts);
    loop {
        match worker.turn() {
            Turn::Next => {}
            Turn::Over => return Phase::Stopped,
            Turn::Broken(why) => return Phase::Failed(why),
        }
    }
}

/// Catches a panic as an error. Nothing is told of its text, which may hold anything, but that memory ran out: operators can mend that.
fn guarded<R>(call: impl FnOnce() -> Result<R, BackendError>) -> Result<R, BackendError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        // Some calls into libtorch are made so that they give errors.
        Ok(Err(BackendError(text))) if memory_ran_out(&text) => Err(BackendError(format!("{MEMORY_RAN_OUT} ({text})"))),
        Ok(result) => result,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or_default();
            let why = match memory_ran_out(text) {
                true => MEMORY_RAN_OUT,
                false => "the model panicked",
            };
            Err(BackendError(why.into()))
        }
    }
}

/// What operators can do where memory runs out.
const MEMORY_RAN_OUT: &str = "memory ran out: give the KV cache (--kv-memory), the batch (--max-batch) or a prefill \
                              (--prefill-chunk) less; where the weights alone take it all, serve a smaller bundle";

/// How libtorch's allocators for CUDA and the CPU complain.
const OUT_OF_MEMORY: [&str; 2] = ["out of memory", "can't allocate memory"];

fn memory_ran_out(text: &str) -> bool {
    OUT_OF_MEMORY.iter().any(|words| text.contains(words))
}

/// Drops the pass under way. It has nothing to answer; should it panic, the next pass will show what is wrong.
fn cancel(shared: &Shared, backend: &mut dyn Backend) {
    let cancel = || {
        backend.vision_cancel();
        Ok(())
    };
    let _: Result<(), BackendError> = shared.watched(|| guarded(cancel));
}

/// How a turn ended.
enum Turn {
    Next,
    Over,
    Broken(String),
}

/// Who gets a job's events, and until when.
struct Client {
    events: mpsc::UnboundedSender<Event>,
    /// Why it listens no more, once it does not.
    farewell: Arc<Farewell>,
    deadline: Option<Instant>,
}

/// Failures in a row, of steps or of VQ-GAN passes.
#[derive(Default)]
struct Faults {
    in_a_row: u32,
    /// What the last of them said. It holds no user data.
    last: String,
}

impl Faults {
    fn count(&mut self, why: &str) {
        self.in_a_row += 1;
        why.clone_into(&mut self.last);
    }

    /// Why the engine ends, if so many `what` are too many.
    fn too_many(&self, what: &str, limit: u32) -> Option<String> {
        let Self { in_a_row, last } = self;
        (*in_a_row >= limit).then(|| format!("{in_a_row} {what} in a row failed, the last with: {last}"))
    }
}

struct Worker {
    shared: Arc<Shared>,
    backend: Box<dyn Backend>,
    scheduler: Scheduler,
    clients: BTreeMap<JobId, Client>,
    next_job: JobId,
    step_faults: Faults,
    pass_faults: Faults,
    stats: Stats,
    /// Jobs that have ended since the handles were last told.
    departing: usize,
}

impl Worker {
    fn new(shared: Arc<Shared>, mut backend: Box<dyn Backend>, facts: Arc<Facts>) -> Self {
        let mut scheduler = Scheduler::new(&shared.config, facts, shared.rules.clone());
        scheduler.use_drafts(backend.drafts());
        Self {
            shared,
            backend,
            scheduler,
            clients: BTreeMap::new(),
            next_job: 0,
            step_faults: Faults::default(),
            pass_faults: Faults::default(),
            stats: Stats::default(),
            departing: 0,
        }
    }

    fn turn(&mut self) -> Turn {
        let idle = self.scheduler.is_empty() && !self.scheduler.vision_under_way();
        let mut room = self.scheduler.room();
        let mail = self.shared.take_mail(idle, |job, place| room.admit(job, place));
        let over = mail.over;
        self.receive(mail);
        self.let_go();
        let now = Instant::now();
        let plan = self.scheduler.plan(now);
        if plan.is_empty() && !self.scheduler.has_vision_work() {
            // Admission and the scheduler's order see to it that whoever is left can run; a job that cannot must not wait for ever.
            for id in self.clients.keys().copied().collect::<Vec<_>>() {
                self.scheduler
                    .fail(id, EngineError::Step("the scheduler found no way to run it".into()));
            }
        }
        self.step(&plan, now);
        self.tell();
        self.see();
        self.tell();
        let limit = self.shared.config.faults_before_exit.max(1);
        let steps = self.step_faults.too_many("steps", limit);
        if let Some(why) = steps.or_else(|| self.pass_faults.too_many("VQ-GAN passes", limit)) {
            for id in self.clients.keys().copied().collect::<Vec<_>>() {
                self.scheduler.fail(id, EngineError::Stopped);
            }
            self.tell();
            return Turn::Broken(why);
        }
        if over { Turn::Over } else { Turn::Next }
    }

    /// Answers health, takes in who may join, answers who has waited in vain.
    fn receive(&mut self, mail: Mail) {
        if !mail.health.is_empty() {
            let (shared, backend) = (&self.shared, &mut self.backend);
            let result = shared
                .watched(|| guarded(|| backend.health()))
                .map_err(|error| EngineError::Step(error.0));
            for reply in mail.health {
                // A probe that no longer waits needs no answer.
                let _ = reply.send(result.clone());
            }
        }
        for (ticket, why) in mail.removed {
            match why {
                Removed::Left => self.depart(ticket.farewell.said()),
                Removed::Late => {
                    self.stats.jobs_failed += 1;
                    let _ = ticket.events.send(Event::Failed(EngineError::DeadlineExceeded));
                }
            }
            self.departing += 1;
        }
        for Ticket {
            job,
            events,
            farewell,
            submitted,
        } in mail.joining
        {
            let id = self.next_job;
            self.next_job += 1;
            self.clients.insert(
                id,
                Client {
                    events,
                    farewell,
                    deadline: job.deadline,
                },
            );
            self.scheduler.join(id, job, submitted);
        }
    }

    /// Counts a job that nobody listens to any more.
    fn depart(&mut self, why: Departure) {
        match why {
            Departure::Left => self.stats.jobs_cancelled += 1,
            Departure::Enough => self.stats.jobs_done += 1,
            Departure::GivenUp => self.stats.jobs_failed += 1,
        }
    }

    /// Takes out who has left and who is too late, before the next step.
    fn let_go(&mut self) {
        let left: Vec<JobId> = self
            .clients
            .iter()
            .filter(|(_, client)| client.events.is_closed())
            .map(|(&id, _)| id)
            .collect();
        for id in left {
            let client = self.clients.remove(&id);
            self.scheduler.remove(id);
            self.depart(client.map_or_else(Departure::default, |client| client.farewell.said()));
            self.departing += 1;
        }
        let now = Instant::now();
        let late = self
            .clients
            .iter()
            .filter(|(_, client)| client.deadline.is_some_and(|deadline| deadline <= now));
        for id in late.map(|(&id, _)| id).collect::<Vec<_>>() {
            self.scheduler.fail(id, EngineError::DeadlineExceeded);
        }
        self.tell();
    }

    /// Runs the planned step.
    fn step(&mut self, plan: &Plan, began: Instant) {
        if plan.is_empty() {
            return;
        }
        let samples = self.scheduler.samples(plan);
        let segments = self.scheduler.segments(plan);
        let (shared, backend) = (&self.shared, &mut self.backend);
        let run = || {
            for copy in plan.copies() {
                backend.copy(copy.from, copy.to, copy.len)?;
            }
            backend.step(&segments, &samples)
        };
        let result = shared.watched(|| guarded(run)).map_err(|error| error.0);
        drop(segments);
        let now = Instant::now();
        match result.and_then(|output| self.scheduler.absorb(plan, &output, began, now)) {
            Ok(failed) => {
                self.step_faults = Faults::default();
                if failed > 0 {
                    let reason = SampleError::NotFinite;
                    tracing::error!(jobs = failed, %reason, "the model failed on some of a batch");
                }
            }
            Err(why) => {
                self.step_faults.count(&why);
                self.fault(&why);
                self.scheduler.fail_step(plan, &EngineError::Step(why));
            }
        }
        metrics::step(plan.len(), began.elapsed());
    }

    /// Runs slices of VQ-GAN passes for as long as the configuration grants.
    fn see(&mut self) {
        let began = Instant::now();
        while self.see_slice() {
            if began.elapsed() >= self.shared.config.vision_slice {
                break;
            }
        }
    }

    /// Runs one slice; `false` when there is nothing to run.
    fn see_slice(&mut self) -> bool {
        let (shared, backend) = (&self.shared, &mut self.backend);
        if self.scheduler.drop_orphaned_pass() {
            cancel(shared, backend.as_mut());
        }
        if !self.scheduler.has_vision_work() {
            return false;
        }
        let work = self.scheduler.begin_vision(Instant::now());
        let advance = || {
            if let Some(work) = work {
                backend.vision_begin(work)?;
            }
            backend.vision_advance()
        };
        let result = match shared.watched(|| guarded(advance)) {
            Ok(None) => return true,
            Ok(Some(output)) => self.scheduler.finish_vision(output, Instant::now()),
            Err(error) => {
                // After a panic or a failed start the backend may still hold the pass.
                cancel(shared, backend.as_mut());
                self.scheduler.fail_vision(&EngineError::Step(error.0.clone()));
                Err(error.0)
            }
        };
        match result {
            Ok(()) => self.pass_faults = Faults::default(),
            Err(why) => {
                self.pass_faults.count(&why);
                self.fault(&why);
            }
        }
        true
    }

    fn fault(&mut self, why: &str) {
        self.stats.step_faults += 1;
        tracing::error!(reason = %why, "the model failed on a batch");
    }

    /// Sends what the scheduler has to tell. The counters are brought up to date first, so that who is told finds them right.
    fn tell(&mut self) {
        let told = self.scheduler.take();
        told.observations.into_iter().for_each(metrics::observe);
        for (_, event) in &told.events {
            match event {
                Event::Done => self.stats.jobs_done += 1,
                Event::Failed(_) => self.stats.jobs_failed += 1,
                _ => {}
            }
        }
        self.publish();
        for (id, event) in told.events {
            let last = matches!(event, Event::Done | Event::Failed(_));
            if let Some(client) = self.clients.get(&id) {
                // Who has left is taken out before the next step.
                let _ = client.events.send(event);
            }
            if last {
                self.clients.remove(&id);
                self.departing += 1;
            }
        }
        self.shared.departed(std::mem::take(&mut self.departing));
    }

    fn publish(&mut self) {
        let counters = self.scheduler.counters();
        self.stats.running_jobs = self.scheduler.job_count();
        self.stats.running_sequences = self.scheduler.running_sequences();
        self.stats.kv_tokens_used = self.scheduler.kv().used();
        self.stats.kv_tokens_total = self.scheduler.kv().total();
        self.stats.steps = counters.steps;
        self.stats.prompt_tokens = counters.prompt_tokens;
        self.stats.tokens_generated = counters.tokens_generated;
        self.stats.drafted_tokens = counters.drafted_tokens;
        self.stats.accepted_tokens = counters.accepted_tokens;
        self.stats.images_encoded = counters.images_encoded;
        self.stats.images_drawn = counters.images_drawn;
        metrics::publish(&self.shared.publish(self.stats));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_panic_only_that_memory_ran_out_is_told() {
        let told = |text: &'static str| {
            let fault = guarded(|| -> Result<(), _> { std::panic::panic_any(text.to_owned()) });
            fault.expect_err("a fault").0
        };
        assert_eq!(told("a report on a patient"), "the model panicked");
        for text in [
            "Torch(\"CUDA out of memory. Tried to allocate 2.00 GiB.\")",
            "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes",
        ] {
            let told = told(text);
            assert!(
                told.starts_with("memory ran out: ") && !told.contains("allocate"),
                "{told}"
            );
        }
    }

    #[test]
    fn where_memory_runs_out_an_error_says_what_to_do_too_and_another_stays_as_it_is() {
        let told = |text: &str| {
            guarded(|| Err::<(), _>(BackendError(text.to_owned())))
                .expect_err("a fault")
                .0
        };
        let text = "libtorch could not make tensor `embed_in.weight`: CUDA out of memory. Tried to allocate 2.00 GiB.";
        assert_eq!(told(text), format!("{MEMORY_RAN_OUT} ({text})"));
        assert_eq!(told("no such file"), "no such file");
    }
}
