//! The last steps on streamed text: white space at the ends goes, and stop texts end the reply.

/// Takes pieces of a reply and gives what may be shown of it, so that all that was given, together, is the reply without white
/// space at its ends and without anything from the first stop text on.
#[derive(Debug, Default)]
pub(super) struct Polish {
    stops: Vec<String>,
    /// Text that may yet turn out to be trailing white space or the beginning of a stop.
    held: String,
    begun: bool,
    stopped: bool,
}

impl Polish {
    pub(super) fn new(stops: Vec<String>) -> Self {
        Self {
            stops,
            ..Self::default()
        }
    }

    /// Whether a stop text has come.
    pub(super) fn stopped(&self) -> bool {
        self.stopped
    }

    /// Takes the next piece; gives what is now sure, perhaps nothing.
    pub(super) fn push(&mut self, piece: &str) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.push_str(piece);
        if !self.begun {
            let leading = self.held.len() - self.held.trim_start_matches(is_space).len();
            self.held.drain(..leading);
            self.begun = !self.held.is_empty();
        }
        let unsure = self.stops.iter().map(|stop| overlap(&self.held, stop)).max();
        let unsure_from = self.held.len() - unsure.unwrap_or(0);
        // A stop that has come waits for one that may have begun before it.
        if self.first_stop().is_some_and(|at| at <= unsure_from) {
            self.stopped = true;
            return self.rest();
        }
        let sure = self.held.get(..unsure_from);
        let sure = sure.map_or(0, |text| text.trim_end_matches(is_space).len());
        self.held.drain(..sure).collect()
    }

    /// Where the first stop text begins in what is held.
    fn first_stop(&self) -> Option<usize> {
        self.stops.iter().filter_map(|stop| self.held.find(stop.as_str())).min()
    }

    /// The reply has ended: gives what was held back and is part of it.
    pub(super) fn finish(&mut self) -> String {
        if self.stopped {
            return String::new();
        }
        // One that waited for another to come: it has come in vain.
        self.stopped = self.first_stop().is_some();
        self.rest()
    }

    fn rest(&mut self) -> String {
        if let Some(at) = self.first_stop() {
            self.held.truncate(at);
        }
        std::mem::take(&mut self.held).trim_end_matches(is_space).to_owned()
    }
}

/// White space as Python's `str.strip` knows it, and so the original: Unicode's, and the four separators U+001C to U+001F.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Length in bytes of the longest end of `text` that is a beginning of `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = stop.len().saturating_sub(1).min(text.len());
    let fits = |n: &usize| text.as_bytes().ends_with(stop.as_bytes().get(..*n).unwrap_or_default());
    // A match that begins inside a character cannot be: both are UTF-8, and `stop` begins with a whole character.
    (1..=longest).rev().find(fits).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (Vec<String>, bool) {
        let mut polish = Polish::new(stops.iter().map(|s| (*s).to_owned()).collect());
        let mut shown: Vec<String> = pieces.iter().map(|p| polish.push(p)).collect();
        shown.push(polish.finish());
        (shown, polish.stopped())
    }

    #[test]
    fn white_space_at_the_ends_is_never_shown() {
        let (shown, stopped) = run(&[], &["\n ", " No", " effusion.", "\n", "\n"]);
        assert_eq!(shown, ["", "No", " effusion.", "", "", ""]);
        assert!(!stopped);
    }

    #[test]
    fn a_stop_text_split_over_pieces_is_never_shown() {
        let (shown, stopped) = run(&["END"], &["clear. E", "N", "D of report"]);
        assert_eq!(shown.concat(), "clear.");
        assert!(stopped);
    }

    #[test]
    fn what_only_looked_like_a_stop_is_shown_in_the_end() {
        let (shown, stopped) = run(&["END"], &["clear E", "N"]);
        assert_eq!(shown.concat(), "clear EN");
        assert!(!stopped);
    }

    #[test]
    fn a_stop_text_that_waits_for_a_longer_one_when_the_reply_ends_has_come() {
        let (shown, stopped) = run(&["th", "with the moon"], &["edema ", "with"]);
        assert_eq!((shown.concat().as_str(), stopped), ("edema wi", true));
    }

    #[test]
    fn a_stop_text_counts_from_where_it_begins_however_the_pieces_are_cut() {
        for pieces in [&["aé", "b"][..], &["aéb"], &["a", "é", "b"]] {
            assert_eq!(
                run(&["é", "aéb"], pieces),
                (vec![String::new(); pieces.len() + 1], true)
            );
        }
        assert_eq!(run(&["é", "aéb"], &["aé", "c"]).0.concat(), "a");
        assert_eq!(run(&["é", "aéb"], &["aé"]).0.concat(), "a");
    }

    proptest! {
        #[test]
        fn the_pieces_together_are_the_trimmed_text_up_to_the_first_stop(
            pieces in prop::collection::vec("[ab é\n]{0,4}", 0..8),
            stops in prop::collection::vec("[abé]{1,3}", 0..3),
        ) {
            let whole = pieces.concat();
            let whole = whole.trim_start_matches(is_space);
            let first = stops.iter().filter_map(|s| whole.find(s.as_str())).min();
            let end = first.unwrap_or(whole.len());
            let mut polish = Polish::new(stops);
            let mut shown: String = pieces.iter().map(|p| polish.push(p)).collect();
            shown.push_str(&polish.finish());
            prop_assert_eq!(shown.as_str(), whole[..end].trim_end_matches(is_space));
            prop_assert_eq!(polish.stopped(), first.is_some());
        }
    }
}
