//! `POST /v1/chat/completions`, in the OpenAI way.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::sse::Event;
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use futures::stream;
use serde_json::Value;

use super::models::check_model;
use super::options::take_seed;
use super::start;
use crate::http::access::track::RequestContext;
use crate::http::envelope::{Notice, now};
use crate::http::error::{ApiError, ErrorCode};
use crate::http::intake::conversation::Conversation;
use crate::http::intake::fields::{Fields, wrong};
use crate::http::intake::input::Input;
use crate::http::respond::{EventResult, events, finish_reason, image_notes, sse};
use crate::http::state::AppState;
use crate::http::wire::{
    ChatChoice, ChatChunk, ChatChunkChoice, ChatCompletion, ChatDelta, ChatMessageOut, ChatRequest, ChatUsage,
    ErrorBody, ReadingsUsed,
};
use crate::service::{Material, Options, Outcome, Task, Update};

/// Fields of the OpenAI API that change nothing here.
const HARMLESS: [&str; 12] = [
    "user",
    "store",
    "metadata",
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    // What the reply is expected to be, to write it faster: it may be anything else.
    "prediction",
    "safety_identifier",
    "parallel_tool_calls",
    "reasoning_effort",
    "verbosity",
];

/// Fields that would change the answer and cannot be honoured, with the values that ask for nothing.
const REFUSED: [(&str, &[&str]); 14] = [
    ("tools", &["[]"]),
    ("tool_choice", &["\"none\"", "\"auto\""]),
    ("functions", &["[]"]),
    ("function_call", &["\"none\""]),
    ("response_format", &["{\"type\":\"text\"}"]),
    ("logprobs", &["false"]),
    ("top_logprobs", &["0", "0.0"]),
    ("frequency_penalty", &["0", "0.0"]),
    ("presence_penalty", &["0", "0.0"]),
    ("logit_bias", &["{}"]),
    ("modalities", &["[\"text\"]"]),
    ("audio", &[]),
    ("moderation", &[]),
    ("web_search_options", &[]),
];

/// Chat, OpenAI-compatible
///
/// The model knows an instruction and an input, no roles. The instruction is, separated by blank lines: what the system says; the earlier
/// turns, each begun by `User:` or `Assistant:`; the last message's text. The input is the last image that a user sent, as a data: URL; a message
/// has at most one. What else stands in a message is refused.
/// A last message with an image and no text asks for a report, as `/v1/report` gives it, whatever was said before; `readings` tells of the
/// readings that were made for it. With `n` above 1 each choice is a single reading of the image, and nothing is agreed among them.
/// Of the usage, the prompt counts once, and of the replies those that are returned. Streams end with `data: [DONE]`.
#[utoipa::path(
    post, path = "/v1/chat/completions", tag = "openai", operation_id = "createChatCompletion",
    request_body = ChatRequest,
    responses(
        (status = 200, description = "The reply; with `stream`, events of `ChatChunk`.", body = ChatCompletion),
        (status = "4XX", description = "What to change.", body = ErrorBody),
        (status = "5XX", description = "Not the client's doing.", body = ErrorBody),
    )
)]
pub async fn completions(
    State(state): State<AppState>,
    context: RequestContext,
    request: Request,
) -> Result<Response, ApiError> {
    let mut input = Input::fields_only(&state.bodies, request).await?;
    let fields = &mut input.fields;
    let model = fields.required_text("model")?;
    let said = fields.value("messages");
    if said.is_none() {
        fields.lack("messages");
    }
    let Conversation {
        instruction,
        wordless,
        image,
    } = match said {
        Some(messages) => Conversation::read(messages).await?,
        None => Conversation::default(),
    };
    let n = fields.count("n")?.unwrap_or(1);
    let (options, limit) = take_options(fields)?;
    let streamed = fields.flag("stream")?;
    let with_usage = take_stream_options(fields)?;
    refuse(fields)?;
    fields.ignore(&HARMLESS);
    let share = input.finish()?;
    check_model(&state, &model)?;
    let task = match (image, wordless) {
        (Some(image), true) if n == 1 => Task::Report {
            image,
            instruction: None,
        },
        (image, wordless) => Task::Chat {
            instruction: match wordless {
                true => state.assistant.card().report_instruction.clone(),
                false => instruction,
            },
            material: image.map_or(Material::None, Material::Image),
            n,
        },
    };
    // The service refuses by the names that fields have in our own API.
    let named = |error: ApiError| {
        let error = error.renamed("instruction", "messages").renamed("image", "messages");
        error.renamed("max_tokens", limit)
    };
    let reply = start(&state, &context, task, options, share).await.map_err(named)?;
    let answer = Template {
        id: format!("chatcmpl-{}", context.id),
        created: now(),
        system_fingerprint: format!("{model}@{}", state.assistant.card().revision),
        model,
        notice: Notice::of(state.assistant.card()),
        with_usage,
    };
    if streamed {
        let beginning = stream::iter(answer.beginning(n));
        let rest = events(context, reply, move |update| answer.chunks(update));
        return Ok(sse(beginning.chain(rest)));
    }
    Ok(Json(answer.whole(reply.finish().await?)).into_response())
}

