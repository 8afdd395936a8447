//! Why a recipe cannot be followed.

use std::io;
use std::path::{Path, PathBuf};

use crate::model::bundle::folders::FolderError;

/// A recipe that cannot be read or gone on with. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The operating system refused.
    #[error("{}: {reason}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        reason: io::Error,
    },
    /// Not TOML, or not a recipe.
    #[error("{} is no recipe: {reason}", .path.display())]
    Format {
        /// The recipe.
        path: PathBuf,
        /// What is wrong, with its line where known.
        reason: String,
    },
    /// A step that is described wrongly.
    #[error("step `{step}`: {reason}")]
    Step {
        /// Its name, or its number where it has none.
        step: String,
        /// What is wrong.
        reason: String,
    },
    /// `--set` of something that is not there.
    #[error("--set {what}: {reason}")]
    Set {
        /// As given.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// No step has this name.
    #[error("there is no step `{name}`; the steps are {steps}")]
    NoStep {
        /// As given.
        name: String,
        /// Those that there are.
        steps: String,
    },
    /// Two at once.
    #[error("another run is at work in {}; wait for it, or choose another --out", .0.display())]
    Busy(PathBuf),
    /// A step needs one that is left out and not done.
    #[error(
        "step `{step}` needs `{input}`, which is not done with these settings; do that one first (leave out --only and --from)"
    )]
    InputMissing {
        /// The step.
        step: String,
        /// What it needs.
        input: String,
    },
    /// What the step left was made from something else.
    #[error(
        "step `{step}` was begun from what is no longer so ({}); --redo throws away {} and does it again", .changes.join("; "), .out.display()
    )]
    Stale {
        /// The step.
        step: String,
        /// What has changed since.
        changes: Vec<String>,
        /// What it left.
        out: PathBuf,
    },
    /// Something to be read that is not there.
    #[error("step `{step}`: {key}: {} is not there, and no earlier step makes it", .path.display())]
    Missing {
        /// The step.
        step: String,
        /// The setting.
        key: String,
        /// What it names.
        path: PathBuf,
    },
    /// Something that `--redo` will not remove.
    #[error("step `{step}` has to be done again, but {} lies outside of the run folder; remove it yourself", .out.display())]
    Outside {
        /// The step.
        step: String,
        /// Its output.
        out: PathBuf,
    },
    /// A bundle that no step makes.
    #[error("`bundle` of the recipe is {}: {made}; name one of these, or leave it out", .bundle.display())]
    NotMade {
        /// As written.
        bundle: PathBuf,
        /// Where steps make bundles.
        made: String,
    },
    /// No bundle where the recipe says.
    #[error("`bundle` of the recipe is {}, where no bundle is (no bundle.json); name the folder that a finetune step leaves", .0.display())]
    NoBundle(PathBuf),
}

impl RecipeError {
    /// Of a whole folder.
    pub(super) fn folder((path, reason): FolderError) -> Self {
        Self::Io { path, reason }
    }

    pub(super) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |reason| Self::Io { path, reason }
    }
}
