//! The contract as a page for people: endpoints, fields and examples, nothing loaded from anywhere.

use std::fmt::Write as _;

use serde_json::Value;

use super::error::ErrorCode;
use crate::basics::escaped;

/// Examples, by path.
const EXAMPLES: [(&str, &str); 10] = [
    (
        "/v1/report",
        "curl -s http://127.0.0.1:8080/v1/report -H 'Content-Type: image/png' --data-binary @chest.png\ncurl -sN http://127.0.0.1:8080/v1/report -F image=@chest.png -F stream=true",
    ),
    (
        "/v1/vqa",
        "curl -s http://127.0.0.1:8080/v1/vqa -F image=@chest.png -F 'question=Is there a pleural effusion?' -F include=probabilities",
    ),
    (
        "/v1/generate-image",
        "curl -s http://127.0.0.1:8080/v1/generate-image -H 'Content-Type: application/json' -H 'Accept: image/png' \\\n  -d '{\"text\": \"Large right pleural effusion.\", \"seed\": 7}' -o drawn.png",
    ),
    (
        "/v1/instruct",
        "curl -s http://127.0.0.1:8080/v1/instruct -H 'Content-Type: application/json' \\\n  -d '{\"instruction\": \"Explain this finding in plain words.\", \"input\": \"Bibasilar atelectasis.\"}'",
    ),
    (
        "/v1/chat/completions",
        "# NAME: an id that GET /v1/models lists\ncurl -s http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\\n  -d '{\"model\": \"NAME\", \"messages\": [{\"role\": \"user\", \"content\": \"What is a pneumothorax?\"}]}'",
    ),
    (
        "/v1/images/generations",
        "curl -s http://127.0.0.1:8080/v1/images/generations -H 'Content-Type: application/json' \\\n  -d '{\"prompt\": \"Cardiomegaly.\"}'",
    ),
    ("/v1/models", "curl -s http://127.0.0.1:8080/v1/models"),
    ("/v1/info", "curl -s http://127.0.0.1:8080/v1/info"),
    ("/readyz", "curl -si http://127.0.0.1:8080/readyz"),
    ("/metrics", "curl -s http://127.0.0.1:8080/metrics"),
];

const HEAD: &str = include_str!("pages/docs_head.html");

/// The examples name the server that the page came from, and what scrolls can be scrolled by keys.
const SCRIPT: &str = r#"<script>
"use strict";
for (const example of document.querySelectorAll("pre")) {
  example.textContent = example.textContent.replaceAll("http://127.0.0.1:8080", location.origin);
}
onresize = () => {
  for (const area of document.querySelectorAll(".wide, pre")) {
    if (area.scrollWidth > area.clientWidth) area.tabIndex = 0; else area.removeAttribute("tabindex");
  }
};
onresize();
</script>
"#;

/// The page of a contract.
pub(super) fn page(contract: &Value) -> String {
    let mut html = HEAD.replace("{{notice}}", crate::RESEARCH_NOTICE);
    let groups = groups(contract);
    contents(&mut html, &groups);
    for operation in groups.iter().flat_map(|group| &group.operations) {
        section(&mut html, contract, operation);
    }
    html.push_str("<h2 id=\"objects\">Objects</h2>\n");
    let none = serde_json::Map::new();
    for (name, schema) in contract["components"]["schemas"].as_object().unwrap_or(&none) {
        let _ = write!(
            html,
            "<h3 id=\"{0}\"><code>{0}</code></h3>\n<p>{1}</p>\n",
            escaped(name),
            text(&schema["description"])
        );
        table(&mut html, schema);
    }
    errors(&mut html);
    html.push_str("</main>\n");
    html.push_str(SCRIPT);
    html.push_str("</body></html>\n");
    html
}

/// Operations that belong together.
struct Group<'a> {
    /// The contract's tag.
    tag: &'a Value,
    operations: Vec<Operation<'a>>,
}

