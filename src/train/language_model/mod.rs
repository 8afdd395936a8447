//! A language model in training, whatever it is trained on: what `pretrain`, `finetune` and the tables for drafts share.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `example` | an example as token ids, prompt and response as the server lays them out |
//! | `export` | what a run leaves: a bundle, or the folder of a language model |
//! | `learner` | model, optimizer and average of weights: one step, one measurement, one checkpoint |
//! | `shape` | sizes given by flags → the configuration of a GPT-NeoX |
//! | `step_batch` | what one step is made from |

mod example;
mod export;
mod learner;
mod shape;
mod step_batch;
#[cfg(test)]
pub(super) mod test_vocabulary;

pub use example::{Encoder, Response, Sequence};
pub use export::{Exported, SaveDtype};
pub use learner::{Learner, Method};
pub use shape::Shape;
pub use step_batch::StepBatch;
