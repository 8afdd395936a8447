//! How far a run is, in a line now and then, where no terminal shows its bar.

use std::io::{IsTerminal as _, stderr};
use std::time::{Duration, Instant};

/// So long nothing is said.
const EVERY: Duration = Duration::from_secs(60);

/// The lines of a run of so many steps.
pub(super) struct Lines {
    /// Steps of the whole run.
    steps: u64,
    /// Since when, and after which step, speed is counted.
    since: (Instant, u64),
    /// When the next line is due; `None` where a bar is seen.
    due: Option<Instant>,
    every: Duration,
}

impl Lines {
    /// For a run that goes on after step `done`. There are none where standard error is a terminal.
    pub(super) fn begin(done: u64, steps: u64) -> Self {
        Self::every(EVERY, !stderr().is_terminal(), done, steps)
    }

    fn every(every: Duration, shown: bool, done: u64, steps: u64) -> Self {
        let now = Instant::now();
        Self {
            steps,
            since: (now, done),
            due: shown.then(|| now + every),
            every,
        }
    }

    /// What is to be said after step `done`, if something is: the step, its losses, speed, and the time that is left.
    pub(super) fn after(&mut self, done: u64, values: &[(String, f64)]) -> Option<String> {
        let now = Instant::now();
        if self.due? > now {
            return None;
        }
        self.due = Some(now + self.every);
        let (begun, from) = self.since;
        let seconds = now.duration_since(begun).as_secs_f64();
        Some(told(
            done,
            self.steps,
            values,
            seconds / done.saturating_sub(from).max(1) as f64,
        ))
    }
}

/// A line of a run whose steps take `seconds` each, all that is done between them included.
fn told(done: u64, steps: u64, values: &[(String, f64)], seconds: f64) -> String {
    let losses = values.iter().filter(|(name, _)| name.starts_with("loss/"));
    let losses: String = losses
        .map(|(name, value)| format!("  {} {value:.4}", name.trim_start_matches("loss/")))
        .collect();
    let speed = match seconds {
        slow if slow > 1.0 => format!("{slow:.1} s a step"),
        fast => format!("{:.1} steps/s", fast.max(1e-9).recip()),
    };
    let left = span(seconds * steps.saturating_sub(done) as f64);
    format!("step {done} of {steps}{losses}  {speed}  {left} left")
}

/// A time in words.
fn span(seconds: f64) -> String {
    let minutes = (seconds / 60.0).round() as u64;
    match minutes {
        0 | 1 => format!("{seconds:.0} s"),
        2..60 => format!("{minutes} min"),
        _ => format!("{} h {:02} min", minutes / 60, minutes % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_step_losses_speed_and_time_left() {
        let values = [("loss/train", 0.5), ("gradient/norm", 3.0), ("loss/codes", 0.25)];
        let values = values.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(
            told(100, 4100, &values, 2.5),
            "step 100 of 4100  train 0.5000  codes 0.2500  2.5 s a step  2 h 47 min left"
        );
        assert_eq!(told(9, 10, &[], 0.25), "step 9 of 10  4.0 steps/s  0 s left");
        assert_eq!(span(59.0), "59 s");
        assert_eq!(span(150.0), "3 min");
    }

    #[test]
    fn lines_come_so_often_and_not_where_a_bar_is_seen() {
        let line = |every: u64, shown| Lines::every(Duration::from_secs(every), shown, 3, 9).after(4, &[]);
        assert!(line(0, true).is_some_and(|line| line.starts_with("step 4 of 9")));
        assert_eq!((line(600, true), line(0, false)), (None, None));
    }
}
