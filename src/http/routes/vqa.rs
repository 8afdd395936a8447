//! `POST /v1/vqa`

use axum::extract::{Request, State};
use axum::response::Response;
use serde_json::Value;

use super::options::{Include, take_constraint, take_options};
use super::start;
use crate::http::access::track::RequestContext;
use crate::http::error::{ApiError, ErrorCode};
use crate::http::intake::input::Input;
use crate::http::respond::{deliver, finish_reason};
use crate::http::state::AppState;
use crate::http::wire::{ErrorBody, VqaAnswer, VqaRequest, VqaResponse};
use crate::service::Task;

/// Ask about a chest X-ray
///
/// Sent as in `/v1/report`, with `question`, or with `questions` that are answered together and in order (in a form or a query `questions` is
/// repeated, or a JSON list of strings). Greedy by default.
/// With `include: ["probabilities"]` each answer has `p_yes`: the probability of yes against no at its first token. With `stream` the answer
/// comes as server-sent events: `delta` (`DeltaEvent`, whose `index` is the question's place, from 0), then `done` with this same JSON, or
/// `error` (`ErrorBody`).
#[utoipa::path(
    post, path = "/v1/vqa", tag = "product", operation_id = "answerQuestions",
    request_body(content(
        (VqaRequest = "application/json"),
        (VqaRequest = "multipart/form-data"),
        (Vec<u8> = "image/png"),
        (Vec<u8> = "image/jpeg"),
        (Vec<u8> = "application/dicom"),
        (Vec<u8> = "application/octet-stream"),
    )),
    responses(
        (status = 200, description = "The answers.", body = VqaResponse),
        (status = "4XX", description = "What to change.", body = ErrorBody),
        (status = "5XX", description = "Not the client's doing.", body = ErrorBody),
    )
)]
pub async fn vqa(
    State(state): State<AppState>,
    context: RequestContext,
    request: Request,
) -> Result<Response, ApiError> {
    let mut input = Input::with_image(&state.bodies, request).await?;
    let image = input.required_image().await?;
    let fields = &mut input.fields;
    let (questions, single) = match (fields.text("question")?, fields.texts("questions", false)?) {
        (Some(question), None) => (vec![question], true),
        (None, Some(questions)) => (questions, false),
        (None, None) => {
            fields.lack("question");
            (Vec::new(), true)
        }
        (Some(_), Some(_)) => {
            let message = "Send either `question` or `questions`.";
            return Err(ApiError::about(ErrorCode::ConflictingFields, "questions", message));
        }
    };
    let mut options = take_options(fields)?;
    options.constraint = take_constraint(fields)?;
    options.readings = fields.count("readings")?;
    let streamed = fields.flag("stream")?;
    let include = Include::take_with_probabilities(fields)?;
    let share = input.finish()?;
    let reply = start(
        &state,
        &context,
        Task::Vqa {
            image,
            questions: questions.clone(),
        },
        options,
        share,
    )
    .await
    .map_err(|error| match single {
        true => error,
        false => error.renamed("question", "questions"),
    })?;
    deliver(state, context, reply, streamed, move |envelope, outcome| {
        let answers = outcome
            .answers
            .into_iter()
            .zip(questions)
            .enumerate()
            .map(|(at, (answer, question))| VqaAnswer {
                question,
                answer: answer.text,
                finish_reason: finish_reason(answer.finish),
                p_yes: include.probabilities.then_some(answer.p_yes),
                agreement: outcome.consensus.get(at).map(|told| told.same),
                token_ids: include.token_ids.then_some(answer.token_ids),
            });
        let answers: Vec<VqaAnswer> = answers.collect();
        // One question: the value itself; several: a list, in order.
        let gather = |wanted: bool, value: fn(&VqaAnswer) -> Value| {
            let mut values: Vec<Value> = answers.iter().map(value).collect();
            wanted.then(|| {
                if single {
                    values.pop().unwrap_or_default()
                } else {
                    Value::Array(values)
                }
            })
        };
        let only = answers.first().filter(|_| single);
        VqaResponse {
            id: envelope.id,
            object: "vqa".to_owned(),
            created: envelope.created,
            model: envelope.model,
            answer: only.map(|a| a.answer.clone()),
            finish_reason: only.map(|a| a.finish_reason.clone()),
            token_ids: gather(include.token_ids, |a| a.token_ids.clone().into()),
            p_yes: gather(include.probabilities, |a| a.p_yes.flatten().into()),
            codes: outcome
                .input_codes
                .filter(|_| include.codes)
                .map(|codes| codes.to_vec()),
            answers,
            sampling: envelope.sampling,
            usage: envelope.usage,
            timing_ms: envelope.timing_ms,
            disclaimer: envelope.notice.disclaimer,
            warning: envelope.notice.warning,
            image_notes: envelope.image_notes,
        }
    })
    .await
}
