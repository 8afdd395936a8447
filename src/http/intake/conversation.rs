//! How a conversation becomes the one prompt that the model was trained on.
//!
//! The model knows an instruction and an input, no roles. The instruction is, separated by blank lines: what the system says; the earlier
//! turns, each begun by `User:` or `Assistant:`; and the last message's own text. The input is the last image that a user sent, of which
//! a message has at most one. What else stands in a message is refused: the answer would be to another question than the one that was asked.
//! A last message with an image and no text asks for a report, as `/v1/report` gives it.

use bytes::Bytes;
use serde_json::{Map, Value};

use super::fields::{shown, wrong};
use super::input::image_from_text;
use crate::http::error::{ApiError, ErrorCode};

/// Most messages in a conversation.
pub(in crate::http) const MAX_MESSAGES: usize = 256;

/// What clients send back of a reply that they were given, where there was nothing in it.
const OF_A_REPLY: [&str; 5] = ["refusal", "annotations", "audio", "tool_calls", "function_call"];

/// A conversation laid out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversation {
    /// The instruction.
    pub instruction: String,
    /// Whether the last message is an image without a word, which asks for a report, whatever was said before.
    pub wordless: bool,
    /// The last image that a user sent.
    pub image: Option<Bytes>,
}

enum Role {
    System,
    User,
    Assistant,
}

impl Conversation {
    /// Reads `messages`.
    pub async fn read(messages: Value) -> Result<Self, ApiError> {
        let messages = match messages {
            Value::Array(messages) if !messages.is_empty() && messages.len() <= MAX_MESSAGES => messages,
            _ => return Err(wrong("messages", &format!("a list of 1 to {MAX_MESSAGES} messages"))),
        };
        let (mut system, mut turns, mut image) = (Vec::new(), Vec::new(), None);
        let mut wordless = false;
        for message in messages {
            let (role, text, sent) = read_message(message)?;
            match role {
                Role::System => system.push(text),
                Role::User | Role::Assistant => {
                    wordless = sent.is_some() && text.trim().is_empty();
                    turns.push((role, text));
                }
            }
            image = sent.or(image);
        }
        let Some((Role::User, last)) = turns.pop() else {
            return Err(wrong("messages", "a conversation whose last message is a user's"));
        };
        let earlier = turns
            .iter()
            .filter(|(_, text)| !text.trim().is_empty())
            .map(|(role, text)| match role {
                Role::Assistant => format!("Assistant: {text}"),
                _ => format!("User: {text}"),
            });
        let earlier = earlier.collect::<Vec<_>>().join("\n");
        let parts = system
            .into_iter()
            .chain([earlier, last])
            .filter(|part| !part.trim().is_empty());
        let instruction = parts.collect::<Vec<_>>().join("\n\n");
        if instruction.is_empty() && !wordless {
            return Err(wrong("messages", "a conversation that says something"));
        }
        // The image was named by URL in one message; it is decoded here, once.
        let image = match image {
            Some(url) => Some(image_from_text(url, "messages").await?),
            None => None,
        };
        Ok(Self {
            instruction,
            wordless,
            image,
        })
    }
}

/// Role, text and image of a message.
fn read_message(message: Value) -> Result<(Role, String, Option<String>), ApiError> {
    let expected = || wrong("messages", "a list of messages with `role` and `content`");
    let Value::Object(mut message) = message else {
        return Err(expected());
    };
    let role = match message.get("role").and_then(Value::as_str) {
        Some("system" | "developer") => Role::System,
        Some("user") => Role::User,
        Some("assistant") => Role::Assistant,
        Some(_) => {
            let message = "Roles are system, developer, user and assistant; this model has no tools.";
            return Err(ApiError::about(ErrorCode::UnsupportedParameter, "messages", message));
        }
        None => return Err(expected()),
    };
    let (mut texts, mut image) = (Vec::new(), None);
    match message.remove("content") {
        Some(Value::String(text)) => texts.push(text),
        Some(Value::Array(parts)) => {
            for part in parts {
                read_part(part, &role, &mut texts, &mut image)?;
            }
        }
        None | Some(Value::Null) if matches!(role, Role::Assistant) => {}
        _ => return Err(expected()),
    }
    // A name changes nothing here.
    message.retain(|name, _| name != "role" && name != "name");
    if matches!(role, Role::Assistant) {
        message.retain(|name, value| !(OF_A_REPLY.contains(&name.as_str()) && is_empty(value)));
    }
    nothing_left(&message, "a message")?;
    Ok((role, texts.join("\n"), image))
}

