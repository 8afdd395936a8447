//! What makes bundles.

pub mod data;
pub mod encode;
pub mod init;
pub mod tokenizer;