/// The options, and the name that the limit of tokens was sent by.
fn take_options(fields: &mut Fields) -> Result<(Options, &'static str), ApiError> {
    let limits = (fields.count("max_completion_tokens")?, fields.count("max_tokens")?);
    let limit = match limits.0 {
        Some(_) => "max_completion_tokens",
        None => "max_tokens",
    };
    let stop = match fields.value("stop") {
        None => Vec::new(),
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(texts)) => {
            let text = |value| match value {
                Value::String(text) => Ok(text),
                _ => Err(wrong("stop", "a string or a list of strings")),
            };
            texts.into_iter().map(text).collect::<Result<_, _>>()?
        }
        Some(_) => return Err(wrong("stop", "a string or a list of strings")),
    };
    let options = Options {
        temperature: fields.number("temperature")?,
        top_p: fields.number("top_p")?,
        max_tokens: limits.0.or(limits.1),
        seed: take_seed(fields)?,
        stop,
        ..Options::default()
    };
    Ok((options, limit))
}

/// Whether a last chunk with the usage is wanted.
fn take_stream_options(fields: &mut Fields) -> Result<bool, ApiError> {
    let mut options = match fields.value("stream_options") {
        None => return Ok(false),
        Some(Value::Object(options)) => options,
        Some(_) => return Err(wrong("stream_options", "an object")),
    };
    let mut flag = |name: &str| match options.remove(name) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(flag),
        Some(_) => Err(wrong("stream_options", "an object of fields that are true or false")),
    };
    let with_usage = flag("include_usage")?;
    // Chunks are never padded, whether or not that is asked for.
    flag("include_obfuscation")?;
    if !options.values().all(Value::is_null) {
        let message = "`stream_options` takes `include_usage` and `include_obfuscation`, and nothing else.";
        return Err(ApiError::about(ErrorCode::UnknownField, "stream_options", message));
    }
    Ok(with_usage)
}

fn refuse(fields: &mut Fields) -> Result<(), ApiError> {
    for (name, nothing) in REFUSED {
        if fields
            .value(name)
            .is_some_and(|value| !nothing.contains(&value.to_string().as_str()))
        {
            let message = format!("`{name}` cannot be honoured by this model; leave it out.");
            return Err(ApiError::about(ErrorCode::UnsupportedParameter, name, message));
        }
    }
    Ok(())
}

/// What all chunks of an answer share.
struct Template {
    id: String,
    created: u64,
    model: String,
    system_fingerprint: String,
    notice: Notice,
    /// Whether a stream tells the usage, in its last chunk; the others say null.
    with_usage: bool,
}

