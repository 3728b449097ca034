//! Whether the server lives, whether it can answer, and its numbers.

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::App;
use super::error::{Answer, ApiError, ErrorBody};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whether the process should go on: 503 asks for a new one.
#[utoipa::path(get, path = "/health", tag = "operation", security(()), responses(
    (status = 200, description = "It lives."),
    (status = 503, description = "The model's thread has ended.", body = ErrorBody)))]
pub(crate) async fn alive(State(app): State<App>) -> Answer<&'static str> {
    match app.engine.is_alive() {
        true => Ok("ok\n"),
        false => Err(ApiError::unavailable("the model's thread has ended")),
    }
}

/// Whether requests should be sent here: once a first answer was given, until the order to stop.
#[utoipa::path(get, path = "/ready", tag = "operation", security(()), responses(
    (status = 200, description = "It answers."),
    (status = 503, description = "Not yet, or no more.", body = ErrorBody)))]
pub(crate) async fn ready(State(app): State<App>) -> Answer<&'static str> {
    match app.is_ready() {
        true => Ok("ready\n"),
        false => Err(ApiError::unavailable("not ready")),
    }
}

/// Everything that is counted and measured, for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operation", responses(
    (status = 200, description = "In the text format of OpenMetrics.", body = String,
        content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8"), (status = 401, body = ErrorBody)))]
pub(crate) async fn metrics(State(app): State<App>) -> Answer<Response> {
    match app.metrics.text() {
        Ok(text) => Ok((StatusCode::OK, [(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response()),
        Err(error) => Err(ApiError::internal(&error)),
    }
}
