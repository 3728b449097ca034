//! `/v1/files`: images that several requests show.

use std::time::Duration;

use axum::Json;
use axum::extract::multipart::MultipartError;
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, Multipart, Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use foveate_data::image::Format;
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::admit::decode;
use super::body::{share, too_large, too_slow};
use super::error::{Answer, ApiError, ErrorBody};
use super::{App, AppState};
use crate::files::{FileError, FileId, Record};

const PURPOSES: [&str; 2] = ["vision", "user_data"];

/// An uploaded file.
#[derive(Serialize, ToSchema)]
pub(crate) struct FileDocument {
    #[schema(value_type = String)]
    id: FileId,
    /// `file`
    object: &'static str,
    bytes: u64,
    created_at: u64,
    /// When it goes; `null` for one that stays.
    expires_at: Option<u64>,
    filename: String,
    purpose: String,
    /// `processed`
    status: &'static str,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct FileList {
    /// `list`
    object: &'static str,
    data: Vec<FileDocument>,
    has_more: bool,
}

#[derive(Serialize, ToSchema)]
pub(crate) struct Deleted {
    #[schema(value_type = String)]
    id: FileId,
    /// `file`
    object: &'static str,
    deleted: bool,
}

/// The form of an upload.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(crate) struct Upload {
    /// PNG, JPEG, WebP, GIF or BMP.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    #[schema(value_type = Purpose)]
    purpose: String,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "read by the derive alone")]
pub(crate) enum Purpose {
    Vision,
    UserData,
}

fn document(app: &AppState, record: Record) -> FileDocument {
    let expires_at = app.files.ends_at(&record);
    let Record { id, bytes, created_at, filename, purpose } = record;
    FileDocument { id, object: "file", bytes, created_at, expires_at, filename, purpose, status: "processed" }
}

/// Keeps an image, which requests then show by its id.
#[utoipa::path(post, path = "/v1/files", tag = "files",
    request_body(content = Upload, content_type = "multipart/form-data"), responses(
    (status = 200, body = FileDocument), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
    (status = 408, body = ErrorBody), (status = 413, body = ErrorBody), (status = 415, body = ErrorBody),
    (status = 429, body = ErrorBody)))]
pub(crate) async fn upload(State(app): State<App>, request: Request) -> Answer<Json<FileDocument>> {
    let held = share(request.headers(), &app)?;
    let multipart = Multipart::from_request(request, &())
        .await
        .map_err(|rejection| ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, rejection.body_text()))?;
    let form = timeout(app.options.limits.body_time, read(&app, multipart)).await;
    let Form { name, purpose, bytes } = form.map_err(|_| too_slow(&app))??;
    let worker = app.workers.clone().acquire_owned().await;
    let worker = worker.map_err(|error| ApiError::internal(&error))?;
    let work = tokio::task::spawn_blocking(move || {
        let (_worker, _held) = (worker, held);
        // Now rather than with the first question: an image that cannot be read is no use to anybody.
        decode(&app, "file", &bytes)?;
        let record = app.files.add(&name, &purpose, &bytes).map_err(|error| match error {
            FileError::Full { .. } => {
                ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()).code("storage_full")
            }
            FileError::Io(error) => ApiError::internal(&error),
        })?;
        Ok(Json(document(&app, record)))
    });
    work.await.map_err(|error| ApiError::internal(&error))?
}

struct Form {
    name: String,
    purpose: String,
    bytes: Vec<u8>,
}

