//! Connections that found no place, told in the log now and then: a line for each would fill it just when there is too much to do anyway.

use std::time::{Duration, Instant};

/// From one line to the next.
const PAUSE: Duration = Duration::from_secs(10);

/// How many were turned away since the log last told of any.
#[derive(Debug, Default)]
pub(super) struct TurnedAway {
    untold: u64,
    told: Option<Instant>,
}

impl TurnedAway {
    /// Counts one more, at `now`; gives how many there are to tell of, if it is time to.
    pub(super) fn one_more(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self
            .told
            .is_some_and(|told| now.saturating_duration_since(told) < PAUSE)
        {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_those_that_follow_are_told_together() {
        let (mut turned_away, begun) = (TurnedAway::default(), Instant::now());
        assert_eq!(turned_away.one_more(begun), Some(1));
        for seconds in [0, 3, 9] {
            assert_eq!(turned_away.one_more(begun + Duration::from_secs(seconds)), None);
        }
        assert_eq!(turned_away.one_more(begun + PAUSE), Some(4));
        assert_eq!(turned_away.one_more(begun + PAUSE), None);
        assert_eq!(turned_away.one_more(begun + 5 * PAUSE), Some(2));
    }
}