impl Template {
    fn whole(self, outcome: Outcome) -> ChatCompletion {
        let (usage, readings) = (chat_usage(&outcome), ReadingsUsed::of(&outcome));
        let image_notes = image_notes(&outcome);
        let choices = outcome
            .answers
            .into_iter()
            .enumerate()
            .map(|(index, answer)| ChatChoice {
                index,
                message: ChatMessageOut {
                    role: "assistant".to_owned(),
                    content: answer.text,
                    refusal: None,
                },
                logprobs: None,
                finish_reason: finish_reason(answer.finish),
            });
        ChatCompletion {
            choices: choices.collect(),
            id: self.id,
            object: "chat.completion".to_owned(),
            created: self.created,
            model: self.model,
            system_fingerprint: self.system_fingerprint,
            usage,
            readings,
            disclaimer: self.notice.disclaimer,
            warning: self.notice.warning,
            image_notes,
        }
    }

    fn chunk(&self, choices: Vec<ChatChunkChoice>, usage: Option<ChatUsage>) -> EventResult {
        Event::default().json_data(self.plain(choices, usage))
    }

    /// The first chunk of all, with what must be said of any answer.
    fn first(&self, choice: ChatChunkChoice) -> EventResult {
        Event::default().json_data(ChatChunk {
            disclaimer: Some(self.notice.disclaimer.clone()),
            warning: self.notice.warning.clone(),
            ..self.plain(vec![choice], None)
        })
    }

    fn plain(&self, choices: Vec<ChatChunkChoice>, usage: Option<ChatUsage>) -> ChatChunk {
        ChatChunk {
            id: self.id.clone(),
            object: "chat.completion.chunk".to_owned(),
            created: self.created,
            model: self.model.clone(),
            system_fingerprint: self.system_fingerprint.clone(),
            choices,
            usage: self.with_usage.then_some(usage),
            readings: None,
            disclaimer: None,
            warning: None,
            image_notes: None,
        }
    }

    /// The chunks of `n` replies before there is anything of them: who speaks.
    fn beginning(&self, n: usize) -> Vec<EventResult> {
        let role = ChatDelta {
            role: Some("assistant".to_owned()),
            content: Some(String::new()),
        };
        let begin = |index| match (index, choice(index, role.clone(), None)) {
            (0, first) => self.first(first),
            (_, other) => self.chunk(vec![other], None),
        };
        (0..n).map(begin).collect()
    }

    /// The chunks of an update: text; at the end why each reply ended, perhaps the usage, and `[DONE]`.
    fn chunks(&self, update: Result<Update, ErrorBody>) -> Vec<EventResult> {
        match update {
            Ok(Update::Text { index, text }) => {
                let delta = ChatDelta {
                    role: None,
                    content: Some(text),
                };
                vec![self.chunk(vec![choice(index, delta, None)], None)]
            }
            Ok(Update::Codes { .. }) => Vec::new(),
            Ok(Update::Done(outcome)) => {
                let last = outcome.answers.iter().enumerate().map(|(index, answer)| {
                    let last = choice(index, ChatDelta::default(), Some(finish_reason(answer.finish)));
                    Event::default().json_data(ChatChunk {
                        readings: ReadingsUsed::of(&outcome),
                        image_notes: image_notes(&outcome),
                        ..self.plain(vec![last], None)
                    })
                });
                let usage = self
                    .with_usage
                    .then(|| self.chunk(Vec::new(), Some(chat_usage(&outcome))));
                last.chain(usage).chain([Ok(Event::default().data("[DONE]"))]).collect()
            }
            Err(error) => vec![Event::default().json_data(error)],
        }
    }
}

fn choice(index: usize, delta: ChatDelta, finish_reason: Option<String>) -> ChatChunkChoice {
    ChatChunkChoice {
        index,
        delta,
        logprobs: None,
        finish_reason,
    }
}

/// As in the OpenAI API: the prompt once, however often it was answered, and of the replies those that are returned.
fn chat_usage(outcome: &Outcome) -> ChatUsage {
    let prompt_tokens = outcome.usage.prompt_tokens / outcome.usage.sequences.max(1);
    let completion_tokens: usize = outcome.answers.iter().map(|answer| answer.token_ids.len()).sum();
    ChatUsage {
        prompt_tokens,
        completion_tokens,
        total_tokens: prompt_tokens + completion_tokens,
    }
}
