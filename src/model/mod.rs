//! GPT-NeoX, VQ-GAN, KV memory, checkpoint reading and the bundle.
//!
//! Tensors (`tch`) live in this room, in `train` and in the engine's worker (`engine::torch`), nowhere else.

pub mod bench;
pub mod bundle;
pub mod checkpoint;
pub mod convert;
pub mod cpu;
pub mod cuda;
pub mod device;
pub mod drafts;
pub mod kernels;
mod load;
pub mod neox;
pub mod openmp;
pub mod quantise;
pub mod source;
pub mod vqgan;

/// The name and shape that a checkpoint must hold for one tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedTensor {
    /// Name in the state dict.
    pub name: String,
    /// Shape, outermost dimension first.
    pub shape: Vec<usize>,
}

impl ExpectedTensor {
    fn new(name: impl Into<String>, shape: &[usize]) -> Self {
        Self {
            name: name.into(),
            shape: shape.to_vec(),
        }
    }
}

/// A configuration file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON or YAML of the expected shape.
    #[error("{file} cannot be read as a model configuration: {reason}")]
    Syntax {
        /// Which kind of file.
        file: &'static str,
        /// What the parser said.
        reason: String,
    },
    /// A value that this model family does not have, or that contradicts another.
    #[error("{file}: {key}: {reason}")]
    Value {
        /// Which kind of file.
        file: &'static str,
        /// The key.
        key: &'static str,
        /// What is wrong and what would be right.
        reason: String,
    },
}

impl ConfigError {
    /// What is wrong without the kind of file, for messages that name the file itself.
    pub fn without_file(&self) -> String {
        match self {
            Self::Syntax { reason, .. } => format!("cannot be read as a model configuration: {reason}"),
            Self::Value { key, reason, .. } => format!("{key}: {reason}"),
        }
    }
}
