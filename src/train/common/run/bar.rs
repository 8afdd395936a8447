//! The bar of a run.

use indicatif::{ProgressBar, ProgressStyle};

/// Sets a bar to the steps that are `done` already, which say nothing of how fast the next ones are.
pub(super) fn take_up(bar: &ProgressBar, done: u64) {
    bar.set_position(done);
    // The bar may have seen no position for a while: it has to see this one before it forgets its speed.
    bar.tick();
    bar.reset_eta();
}

/// Quantities in few letters.
pub(super) fn brief(values: &[(String, f64)]) -> String {
    let short = |(name, value): &(String, f64)| format!("{} {value:.4}", name.rsplit('/').next().unwrap_or(name));
    values.iter().map(short).collect::<Vec<_>>().join("  ")
}

/// How the bar of a run looks.
pub(super) fn style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len} {per_sec} eta {eta} {wide_msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}
