//! Weights and what moves them: the flat parameters, the optimizer, the rate it goes at, the average of where it has been, and the trainer, which
//! holds optimizer and average of one model together. Nothing here knows of data or of a run's folder; what a checkpoint keeps of it, it gives as
//! named tensors.

pub mod adamw;
pub(super) mod average;
pub(super) mod parameters;
pub mod schedule;
pub mod trainer;
