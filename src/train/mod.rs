//! What makes bundles.

pub mod data;
pub mod init;
pub mod tokenizer;
