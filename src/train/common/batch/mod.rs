//! From data to batches: what is taken of the data sets that `train::data` reads, which of it is held back for validation, in what order and how
//! often it is shown, with which labels, and the threads that make batches ahead. What every training that draws from data may use belongs
//! here; what one training alone makes of its data stays with that training.

mod answers;
pub(super) mod cache;
pub(super) mod files;
pub(super) mod fitted;
pub(super) mod held;
pub(super) mod images;
pub(super) mod labels;
pub(super) mod loader;
pub(super) mod mixture;
pub(super) mod repeat;
