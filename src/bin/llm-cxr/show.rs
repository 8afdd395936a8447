//! What the commands show on a terminal: progress on stderr, so that stdout holds the result alone.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use llm_cxr::model::bundle::Progress;

/// A spinner with a message, for work of unknown length. Nothing is drawn where stderr is no terminal.
pub fn spinner(message: &str) -> ProgressBar {
    let spinner = ProgressBar::new_spinner().with_message(message.to_owned());
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}

/// A bar over `length` units with a message.
pub fn bar(length: u64, message: &str) -> ProgressBar {
    let bar = ProgressBar::new(length).with_message(message.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{msg:24} {wide_bar} {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    bar
}

/// A bar over bytes, for stages that [`advance`] tells of.
pub fn bytes_bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{msg:24} {wide_bar} {bytes}/{total_bytes} {eta}") {
        bar.set_style(style);
    }
    bar
}

/// Shows how far a stage has come.
pub fn advance(bar: &ProgressBar, progress: Progress<'_>) {
    if bar.message() != progress.what {
        bar.set_message(progress.what.to_owned());
        bar.reset_eta();
    }
    bar.set_length(progress.total);
    bar.set_position(progress.done);
}
