//! What makes bundles.

pub mod classifier;
pub mod common;
pub mod data;
pub mod decoder;
pub mod drafts;
pub mod encode;
pub mod finetune;
pub mod init;
pub mod neox;
pub mod pretrain;
pub mod recipe;
pub mod tokenizer;
pub mod vqgan;
