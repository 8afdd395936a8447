//! What makes bundles.

pub mod classifier;
pub mod common;
pub mod data;
pub mod encode;
pub mod init;
pub mod neox;
pub mod tokenizer;
pub mod vqgan;
