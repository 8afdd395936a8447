//! Weights and what moves them: the flat parameters, the optimizer, the rate it goes at, and the average of where it has been. Nothing here
//! knows of data or of a run's folder; what a checkpoint keeps of it, it gives as named tensors.

pub mod adamw;
pub(super) mod average;
pub(super) mod parameters;
pub mod schedule;
