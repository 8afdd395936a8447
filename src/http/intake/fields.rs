//! The fields of a request, from JSON, from a form or from a query string, taken one by one; what is left over is refused by name, and only then
//! what is missing: a misspelt name is why another is missing.
//!
//! Hand-written rather than derived: an error here names the field and what it should be, and never repeats its value.

use std::num::IntErrorKind;

use memchr::memchr2;
use serde_json::{Map, Value};

use crate::http::error::{ApiError, ErrorCode};

/// Most values of a JSON body: up to 32 MiB of memory, once they are read.
const MOST_VALUES: usize = 1 << 16;

/// Bytes of memory that a value takes once it is read, about and at most: an object of one field takes 450.
const VALUE_BYTES: u64 = 512;

/// Longest value of a form or a query that may be a list in JSON: more than all questions together.
const LONGEST_LIST: usize = 1 << 20;

/// What some editors and Windows' own tools begin a text in UTF-8 with.
const BYTE_ORDER_MARK: &[u8; 3] = b"\xef\xbb\xbf";

/// Fields that have not been taken yet.
#[derive(Debug)]
pub struct Fields {
    left: Map<String, Value>,
    /// Values came as text: numbers are read from it, and lists may be comma separated.
    textual: bool,
    known: Vec<&'static str>,
    /// Names of a form's parts that came as files or are no text.
    files: Vec<String>,
    /// The first field that must be there and is not.
    lacking: Option<&'static str>,
}

impl Fields {
    /// None of them taken yet.
    fn of(left: Map<String, Value>, textual: bool) -> Self {
        Self {
            left,
            textual,
            known: Vec::new(),
            files: Vec::new(),
            lacking: None,
        }
    }

