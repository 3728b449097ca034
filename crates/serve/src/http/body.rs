//! Bodies: read within bounds of bytes and time, then parsed, and never partly believed.

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::App;
use super::error::ApiError;

/// Bytes that a permit stands for: semaphores count less than bodies may have.
const UNIT: usize = 1 << 10;

/// A JSON body.
pub(crate) struct Json<T> {
    pub(crate) value: T,
    /// Its share of what all bodies may take, until the request is done with it.
    pub(crate) held: OwnedSemaphorePermit,
}

impl<T: DeserializeOwned> FromRequest<App> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        // Also what keeps web pages out: browsers ask before they send this type to another origin.
        if !is_json(request.headers()) {
            let message = "the body must be JSON, with `Content-Type: application/json`";
            return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
        }
        let (bytes, held) = read(request, app).await?;
        let mut parser = serde_json::Deserializer::from_slice(&bytes);
        let parsed = serde_path_to_error::deserialize(&mut parser).map_err(|error| {
            let path = error.path().to_string();
            let error = ApiError::new(StatusCode::BAD_REQUEST, told(error.inner()));
            if path == "." { error } else { error.param(path) }
        })?;
        parser.end().map_err(|error| ApiError::new(StatusCode::BAD_REQUEST, told(&error)))?;
        Ok(Self { value: parsed, held })
    }
}

/// What serde says, cut short: it may quote what was sent.
fn told(error: &serde_json::Error) -> String {
    const MOST: usize = 600;
    let told = error.to_string();
    if told.chars().count() <= MOST { told } else { told.chars().take(MOST).chain(['…']).collect() }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    kind.eq_ignore_ascii_case("application/json")
}

/// A share of what all bodies together may take, for a body of this length or of unknown length.
pub(crate) fn share(headers: &HeaderMap, app: &App) -> Result<OwnedSemaphorePermit, ApiError> {
    let most = app.options.limits.body_bytes;
    let stated = headers.get(header::CONTENT_LENGTH);
    let stated = stated.and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if stated.is_some_and(|stated| stated > most) {
        return Err(too_large(most));
    }
    let units = stated.unwrap_or(most).div_ceil(UNIT).max(1);
    let units = u32::try_from(units).unwrap_or(u32::MAX);
    app.bodies.clone().try_acquire_many_owned(units).map_err(|_| {
        ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too many large requests at once")
            .code("bodies_full")
            .retry_after(std::time::Duration::from_secs(1))
    })
}

/// How many permits all bodies have.
pub(crate) fn shares(bytes: usize) -> usize {
    (bytes / UNIT).max(1)
}

pub(crate) fn too_large(most: usize) -> ApiError {
    ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {most} bytes"))
        .code("body_too_large")
}

pub(crate) fn too_slow(app: &App) -> ApiError {
    let seconds = app.options.limits.body_time.as_secs_f64();
    ApiError::new(StatusCode::REQUEST_TIMEOUT, format!("the body did not arrive within {seconds} seconds"))
}

async fn read(request: Request, app: &App) -> Result<(Vec<u8>, OwnedSemaphorePermit), ApiError> {
    let held = share(request.headers(), app)?;
    let most = app.options.limits.body_bytes;
    let body: Body = request.into_body();
    match timeout(app.options.limits.body_time, to_bytes(body, most)).await {
        Err(_) => Err(too_slow(app)),
        Ok(Ok(bytes)) => Ok((bytes.into(), held)),
        // One that is cut short ends its connection: nobody reads what is said of it.
        Ok(Err(_)) => Err(too_large(most)),
    }
}
