//! The measurements that need tensors.

mod frechet;
mod reader;
mod reconstruction;
mod teacher_forced;

pub use frechet::Moments;
pub use reader::Reader;
pub use reconstruction::{Reconstructed, VqganProbe, feature_distance};
pub use teacher_forced::{Given, TOGETHER, TeacherForced};
