//! What one step is made from.

use crate::train::common::Skip;
use crate::train::neox::TokenBatch;

/// What a step is made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StepBatch {
    /// Computed one after the other; their gradients are added.
    pub passes: Vec<TokenBatch>,
    /// Names of the examples.
    pub names: Vec<String>,
    /// Examples that were left out.
    pub skipped: Vec<Skip>,
}