fn read_part(part: Value, role: &Role, texts: &mut Vec<String>, image: &mut Option<String>) -> Result<(), ApiError> {
    let expected = || wrong("messages", "made of parts of type `text` and, from users, `image_url`");
    let Value::Object(mut part) = part else {
        return Err(expected());
    };
    let kind = part.remove("type");
    match kind.as_ref().and_then(Value::as_str) {
        Some("text") => match part.remove("text") {
            Some(Value::String(text)) => texts.push(text),
            _ => return Err(expected()),
        },
        Some("image_url") if matches!(role, Role::User) => {
            // Both {"url": …} and the bare string are seen in the wild.
            let url = match part.remove("image_url") {
                Some(Value::Object(mut object)) => {
                    let url = object.remove("url");
                    // Every image is read at the one size that the model knows.
                    object.remove("detail");
                    nothing_left(&object, "`image_url`")?;
                    url
                }
                other => other,
            };
            let Some(Value::String(url)) = url else {
                return Err(expected());
            };
            if image.replace(url).is_some() {
                let message =
                    "A message shows more than one image, and the model takes one a request; send a request for each.";
                return Err(ApiError::about(ErrorCode::ConflictingFields, "messages", message));
            }
        }
        _ => return Err(expected()),
    }
    // Official clients mark by it how far a prompt may be cached, which changes nothing here.
    part.remove("prompt_cache_breakpoint");
    nothing_left(&part, "a part of `content`")
}

/// Refuses what is left of an object in a conversation, whose like is called `what`.
fn nothing_left(object: &Map<String, Value>, what: &str) -> Result<(), ApiError> {
    // Null counts as not given, as in every field.
    let Some((name, _)) = object.iter().find(|(_, value)| !value.is_null()) else {
        return Ok(());
    };
    let message = format!(
        "{} is not a field of {what}; an image goes into the `content` of a user's message, as \
         {{\"type\": \"image_url\", \"image_url\": {{\"url\": \"data:image/png;base64,…\"}}}}.",
        shown(name)
    );
    Err(ApiError::about(ErrorCode::UnknownField, "messages", message))
}

/// Whether a value holds nothing.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_conversation_becomes_one_instruction_and_the_last_image() {
        let image = |url: &str| json!({"type": "image_url", "image_url": {"url": url}});
        let messages = json!([
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "What is seen?"}, image("data:image/png;base64,YQ==")]},
            {"role": "assistant", "content": "A heart."},
            {"role": "user", "content": [image("data:image/png;base64,Yg=="), {"type": "text", "text": "And here?"}]},
        ]);
        let read = Conversation::read(messages).await.expect("sound");
        assert_eq!(
            read.instruction,
            "Be brief.\n\nUser: What is seen?\nAssistant: A heart.\n\nAnd here?"
        );
        assert_eq!(read.image, Some(Bytes::from_static(b"b")));
    }

    #[tokio::test]
    async fn what_the_system_says_behind_an_image_does_not_keep_it_from_asking_for_a_report() {
        let shown = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,YQ=="}});
        for said in ["Be brief.", ""] {
            let messages = json!([{"role": "user", "content": [shown]}, {"role": "system", "content": said}]);
            let read = Conversation::read(messages).await.expect("sound");
            assert!(read.wordless && read.image.is_some(), "{said}");
        }
    }

    #[tokio::test]
    async fn one_plain_message_is_the_instruction_itself() {
        let messages = json!([{"role": "user", "content": "Say hello."}]);
        let read = Conversation::read(messages).await.expect("sound");
        assert_eq!(
            read,
            Conversation {
                instruction: "Say hello.".to_owned(),
                wordless: false,
                image: None
            }
        );
    }

    #[tokio::test]
    async fn what_is_no_conversation_is_refused() {
        let user = |content: Value| json!([{"role": "user", "content": content}]);
        let shown = json!({"type": "image_url", "image_url": {"url": "data:image/png;base64,YQ=="}});
        for (messages, code) in [
            (json!([]), ErrorCode::InvalidField),
            (json!("hi"), ErrorCode::InvalidField),
            (json!([{"role": "assistant", "content": "hi"}]), ErrorCode::InvalidField),
            (
                json!([{"role": "tool", "content": "hi"}]),
                ErrorCode::UnsupportedParameter,
            ),
            (user(json!("")), ErrorCode::InvalidField),
            (
                json!([{"role": "user", "content": [shown]}, {"role": "user", "content": " "}]),
                ErrorCode::InvalidField,
            ),
            (user(json!([{"type": "input_audio"}])), ErrorCode::InvalidField),
            (
                user(json!([{"type": "image_url", "image_url": {"url": "http://x/y.png"}}])),
                ErrorCode::RemoteUrlRefused,
            ),
            (user(json!([shown, shown])), ErrorCode::ConflictingFields),
            (
                json!([{"role": "user", "content": "Is it?", "images": ["aGk="]}]),
                ErrorCode::UnknownField,
            ),
        ] {
            let refused = Conversation::read(messages).await.expect_err("refused");
            assert_eq!((refused.code, refused.param.as_deref()), (code, Some("messages")));
        }
    }
}
