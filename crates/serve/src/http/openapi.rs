//! The description of the API for programs, and Swagger UI for people.

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};
use utoipa_swagger_ui::SwaggerUi;

use super::{App, chat, count, files, health, look, models, plan};

#[derive(OpenApi)]
#[openapi(
    info(title = "foveate", description = "Vision-language models with a budget of visual tokens for each request."),
    paths(
        chat::chat, count::count, plan::plan, look::look, models::list, models::one, files::upload, files::list,
        files::one, files::content, files::delete, health::alive, health::ready, health::metrics
    ),
    components(schemas(super::types::ChatChunk)),
    modifiers(&Key),
    security(("key" = []))
)]
struct Document;

struct Key;

impl Modify for Key {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("key", SecurityScheme::Http(bearer));
    }
}

/// The document that `/openapi.json` gives; `key` says whether the server wants one.
pub fn openapi(key: bool) -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    if !key {
        document.security = None;
    }
    document
}

/// `/openapi.json`, and Swagger UI at `/docs`; its files are a part of the program.
pub(super) fn routes(key: bool) -> axum::Router<App> {
    SwaggerUi::new("/docs").url("/openapi.json", openapi(key)).into()
}
