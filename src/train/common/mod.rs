//! What every training run needs: data in a seeded order, weights, optimizer, schedule, checkpoints, logs, and the loop itself.
//!
//! | folder | what belongs there |
//! | --- | --- |
//! | `run` | a run: its loop, its settings, and what it keeps in its folder |
//! | `batch` | from data to batches, with their labels |
//! | `optimise` | weights and what moves them |
//!
//! Beside them is what all three use: [`TrainError`] and the seeded numbers of [`random`]. Other rooms name things by this module alone, so that
//! where a thing lies may change.

mod batch;
mod error;
mod optimise;
pub mod random;
mod run;

pub use batch::cache::keep;
pub use batch::files::{Files, Known, Sources, open_sources};
pub use batch::fitted::{fitted, gathered};
pub use batch::held::Held;
pub use batch::images::{ImageBatch, ImageSource, ImageStream, Sample};
pub use batch::labels::Labels;
pub use batch::loader::Loader;
pub use batch::mixture::{Draw, Mixture};
pub use batch::repeat::repeat_rare;
pub use error::{LastGood, TrainError};
pub use optimise::adamw::{Adamw, AdamwSettings};
pub use optimise::parameters::{FlatSource, Initial, Parameters, clip};
pub use optimise::trainer::Trainer;
pub use optimise::{schedule, trainer};
pub use run::basis::{Base, Basis, DataSum};
pub use run::drive::{Fault, Task, drive, finite};
pub use run::listed::verify_listed;
pub use run::log::RUN;
pub use run::plan::{Outcome, Plan, is_export};
pub use run::settings::{FREE, PATHS, differences, split_share, split_share_in};
pub use run::skips::{LeftOut, Skip};
pub use run::stop::{STOPPED, Stop};
pub use run::{checkpoint, limits, store, unsaid};
