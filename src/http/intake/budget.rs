//! Memory for request bodies that are being read, and for what JSON takes once it is: bounded over all of them together, and shared between callers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::engine::Caller;

/// So many bytes for all bodies together.
#[derive(Debug)]
pub struct Budget {
    total: u64,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    all: u64,
    /// Of each caller; nothing of those that hold none.
    callers: BTreeMap<Caller, u64>,
}

/// Why a body may not grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// There is no memory left.
    Full,
    /// What is left is kept for other callers.
    Share,
}

impl Budget {
    /// A budget of `total` bytes.
    pub fn new(total: u64) -> Arc<Self> {
        Arc::new(Self {
            total,
            held: Mutex::default(),
        })
    }

    /// Bytes that are held, and those that there are.
    pub fn standing(&self) -> (u64, u64) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        (held.all, self.total)
    }
}

/// What one body holds of the budget, given back when it is dropped. Keep it until the body's image is decoded.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    caller: Caller,
    bytes: u64,
}

impl Share {
    /// A share of nothing yet, for a body of this caller.
    pub fn new(budget: &Arc<Budget>, caller: Caller) -> Self {
        Self {
            budget: Arc::clone(budget),
            caller,
            bytes: 0,
        }
    }

    /// Whose it is.
    pub fn caller(&self) -> Caller {
        self.caller
    }

    /// Takes as much more as makes it `bytes`, or nothing.
    ///
    /// # Errors
    /// [`Refused`] says who holds what is lacking.
    pub fn grow_to(&mut self, bytes: u64) -> Result<(), Refused> {
        let more = bytes.saturating_sub(self.bytes);
        if more == 0 {
            return Ok(());
        }
        let mut held = self.budget.held.lock().unwrap_or_else(PoisonError::into_inner);
        let left = self.budget.total.checked_sub(held.all.saturating_add(more));
        let left = left.ok_or(Refused::Full)?;
        let own = held.callers.entry(self.caller).or_insert(0);
        if !self.caller.may_hold(bytes, *own - self.bytes, left) {
            return Err(Refused::Share);
        }
        *own += more;
        held.all += more;
        self.bytes = bytes;
        Ok(())
    }

    /// Takes so many bytes more, or nothing; where that is more than there are in all, it takes all there are: whoever is alone is read.
    ///
    /// # Errors
    /// As [`Share::grow_to`].
    pub fn grow_by(&mut self, more: u64) -> Result<(), Refused> {
        self.grow_to(self.bytes.saturating_add(more).min(self.budget.total))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.budget.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.all -= self.bytes;
        let left = held.callers.get(&self.caller).map_or(0, |own| own - self.bytes);
        match left {
            0 => held.callers.remove(&self.caller),
            _ => held.callers.insert(self.caller, left),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Caller = Caller::numbered(0);
    const B: Caller = Caller::numbered(1);

    fn share(budget: &Arc<Budget>, caller: Caller, bytes: u64) -> Result<Share, Refused> {
        let mut share = Share::new(budget, caller);
        share.grow_to(bytes).map(|()| share)
    }

    #[test]
    fn whoever_sends_much_leaves_room_for_others_and_may_always_send_one() {
        let budget = Budget::new(256);
        let mut held: Vec<_> = (0..6).map(|_| share(&budget, A, 32).expect("room")).collect();
        assert_eq!(share(&budget, A, 1).err(), Some(Refused::Share));
        let others = share(&budget, B, 64).expect("its first");
        assert_eq!(share(&budget, B, 1).err(), Some(Refused::Full));
        drop(others);
        held.truncate(4);
        assert!(share(&budget, A, 32).is_ok(), "what was given back can be taken again");
        drop(held);
        assert!(share(&budget, A, 256).is_ok());
        assert!(budget.held.lock().expect("not poisoned").callers.is_empty());
    }

    #[test]
    fn who_is_alone_may_take_all() {
        let budget = Budget::new(256);
        let held: Vec<_> = (0..8)
            .map(|_| share(&budget, Caller::ONLY, 32).expect("room"))
            .collect();
        assert_eq!(share(&budget, Caller::ONLY, 1).err(), Some(Refused::Full));
        drop(held);
    }

    #[test]
    fn a_body_that_grows_counts_once_and_one_that_may_not_keeps_what_it_has() {
        let budget = Budget::new(100);
        let mut body = Share::new(&budget, A);
        for bytes in [10, 40, 40, 90] {
            body.grow_to(bytes).expect("it is the only one");
        }
        assert_eq!(body.grow_to(101), Err(Refused::Full));
        assert_eq!(share(&budget, B, 11).err(), Some(Refused::Full));
        let small = share(&budget, B, 10).expect("what is left");
        drop((body, small));
        assert_eq!(budget.held.lock().expect("not poisoned").all, 0);
    }

    #[test]
    fn what_a_body_takes_once_it_is_read_counts_beside_its_bytes_and_one_that_is_alone_may_take_all() {
        let budget = Budget::new(100);
        let mut body = share(&budget, A, 30).expect("room");
        let other = share(&budget, B, 30).expect("room");
        body.grow_by(40).expect("as much as is left");
        assert_eq!(budget.held.lock().expect("not poisoned").all, 100);
        assert_eq!(body.grow_by(1), Err(Refused::Full));
        drop(other);
        body.grow_by(u64::MAX).expect("it is the only one");
        assert_eq!(budget.held.lock().expect("not poisoned").all, 100);
        drop(body);
        assert_eq!(budget.held.lock().expect("not poisoned").all, 0);
    }
}
