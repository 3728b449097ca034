//! The routes and what they share.

mod admit;
mod body;
mod budget;
mod chat;
mod check;
mod conversation;
mod count;
mod error;
mod files;
mod health;
mod host;
mod key;
mod ladder;
mod look;
mod models;
mod openapi;
mod page;
mod plan;
mod reply;
mod trace;
mod types;

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use tokio::sync::Semaphore;
use tower_http::catch_panic::CatchPanicLayer;

pub(crate) use admit::warm_up;
pub(crate) use error::ApiError;
pub(crate) use files::sweep_files;
pub use openapi::openapi;

use crate::backend::Backend;
use crate::engine::Engine;
use crate::files::Files;
use crate::images::Fetcher;
use crate::metrics::Metrics;
use crate::options::{Options, RemoteImages};

/// What all requests share.
pub(crate) type App = Arc<AppState>;

pub(crate) struct AppState {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) engine: Engine,
    pub(crate) files: Files,
    /// `None` where images by address are refused.
    pub(crate) fetcher: Option<Fetcher>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) options: Options,
    /// What the bodies at hand may take together.
    pub(crate) bodies: Arc<Semaphore>,
    /// How many requests decode images and fetch them at once: what they take beside the model stays bounded.
    pub(crate) workers: Arc<Semaphore>,
    laws: plan::Laws,
    ready: AtomicBool,
    /// Seconds since 1970.
    started: u64,
}

impl AppState {
    pub(crate) fn new(
        backend: Arc<dyn Backend>,
        engine: Engine,
        files: Files,
        metrics: Arc<Metrics>,
        options: Options,
    ) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            fetcher: match options.remote {
                RemoteImages::Refused => None,
                RemoteImages::Public(time) => Some(Fetcher::new(time, options.limits.image_bytes)),
            },
            bodies: Arc::new(Semaphore::new(body::shares(options.limits.all_bodies_bytes))),
            workers: Arc::new(Semaphore::new(cores.max(2))),
            laws: plan::Laws::default(),
            ready: AtomicBool::new(false),
            started: now(),
            backend,
            engine,
            files,
            metrics,
            options,
        }
    }

    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed) && self.engine.is_alive()
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// All routes.
pub(crate) fn router(app: App) -> Router {
    let closed = Router::new()
        .route("/v1/chat/completions", post(chat::chat))
        .route("/v1/count", post(count::count))
        .route("/v1/plan", post(plan::plan))
        .route("/v1/look", post(look::look))
        .route("/v1/models", get(models::list))
        .route("/v1/models/{*model}", get(models::one))
        .route("/v1/files", post(files::upload).get(files::list))
        .route("/v1/files/{id}", get(files::one).delete(files::delete))
        .route("/v1/files/{id}/content", get(files::content))
        .route("/metrics", get(health::metrics))
        .route_layer(from_fn_with_state(app.clone(), key::check));
    let open = Router::new()
        .route("/health", get(health::alive))
        .route("/ready", get(health::ready))
        .merge(page::routes())
        .merge(openapi::routes(app.options.key.is_some()));
    closed
        .merge(open)
        .fallback(unknown)
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(app.options.limits.body_bytes))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(app.clone(), host::check))
        .layer(from_fn_with_state(app.clone(), trace::trace))
        .layer(from_fn(trace::identify))
        .with_state(app)
}

async fn unknown() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "there is nothing at this path; /docs lists what there is")
        .code("unknown_path")
}

async fn wrong_method() -> ApiError {
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, "this path does not take this method")
}

/// The panic itself was told on standard error.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    ApiError::internal(&"a request's handler panicked").into_response()
}