/// One operation of the contract.
struct Operation<'a> {
    path: &'a str,
    /// `GET`.
    method: String,
    /// What the contract says of it.
    told: &'a Value,
}

impl Operation<'_> {
    /// Of its section in the page.
    fn id(&self) -> String {
        escaped(self.told["operationId"].as_str().unwrap_or_default())
    }

    /// `GET /v1/info`, as HTML.
    fn name(&self) -> String {
        format!("<code>{} {}</code>", self.method, escaped(self.path))
    }
}

/// The operations in the order of the contract's tags: what the model does comes before what keeps the server running.
fn groups(contract: &Value) -> Vec<Group<'_>> {
    let tags = contract["tags"].as_array().into_iter().flatten();
    tags.map(|tag| Group {
        tag,
        operations: operations(contract)
            .filter(|operation| operation.told["tags"][0] == tag["name"])
            .collect(),
    })
    .collect()
}

/// Every operation, path by path.
fn operations(contract: &Value) -> impl Iterator<Item = Operation<'_>> {
    let paths = contract["paths"].as_object().into_iter().flatten();
    paths.flat_map(|(path, methods)| {
        let methods = methods.as_object().into_iter().flatten();
        methods.map(move |(method, told)| Operation {
            path,
            method: method.to_uppercase(),
            told,
        })
    })
}

