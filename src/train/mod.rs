//! What makes bundles.
//!
//! | part | what it makes, or holds for the others |
//! | --- | --- |
//! | [`recipe`] | a whole training, step by step, from one file |
//! | [`tokenizer`] | `tokenizer.json` from reports |
//! | [`vqgan`] | a VQ-GAN from images; [`decoder`] sharpens its images, [`encode`] keeps the codes it makes |
//! | [`pretrain`] | a language model from plain text |
//! | [`finetune`] | a bundle from images, reports, questions and instructions |
//! | [`drafts`] | a table for drafts of a bundle that is there |
//! | [`classifier`] | the findings in an image, for evaluation |
//! | [`init`] | a bundle of random weights |
//! | [`language_model`] | what `pretrain`, `finetune` and `drafts` share; none of these three uses another |
//! | [`neox`] | GPT-NeoX with gradients |
//! | [`data`] | data sets: records, splits, reports |
//! | [`common`] | what every run needs: its loop, checkpoints and logs (`run`), its batches (`batch`), its weights (`optimise`) |

pub mod classifier;
pub mod common;
pub mod data;
pub mod decoder;
pub mod drafts;
pub mod encode;
pub mod finetune;
pub mod init;
pub mod language_model;
pub mod neox;
pub mod pretrain;
pub mod recipe;
pub mod tokenizer;
pub mod vqgan;
