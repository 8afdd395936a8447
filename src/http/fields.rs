//! The fields of a request, from JSON, from a form or from a query string, taken one by one; what is left over is refused by name.
//!
//! Hand-written rather than derived: an error here names the field and what it should be, and never repeats its value.

use memchr::memchr2;
use serde_json::{Map, Value};

use super::error::{ApiError, ErrorCode};

/// Most values of a JSON body: some megabytes, once they are read.
const MOST_VALUES: usize = 1 << 16;

/// Fields that have not been taken yet.
#[derive(Debug)]
pub struct Fields {
    left: Map<String, Value>,
    /// Values came as text: numbers are read from it, and lists may be comma separated.
    textual: bool,
    known: Vec<&'static str>,
}

impl Fields {
    /// The fields of a JSON object.
    pub fn from_json(body: &[u8]) -> Result<Self, ApiError> {
        let text = utf8(body)?;
        // A number or a bracket takes two bytes, and in memory dozens.
        if values(body) > MOST_VALUES {
            let message = format!("The body holds more than {MOST_VALUES} values; no request needs as many.");
            return Err(ApiError::new(ErrorCode::InvalidJson, message));
        }
        let value: Value = serde_json::from_str(text).map_err(|error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            ApiError::new(
                ErrorCode::InvalidJson,
                format!("The body is not valid JSON ({place}); send a JSON object."),
            )
        })?;
        match value {
            Value::Object(left) => Ok(Self {
                left,
                textual: false,
                known: Vec::new(),
            }),
            _ => Err(ApiError::new(ErrorCode::InvalidJson, "The body must be a JSON object.")),
        }
    }

    /// The fields of a form; a name may come more than once.
    pub fn from_form(pairs: Vec<(String, String)>) -> Self {
        let mut left = Map::new();
        for (name, value) in pairs {
            match left.entry(name).or_insert_with(|| Value::Array(Vec::new())) {
                Value::Array(values) => values.push(Value::String(value)),
                other => *other = Value::Null,
            }
        }
        Self {
            left,
            textual: true,
            known: Vec::new(),
        }
    }

    /// The fields of a query string.
    pub fn from_query(query: &str) -> Result<Self, ApiError> {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Ok((percent_decoded(name)?, percent_decoded(value)?))
        });
        Ok(Self::from_form(pairs.collect::<Result<_, ApiError>>()?))
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

    /// A text that must be there.
    pub fn required_text(&mut self, name: &'static str) -> Result<String, ApiError> {
        self.text(name)?.ok_or_else(|| missing(name))
    }

    /// A finite number.
    pub fn number(&mut self, name: &'static str) -> Result<Option<f32>, ApiError> {
        let number = match self.single(name)? {
            None => return Ok(None),
            Some(Value::String(text)) if self.textual => text.trim().parse().ok(),
            Some(value) => value.as_f64().map(|n| n as f32),
        };
        number
            .filter(|n: &f32| n.is_finite())
            .map(Some)
            .ok_or_else(|| wrong(name, "a number"))
    }

    /// A whole number, not negative.
    pub fn integer(&mut self, name: &'static str) -> Result<Option<u64>, ApiError> {
        let number = match self.single(name)? {
            None => return Ok(None),
            Some(Value::String(text)) if self.textual => text.trim().parse().ok(),
            Some(value) => value.as_u64(),
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

    /// True or false; false when not given.
    pub fn flag(&mut self, name: &'static str) -> Result<bool, ApiError> {
        match self.single(name)? {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(Value::String(text)) if self.textual && text == "true" => Ok(true),
            Some(Value::String(text)) if self.textual && text == "false" => Ok(false),
            Some(_) => Err(wrong(name, "true or false")),
        }
    }

    /// A list of texts. In a form the name is repeated; with `commas` each of its values may also be a comma separated list.
    pub fn texts(&mut self, name: &'static str, commas: bool) -> Result<Option<Vec<String>>, ApiError> {
        let values = match self.value(name) {
            None => return Ok(None),
            Some(Value::Array(values)) => values,
            Some(_) => return Err(wrong(name, "a list of strings")),
        };
        let mut texts = Vec::new();
        for value in values {
            match value {
                Value::String(text) if self.textual && commas => {
                    texts.extend(text.split(',').map(|t| t.trim().to_owned()).filter(|t| !t.is_empty()));
                }
                Value::String(text) => texts.push(text),
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

    /// All fields have been asked for: refuses what is left.
    pub fn finish(self) -> Result<(), ApiError> {
        let known = self.known.join(", ");
        self.refuse(|shown| format!("{shown} is not a field of this request; it takes: {known}."))
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
        let plain = name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.[]".contains(&b));
        let shown = if plain {
            format!("`{name}`")
        } else {
            "One of the names sent".to_owned()
        };
        Err(ApiError {
            param: plain.then(|| name.clone()),
            ..ApiError::new(ErrorCode::UnknownField, say(&shown))
        })
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

/// The error for a field that must be there.
pub fn missing(name: &'static str) -> ApiError {
    ApiError::about(ErrorCode::MissingField, name, format!("`{name}` is missing; send it."))
}

/// The error for a field of the wrong type.
pub fn wrong(name: &'static str, expected: &str) -> ApiError {
    ApiError::about(ErrorCode::InvalidField, name, format!("`{name}` must be {expected}."))
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
mod tests {
    use super::*;

    #[test]
    fn json_form_and_query_give_the_same_fields() {
        let json = Fields::from_json(br#"{"temperature": 0.5, "seed": 7, "stream": true, "include": ["codes", "token_ids"], "instruction": "a b"}"#);
        let query = Fields::from_query("temperature=0.5&seed=7&stream=true&include=codes,token_ids&instruction=a+b");
        for fields in [json, query] {
            let mut fields = fields.expect("sound");
            assert_eq!(fields.number("temperature").expect("a number"), Some(0.5));
            assert_eq!(fields.integer("seed").expect("an integer"), Some(7));
            assert!(fields.flag("stream").expect("a flag"));
            assert_eq!(
                fields.texts("include", true).expect("a list").expect("given"),
                ["codes", "token_ids"]
            );
            assert_eq!(fields.text("instruction").expect("a text").expect("given"), "a b");
            assert!(fields.finish().is_ok());
        }
    }

    #[test]
    fn an_error_names_the_field_and_never_its_value() {
        let mut fields = Fields::from_json(br#"{"seed": "canary", "canary_name": 1}"#).expect("JSON");
        let error = fields.integer("seed").expect_err("a string");
        assert_eq!(
            (error.code, error.param.as_deref()),
            (ErrorCode::InvalidField, Some("seed"))
        );
        assert!(!error.message.contains("canary"));
        let error = fields.finish().expect_err("left over");
        assert_eq!(
            (error.code, error.param.as_deref()),
            (ErrorCode::UnknownField, Some("canary_name"))
        );
    }

    #[test]
    fn broken_text_is_refused() {
        assert_eq!(
            Fields::from_json(b"{\"a\": \"\xff\"}").expect_err("not UTF-8").code,
            ErrorCode::InvalidUtf8
        );
        assert_eq!(
            Fields::from_json(b"{\"a\": ").expect_err("cut").code,
            ErrorCode::InvalidJson
        );
        assert_eq!(
            Fields::from_json(b"[1]").expect_err("a list").code,
            ErrorCode::InvalidJson
        );
        assert_eq!(
            Fields::from_query("a=%ff").expect_err("not UTF-8").code,
            ErrorCode::InvalidUtf8
        );
        assert_eq!(
            Fields::from_query("a=%f").expect_err("cut").code,
            ErrorCode::InvalidField
        );
    }
}
