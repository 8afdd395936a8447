//! What can stop a training run.

use std::io;
use std::path::{Path, PathBuf};

use crate::model::ConfigError;
use crate::model::bundle::BundleError;
use crate::model::checkpoint::CheckpointError;
use crate::model::convert::ConvertError;
use crate::model::source::LoadError;
use crate::model::vqgan::LatentNotFinite;
use crate::radiograph::RadiographError;
use crate::train::data::DataError;
use crate::train::encode::EncodeError;
use crate::train::tokenizer::TokenizerError;

/// A training run that cannot begin or go on. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// Settings that contradict each other or the data.
    #[error("{0}")]
    Settings(String),
    /// The operating system refused.
    #[error("{path}: {reason}", path = .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// The settings differ from those the run was begun with.
    #[error(
        "{folder} holds a run with other settings ({}); continue it with the same ones, or choose another --out (for a step \
         of a recipe: `run --redo` begins it anew)",
        .differences.join("; "), folder = .folder.display()
    )]
    Changed {
        /// The run's folder.
        folder: PathBuf,
        /// `key: then → now`.
        differences: Vec<String>,
    },
    /// The base was changed, and the run has learned adapters to the one of before.
    #[error(
        "{} is another one than when the run in {} made its checkpoint of step {step}: its weights or its tokenizer have changed, and adapters to \
         the base of before do not fit this one. Put that back, choose another --out, or remove the run's folder to begin it anew",
        .base.display(), .out.display()
    )]
    OtherBase {
        /// The base.
        base: PathBuf,
        /// Steps done.
        step: u64,
        /// The run's folder.
        out: PathBuf,
    },
    /// What gives ids their meaning was changed, and the run has learned those of before.
    #[error(
        "{} is another {what} than when the run in {} made its checkpoint of step {step}: what it has learned of {ids} holds for those of \
         before. Put that back, choose another --out, or remove the run's folder to begin it anew (for a step of a recipe: `run --redo` does)",
        .place.display(), .out.display()
    )]
    OtherIds {
        /// A tokenizer, or a VQ-GAN.
        what: &'static str,
        /// What its ids are called.
        ids: &'static str,
        /// The file.
        place: PathBuf,
        /// Steps done.
        step: u64,
        /// The run's folder.
        out: PathBuf,
    },
    /// The labels are others, and the run has learned those of before.
    #[error(
        "the labels that are known of {} are others, in name, number or order, than when the run in {} made its checkpoint of step {step}: what \
         it has learned of one would be taken for another. Put the data back, choose another --out, or remove the run's folder to begin it anew \
         (for a step of a recipe: `run --redo` does)",
        .data.display(), .out.display()
    )]
    OtherLabels {
        /// Where they stand.
        data: PathBuf,
        /// Steps done.
        step: u64,
        /// The run's folder.
        out: PathBuf,
    },
    /// Two at once would damage each other's checkpoints.
    #[error("another run is at work in {}; wait for it, or choose another --out", .0.display())]
    Busy(PathBuf),
    /// What was learned is saved, but could not be measured, exported or logged.
    #[error(
        "step {step} could not be measured, exported or logged ({reason}); {last_good}. Put that right (on a full disk: make room) and \
         start the same command again"
    )]
    Unmeasured {
        /// Steps done.
        step: u64,
        /// What went wrong.
        reason: Box<TrainError>,
        /// Where the run can be taken up.
        last_good: LastGood,
    },
    /// No checkpoint could be written; training stops so that no more work is lost.
    #[error(
        "the checkpoint of step {step} could not be written ({reason}); {last_good}. Make room on the disk and start the same command again"
    )]
    CheckpointUnwritable {
        /// Step that was to be saved.
        step: u64,
        /// What went wrong.
        reason: String,
        /// Which checkpoint is still valid.
        last_good: LastGood,
    },
    /// There are checkpoints, and none is good.
    #[error(
        "none of the checkpoints in {} can be read ({}). Put a copy of one there; or, to begin anew and replace what was exported, remove the \
         run's folder or choose another --out",
        .folder.display(), .damaged.join("; ")
    )]
    NoneReads {
        /// Where they are.
        folder: PathBuf,
        /// The step of each, and what is wrong.
        damaged: Vec<String>,
    },
    /// What a run has exported is there, and nothing to go on from.
    #[error(
        "{} holds what a run has exported, but no checkpoint to go on from; to begin anew would replace it. Put the checkpoints back into {}, \
         remove the run's folder, or choose another --out",
        .exported.display(), .checkpoints.display()
    )]
    NoCheckpoint {
        /// What would be replaced.
        exported: PathBuf,
        /// Where a checkpoint should be.
        checkpoints: PathBuf,
    },
    /// A loss or gradient is not a finite number.
    #[error(
        "{what} is {value} at step {step}; the batch is [{}]; {last_good}. Look at these examples. The same command would come to the \
         same step again: for a lower --rate, or to leave out --bf16, begin in another --out{}",
        .ids.join(", "), beginning(.exported)
    )]
    NotFinite {
        /// The quantity.
        what: String,
        /// NaN or an infinity.
        value: f64,
        /// Step at which it was seen; its update was not applied.
        step: u64,
        /// The batch's items.
        ids: Vec<String>,
        /// Where the run can be taken up.
        last_good: LastGood,
        /// What another run may begin from, if anything was exported.
        exported: Option<PathBuf>,
    },
    /// The run is through, and what it is there for is not.
    #[error(
        "the run is through, but {} is not there: either no validation loss was a number, so that nothing was worth keeping (begin in another \
         --out with a lower --rate), or it was removed just now, and the same command makes it again",
        .0.display()
    )]
    NotExported(PathBuf),
    /// There is nothing to train on.
    #[error("{0}")]
    NoData(String),
    /// Worker threads that prepare batches ended.
    #[error("a thread that prepares batches ended unexpectedly; the log above says why. Start the same command again")]
    LoaderEnded,
    /// A checkpoint or weight file.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A Hugging Face folder that `convert` would refuse too.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// A tensor that could not be made.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A model configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A data set.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A file of image codes.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// A VQ-GAN that gives no codes.
    #[error(transparent)]
    Latent(#[from] LatentNotFinite),
    /// A tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A bundle that could not be read or written.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// An image that could not be written.
    #[error(transparent)]
    Radiograph(#[from] RadiographError),
    /// libtorch refused (most often: out of memory).
    #[error("libtorch: {0}; if memory ran out, lower the batch size")]
    Torch(String),
}

impl TrainError {
    /// An error of the file system at `path`.
    pub fn io(path: &Path, reason: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            reason,
        }
    }

    /// Of a shape that flags say. Nobody wrote the file that would hold it, so it is told by the flags.
    pub(in crate::train) fn no_shape(reason: &ConfigError) -> Self {
        let said = match reason {
            ConfigError::Value { key, reason, .. } => {
                let reason = reason.replace("num_attention_heads", flags("num_attention_heads"));
                format!("{}: {reason}", flags(key))
            }
            other => other.without_file(),
        };
        Self::Settings(format!(
            "the shape that the flags give is none that a model has: {said}"
        ))
    }
}

