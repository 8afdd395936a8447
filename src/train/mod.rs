//! What makes bundles.

pub mod init;
pub mod tokenizer;
