//! Who asks, as far as sharing goes: a number, and how much of what is bounded one may hold where others may come.

/// Nobody holds more than so many times what is left free: 3/4 of it while one alone holds any, and while `n` do, all of them together
/// 3n/(3n + 1). So there is always room for one more (dynamic thresholds, Choudhury & Hahne 1998).
const TIMES_FREE: u64 = 3;

/// Who asks: one of several who are told apart, or [`Caller::ONLY`]. It tells nothing else of anybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Caller(Option<u32>);

impl Caller {
    /// The only one there is, or everybody where nobody is told apart: it may hold all there is.
    pub const ONLY: Self = Self(None);

    /// One of several.
    pub const fn numbered(number: u32) -> Self {
        Self(Some(number))
    }

    /// Whether it may hold `item` (a job, bytes) beside what it holds already, where `left` is free then. Where it holds nothing else it may.
    pub fn may_hold(self, item: u64, beside: u64, left: u64) -> bool {
        self == Self::ONLY || beside == 0 || beside.saturating_add(item) <= left.saturating_mul(TIMES_FREE)
    }
}

/// Jobs that are being prepared, and will come to the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preparing {
    /// Those of the caller that asks.
    pub own: usize,
    /// All of them.
    pub all: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of 256 each of so many holds, if they come by turns for as long as they may.
    fn held(callers: u32) -> Vec<u64> {
        let mut held = vec![0; callers as usize];
        loop {
            let before = held.clone();
            for (caller, number) in (0..callers).zip(0usize..) {
                let taken: u64 = held.iter().sum();
                if taken < 256 && Caller::numbered(caller).may_hold(1, held[number], 255 - taken) {
                    held[number] += 1;
                }
            }
            if held == before {
                return held;
            }
        }
    }

    #[test]
    fn one_holds_three_quarters_and_several_leave_room_for_one_more() {
        assert_eq!(held(1), [192]);
        assert_eq!(held(2), [110, 109]);
        for callers in 1..30 {
            let held = held(callers);
            assert!(held.iter().sum::<u64>() < 256, "{held:?}");
            assert!(held.iter().all(|one| one.abs_diff(held[0]) <= 1), "{held:?}");
        }
    }

    #[test]
    fn who_is_alone_may_hold_all_and_who_holds_nothing_one() {
        assert!(Caller::ONLY.may_hold(1, 255, 0) && Caller::default() == Caller::ONLY);
        assert!(Caller::numbered(0).may_hold(1000, 0, 0));
        assert!(!Caller::numbered(0).may_hold(1, 1, 0));
        assert!(!Caller::numbered(0).may_hold(u64::MAX, 1, 1000));
    }
}