/// The flags that stand for a key of a model's configuration.
fn flags(key: &str) -> &str {
    match key {
        "n_embed" => "--codes",
        "embed_dim" | "z_channels" => "--embed-dim",
        "in_channels" | "out_ch" => "--channels",
        "num_res_blocks" => "--res-blocks",
        "resolution" => "--resolution",
        "ch" => "--ch",
        "ch_mult" => "--ch-mult",
        "hidden_size" | "intermediate_size" => "--hidden",
        "num_hidden_layers" => "--layers",
        "num_attention_heads" => "--heads",
        "rotary_pct" => "--hidden and --heads",
        "max_position_embeddings" => "--context",
        other => other,
    }
}

/// From what another run may begin.
fn beginning(exported: &Option<PathBuf>) -> String {
    exported.as_ref().map_or_else(String::new, |place| {
        format!(
            ", from what this run has exported where the command allows it (vqgan --init, finetune --base: {})",
            place.display()
        )
    })
}

impl From<tch::TchError> for TrainError {
    fn from(error: tch::TchError) -> Self {
        // The first line is libtorch's sentence; C++ frames follow.
        Self::Torch(error.to_string().lines().next().unwrap_or_default().to_owned())
    }
}

/// The newest checkpoint that can be resumed from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LastGood(pub Option<(u64, PathBuf)>);

impl std::fmt::Display for LastGood {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some((step, path)) => write!(f, "the last good checkpoint is of step {step} ({})", path.display()),
            None => f.write_str("there is no checkpoint yet"),
        }
    }
}
