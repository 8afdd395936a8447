//! Checkpoint files: safetensors, which the server loads, and PyTorch pickles, which only `convert` reads.
//!
//! No tensor library here: a tensor is a name, a type, a shape and bytes. Values are read from mapped files one tensor at a
//! time, so a checkpoint is never in memory as a whole, let alone twice. Every number in a file is checked before it is used.

mod error;
mod file;
mod hf_folder;
mod pickle;
mod reader;
mod stand_in;
mod tensor;
#[cfg(test)]
mod tests;
mod torch;
mod torch_file;
mod weights;
mod writer;

pub use error::CheckpointError;
pub use reader::CheckpointReader;
pub(crate) use stand_in::read_whole;
pub use tensor::{Dtype, TensorInfo};
pub use weights::Weights;
pub use writer::SafetensorsWriter;