    /// The fields of a JSON object. Before it is taken apart `room` is asked for the bytes that its values will take.
    pub fn from_json(body: &[u8], room: impl FnOnce(u64) -> Result<(), ApiError>) -> Result<Self, ApiError> {
        let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
        let text = utf8(body)?;
        // A number or a bracket takes two bytes, and in memory dozens or hundreds.
        let values = values(body);
        if values > MOST_VALUES {
            let message = format!("The body holds more than {MOST_VALUES} values; no request needs as many.");
            return Err(ApiError::new(ErrorCode::InvalidJson, message));
        }
        room(values as u64 * VALUE_BYTES)?;
        let value: Value = serde_json::from_str(text).map_err(|error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            // Half of a surrogate pair and `1e400` are within JSON's grammar, and nothing can be made of them.
            let message = format!(
                "The body is not valid JSON ({place}), or it holds a broken \\u escape or a number out of every range; send a JSON object."
            );
            ApiError::new(ErrorCode::InvalidJson, message)
        })?;
        match value {
            Value::Object(mut left) => {
                // Null counts as not given, under whatever name: some clients write it for all that they do not set.
                left.retain(|_, value| !value.is_null());
                Ok(Self::of(left, false))
            }
            _ => Err(ApiError::new(ErrorCode::InvalidJson, "The body must be a JSON object.")),
        }
    }

    /// The fields of a form; a name may come more than once. A value that is no text is `None`; `files` names those that came as files.
    pub fn from_form(pairs: Vec<(String, Option<String>)>, files: Vec<String>) -> Self {
        let mut left = Map::new();
        for (name, value) in pairs {
            match left.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
                Value::Array(values) => values.push(value.map_or(Value::Null, Value::String)),
                other => *other = Value::Null,
            }
        }
        Self {
            files,
            ..Self::of(left, true)
        }
    }

    /// The fields of a query string.
    pub fn from_query(query: &str) -> Result<Self, ApiError> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((percent_decoded(name)?, Some(percent_decoded(value)?)))
        });
        Ok(Self::from_form(pairs.collect::<Result<_, ApiError>>()?, Vec::new()))
    }

    /// The value as it came; `null` counts as not given.
    pub fn value(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.left.shift_remove(name).filter(|value| !value.is_null())
    }

    /// The one value of `name`; in a form a name that stands twice is an error.
    fn single(&mut self, name: &'static str) -> Result<Option<Value>, ApiError> {
        match self.value(name) {
            Some(Value::Array(mut values)) if self.textual => match (values.pop(), values.is_empty()) {
                (Some(Value::Null), true) => Err(no_text(name)),
                (value, true) => Ok(value),
                _ => Err(wrong(name, "given once")),
            },
            value => Ok(value),
        }
    }

    /// A text.
    pub fn text(&mut self, name: &'static str) -> Result<Option<String>, ApiError> {
        match self.single(name)? {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong(name, "a string")),
        }
    }

    /// A text that must be there. Where it is not, an empty one stands for it, and [`Fields::finish`] refuses the request.
    pub fn required_text(&mut self, name: &'static str) -> Result<String, ApiError> {
        let text = self.text(name)?;
        if text.is_none() {
            self.lack(name);
        }
        Ok(text.unwrap_or_default())
    }

    /// Notes that a field must be there and is not. Of several the first is told.
    pub fn lack(&mut self, name: &'static str) {
        self.lacking.get_or_insert(name);
    }

    /// A number. One that is larger than any f32 becomes the largest: it is out of every range, and is told so where ranges are checked.
    pub fn number(&mut self, name: &'static str) -> Result<Option<f32>, ApiError> {
        let number = match self.single(name)? {
            None => return Ok(None),
            // `inf` and `nan` are words here.
            Some(Value::String(text)) if self.textual && text.bytes().any(|b| b.is_ascii_digit()) => {
                text.trim().parse().ok()
            }
            Some(value) => value.as_f64(),
        };
        let most = f64::from(f32::MAX);
        number
            .map(|number: f64| Some(number.clamp(-most, most) as f32))
            .ok_or_else(|| wrong(name, "a number"))
    }

    /// A whole number, not negative. One that no u64 holds is out of every range, and is told so where ranges are checked. To JSON Schema `16.0` is a
    /// whole number, too, and some languages write all theirs so.
    pub fn integer(&mut self, name: &'static str) -> Result<Option<u64>, ApiError> {
        let number = match self.single(name)? {
            None => return Ok(None),
            Some(Value::String(text)) if self.textual => whole(text.trim()),
            // What no u64 holds is read as a number with a point, and becomes the largest.
            Some(value) => value.as_u64().or_else(|| {
                let number = value.as_f64().filter(|n| *n >= 0.0 && n.fract() == 0.0);
                number.map(|n| n as u64)
            }),
        };
        number
            .map(Some)
            .ok_or_else(|| wrong(name, "a whole number, not negative"))
    }

    /// A count; as [`Fields::integer`].
    pub fn count(&mut self, name: &'static str) -> Result<Option<usize>, ApiError> {
        // What does not fit a usize is out of every range, and is told so where ranges are checked.
        Ok(self.integer(name)?.map(|n| usize::try_from(n).unwrap_or(usize::MAX)))
    }

    /// True or false; false when not given. In a form and in a query capitals do not matter: Python writes `True`.
    pub fn flag(&mut self, name: &'static str) -> Result<bool, ApiError> {
        match self.single(name)? {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(Value::String(text)) if self.textual && text.eq_ignore_ascii_case("true") => Ok(true),
            Some(Value::String(text)) if self.textual && text.eq_ignore_ascii_case("false") => Ok(false),
            Some(_) => Err(wrong(name, "true or false")),
        }
    }

    /// A list of texts. In a form the name is repeated, or its one value is a list of strings in JSON; with `commas` each of its values may also be
    /// a comma separated list.
    pub fn texts(&mut self, name: &'static str, commas: bool) -> Result<Option<Vec<String>>, ApiError> {
        let values = match self.value(name) {
            None => return Ok(None),
            Some(Value::Array(values)) => values,
            Some(_) => return Err(wrong(name, "a list of strings")),
        };
        let listed = match values.as_slice() {
            [Value::String(text)] if self.textual => json_list(text),
            _ => None,
        };
        let mut texts = Vec::new();
        for value in listed.unwrap_or(values) {
            match value {
                Value::String(text) if self.textual && commas => {
                    texts.extend(text.split(',').map(|t| t.trim().to_owned()).filter(|t| !t.is_empty()));
                }
                Value::String(text) => texts.push(text),
                Value::Null if self.textual => return Err(no_text(name)),
                _ => return Err(wrong(name, "a list of strings")),
            }
        }
        Ok(Some(texts))
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&mut self, name: &'static str, choices: &[(&str, T)]) -> Result<Option<T>, ApiError> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        let found = choices
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, choice)| *choice);
        let words = || {
            choices
                .iter()
                .map(|(word, _)| format!("\"{word}\""))
                .collect::<Vec<_>>()
                .join(" or ")
        };
        found.map(Some).ok_or_else(|| {
            ApiError::about(
                ErrorCode::InvalidParameter,
                name,
                format!("`{name}` must be {}.", words()),
            )
        })
    }

    /// Drops fields that change nothing here.
    pub fn ignore(&mut self, names: &[&'static str]) {
        for name in names {
            self.value(name);
        }
    }

    /// All fields have been asked for: refuses what is left, and then what is missing.
    pub fn finish(self) -> Result<(), ApiError> {
        let known = self.known.join(", ");
        let is_file = self.left.keys().next().is_some_and(|name| self.files.contains(name));
        self.refuse(|shown| match is_file {
            true => format!("{shown} is not a field of this request, and it came as a file or is no UTF-8 text; if it is the image, send the file as `image`."),
            false => format!("{shown} is not a field of this request; it takes: {known}."),
        })?;
        match self.lacking {
            Some(name) => Err(missing(name)),
            None => Ok(()),
        }
    }

    /// The fields of a query string that is not read: refuses what there is. `place` is where fields are read instead.
    pub fn misplaced(self, place: &str) -> Result<(), ApiError> {
        self.refuse(|shown| {
            format!(
                "{shown} stands in the query string, which is read only where the body is the image itself; send it as a \
                 field of {place}."
            )
        })
    }

    /// Refuses what is left, by the name of the first; `say` is given the name as it may be shown.
    fn refuse(&self, say: impl FnOnce(&str) -> String) -> Result<(), ApiError> {
        let Some(name) = self.left.keys().next() else {
            return Ok(());
        };
        Err(ApiError {
            param: is_plain(name).then(|| name.clone()),
            ..ApiError::new(ErrorCode::UnknownField, say(&shown(name)))
        })
    }
}

