//! Training of the VQ-GAN: taming's recipe (Esser et al. 2021) with the clinical-feature term of LLM-CXR (Lee et al. 2023).
//!
//! What is trained has the layers and names of [`crate::model::vqgan`]: what a run writes to `vqgan/` is what the server loads.

mod code_book;
mod discriminator;
mod encoder_features;
mod evaluate;
mod features;
mod files;
mod findings;
mod generator;
pub mod loss;
mod settings;
mod step;
mod task;

pub use code_book::Use as CodeUse;
pub(in crate::train) use evaluate::lay_out;
pub(in crate::train) use task::EXPORTED;

pub use discriminator::Discriminator;
pub use encoder_features::EncoderFeatures;
pub use evaluate::{levels, psnr, ssim};
pub use features::{FeatureNetwork, Features};
pub use files::VqganFiles;
pub use generator::{Generator, Quantized, other_codes, quantize};
pub use settings::VqganSettings;
pub use task::train;

#[cfg(test)]
mod average_tests;
#[cfg(test)]
mod labels_tests;
#[cfg(test)]
mod settings_tests;
#[cfg(test)]
mod tests;
