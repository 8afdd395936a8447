//! KV memory as one row of token positions, given out in contiguous spans: first fit, merged when freed, never over-committed.
//!
//! A sequence reserves room for its prompt and its whole reply before it runs, so a running sequence never lacks memory. When
//! everything has been freed there is one free stretch again, so whoever fits at all fits then.

use super::Span;

/// A copy of the first `len` positions of one span to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SpanCopy {
    pub(super) from: Span,
    pub(super) to: Span,
    pub(super) len: usize,
}

/// The ledger of KV memory.
#[derive(Clone, Debug)]
pub struct KvLedger {
    /// Free stretches, in order, never touching each other.
    free: Vec<Span>,
    total: usize,
    used: usize,
}

impl KvLedger {
    /// All of `total` positions free.
    pub fn new(total: usize) -> Self {
        let free = if total == 0 {
            Vec::new()
        } else {
            vec![Span { start: 0, len: total }]
        };
        Self { free, total, used: 0 }
    }

    /// Positions there are.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Positions given out.
    pub fn used(&self) -> usize {
        self.used
    }

    /// The first free stretch of `len` positions (at least one), or `None` where there is none for now.
    pub fn reserve(&mut self, len: usize) -> Option<Span> {
        if len == 0 {
            return None;
        }
        let at = self.free.iter().position(|free| free.len >= len)?;
        let free = self.free.get_mut(at)?;
        let span = Span { start: free.start, len };
        free.start += len;
        free.len -= len;
        if free.len == 0 {
            self.free.remove(at);
        }
        self.used += len;
        Some(span)
    }

    /// Takes back a span that [`KvLedger::reserve`] gave.
    pub fn release(&mut self, span: Span) {
        let at = self.free.partition_point(|free| free.start < span.start);
        self.free.insert(at, span);
        self.used -= span.len;
        self.merge_with_next(at);
        if at > 0 {
            self.merge_with_next(at - 1);
        }
    }

    /// Makes one stretch of two that touch.
    fn merge_with_next(&mut self, at: usize) {
        let (Some(&this), Some(&next)) = (self.free.get(at), self.free.get(at + 1)) else {
            return;
        };
        if this.start + this.len == next.start {
            self.free[at].len += next.len;
            self.free.remove(at + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn freed_neighbours_become_one_stretch() {
        let mut kv = KvLedger::new(30);
        let spans: Vec<Span> = (0..3).map(|_| kv.reserve(10).unwrap()).collect();
        assert_eq!(kv.reserve(1), None);
        kv.release(spans[0]);
        kv.release(spans[2]);
        assert_eq!(kv.reserve(20), None, "two stretches of 10 are not one of 20");
        kv.release(spans[1]);
        assert_eq!(kv.reserve(30), Some(Span { start: 0, len: 30 }));
    }

    #[test]
    fn the_first_stretch_that_fits_is_taken() {
        let mut kv = KvLedger::new(30);
        let first = kv.reserve(8).unwrap();
        let _second = kv.reserve(4).unwrap();
        kv.release(first);
        assert_eq!(kv.reserve(10).map(|s| s.start), Some(12));
        assert_eq!(kv.reserve(8).map(|s| s.start), Some(0));
        assert_eq!(kv.reserve(0), None);
    }

    proptest! {
        #[test]
        fn spans_never_overlap_and_nothing_leaks(ops in prop::collection::vec((any::<bool>(), 1usize..40, any::<prop::sample::Index>()), 1..200)) {
            let mut kv = KvLedger::new(100);
            let mut held: Vec<Span> = Vec::new();
            for (give, len, pick) in ops {
                if give {
                    if let Some(span) = kv.reserve(len) {
                        prop_assert_eq!(span.len, len);
                        prop_assert!(span.start + span.len <= 100);
                        prop_assert!(held.iter().all(|h| h.start + h.len <= span.start || span.start + span.len <= h.start));
                        held.push(span);
                    }
                } else if !held.is_empty() {
                    kv.release(held.swap_remove(pick.index(held.len())));
                }
                prop_assert_eq!(kv.used(), held.iter().map(|h| h.len).sum::<usize>());
            }
            held.drain(..).for_each(|span| kv.release(span));
            prop_assert_eq!(kv.used(), 0);
            prop_assert_eq!(kv.reserve(100), Some(Span { start: 0, len: 100 }));
        }
    }
}
