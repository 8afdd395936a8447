//! Scores of texts and labels. Each file is one measure, with its source, held to a public implementation by its tests.

mod bleu;
mod calibration;
mod cider;
mod meteor;
mod resample;
mod rouge;
mod stem;
mod table;
mod words;

pub use bleu::{Bleu, bleu};
pub use calibration::{Bin, Calibration, calibration};
pub use cider::cider;
pub use meteor::meteor;
pub use resample::interval;
pub use rouge::rouge_l;
pub use table::{LabelScore, LabelTable, Scores, micro_f1};
pub use words::{tokens_13a, words, words_of_any_script};

#[cfg(test)]
mod tests;
