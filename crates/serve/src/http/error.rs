//! Errors as OpenAI's clients read them.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::backend::Refusal;
use crate::engine::{Failed, Full, Gone};

/// What is wrong, for a client's exception.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ErrorBody {
    error: ErrorObject,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
struct ErrorObject {
    /// What is wrong and what is allowed.
    message: String,
    /// `invalid_request_error`, `authentication_error`, `rate_limit_error`, `timeout_error` or `server_error`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The field of the request.
    param: Option<String>,
    /// For programs.
    code: Option<&'static str>,
    /// What is allowed, for programs: `ladder`, `least_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    foveate: Option<Value>,
}

/// An error and its status.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    body: Box<ErrorBody>,
    retry_after: Option<Duration>,
}

/// The result of a handler.
pub(crate) type Answer<T> = Result<T, ApiError>;

impl ApiError {
    pub(crate) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let kind = match status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => "timeout_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        };
        let error = ErrorObject { message: message.into(), kind, param: None, code: None, foveate: None };
        Self { status, body: Box::new(ErrorBody { error }), retry_after: None }
    }

    /// 400 about a field of the request.
    pub(crate) fn field(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message).param(param)
    }

    /// 500; the reason goes to the log alone.
    pub(crate) fn internal(reason: &dyn std::fmt::Display) -> Self {
        tracing::error!(%reason, "failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "this server failed to answer; its log says why")
    }

    pub(crate) fn param(mut self, param: impl Into<String>) -> Self {
        self.body.error.param = Some(param.into());
        self
    }

    pub(crate) fn code(mut self, code: &'static str) -> Self {
        self.body.error.code = Some(code);
        self
    }

    pub(crate) fn details(mut self, details: Value) -> Self {
        self.body.error.foveate = Some(details);
        self
    }

    pub(crate) fn retry_after(mut self, time: Duration) -> Self {
        self.retry_after = Some(time);
        self
    }

    pub(crate) fn message(&self) -> &str {
        &self.body.error.message
    }

    /// As an event of a stream that has begun.
    pub(crate) fn body(&self) -> &ErrorBody {
        &self.body
    }

    /// 503 for a process that has to be started anew or is about to end.
    pub(crate) fn unavailable(message: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message).retry_after(Duration::from_secs(5))
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(&self.body)).into_response();
        let headers = response.headers_mut();
        if let Some(time) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(time.as_secs_f64().ceil() as u64));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal.users {
            true => Self::new(StatusCode::BAD_REQUEST, refusal.message),
            false => Self::internal(&refusal.message),
        }
    }
}

impl From<Full> for ApiError {
    fn from(full: Full) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, "every place in the queue is taken")
            .code("queue_full")
            .retry_after(full.retry_after)
    }
}

impl From<Gone> for ApiError {
    fn from(Gone: Gone) -> Self {
        Self::unavailable("this server is stopping")
    }
}

impl From<Failed> for ApiError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Refused(message) => Self::new(StatusCode::BAD_REQUEST, message),
            Failed::Deadline => {
                Self::new(StatusCode::GATEWAY_TIMEOUT, "the answer took longer than this server allows")
                    .code("deadline")
            }
            Failed::Stopped => Self::unavailable("this server is stopping"),
            Failed::Internal(reason) => Self::internal(&reason),
        }
    }
}
