//! The admission queue: bounded in jobs and in bytes, fair between callers, pure (time is passed in).
//!
//! `push` never waits and never drops: when there is no room it hands the item back, and the caller is told when to try again. Room is shared
//! as [`Caller::may_hold`] says: whoever fills the queue leaves some of it to others.
//!
//! Callers take turns: whoever has waited longest since its last turn is next, so one who comes now is before all that have been served since
//! it was. Each caller has one line, first come first served, in which few may pass who asks for much: whoever takes from it says who may, and
//! nobody is passed by more than [`MOST_PASSES`] others (turns of other callers aside). The scheduler decides what runs side by side. Who has
//! left or is too late is taken out before it can join a batch.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Caller, Preparing};

/// Weight of the newest departure in the running mean of the pace: one part in so many.
const NEWEST: u32 = 8;
/// Bounds of the advice given to refused callers.
const RETRY: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(120);
/// Advice while nothing has been finished yet.
const RETRY_UNKNOWN: Duration = Duration::from_secs(2);

/// So many may pass an item before it is taken.
const MOST_PASSES: u32 = 16;

/// From so many callers on those are forgotten who have nothing here and whose last turn was long ago: keys come and go.
const REMEMBERED: usize = 256;

/// That there is no room, and when to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom {
    /// When there will probably be room.
    pub retry_after: Duration,
    /// How many jobs its caller has here or on their way, where what is left is kept for others; `None` where nothing is left.
    pub held: Option<usize>,
}

/// An item that found no room.
#[derive(Debug)]
pub struct Full<T> {
    /// The item, handed back.
    pub item: T,
    /// Why, and when to try again.
    pub why: NoRoom,
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
    /// How many have passed it: no more than have passed any that stands before it in its line.
    passed: u32,
}

/// What waits of one caller, in order of arrival.
struct Line<T> {
    caller: Caller,
    entries: VecDeque<Entry<T>>,
    bytes: usize,
    /// Whether it has had a turn. Those that have none yet stand before all others.
    served: bool,
}

impl<T> Line<T> {
    fn waits(&self) -> bool {
        !self.entries.is_empty()
    }

    /// The place of the first behind its head that is `wanted`.
    fn behind(&self, wanted: &mut impl FnMut(&T, Standing) -> bool) -> Option<usize> {
        let mut behind = self.entries.iter().skip(1);
        behind
            .position(|entry| wanted(&entry.item, Standing::Behind))
            .map(|place| place + 1)
    }
}

/// Where in the line an item stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is the first.
    First,
    /// It would pass the first.
    Behind,
}

