//! The admission queue: bounded in jobs and in bytes, first come first served, pure (time is passed in).
//!
//! `push` never waits and never drops: when there is no room it hands the item back, and the caller is told when to try again.
//! Fairness is that of one line, in which few may pass who asks for much: whoever takes from it says who may, and nobody is passed by more than
//! [`MOST_PASSES`] others. The scheduler decides what runs side by side. Who has left or is too late is taken out before it can join a batch.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Weight of the newest departure in the running mean of the pace: one part in so many.
const NEWEST: u32 = 8;
/// Bounds of the advice given to refused callers.
const RETRY: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(120);
/// Advice while nothing has been finished yet.
const RETRY_UNKNOWN: Duration = Duration::from_secs(2);

/// So many may pass an item before it is taken.
const MOST_PASSES: u32 = 16;

/// An item that found no room, and when to try again.
#[derive(Debug)]
pub struct Full<T> {
    /// The item, handed back.
    pub item: T,
    /// When there will probably be room.
    pub retry_after: Duration,
}

/// Why an entry was taken out before its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removed {
    /// Its caller has left.
    Left,
    /// Its deadline has passed.
    Late,
}

struct Entry<T> {
    item: T,
    bytes: usize,
    deadline: Option<Instant>,
    /// How many have passed it: no more than have passed any that stands before it.
    passed: u32,
}

/// Where in the line an item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is the first.
    First,
    /// It would pass the first.
    Behind,
}

/// A bounded first-in first-out queue.
pub struct Queue<T> {
    entries: VecDeque<Entry<T>>,
    bytes: usize,
    max_jobs: usize,
    max_bytes: usize,
    /// Mean time from one departure to the next while there was work; `None` before the first.
    pace: Option<Duration>,
    /// The last departure, or the arrival that ended the rest; `None` while there is no work.
    since: Option<Instant>,
}

