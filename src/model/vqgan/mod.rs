//! The VQ-GAN: images to code-book indices and back (Esser et al. 2021, arXiv 2012.09841; taming-transformers `VQModel`).
//!
//! Key traits: a convolutional encoder and decoder of residual blocks with GroupNorm and swish, attention at chosen resolutions;
//! the latent's vectors are replaced by the nearest of the code book (squared L2). Both halves are lists of layers
//! ([`layout`]), so that a pass can be run in slices between token steps.

mod config;
mod convolution;
mod layers;
pub mod layout;
mod network;
mod norm;

pub use config::{CODE_BOOK, VqganConfig};
pub(crate) use layers::{Layer, Memory};
pub use network::{LatentNotFinite, Pass, Vqgan, normalised};