/// The whole number that a text says; `u64::MAX` for one that is larger.
fn whole(text: &str) -> Option<u64> {
    match text.parse::<u64>() {
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => Some(u64::MAX),
        number => number.ok(),
    }
}

/// The bytes as text.
pub fn utf8(bytes: &[u8]) -> Result<&str, ApiError> {
    let wrong = |_| {
        ApiError::new(
            ErrorCode::InvalidUtf8,
            "The request holds bytes that are not UTF-8; send UTF-8.",
        )
    };
    std::str::from_utf8(bytes).map_err(wrong)
}

/// Whether a name that was sent looks like a field's name and may be shown; another could be anything.
fn is_plain(name: &str) -> bool {
    name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.[]".contains(&b))
}

/// A name that was sent, as a message may begin with it.
pub fn shown(name: &str) -> String {
    match is_plain(name) {
        true => format!("`{name}`"),
        false => "One of the names sent".to_owned(),
    }
}

/// The error for a field that must be there.
fn missing(name: &'static str) -> ApiError {
    ApiError::about(ErrorCode::MissingField, name, format!("`{name}` is missing; send it."))
}

/// The error for a field of the wrong type.
pub fn wrong(name: &'static str, expected: &str) -> ApiError {
    ApiError::about(ErrorCode::InvalidField, name, format!("`{name}` must be {expected}."))
}

/// The error for a field whose bytes are no text.
fn no_text(name: &'static str) -> ApiError {
    let message = format!("`{name}` is not UTF-8; send it as UTF-8 text.");
    ApiError::about(ErrorCode::InvalidUtf8, name, message)
}

/// The strings of a list in JSON, if the text is one.
fn json_list(text: &str) -> Option<Vec<Value>> {
    if text.len() > LONGEST_LIST || !text.trim_start().starts_with('[') {
        return None;
    }
    let texts: Vec<String> = serde_json::from_str(text).ok()?;
    Some(texts.into_iter().map(Value::String).collect())
}

fn percent_decoded(text: &str) -> Result<String, ApiError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|b| char::from(b).to_digit(16));
                let (high, low) = (digit(), digit());
                let bad = || ApiError::new(ErrorCode::InvalidField, "The query string holds a broken %-escape.");
                high.zip(low).map(|(h, l)| (h * 16 + l) as u8).ok_or_else(bad)?
            }
            other => other,
        });
    }
    Ok(utf8(&bytes)?.to_owned())
}

/// About how many values a JSON text holds: what begins or separates them, outside of strings.
fn values(json: &[u8]) -> usize {
    let (mut count, mut left) = (0, json.iter());
    while let Some(byte) = left.next() {
        match byte {
            b'[' | b'{' | b',' => count += 1,
            // An image in base64 is one long string.
            b'"' => loop {
                let Some(end) = memchr2(b'"', b'\\', left.as_slice()) else {
                    return count;
                };
                // Whatever is escaped ends no string.
                if left.nth(end) == Some(&b'"') {
                    break;
                }
                left.next();
            },
            _ => {}
        }
    }
    count
}

#[cfg(test)]
mod tests;
