//! The handlers, one file for each endpoint, and the fields that several of them take.

pub mod chat;
pub mod generate_image;
pub mod images;
pub mod instruct;
pub mod models;
pub mod ops;
pub mod options;
pub mod report;
pub mod vqa;

use std::time::Instant;

use super::access::track::RequestContext;
use super::error::ApiError;
use super::intake::budget::Share;
use super::state::AppState;
use crate::service::{Options, Reply, Request, Task};

/// Starts a task for the request's caller, with the server's deadline. By then its image is decoded, and its share of the body budget free for others.
async fn start(
    state: &AppState,
    context: &RequestContext,
    task: Task,
    options: Options,
    share: Share,
) -> Result<Reply, ApiError> {
    let (begun, name) = (Instant::now(), task.name());
    let deadline = begun.checked_add(state.request_timeout);
    let started = state
        .assistant
        .start_for(
            share.caller(),
            Request {
                task,
                options,
                deadline,
            },
        )
        .await;
    let reply = match started {
        Ok(reply) => reply.kept_in(context.ledger.clone()),
        Err(error) => {
            context
                .ledger
                .enter(|entries| entries.preprocess = Some(begun.elapsed()));
            return Err(error.into());
        }
    };
    drop(share);
    super::metrics::preprocess(name, begun.elapsed());
    super::metrics::image_notes(reply.image_notes());
    Ok(reply)
}