impl<T> Queue<T> {
    /// An empty queue for at most `max_jobs` items that hold at most `max_bytes` bytes together.
    pub fn new(max_jobs: usize, max_bytes: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            max_jobs,
            max_bytes,
            pace: None,
            since: None,
        }
    }

    /// Items that wait.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends an item, or hands it back with advice on when to try again.
    pub fn push(&mut self, item: T, bytes: usize, deadline: Option<Instant>, now: Instant) -> Result<(), Full<T>> {
        let fits = self
            .bytes
            .checked_add(bytes)
            .is_some_and(|total| total <= self.max_bytes);
        if self.entries.len() >= self.max_jobs || !fits {
            return Err(Full {
                item,
                retry_after: self.retry_after(bytes, now),
            });
        }
        self.since.get_or_insert(now);
        self.bytes += bytes;
        self.entries.push_back(Entry {
            item,
            bytes,
            deadline,
            passed: 0,
        });
        Ok(())
    }

    /// Takes the first item.
    pub fn pop(&mut self) -> Option<T> {
        let entry = self.entries.pop_front()?;
        self.bytes -= entry.bytes;
        Some(entry.item)
    }

    /// Takes the first item if it is `wanted`; otherwise the first behind it that is, unless too many have passed the first one already.
    pub fn pop_if(&mut self, mut wanted: impl FnMut(&T, Place) -> bool) -> Option<T> {
        let first = self.entries.front()?;
        if wanted(&first.item, Place::First) {
            return self.pop();
        }
        if first.passed >= MOST_PASSES {
            return None;
        }
        let mut behind = self.entries.iter().skip(1);
        let place = 1 + behind.position(|entry| wanted(&entry.item, Place::Behind))?;
        let entry = self.entries.remove(place)?;
        self.entries.range_mut(..place).for_each(|entry| entry.passed += 1);
        self.bytes -= entry.bytes;
        Some(entry.item)
    }

    /// Takes out all whose caller `left` or whose deadline has passed.
    pub fn sweep(&mut self, now: Instant, left: impl Fn(&T) -> bool) -> Vec<(T, Removed)> {
        let mut removed = Vec::new();
        for _ in 0..self.entries.len() {
            let Some(entry) = self.entries.pop_front() else { break };
            let why = if left(&entry.item) {
                Some(Removed::Left)
            } else if entry.deadline.is_some_and(|d| d <= now) {
                Some(Removed::Late)
            } else {
                None
            };
            match why {
                Some(why) => {
                    self.bytes -= entry.bytes;
                    removed.push((entry.item, why));
                }
                None => self.entries.push_back(entry),
            }
        }
        removed
    }

    /// Notes that so many admitted jobs have ended, however they ended: the measure of throughput. `rest` says that none is left.
    pub fn departed(&mut self, count: u32, rest: bool, now: Instant) {
        if let Some(since) = self.since.filter(|_| count > 0) {
            let newest = now.saturating_duration_since(since) / count;
            self.pace = Some(self.pace.map_or(newest, |mean| (mean * (NEWEST - 1) + newest) / NEWEST));
            self.since = Some(now);
        }
        if rest {
            self.since = None;
        }
    }

    /// When to try again, if there is no room for one more item while `beside` others are on their way here.
    pub fn full_beside(&self, beside: usize, now: Instant) -> Option<Duration> {
        (self.entries.len() + beside >= self.max_jobs).then(|| self.retry_after(0, now))
    }

    /// When an item of `bytes` will probably find room: so many departures as make room for it, at the recent pace.
    fn retry_after(&self, bytes: usize, now: Instant) -> Duration {
        let Some(pace) = self.pace else { return RETRY_UNKNOWN };
        // A departure that is long in coming says more than those of the past.
        let pace = self
            .since
            .map_or(pace, |since| pace.max(now.saturating_duration_since(since)));
        let mut excess = self.bytes.saturating_add(bytes).saturating_sub(self.max_bytes);
        let mut needed = 1u32;
        for entry in &self.entries {
            excess = excess.saturating_sub(entry.bytes);
            if excess == 0 {
                break;
            }
            needed += 1;
        }
        pace.saturating_mul(needed).clamp(*RETRY.start(), *RETRY.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_full_queue_hands_the_job_back() {
        let now = Instant::now();
        let mut queue = Queue::new(1, 100);
        queue.push("first", 10, None, now).unwrap();
        let full = queue.push("second", 10, None, now).unwrap_err();
        assert_eq!(full.item, "second");
        assert!(RETRY.contains(&full.retry_after));
        assert_eq!((queue.len(), queue.bytes()), (1, 10));
    }

    #[test]
    fn what_waits_is_bounded_in_bytes_not_only_in_jobs() {
        let now = Instant::now();
        let mut queue = Queue::new(100, 25);
        queue.push(1, 20, None, now).unwrap();
        assert_eq!(queue.push(2, 6, None, now).unwrap_err().item, 2);
        assert_eq!(queue.push(3, usize::MAX, None, now).unwrap_err().item, 3);
        queue.push(4, 5, None, now).unwrap();
        assert_eq!(queue.pop(), Some(1));
        queue.push(5, 20, None, now).unwrap();
        assert_eq!(queue.bytes(), 25);
    }

    #[test]
    fn few_pass_the_first_and_only_those_that_may() {
        let now = Instant::now();
        let mut queue = Queue::new(100, 1000);
        for item in 0..60 {
            queue.push(item, 1, None, now).unwrap();
        }
        let mut passing = Vec::new();
        while let Some(item) = queue.pop_if(|item, place| place == Place::Behind && item % 2 == 1) {
            passing.push(item);
        }
        assert_eq!(passing, (0..MOST_PASSES).map(|n| 2 * n + 1).collect::<Vec<_>>());
        assert_eq!((queue.len(), queue.bytes()), (44, 44));
        assert_eq!(queue.pop_if(|_, place| place == Place::First), Some(0));
        assert_eq!(
            queue.pop_if(|&item, place| place == Place::Behind && item == 33),
            Some(33)
        );
        // Sixteen have passed the one that is first now.
        assert_eq!(queue.pop_if(|_, place| place == Place::Behind), None);
        assert_eq!((queue.pop(), queue.pop()), (Some(2), Some(4)));
    }

    #[test]
    fn who_left_and_who_is_late_never_reaches_a_batch() {
        let now = Instant::now();
        let mut queue = Queue::new(10, 100);
        queue.push(1, 1, None, now).unwrap();
        queue.push(2, 1, Some(now + seconds(1)), now).unwrap();
        queue.push(3, 1, Some(now + seconds(3)), now).unwrap();
        let removed = queue.sweep(now + seconds(2), |&item| item == 1);
        assert_eq!(removed, vec![(1, Removed::Left), (2, Removed::Late)]);
        assert_eq!((queue.pop(), queue.pop(), queue.bytes()), (Some(3), None, 0));
    }

    #[test]
    fn the_advice_follows_the_recent_pace_and_the_room_needed() {
        let start = Instant::now();
        let mut queue = Queue::new(10, 40);
        for i in 0..4 {
            queue.push(i, 10, None, start).unwrap();
        }
        assert_eq!(queue.push(9, 10, None, start).unwrap_err().retry_after, RETRY_UNKNOWN);
        queue.departed(2, false, start + seconds(20));
        let now = start + seconds(25);
        assert_eq!(queue.push(9, 10, None, now).unwrap_err().retry_after, seconds(10));
        assert_eq!(queue.push(9, 25, None, now).unwrap_err().retry_after, seconds(30));
        assert_eq!(
            queue.push(9, 10, None, start + seconds(50)).unwrap_err().retry_after,
            seconds(30),
            "it has become slower"
        );
        assert_eq!(
            queue
                .push(9, 10, None, start + seconds(10_000))
                .unwrap_err()
                .retry_after,
            *RETRY.end()
        );
    }

    #[test]
    fn a_rest_does_not_count_as_slowness() {
        let start = Instant::now();
        let mut queue = Queue::new(1, 100);
        queue.push(1, 1, None, start).unwrap();
        queue.pop();
        queue.departed(1, true, start + seconds(4));
        let later = start + seconds(3600);
        queue.push(2, 1, None, later).unwrap();
        assert_eq!(queue.push(3, 1, None, later).unwrap_err().retry_after, seconds(4));
    }

    proptest! {
        #[test]
        fn order_is_kept_and_bytes_add_up(ops in prop::collection::vec((0u8..4, 0usize..50), 0..200)) {
            let now = Instant::now();
            let mut queue = Queue::new(8, 120);
            let mut expected: VecDeque<(usize, usize)> = VecDeque::new();
            for (number, (op, bytes)) in ops.into_iter().enumerate() {
                match op {
                    0 | 1 => match queue.push((number, bytes), bytes, None, now) {
                        Ok(()) => expected.push_back((number, bytes)),
                        Err(full) => prop_assert_eq!(full.item, (number, bytes)),
                    },
                    2 => prop_assert_eq!(queue.pop(), expected.pop_front()),
                    _ => {
                        queue.sweep(now, |&(n, _)| n % 3 == 0);
                        expected.retain(|&(n, _)| n % 3 != 0);
                    }
                }
                prop_assert_eq!(queue.len(), expected.len());
                prop_assert_eq!(queue.bytes(), expected.iter().map(|e| e.1).sum::<usize>());
                prop_assert!(queue.len() <= 8 && queue.bytes() <= 120);
            }
        }
    }
}
