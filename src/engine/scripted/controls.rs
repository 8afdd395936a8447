//! The test's end of a scripted backend: what is recorded, held, slowed and failed.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[cfg(doc)]
use super::{Backend, ScriptedBackend};
use crate::engine::Span;
use crate::vocabulary::TokenId;

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It returns an error.
    Error,
    /// It panics.
    Panic,
    /// It returns logits (or, in vision, codes) that make no sense.
    Nonsense,
}

/// A part of a recorded step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentRecord {
    /// Its span.
    pub span: Span,
    /// Position of its first token.
    pub position: usize,
    /// How many tokens.
    pub tokens: usize,
    /// Rows of logits that were wanted.
    pub logits: usize,
}

/// A recorded call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// [`Backend::step`].
    Step(Vec<SegmentRecord>),
    /// [`Backend::vision_begin`] with so many images to encode.
    Encode(usize),
    /// [`Backend::vision_begin`] with so many images to draw.
    Decode(usize),
    /// [`Backend::vision_advance`].
    Slice,
    /// [`Backend::vision_cancel`].
    Cancel,
    /// [`Backend::health`].
    Health,
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    steps: usize,
    passes: usize,
    delay: Duration,
    /// `None`: calls run freely; otherwise so many more may.
    permits: Option<usize>,
    step_faults: HashMap<usize, Fault>,
    pass_faults: HashMap<usize, Fault>,
    every_step: Option<Fault>,
    spoilt: Option<TokenId>,
}

/// The test's end of a [`ScriptedBackend`]; works while the backend runs in the engine's thread.
#[derive(Clone, Default)]
pub struct Controls {
    state: Arc<(Mutex<State>, Condvar)>,
}

impl Controls {
    fn lock(&self) -> MutexGuard<'_, State> {
        // A scripted panic happens outside the lock.
        self.state.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.state.1.notify_all();
    }

    /// Every further call (steps, VQ-GAN, health) is recorded and then waits: a stuck device.
    pub fn pause(&self) {
        self.change(|state| state.permits = Some(0));
    }

    /// Lets so many waiting or coming calls through.
    pub fn allow(&self, calls: usize) {
        self.change(|state| state.permits = state.permits.map(|permits| permits + calls));
    }

    /// Calls run freely again.
    pub fn resume(&self) {
        self.change(|state| state.permits = None);
    }

    /// Each step and each VQ-GAN slice takes so long.
    pub fn slow(&self, delay: Duration) {
        self.change(|state| state.delay = delay);
    }

    /// The step with this number (from 0, counted from the start) fails.
    pub fn fail_step(&self, number: usize, fault: Fault) {
        self.change(|state| state.step_faults.extend([(number, fault)]));
    }

    /// The VQ-GAN pass with this number (from 0) fails in its first slice.
    pub fn fail_pass(&self, number: usize, fault: Fault) {
        self.change(|state| state.pass_faults.extend([(number, fault)]));
    }

    /// Every step and every health check fails from now on, or no longer.
    pub fn fail_always(&self, fault: Option<Fault>) {
        self.change(|state| state.every_step = fault);
    }

    /// Logits after a sequence that holds this token are not finite from now on, as where a row of the embedding is damaged.
    pub fn spoil(&self, token: TokenId) {
        self.change(|state| state.spoilt = Some(token));
    }

    pub(super) fn spoilt(&self) -> Option<TokenId> {
        self.lock().spoilt
    }

    /// All calls so far, those that wait included.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// Steps begun so far.
    pub fn steps(&self) -> usize {
        self.lock().steps
    }

    /// Waits (in this thread) until a recorded call meets the condition; `false` after ten seconds without.
    pub fn wait_for(&self, met: impl Fn(&[Call]) -> bool) -> bool {
        let limit = Duration::from_secs(10);
        let waited = self
            .state
            .1
            .wait_timeout_while(self.lock(), limit, |state| !met(&state.calls));
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Records a call and waits for its permit.
    pub(super) fn enter(&self, call: Call) -> Option<Fault> {
        let mut state = self.lock();
        let fault = match call {
            Call::Step(_) => {
                state.steps += 1;
                let number = state.steps - 1;
                state.step_faults.get(&number).copied()
            }
            Call::Encode(_) | Call::Decode(_) => {
                state.passes += 1;
                let number = state.passes - 1;
                state.pass_faults.get(&number).copied()
            }
            Call::Slice | Call::Cancel | Call::Health => None,
        };
        let (slow, stepping) = (
            matches!(call, Call::Step(_) | Call::Slice),
            matches!(call, Call::Step(_) | Call::Health),
        );
        state.calls.push(call);
        self.state.1.notify_all();
        while state.permits == Some(0) {
            state = self.state.1.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.permits = state.permits.map(|permits| permits - 1);
        let (delay, always) = (state.delay, state.every_step.filter(|_| stepping));
        drop(state);
        if slow && !delay.is_zero() {
            std::thread::sleep(delay);
        }
        fault.or(always)
    }
}
