//! Which values a field takes, where the schemas of the wire types do not say it: the words of a choice, and texts that must not be empty.
//!
//! Requests are read by hand, so that an error names its field, and words are plain strings on the wire. The contract tells what the hand
//! takes; a test sends all of it.

use serde_json::{Value, json};
use utoipa::Modify;
use utoipa::openapi::schema::{Array, ArrayItems, SchemaType, Type};
use utoipa::openapi::{Object, OpenApi, RefOr, Schema};

use crate::http::intake::conversation::MAX_MESSAGES;
use crate::http::routes::options::{CONSTRAINTS, FORMATS, parts};

/// The words that fields of this name take, whatever object they are in.
fn words_of(field: &str) -> Option<Vec<&'static str>> {
    Some(match field {
        "constraint" => words(&CONSTRAINTS),
        "format" | "output_format" => words(&FORMATS),
        "finish_reason" => vec!["stop", "length"],
        "role" => vec!["assistant"],
        _ => return None,
    })
}

/// The words of a choice.
fn words<T>(choices: &[(&'static str, T)]) -> Vec<&'static str> {
    choices.iter().map(|(word, _)| *word).collect()
}

/// Whose messages a chat takes.
const ROLES: [&str; 4] = ["system", "developer", "user", "assistant"];

/// Fields that must not be empty, with their objects.
const FILLED: [(&str, &str); 7] = [
    ("ReportRequest", "image"),
    ("VqaRequest", "image"),
    ("VqaRequest", "question"),
    ("GenerateImageRequest", "text"),
    ("InstructRequest", "instruction"),
    ("InstructRequest", "image"),
    ("ImagesRequest", "prompt"),
];

pub(super) struct Values;

impl Modify for Values {
    fn modify(&self, contract: &mut OpenApi) {
        let Some(components) = &mut contract.components else {
            return;
        };
        for (name, schema) in &mut components.schemas {
            let RefOr::T(Schema::Object(object)) = schema else {
                continue;
            };
            for (field, schema) in &mut object.properties {
                let required = object.required.contains(field);
                match schema {
                    RefOr::T(Schema::Object(value)) => single(value, name, field, required),
                    RefOr::T(Schema::Array(list)) => several(list, name, field, required),
                    _ => {}
                }
            }
        }
    }
}

/// A field of one value.
fn single(value: &mut Object, object: &str, field: &str, required: bool) {
    if required {
        // What must be there is never filled in.
        value.default = None;
    }
    if FILLED.contains(&(object, field)) {
        value.min_length = Some(1);
    }
    if let Some(words) = words_of(field) {
        value.enum_values = Some(choice(&words, &value.schema_type));
    }
}

/// A field that is a list.
fn several(list: &mut Array, object: &str, field: &str, required: bool) {
    if required {
        list.default = None;
    }
    match (object, field) {
        (_, "include") => {
            let added = words(parts(object == "VqaRequest"));
            if let Some(word) = item(list) {
                word.enum_values = Some(choice(&added, &word.schema_type));
            }
        }
        (_, "questions") => {
            if let Some(question) = item(list) {
                question.min_length = Some(1);
            }
        }
        ("ChatRequest", "messages") => {
            (list.min_items, list.max_items) = (Some(1), Some(MAX_MESSAGES));
            if let Some(message) = item(list) {
                let mut role = Object::with_type(SchemaType::Type(Type::String));
                role.enum_values = Some(choice(&ROLES, &role.schema_type));
                message.required = vec!["role".to_owned()];
                message
                    .properties
                    .insert("role".to_owned(), RefOr::T(Schema::Object(role)));
            }
        }
        _ => {}
    }
}

/// What a list holds, where that is described in its place.
fn item(list: &mut Array) -> Option<&mut Object> {
    match &mut list.items {
        ArrayItems::RefOrSchema(items) => match items.as_mut() {
            RefOr::T(Schema::Object(item)) => Some(item),
            _ => None,
        },
        ArrayItems::False => None,
    }
}

/// The words, and null where the field may be null.
fn choice(words: &[&str], kind: &SchemaType) -> Vec<Value> {
    let may_be_null = matches!(kind, SchemaType::Array(kinds) if kinds.contains(&Type::Null));
    let words = words.iter().map(|word| json!(word));
    words.chain(may_be_null.then_some(Value::Null)).collect()
}
