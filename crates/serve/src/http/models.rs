//! `/v1/models`: the one model that is served.

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use foveate_law::cost::ImageSize;
use serde::Serialize;
use utoipa::ToSchema;

use super::error::{Answer, ApiError, ErrorBody};
use super::ladder::LadderDocument;
use super::{App, AppState};

/// The models.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelList {
    /// `list`
    object: &'static str,
    data: Vec<ModelDocument>,
}

/// A model.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelDocument {
    id: String,
    /// `model`
    object: &'static str,
    created: u64,
    owned_by: &'static str,
    foveate: ModelDetails,
}

#[derive(Serialize, ToSchema)]
struct ModelDetails {
    /// Positions of prompt and answer together.
    context: usize,
    /// What makes visual tokens; `null` for a model without sight.
    compressor: Option<String>,
    /// The visual tokens on offer.
    ladder: Option<LadderDocument>,
    /// The pictures that the tower reads, in pixels: the side of a square, or height and width.
    #[schema(value_type = Option<serde_json::Value>)]
    image_size: Option<ImageSize>,
}

fn document(app: &AppState) -> ModelDocument {
    let vlm = app.backend.viewer().map(|viewer| viewer.vlm());
    ModelDocument {
        id: app.options.model.clone(),
        object: "model",
        created: app.started,
        owned_by: "foveate",
        foveate: ModelDetails {
            context: app.backend.decoder().config().context,
            compressor: vlm.map(|vlm| vlm.compressor().method().to_string()),
            ladder: vlm.map(|vlm| LadderDocument::from(&vlm.ladder())),
            image_size: vlm.map(|vlm| vlm.tower().config().image_size()),
        },
    }
}

/// The models that are served.
#[utoipa::path(get, path = "/v1/models", tag = "models", responses((status = 200, body = ModelList),
    (status = 401, body = ErrorBody)))]
pub(crate) async fn list(State(app): State<App>) -> Json<ModelList> {
    Json(ModelList { object: "list", data: vec![document(&app)] })
}

/// One of them.
#[utoipa::path(get, path = "/v1/models/{model}", tag = "models", params(("model" = String, Path)), responses(
    (status = 200, body = ModelDocument), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn one(
    State(app): State<App>,
    model: Result<Path<String>, PathRejection>,
) -> Answer<Json<ModelDocument>> {
    // What is no text is no model's name, and empty stands for it.
    let model = model.map(|Path(model)| model).unwrap_or_default();
    check(&app, &model)?;
    Ok(Json(document(&app)))
}

/// Refuses another model than the one that is served.
pub(crate) fn check(app: &AppState, model: &str) -> Answer<()> {
    if model == app.options.model {
        return Ok(());
    }
    let asked: String = model.chars().take(100).collect();
    let message = format!("there is no model {asked:?} here; this server has {:?}", app.options.model);
    Err(ApiError::new(StatusCode::NOT_FOUND, message).param("model").code("model_not_found"))
}
