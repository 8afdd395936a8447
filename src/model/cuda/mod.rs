//! What libtorch has no words for on a GPU: runs of kernels recorded and launched as one ([`Recorder`]), and kernels of our own
//! ([`Program`]). Everything is found by name at run time; the binary links nothing of CUDA.

mod driver;
mod graph;
mod program;
mod switches;

pub use graph::{Graph, Recorder};
pub use program::{Argument, Grid, Kernel, Launch, Limits, Program, Start};
pub use switches::{attention_of_any_length, exact_convolutions};

/// libtorch's or CUDA's own words.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct CudaError(String);

impl CudaError {
    /// In these words.
    pub(super) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}
