//! Recipes: all the steps that make a bundle, in order, in one TOML file, and the record of which of them are done.
//!
//! ```toml
//! bundle = "tune/bundle"          # what the run folder's `bundle/` will hold
//!
//! [values]                        # may be used as {name} in any text below, and set on the command line
//! mimic = "/data/mimic-cxr-jpg"
//!
//! [[step]]
//! command = "vqgan"               # the command of `llm-cxr-train`; the rest are its flags, `-` written as `_`
//! id = "vqgan"                    # by default the command; also the default of `out`
//! data = ["{mimic}"]
//! ```
//!
//! Paths are relative to the run folder. A step takes as input every earlier step whose `out` one of its paths leads into or holds. Its stamp is a
//! checksum of its settings and of its inputs' stamps, so a change anywhere shows in everything that follows from it.

mod error;
mod folder;
mod glance;
mod missing;
mod order;
mod parse;
mod plan;
mod published;
#[cfg(test)]
mod refused_tests;
#[cfg(test)]
mod tests;

pub use error::RecipeError;
pub use folder::{RunFolder, State};
pub use missing::{missing, undone};
pub use order::Order;
pub use parse::{Recipe, Step};
pub use plan::{Planned, SHOWN, SPEED, plan};
pub use published::check_bundle;
