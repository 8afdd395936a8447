//! The handlers, one file for each endpoint.

pub mod chat;
pub mod generate_image;
pub mod images;
pub mod instruct;
pub mod models;
pub mod ops;
pub mod report;
pub mod vqa;

use std::time::Instant;

use serde_json::Value;

use super::error::ApiError;
use super::intake::budget::Share;
use super::intake::fields::{Fields, wrong};
use super::state::AppState;
use crate::radiograph::ImageFormat;
use crate::service::{Constraint, Options, Reply, Request, SEED_END, Task};

/// The options that all of the product's own endpoints share.
fn take_options(fields: &mut Fields) -> Result<Options, ApiError> {
    Ok(Options {
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        top_k: fields.count("top_k")?,
        max_tokens: fields.count("max_tokens")?,
        seed: fields.integer("seed")?,
        ..Options::default()
    })
}

/// A seed as the OpenAI API has it, any whole number, folded into the range of ours.
fn take_seed(fields: &mut Fields) -> Result<Option<u64>, ApiError> {
    match fields.value("seed") {
        None => Ok(None),
        Some(value) => match (value.as_i64().or_else(|| with_point(&value)), value.as_u64()) {
            (Some(seed), _) => Ok(Some(seed.rem_euclid(SEED_END as i64) as u64)),
            (None, Some(seed)) => Ok(Some(seed % SEED_END)),
            (None, None) => Err(wrong("seed", "a whole number")),
        },
    }
}

/// The whole number that is written with a point, as `-7.0`; none where a number of this kind no longer holds each of them.
fn with_point(value: &Value) -> Option<i64> {
    let number = value.as_f64().filter(|n| value.is_f64() && n.fract() == 0.0);
    number.filter(|n| n.abs() <= SEED_END as f64).map(|n| n as i64)
}

fn take_constraint(fields: &mut Fields) -> Result<Constraint, ApiError> {
    let choices = [("auto", Constraint::Auto), ("none", Constraint::None)];
    Ok(fields.choice("constraint", &choices)?.unwrap_or_default())
}

fn take_format(fields: &mut Fields, name: &'static str) -> Result<Option<ImageFormat>, ApiError> {
    fields.choice(name, &[("png", ImageFormat::Png), ("jpeg", ImageFormat::Jpeg)])
}

/// Starts a task for the request's caller, with the server's deadline. By then its image is decoded, and its share of the body budget free for others.
async fn start(state: &AppState, task: Task, options: Options, share: Share) -> Result<Reply, ApiError> {
    let (begun, name) = (Instant::now(), task.name());
    let deadline = begun.checked_add(state.request_timeout);
    let reply = state
        .assistant
        .start_for(
            share.caller(),
            Request {
                task,
                options,
                deadline,
            },
        )
        .await?;
    drop(share);
    super::metrics::preprocess(name, begun.elapsed());
    super::metrics::image_notes(reply.image_notes());
    Ok(reply)
}
