//! The page at `/`: its files are a part of the program, built from `web/` and committed, so that no build needs Node.
//!
//! Nothing of it needs the API key; what it asks the API for does.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::error::{Answer, ApiError};
use super::{App, unknown};

/// A file of the page.
struct File {
    /// Its path from `/`.
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

macro_rules! file {
    ($name:literal, $kind:literal) => {
        File { name: $name, kind: $kind, bytes: include_bytes!(concat!("../../page/", $name)) }
    };
}

const INDEX: File = file!("index.html", "text/html; charset=utf-8");
const REST: [File; 4] = [
    file!("page/page.js", "text/javascript; charset=utf-8"),
    file!("page/page.css", "text/css; charset=utf-8"),
    file!("page/icon.svg", "image/svg+xml"),
    file!("page/licences.md", "text/plain; charset=utf-8"),
];

/// The page runs its own script and talks to its own server; pictures may also be what was dropped on it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(index))
        .route("/page/{file}", get(rest))
        .route("/page/examples.json", get(examples))
}

async fn index(headers: HeaderMap) -> Response {
    INDEX.response(&headers)
}

async fn rest(Path(name): Path<String>, headers: HeaderMap) -> Response {
    match REST.iter().find(|file| file.name.strip_prefix("page/") == Some(name.as_str())) {
        Some(file) => file.response(&headers),
        None => unknown().await.into_response(),
    }
}

impl File {
    fn response(&self, asked: &HeaderMap) -> Response {
        let tag = format!("\"{}\"", hex(&Sha256::digest(self.bytes)[..12]));
        let known = asked.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let known = known.flat_map(|value| value.split(',')).any(|value| {
            let value = value.trim();
            value == "*" || value.strip_prefix("W/").unwrap_or(value) == tag
        });
        // A new program has a new page, under the same names: browsers ask each time, and are told that nothing is new.
        let headers = [
            (header::ETAG, tag.as_str()),
            (header::CACHE_CONTROL, "no-cache"),
            (header::CONTENT_SECURITY_POLICY, POLICY),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
            (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        ];
        match known {
            true => (StatusCode::NOT_MODIFIED, headers).into_response(),
            false => (headers, [(header::CONTENT_TYPE, self.kind)], self.bytes).into_response(),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A picture to try, as the page reads it.
#[derive(Serialize)]
struct ExampleDocument<'a> {
    name: &'a str,
    /// A data URL.
    picture: String,
    questions: Vec<QuestionDocument<'a>>,
}

#[derive(Serialize)]
struct QuestionDocument<'a> {
    text: &'a str,
    /// What is right.
    answer: &'a str,
}

/// The pictures to try.
async fn examples(State(app): State<App>) -> Answer<Response> {
    let examples = app.options.examples.iter().map(|example| ExampleDocument {
        name: &example.name,
        picture: format!("data:image/png;base64,{}", STANDARD.encode(&example.png)),
        questions: example.questions.iter().map(|(text, answer)| QuestionDocument { text, answer }).collect(),
    });
    let body =
        serde_json::to_vec(&examples.collect::<Vec<_>>()).map_err(|error| ApiError::internal(&error))?;
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-cache"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    Ok((headers, body).into_response())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_page_names_its_files_and_no_others() {
        let index = std::str::from_utf8(INDEX.bytes).unwrap();
        let (licences, loaded): (Vec<&File>, Vec<&File>) =
            REST.iter().partition(|file| file.name.ends_with(".md"));
        for file in &loaded {
            assert!(index.contains(&format!("=\"./{}\"", file.name)), "{}", file.name);
        }
        let addresses = index.matches("src=\"").count() + index.matches("href=\"").count();
        assert_eq!(addresses, loaded.len(), "{index}");
        let told = std::str::from_utf8(licences[0].bytes).unwrap();
        assert!(
            told.contains("preact")
                && told.contains("uplot")
                && told.contains("Permission is hereby granted")
        );
        assert!(!index.contains("<style") && !index.contains("javascript:"), "the policy forbids both");
    }
}
