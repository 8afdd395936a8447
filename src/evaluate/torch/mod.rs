//! The measurements that need tensors.

mod foresight;
mod frechet;
mod reader;
mod survival;

pub use foresight::{Foresight, Given, TOGETHER};
pub use frechet::Moments;
pub use reader::Reader;
pub use survival::{Eye, Survivor, feature_distance};
