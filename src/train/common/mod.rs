//! What every training run needs: data in a seeded order, weights, optimizer, schedule, checkpoints, logs, and the loop itself.

pub mod adamw;
mod answers;
mod average;
mod cache;
pub mod checkpoint;
mod curves;
mod drive;
#[cfg(test)]
mod drive_tests;
mod error;
mod files;
mod fitted;
mod held;
mod images;
mod labels;
mod loader;
mod lock;
mod log;
mod parameters;
pub mod random;
mod repeat;
pub mod schedule;
mod settings;
mod stop;
pub mod store;
mod tensorboard;

pub use adamw::{Adamw, AdamwSettings};
pub use average::Average;
pub use cache::keep;
pub use drive::{Fault, Outcome, Plan, Task, drive, finite};
pub use error::{LastGood, TrainError};
pub use files::{Files, Known, open_sources};
pub use fitted::{fitted, gathered};
pub use held::Held;
pub use images::{ImageBatch, ImageSource, ImageStream, Sample};
pub use labels::Labels;
pub use loader::Loader;
pub use lock::{hold, hold_folder, lock};
pub use log::{RUN, RunLog, open_folder};
pub use parameters::{FlatSource, Initial, Parameters, clip};
pub use repeat::repeat_rare;
pub use settings::{FREE, PATHS, differences, split_share, split_share_in};
pub use stop::Stop;
