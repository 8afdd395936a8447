//! What holds for every operation, added to what the routes say of themselves: files as binary data, options of a raw image in the query,
//! event streams, headers, and who needs no key.

use utoipa::Modify;
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::schema::{KnownFormat, SchemaFormat, SchemaType, Type};
use utoipa::openapi::{Components, Content, Header, Object, OpenApi, RefOr, Required, Response, Schema};

use crate::http::access::auth;

/// Images that may be sent or come back as they are.
const FILES: [&str; 4] = [
    "image/png",
    "image/jpeg",
    "application/dicom",
    "application/octet-stream",
];

pub(super) struct Operations;

impl Modify for Operations {
    fn modify(&self, contract: &mut OpenApi) {
        let components = contract.components.take().unwrap_or_default();
        for (path, item) in &mut contract.paths.paths {
            for operation in [&mut item.get, &mut item.post].into_iter().flatten() {
                complete(operation, path, &components);
            }
        }
        contract.components = Some(components);
    }
}

fn complete(operation: &mut Operation, path: &str, components: &Components) {
    if auth::is_open(path) {
        operation.security = Some(Vec::new());
    }
    let fields = operation
        .request_body
        .as_ref()
        .and_then(|body| fields(body.content.get("application/json")?, components))
        .cloned();
    if let (Some(body), Some(fields)) = (&mut operation.request_body, &fields) {
        let mut raw = false;
        for (kind, content) in &mut body.content {
            if FILES.contains(&kind.as_str()) {
                *content = file();
                raw = true;
            } else if kind == "multipart/form-data" {
                *content = form(fields);
            }
        }
        if raw {
            let named = fields.properties.iter().filter(|(name, _)| *name != "image");
            let options = named.map(|(name, schema)| option(name, schema));
            operation.parameters.get_or_insert_default().extend(options);
        }
    }
    let streams = fields.is_some_and(|fields| fields.properties.contains_key("stream"));
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response {
            answer(response, status, streams);
        }
    }
}

/// The object that a JSON body is.
fn fields<'a>(content: &'a Content, components: &'a Components) -> Option<&'a Object> {
    let schema = match content.schema.as_ref()? {
        RefOr::Ref(reference) => components.schemas.get(reference.ref_location.rsplit('/').next()?)?,
        inline @ RefOr::T(_) => inline,
    };
    match schema {
        RefOr::T(Schema::Object(object)) => Some(object),
        _ => None,
    }
}

/// A file's bytes.
fn binary() -> Object {
    let mut bytes = Object::with_type(SchemaType::Type(Type::String));
    bytes.format = Some(SchemaFormat::KnownFormat(KnownFormat::Binary));
    bytes
}

fn file() -> Content {
    Content::new(Some(Schema::Object(binary())))
}

/// The same fields as a form, where the image is a file.
fn form(fields: &Object) -> Content {
    let mut form = fields.clone();
    if let Some(image) = form.properties.get_mut("image") {
        let mut bytes = binary();
        bytes.description = Some("A PNG, JPEG or DICOM file.".to_owned());
        *image = RefOr::T(Schema::Object(bytes));
    }
    Content::new(Some(Schema::Object(form)))
}

/// A field as an option in the query, for a body that is nothing but the image.
fn option(name: &str, schema: &RefOr<Schema>) -> Parameter {
    let mut schema = schema.clone();
    let mut description = None;
    if let RefOr::T(Schema::Object(object)) = &mut schema {
        description = object.description.take();
    } else if let RefOr::T(Schema::Array(array)) = &mut schema {
        description = array.description.take();
    }
    let description = format!(
        "Only where the body is the image itself. {}",
        description.unwrap_or_default()
    );
    let mut option = Parameter::new(name);
    option.parameter_in = ParameterIn::Query;
    option.required = Required::False;
    option.description = Some(description.trim_end().to_owned());
    option.schema = Some(schema);
    option
}

fn answer(response: &mut Response, status: &str, streams: bool) {
    let mut header = |name: &str, kind: Type, description: &str| {
        let mut header = Header::new(Object::with_type(SchemaType::Type(kind)));
        header.description = Some(description.to_owned());
        response.headers.insert(name.to_owned(), header);
    };
    header(
        "x-request-id",
        Type::String,
        "Names the request in the server's log: the client's own, if it sent one of 1 to 64 ASCII letters, digits, `-`, `_` and `.`; else a new one.",
    );
    if ["401", "4XX"].contains(&status) {
        header("www-authenticate", Type::String, "With 401: `Bearer`.");
    }
    if status == "401" {
        return;
    }
    if status == "4XX" {
        header("allow", Type::String, "With 405: the methods that the path takes.");
    }
    if status == "5XX" {
        header(
            "x-should-retry",
            Type::String,
            "With 504: `false`; the same request would take as long again.",
        );
    }
    if status != "200" {
        header(
            "retry-after",
            Type::Integer,
            "With 429 and 503: seconds after which to ask again.",
        );
        return;
    }
    let files = response.content.keys().any(|kind| FILES.contains(&kind.as_str()));
    if files {
        header("x-seed", Type::Integer, "With a file: the seed that draws it again.");
        header(
            "x-synthetic",
            Type::String,
            "With a file: `true`; the image shows no patient.",
        );
        header(
            "x-disclaimer",
            Type::String,
            "With a file: what the image is for, and what it is not.",
        );
        header(
            "x-warning",
            Type::String,
            "With a file: the bundle's own warning, where it has one.",
        );
    }
    for (kind, content) in &mut response.content {
        if FILES.contains(&kind.as_str()) {
            *content = file();
        }
    }
    if streams {
        let mut events = Object::with_type(SchemaType::Type(Type::String));
        events.description =
            Some("With `stream`: server-sent events, as the description of the operation names them.".to_owned());
        let events = Content::new(Some(Schema::Object(events)));
        response.content.insert("text/event-stream".to_owned(), events);
    }
}
