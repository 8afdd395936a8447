//! The binaries themselves, end to end: bundles made, converted and broken; the server from its start to its last answer.
#![allow(clippy::disallowed_methods)] // `reqwest::get` polls for readiness; every wait is bounded.

mod commands;
mod dicom_worker;
mod house;
mod load;
mod log;
mod served;
mod start;
