//! Batches made ahead by worker threads and handed out in order, with bounded memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::train::common::TrainError;

/// How often whoever waits for an item asks whether to stop.
const ASKS_EACH: Duration = Duration::from_millis(500);

/// So long the end waits for workers. One that is still at work then may read a file that never comes, and is left alone.
const ENDS_WITHIN: Duration = Duration::from_secs(2);

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    /// Next number that a worker takes.
    to_make: u64,
    /// Next number that is handed out.
    to_give: u64,
    ready: BTreeMap<u64, T>,
    closed: bool,
    broken: bool,
    /// Workers that have not ended.
    at_work: usize,
}

/// Makes items `first, first + 1, …` on worker threads. What item a number gives must depend on the number alone: then the order of
/// items does not depend on the threads.
pub struct Loader<T> {
    shared: Arc<Shared<T>>,
    workers: Vec<JoinHandle<()>>,
}

impl<T: Send + 'static> Loader<T> {
    /// Starts `workers` threads that keep at most `ahead` items made or in the making.
    pub fn start(make: impl Fn(u64) -> T + Send + Sync + 'static, first: u64, workers: usize, ahead: usize) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                to_make: first,
                to_give: first,
                ready: BTreeMap::new(),
                closed: false,
                broken: false,
                at_work: workers.max(1),
            }),
            changed: Condvar::new(),
        });
        let make = Arc::new(make);
        let ahead = ahead.max(1) as u64;
        let workers = (0..workers.max(1))
            .map(|_| {
                let (shared, make) = (shared.clone(), make.clone());
                thread::spawn(move || work(&shared, &*make, ahead))
            })
            .collect();
        Self { shared, workers }
    }

    /// The next item; waits until it is made. `None` where that takes long and `stop` says to end: the file that it is made of may never come.
    pub fn next(&self, stop: &dyn Fn() -> bool) -> Result<Option<T>, TrainError> {
        let mut state = lock(&self.shared);
        loop {
            let number = state.to_give;
            if let Some(item) = state.ready.remove(&number) {
                state.to_give += 1;
                self.shared.changed.notify_all();
                return Ok(Some(item));
            }
            if state.broken {
                return Err(TrainError::LoaderEnded);
            }
            let waited = self.shared.changed.wait_timeout(state, ASKS_EACH);
            let (after, time) = waited.unwrap_or_else(PoisonError::into_inner);
            if time.timed_out() && stop() {
                return Ok(None);
            }
            state = after;
        }
    }
}

impl<T> Drop for Loader<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.shared);
        state.closed = true;
        self.shared.changed.notify_all();
        let busy = |state: &mut State<T>| state.at_work > 0;
        let waited = self.shared.changed.wait_timeout_while(state, ENDS_WITHIN, busy);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let ended = state.at_work == 0;
        drop(state);
        for worker in self.workers.drain(..).filter(|_| ended) {
            let _ = worker.join();
        }
    }
}

/// Says that a worker has ended, and whether it unwound, so that nobody waits for its item.
struct Alarm<'a, T>(&'a Shared<T>);

impl<T> Drop for Alarm<'_, T> {
    fn drop(&mut self) {
        let mut state = lock(self.0);
        state.at_work -= 1;
        state.broken |= thread::panicking();
        drop(state);
        self.0.changed.notify_all();
    }
}

fn work<T>(shared: &Shared<T>, make: &(impl Fn(u64) -> T + ?Sized), ahead: u64) {
    let _alarm = Alarm(shared);
    loop {
        let number = {
            let mut state = lock(shared);
            while !state.closed && state.to_make >= state.to_give + ahead {
                state = shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.closed {
                return;
            }
            state.to_make += 1;
            state.to_make - 1
        };
        let item = make(number);
        lock(shared).ready.insert(number, item);
        shared.changed.notify_all();
    }
}

fn lock<T>(shared: &Shared<T>) -> MutexGuard<'_, State<T>> {
    shared.state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Instant;

    use super::*;

    #[test]
    fn items_come_in_order_and_never_more_than_allowed_are_ahead() {
        let made = Arc::new(AtomicU64::new(0));
        let counter = made.clone();
        let loader = Loader::start(
            move |n| {
                counter.fetch_add(1, Ordering::SeqCst);
                if n % 3 == 0 {
                    thread::yield_now();
                }
                n * n
            },
            7,
            4,
            5,
        );
        for n in 7..200 {
            assert_eq!(loader.next(&|| false).unwrap(), Some(n * n));
            // Taken so far, plus what may lie ahead.
            assert!(made.load(Ordering::SeqCst) <= (n - 6) + 5);
        }
    }

    #[test]
    fn a_worker_that_panics_ends_the_wait_with_an_error() {
        let loader = Loader::start(
            |n| {
                assert!(n < 2, "a broken reader");
                n
            },
            0,
            1,
            2,
        );
        let next = || loader.next(&|| false);
        assert!(next().is_ok() && next().is_ok());
        assert!(matches!(next(), Err(TrainError::LoaderEnded)));
    }

    #[test]
    fn who_is_asked_to_stop_does_not_wait_for_an_item_that_never_comes_nor_for_its_worker() {
        let (hold, held) = std::sync::mpsc::sync_channel::<()>(0);
        let held = Mutex::new(held);
        let make = move |n: u64| {
            if n == 1 {
                let _ = held.lock().unwrap().recv();
            }
            n
        };
        let loader = Loader::start(make, 0, 2, 4);
        assert_eq!(loader.next(&|| false).unwrap(), Some(0));
        let begun = Instant::now();
        assert_eq!(loader.next(&|| true).unwrap(), None);
        drop(loader);
        assert!(begun.elapsed() < Duration::from_secs(60));
        drop(hold);
    }
}
