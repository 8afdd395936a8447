//! Batches made ahead by worker threads and handed out in order, with bounded memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::train::common::TrainError;

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

    /// The next item; waits until it is made.
    pub fn next(&self) -> Result<T, TrainError> {
        let mut state = lock(&self.shared);
        loop {
            let number = state.to_give;
            if let Some(item) = state.ready.remove(&number) {
                state.to_give += 1;
                self.shared.changed.notify_all();
                return Ok(item);
            }
            if state.broken {
                return Err(TrainError::LoaderEnded);
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<T> Drop for Loader<T> {
    fn drop(&mut self) {
        lock(&self.shared).closed = true;
        self.shared.changed.notify_all();
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }
}

/// Says that a worker unwound, so that nobody waits for its item.
struct Alarm<'a, T>(&'a Shared<T>);

impl<T> Drop for Alarm<'_, T> {
    fn drop(&mut self) {
        if thread::panicking() {
            lock(self.0).broken = true;
            self.0.changed.notify_all();
        }
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
            assert_eq!(loader.next().unwrap(), n * n);
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
        assert!(loader.next().is_ok() && loader.next().is_ok());
        assert!(matches!(loader.next(), Err(TrainError::LoaderEnded)));
    }
}