async fn read(app: &AppState, mut multipart: Multipart) -> Answer<Form> {
    let failed = |error: MultipartError| match error.status() {
        StatusCode::PAYLOAD_TOO_LARGE => too_large(app.options.limits.body_bytes),
        status => ApiError::new(status, error.body_text()),
    };
    let (mut file, mut purpose) = (None, None);
    while let Some(field) = multipart.next_field().await.map_err(failed)? {
        match field.name() {
            Some("file") => {
                let name = field.file_name().unwrap_or_default().to_owned();
                file = Some((name, Vec::from(field.bytes().await.map_err(failed)?)));
            }
            Some("purpose") => purpose = Some(field.text().await.map_err(failed)?),
            name => {
                let name: String = name.unwrap_or_default().chars().take(40).collect();
                let message = format!("the form has a field {name:?}: there are file and purpose");
                return Err(ApiError::field(name, message));
            }
        }
    }
    let (name, bytes) = file.ok_or_else(|| ApiError::field("file", "file: missing"))?;
    let purpose = purpose.ok_or_else(|| ApiError::field("purpose", "purpose: missing"))?;
    if !PURPOSES.contains(&purpose.as_str()) {
        let purpose: String = purpose.chars().take(40).collect();
        let message = format!("purpose is {purpose:?}: must be {}", PURPOSES.join(" or "));
        return Err(ApiError::field("purpose", message));
    }
    Ok(Form { name, purpose, bytes })
}

/// The images that are kept, oldest first.
#[utoipa::path(get, path = "/v1/files", tag = "files", responses((status = 200, body = FileList),
    (status = 401, body = ErrorBody)))]
pub(crate) async fn list(State(app): State<App>) -> Json<FileList> {
    let data = app.files.list().into_iter().map(|record| document(&app, record)).collect();
    Json(FileList { object: "list", data, has_more: false })
}

/// One of them.
#[utoipa::path(get, path = "/v1/files/{id}", tag = "files", params(("id" = String, Path)), responses(
    (status = 200, body = FileDocument), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn one(State(app): State<App>, path: IdPath) -> Answer<Json<FileDocument>> {
    let record = app.files.get(&id_of(path)?).ok_or_else(unknown)?;
    Ok(Json(document(&app, record)))
}

/// Its bytes.
#[utoipa::path(get, path = "/v1/files/{id}/content", tag = "files", params(("id" = String, Path)), responses(
    (status = 200, description = "The image as it was uploaded.", content_type = "image/*", body = Vec<u8>),
    (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn content(State(app): State<App>, path: IdPath) -> Answer<Response> {
    let id = id_of(path)?;
    let read = tokio::task::spawn_blocking(move || app.files.read(&id)).await;
    let bytes = read.map_err(|error| ApiError::internal(&error))?;
    let bytes = bytes.map_err(|error| ApiError::internal(&error))?.ok_or_else(unknown)?;
    let kind = match Format::of(&bytes) {
        Some(Format::Png) => "image/png",
        Some(Format::Jpeg) => "image/jpeg",
        Some(Format::WebP) => "image/webp",
        Some(Format::Gif) => "image/gif",
        Some(Format::Bmp) => "image/bmp",
        _ => "application/octet-stream",
    };
    let mut response = bytes.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    // A browser must not take it for a page.
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    Ok(response)
}

/// Forgets one of them.
#[utoipa::path(delete, path = "/v1/files/{id}", tag = "files", params(("id" = String, Path)), responses(
    (status = 200, body = Deleted), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody)))]
pub(crate) async fn delete(State(app): State<App>, path: IdPath) -> Answer<Json<Deleted>> {
    let id = id_of(path)?;
    let name = id.clone();
    let work = tokio::task::spawn_blocking(move || app.files.delete(&name)).await;
    let deleted = work.map_err(|error| ApiError::internal(&error))?;
    match deleted.map_err(|error| ApiError::internal(&error))? {
        true => Ok(Json(Deleted { id, object: "file", deleted: true })),
        false => Err(unknown()),
    }
}

/// The last part of a path, which may be no text at all.
type IdPath = Result<Path<String>, PathRejection>;

/// What is no id is the id of no file.
fn id_of(path: IdPath) -> Answer<FileId> {
    let Path(id) = path.map_err(|_| unknown())?;
    id.parse().map_err(|_| unknown())
}

fn unknown() -> ApiError {
    ApiError::new(StatusCode::NOT_FOUND, "there is no such file").param("id").code("no_such_file")
}

/// Removes files whose time is over, for as long as the server runs.
pub(crate) async fn sweep_files(app: App) {
    const EVERY: Duration = Duration::from_secs(60);
    loop {
        tokio::time::sleep(EVERY).await;
        let app = app.clone();
        _ = tokio::task::spawn_blocking(move || app.files.sweep()).await;
    }
}
