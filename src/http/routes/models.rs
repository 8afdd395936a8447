//! `GET /v1/models` and `GET /v1/models/{id}`, in the OpenAI way.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};

use crate::http::error::{ApiError, ErrorCode};
use crate::http::state::AppState;
use crate::http::wire::{ErrorBody, ModelList, ModelObject};

fn model(state: &AppState) -> ModelObject {
    let card = state.assistant.card();
    ModelObject {
        id: card.name.clone(),
        object: "model".to_owned(),
        created: 0,
        owned_by: "llm-cxr".to_owned(),
        revision: card.revision.clone(),
        trained: card.trained,
    }
}

/// Refuses a model that is not served.
pub(super) fn check_model(state: &AppState, name: &str) -> Result<(), ApiError> {
    if name == state.assistant.card().name {
        return Ok(());
    }
    let served = &state.assistant.card().name;
    let message = format!("There is no such model here; this server has `{served}` (see GET /v1/models).");
    Err(ApiError::about(ErrorCode::ModelNotFound, "model", message))
}

/// The models that are served
#[utoipa::path(
    get, path = "/v1/models", tag = "openai", operation_id = "listModels",
    responses((status = 200, description = "One model.", body = ModelList), (status = "4XX", description = "What to change.", body = ErrorBody))
)]
pub async fn list(State(state): State<AppState>) -> Json<ModelList> {
    Json(ModelList {
        object: "list".to_owned(),
        data: vec![model(&state)],
    })
}

/// One model
#[utoipa::path(
    get, path = "/v1/models/{id}", tag = "openai", operation_id = "retrieveModel",
    params(("id" = String, Path, description = "Its name.")),
    responses((status = 200, description = "The model.", body = ModelObject), (status = "4XX", description = "There is none of this name.", body = ErrorBody))
)]
pub async fn one(
    State(state): State<AppState>,
    id: Result<Path<String>, PathRejection>,
) -> Result<Json<ModelObject>, ApiError> {
    // A name that is not even text is no model's.
    check_model(&state, id.as_ref().map_or("", |Path(id)| id))?;
    Ok(Json(model(&state)))
}