/// A bounded queue in which callers take turns.
pub struct Queue<T> {
    /// One for each caller that has something here or is remembered, in the order of their turns.
    lines: VecDeque<Line<T>>,
    jobs: usize,
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
            lines: VecDeque::new(),
            jobs: 0,
            bytes: 0,
            max_jobs,
            max_bytes,
            pace: None,
            since: None,
        }
    }

    /// Items that wait.
    pub fn len(&self) -> usize {
        self.jobs
    }

    /// Bytes that wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends an item to its caller's line, or hands it back with advice on when to try again.
    pub fn push(
        &mut self,
        caller: Caller,
        item: T,
        bytes: usize,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Result<(), Full<T>> {
        if let Some(why) = self.no_room(caller, bytes, Preparing::default(), now) {
            return Err(Full { item, why });
        }
        self.since.get_or_insert(now);
        self.jobs += 1;
        self.bytes += bytes;
        let line = self.line_of(caller);
        line.bytes += bytes;
        line.entries.push_back(Entry {
            item,
            bytes,
            deadline,
            passed: 0,
        });
        Ok(())
    }

    /// The line of a caller. One who never came has its turn before all that have had one.
    fn line_of(&mut self, caller: Caller) -> &mut Line<T> {
        let known = self.lines.iter().position(|line| line.caller == caller);
        let place = known.unwrap_or_else(|| {
            if self.lines.len() >= REMEMBERED {
                self.forget();
            }
            let place = self.lines.iter().take_while(|line| !line.served).count();
            let line = Line {
                caller,
                entries: VecDeque::new(),
                bytes: 0,
                served: false,
            };
            self.lines.insert(place, line);
            place
        });
        &mut self.lines[place]
    }

    /// Forgets who has nothing here, but for those that had a turn since one did that waits: they would have the next before it if they came as new.
    fn forget(&mut self) {
        let mut since = false;
        self.lines.retain(|line| {
            since |= line.served && line.waits();
            since || line.waits()
        });
    }

    /// Takes the first item of the caller whose turn it is.
    pub fn pop(&mut self) -> Option<T> {
        self.pop_if(|_, place| place == Standing::First)
    }

    /// Takes the first item of the caller whose turn it is, if it is `wanted`; otherwise the first that is of those behind it: other callers' by
    /// turns, then its own caller's. Nobody passes one whom too many have passed already. An item that passes takes its caller's turn, but
    /// not that of the one in front of it.
    pub fn pop_if(&mut self, wanted: impl FnMut(&T, Standing) -> bool) -> Option<T> {
        let first = self.lines.iter().position(Line::waits)?;
        let (from, place) = self.find(wanted)?;
        let passes_its_own_first = from == first && place > 0;
        // Who was asked before it, and did not get its turn, has been passed.
        for (number, line) in self.lines.iter_mut().enumerate() {
            let asked = match number == from {
                true => place,
                false => usize::from(line.waits() && (number < from || passes_its_own_first)),
            };
            line.entries.range_mut(..asked).for_each(|entry| entry.passed += 1);
        }
        let line = self.lines.get_mut(from)?;
        let entry = line.entries.remove(place)?;
        line.bytes -= entry.bytes;
        self.jobs -= 1;
        self.bytes -= entry.bytes;
        if !passes_its_own_first {
            let mut line = self.lines.remove(from)?;
            line.served = true;
            self.lines.push_back(line);
        }
        Some(entry.item)
    }

    /// Where the first item stands that is `wanted`: the number of its line, and its place there.
    fn find(&self, mut wanted: impl FnMut(&T, Standing) -> bool) -> Option<(usize, usize)> {
        let mut lines = self.lines.iter().enumerate().filter(|(_, line)| line.waits());
        let (first, own) = lines.next()?;
        let head = own.entries.front()?;
        if wanted(&head.item, Standing::First) {
            return Some((first, 0));
        }
        if head.passed >= MOST_PASSES {
            return None;
        }
        for (number, line) in lines {
            let head = line.entries.front()?;
            if wanted(&head.item, Standing::Behind) {
                return Some((number, 0));
            }
            if head.passed >= MOST_PASSES {
                return None;
            }
            if let Some(place) = line.behind(&mut wanted) {
                return Some((number, place));
            }
        }
        Some((first, own.behind(&mut wanted)?))
    }

    /// Takes out all whose caller `left` or whose deadline has passed. They were nobody's turn.
    pub fn sweep(&mut self, now: Instant, left: impl Fn(&T) -> bool) -> Vec<(T, Removed)> {
        let mut removed = Vec::new();
        for line in &mut self.lines {
            for _ in 0..line.entries.len() {
                let Some(entry) = line.entries.pop_front() else { break };
                let why = if left(&entry.item) {
                    Some(Removed::Left)
                } else if entry.deadline.is_some_and(|d| d <= now) {
                    Some(Removed::Late)
                } else {
                    None
                };
                match why {
                    Some(why) => {
                        line.bytes -= entry.bytes;
                        self.jobs -= 1;
                        self.bytes -= entry.bytes;
                        removed.push((entry.item, why));
                    }
                    None => line.entries.push_back(entry),
                }
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

    /// Whether there is no room for one more item of this caller while others are on their way here.
    pub fn full_beside(&self, caller: Caller, beside: Preparing, now: Instant) -> Option<NoRoom> {
        self.no_room(caller, 0, beside, now)
    }

    /// Why there is no room for an item of `bytes` while others are on their way here.
    fn no_room(&self, caller: Caller, bytes: usize, beside: Preparing, now: Instant) -> Option<NoRoom> {
        let jobs_left = self.max_jobs.checked_sub(self.jobs + beside.all + 1);
        let bytes_left = self
            .bytes
            .checked_add(bytes)
            .and_then(|all| self.max_bytes.checked_sub(all));
        let (Some(jobs_left), Some(bytes_left)) = (jobs_left, bytes_left) else {
            let retry_after = self.retry_after(self.departures_for(bytes), now);
            return Some(NoRoom {
                retry_after,
                held: None,
            });
        };
        let line = self.lines.iter().find(|line| line.caller == caller);
        let (jobs, held_bytes) = line.map_or((0, 0), |line| (line.entries.len(), line.bytes));
        let held = jobs + beside.own;
        let shares = caller.may_hold(1, held as u64, jobs_left as u64)
            && caller.may_hold(bytes as u64, held_bytes as u64, bytes_left as u64);
        // One of its own has to go, and callers take turns.
        let waiting = self.lines.iter().filter(|line| line.waits()).count();
        (!shares).then(|| NoRoom {
            retry_after: self.retry_after(u32::try_from(waiting).unwrap_or(u32::MAX), now),
            held: Some(held),
        })
    }

    /// So many departures make room for an item of `bytes`.
    fn departures_for(&self, bytes: usize) -> u32 {
        let mut excess = self.bytes.saturating_add(bytes).saturating_sub(self.max_bytes);
        let mut needed = 1;
        for entry in self.lines.iter().flat_map(|line| &line.entries) {
            excess = excess.saturating_sub(entry.bytes);
            if excess == 0 {
                break;
            }
            needed += 1;
        }
        needed
    }

    /// When so many will probably have departed, at the recent pace.
    fn retry_after(&self, departures: u32, now: Instant) -> Duration {
        let Some(pace) = self.pace else { return RETRY_UNKNOWN };
        // A departure that is long in coming says more than those of the past.
        let pace = self
            .since
            .map_or(pace, |since| pace.max(now.saturating_duration_since(since)));
        pace.saturating_mul(departures).clamp(*RETRY.start(), *RETRY.end())
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
