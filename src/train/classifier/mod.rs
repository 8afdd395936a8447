//! The classifier of findings: trained here, read by the VQ-GAN's clinical-feature loss and by evaluation.

mod config;
mod network;
pub mod scores;
mod settings;
mod task;
#[cfg(test)]
mod tests;

pub use config::ClassifierConfig;
pub use network::{Classifier, Seen};
pub use settings::ClassifierSettings;
pub(in crate::train) use task::EXPORTED;
pub use task::train;
