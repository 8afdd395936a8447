//! What the commands show on a terminal: progress on stderr, so that stdout holds the result alone.

use std::error::Error;
use std::fmt::Display;
use std::io::Write as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use llm_cxr::model::bundle::Progress;
use serde::Serialize;

use crate::CommandResult;

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

/// Does work on files under a bar over bytes, and prints what it says of itself, as JSON if asked.
pub fn work<T: Display + Serialize, E: Error + 'static>(
    json: bool,
    work: impl FnOnce(&mut dyn FnMut(Progress<'_>)) -> Result<T, E>,
) -> CommandResult {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{msg:24} {wide_bar} {bytes}/{total_bytes} {eta}") {
        bar.set_style(style);
    }
    let outcome = work(&mut |progress| {
        if bar.message() != progress.what {
            bar.set_message(progress.what.to_owned());
            bar.reset_eta();
        }
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    });
    bar.finish_and_clear();
    let done = outcome?;
    let text = match json {
        true => serde_json::to_string_pretty(&done)?,
        false => done.to_string(),
    };
    result(text.trim_end())
}

/// Prints a result. Where that fails (a full disk, a reader that has gone) it is an error and no panic, as `println!` makes of it.
pub fn result(text: &str) -> CommandResult {
    writeln!(std::io::stdout().lock(), "{text}")
        .map_err(|reason| format!("the result is there, but cannot be printed: {reason}").into())
}
