//! The API key.

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::App;
use super::error::{Answer, ApiError};

/// Lets a request through that knows the key, before a byte of its body is read.
pub(crate) async fn check(State(app): State<App>, request: Request, next: Next) -> Answer<Response> {
    if let Some(key) = &app.options.key {
        let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| {
            let (scheme, key) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
        });
        if !given.is_some_and(|given| key.is(given)) {
            let message = "this server wants its API key, as `Authorization: Bearer KEY`";
            return Err(ApiError::new(StatusCode::UNAUTHORIZED, message).code("invalid_api_key"));
        }
    }
    Ok(next.run(request).await)
}
