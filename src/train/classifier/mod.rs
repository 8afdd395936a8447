//! The classifier of findings: trained here, read by the VQ-GAN's clinical-feature loss and by evaluation.

mod config;
mod network;
pub mod scores;
mod task;

pub use config::ClassifierConfig;
pub use network::{Classifier, Seen};
pub use task::{ClassifierSettings, train};
