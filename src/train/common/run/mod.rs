//! A run from its first step to its last: the loop that drives a task, what the run is asked (plan, settings) and what it goes by (data, base),
//! and everything it keeps in its folder: lock, checkpoints, log with its curves and events, what was left out, each file written whole (`store`).
//! What is the same for every run, whatever it learns, belongs here; what makes its batches is in `batch`, what moves its weights in `optimise`.

mod bar;
pub(super) mod basis;
pub mod checkpoint;
mod curves;
pub(super) mod drive;
#[cfg(test)]
mod drive_tests;
pub mod limits;
mod lines;
pub(super) mod listed;
pub(super) mod lock;
pub(super) mod log;
pub(super) mod plan;
pub(super) mod settings;
pub(super) mod skips;
pub(super) mod stop;
pub mod store;
mod tensorboard;
pub mod unsaid;
