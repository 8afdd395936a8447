//! A small GPT-NeoX from plain text: the base that `finetune` needs where no published one is used.

mod settings;
mod task;
mod text;

pub use settings::PretrainSettings;
pub(in crate::train) use task::EXPORTED;
pub use task::train;

#[cfg(test)]
mod tests;