/// What the page holds, with links to it.
fn contents(html: &mut String, groups: &[Group<'_>]) {
    html.push_str("<nav aria-label=\"Contents\">\n");
    for group in groups {
        let _ = writeln!(html, "<p>{}</p><ul>", text(&group.tag["description"]));
        for operation in &group.operations {
            let (id, name) = (operation.id(), operation.name());
            let summary = text(&operation.told["summary"]);
            let _ = writeln!(html, "<li><a href=\"#{id}\">{name}</a> {summary}</li>");
        }
        html.push_str("</ul>\n");
    }
    html.push_str("<p><a href=\"#objects\">Objects</a> · <a href=\"#errors\">Errors</a></p></nav>\n");
}

/// Every code of an error.
fn errors(html: &mut String) {
    html.push_str("<h2 id=\"errors\">Errors</h2>\n<div class=\"wide\"><table><tr><th>code</th><th>status</th><th>type</th></tr>\n");
    for code in ErrorCode::ALL {
        let (name, status, kind) = (code.as_str(), code.status().as_u16(), code.kind().as_str());
        let _ = writeln!(
            html,
            "<tr><td><code>{name}</code></td><td>{status}</td><td>{kind}</td></tr>"
        );
    }
    html.push_str("</table></div>\n");
}

fn section(html: &mut String, contract: &Value, operation: &Operation<'_>) {
    let (id, name, path) = (operation.id(), operation.name(), operation.path);
    let operation = operation.told;
    let _ = write!(
        html,
        "<section><h2 id=\"{id}\">{name}</h2>\n<p><b>{}.</b> {}</p>\n",
        text(&operation["summary"]),
        text(&operation["description"])
    );
    if let Some(kinds) = operation["requestBody"]["content"].as_object() {
        let names: Vec<String> = kinds
            .keys()
            .map(|kind| format!("<code>{}</code>", escaped(kind)))
            .collect();
        let _ = writeln!(html, "<p>Body: {}</p>", names.join(", "));
        let json = kinds.get("application/json").map(|kind| &kind["schema"]);
        if let Some(schema) = json.and_then(|schema| resolve(contract, schema)) {
            table(html, schema);
        }
    }
    let none = serde_json::Map::new();
    html.push_str("<p>Answers:</p><ul>");
    for (status, answer) in operation["responses"].as_object().unwrap_or(&none) {
        let kinds = answer["content"]
            .as_object()
            .unwrap_or(&none)
            .iter()
            .map(|(kind, content)| format!("<code>{}</code> {}", escaped(kind), kind_of(&content["schema"])));
        let kinds = kinds.collect::<Vec<_>>().join(", ");
        let _ = write!(
            html,
            "<li><code>{}</code> {} {kinds}</li>",
            escaped(status),
            text(&answer["description"])
        );
    }
    html.push_str("</ul>\n");
    if let Some((_, example)) = EXAMPLES.iter().find(|(name, _)| *name == path) {
        let _ = writeln!(html, "<pre>{}</pre>", escaped(example));
    }
    html.push_str("</section>\n");
}

/// The fields of an object.
fn table(html: &mut String, schema: &Value) {
    let Some(fields) = schema["properties"].as_object() else {
        return;
    };
    html.push_str("<div class=\"wide\"><table><tr><th>field</th><th>type</th><th>meaning</th></tr>\n");
    for (name, field) in fields {
        let required = schema["required"]
            .as_array()
            .is_some_and(|names| names.iter().any(|n| n == name));
        let mark = if required { " *" } else { "" };
        let _ = writeln!(
            html,
            "<tr><td><code>{}</code>{mark}</td><td>{}{}</td><td>{}</td></tr>",
            escaped(name),
            kind_of(field),
            range(field),
            described(field)
        );
    }
    html.push_str("</table></div>\n");
}

fn resolve<'a>(contract: &'a Value, schema: &'a Value) -> Option<&'a Value> {
    match schema["$ref"].as_str() {
        Some(reference) => contract.pointer(reference.strip_prefix('#')?),
        None => Some(schema),
    }
}

/// A schema's type in a word or two.
fn kind_of(schema: &Value) -> String {
    if let Some(name) = schema["$ref"]
        .as_str()
        .and_then(|reference| reference.rsplit('/').next())
    {
        let name = escaped(name);
        return format!("<a href=\"#{name}\">{name}</a>");
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let kinds = choices.iter().filter(|choice| choice["type"] != "null").map(kind_of);
        return kinds.collect::<Vec<_>>().join(" or ");
    }
    let one = |kind: &str| match kind {
        "array" => format!("list of {}", kind_of(&schema["items"])),
        other => escaped(other),
    };
    match &schema["type"] {
        Value::String(kind) => one(kind),
        Value::Array(kinds) => {
            let kinds = kinds
                .iter()
                .filter_map(Value::as_str)
                .filter(|kind| *kind != "null")
                .map(one);
            kinds.collect::<Vec<_>>().join(" or ")
        }
        _ => "any".to_owned(),
    }
}

/// What a field is, said beside its type or, where it may also be null, within.
fn described(field: &Value) -> String {
    let within = || {
        let choices = field["oneOf"].as_array()?.iter();
        choices
            .map(|choice| &choice["description"])
            .find(|words| words.is_string())
    };
    let words = Some(&field["description"]).filter(|words| words.is_string());
    words.or_else(within).map(text).unwrap_or_default()
}

/// Between what a number lies, how many a list may have.
fn range(field: &Value) -> String {
    let first = |names: [(&str, &str); 3]| {
        let found = names.iter().find(|(name, _)| field[*name].is_number());
        found.map(|(name, sign)| format!("{sign}&nbsp;{}", field[*name]))
    };
    let least = first([("minimum", "≥"), ("exclusiveMinimum", "&gt;"), ("minItems", "at least")]);
    let most = first([("maximum", "≤"), ("exclusiveMaximum", "&lt;"), ("maxItems", "at most")]);
    let bounds: Vec<String> = [least, most].into_iter().flatten().collect();
    match bounds.is_empty() {
        true => String::new(),
        false => format!("<br>{}", bounds.join(", ")),
    }
}

/// Words of a description; what stands between backticks is code.
fn text(value: &Value) -> String {
    let words = escaped(value.as_str().unwrap_or_default());
    let mut html = String::new();
    for (index, piece) in words.split('`').enumerate() {
        let _ = match index % 2 {
            1 => write!(html, "<code>{piece}</code>"),
            _ => write!(html, "{piece}"),
        };
    }
    html
}
