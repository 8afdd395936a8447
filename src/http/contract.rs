//! The contract: OpenAPI from the code, as YAML and as a page for people. `openapi.yaml` at the top is this, committed.

mod operations;
mod values;

use std::sync::LazyLock;

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use self::operations::Operations;
use self::values::Values;
use super::reference;
use super::routes::{chat, generate_image, images, instruct, models, ops, report, vqa};
use super::wire;

/// Gathers paths and schemas.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "LLM-CXR",
        description = "One model that reads chest X-rays, answers questions about them and draws them. For research only: not a medical device.",
    ),
    paths(
        report::report, vqa::vqa, generate_image::generate_image, instruct::instruct,
        chat::completions, images::generations, models::list, models::one,
        ops::livez, ops::readyz, ops::metrics, ops::info, ops::openapi, ops::docs, ops::index,
    ),
    components(schemas(wire::DeltaEvent, wire::ProgressEvent, wire::ChatChunk)),
    tags(
        (name = "product", description = "What the model does"),
        (name = "openai", description = "The same for OpenAI clients"),
        (name = "operation", description = "Health, metrics, information about the server"),
    ),
    security((), ("api_key" = [])),
    // Forms and queries are made of what the schemas say, values included.
    modifiers(&ApiKey, &Values, &Operations),
)]
struct Contract;

struct ApiKey;

impl Modify for ApiKey {
    fn modify(&self, contract: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "An API key, where the operator asks for one; without keys configured everybody is served. Probes and pages are open.",
            ))
            .build();
        let components = contract.components.get_or_insert_default();
        components.add_security_scheme("api_key", SecurityScheme::Http(scheme));
    }
}

/// The contract.
pub fn document() -> utoipa::openapi::OpenApi {
    Contract::openapi()
}

/// The contract as YAML.
pub fn yaml() -> &'static str {
    static YAML: LazyLock<String> = LazyLock::new(|| {
        // Plain structs always serialize; should it ever not be so, the test that compares the committed file shows it.
        document().to_yaml().unwrap_or_default()
    });
    &YAML
}

/// The contract as a page.
pub fn page() -> &'static str {
    static PAGE: LazyLock<String> =
        LazyLock::new(|| reference::page(&serde_json::to_value(document()).unwrap_or_default()));
    &PAGE
}
