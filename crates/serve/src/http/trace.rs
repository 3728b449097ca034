//! A name for each request, and a line in the log.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

use super::App;
use crate::files::random_hex;

const NAME: HeaderName = HeaderName::from_static("x-request-id");

/// The name of a request: the client's own where it gives a short plain one.
#[derive(Clone, Debug)]
pub(crate) struct RequestId(pub(crate) String);

/// Names the request, and says the name in the reply.
pub(crate) async fn identify(mut request: Request, next: Next) -> Response {
    let given = request.headers().get(NAME).and_then(|value| value.to_str().ok()).filter(|id| is_plain(id));
    let id = given.map_or_else(|| random_hex(12), str::to_owned);
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = next.run(request).await;
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(NAME, value);
    }
    response
}

fn is_plain(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=64).contains(&id.len()) && id.bytes().all(plain)
}

/// Counts and logs the request. The route stands for the path, which may hold anything.
pub(crate) async fn trace(
    State(app): State<App>,
    matched: Option<MatchedPath>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let id = request.extensions().get::<RequestId>().map(|id| id.0.clone()).unwrap_or_default();
    let route = matched.map_or_else(|| "unknown".to_owned(), |matched| matched.as_str().to_owned());
    let response = next.run(request).await;
    let status = response.status().as_u16();
    app.metrics.request(&route, status);
    let ms = started.elapsed().as_millis() as u64;
    if matches!(
        route.as_str(),
        "/health" | "/ready" | "/metrics" | "/" | "/page/{file}" | "/page/examples.json"
    ) {
        tracing::debug!(id, %method, route, status, ms, "request");
    } else {
        tracing::info!(id, %method, route, status, ms, "request");
    }
    response
}
