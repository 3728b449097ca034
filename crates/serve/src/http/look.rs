//! `/v1/look`: where each visual token of an image looks, as `foveate look`.

use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use foveate_compress::Budget;
use foveate_data::image::Frame;
use foveate_model::vlm::Gaze;
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;
use utoipa::ToSchema;

use super::admit::picture;
use super::body::Json;
use super::budget::Estimate;
use super::check::Wanted;
use super::conversation::Shown;
use super::error::{Answer, ApiError, ErrorBody};
use super::types::{VisualTokens, VisualTokensSchema};
use super::{App, AppState, models};
use crate::engine::{Look, Picture};
use crate::images::Source;

/// The most weights of a reply: 12 MB or so.
const MOST_WEIGHTS: usize = 1 << 20;

/// An image to look at.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LookRequest {
    /// The model's name, as `/v1/models` lists it.
    model: String,
    /// `data:image/png;base64,…`, the id of an uploaded file, or an address where the server allows those.
    image: String,
    /// What is asked about the image, for a compressor that reads it.
    #[serde(default)]
    question: String,
    /// A number on the model's ladder, or `adaptive` for a compressor that lets the image decide; where nothing is said, what
    /// an answer would take.
    #[schema(value_type = Option<VisualTokensSchema>)]
    visual_tokens: Option<VisualTokens>,
}

/// Where tokens look.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LookReply {
    /// `look`
    object: &'static str,
    model: String,
    /// What makes the tokens.
    compressor: String,
    /// Patches down and across.
    #[schema(value_type = Vec<usize>, min_items = 2, max_items = 2)]
    grid: [usize; 2],
    /// The image, or its overview and then its tiles row by row.
    pictures: Vec<LookPicture>,
}

/// What the tower saw of the image, and the tokens that came of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LookPicture {
    visual_tokens: usize,
    frame: LookFrame,
    /// The patch behind each token, row × columns + column; `null` for a method that does not select, or for such a token.
    kept: Option<Vec<Option<usize>>>,
    /// For each token the weight of each patch, row by row; they sum to 1.
    weights: Vec<Vec<f32>>,
}

/// The rectangle of the image that the grid of patches covers, in shares of the image's width and height: (0, 0, 1, 1) is all of it,
/// and what lies beyond is padding.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
struct LookFrame {
    left: f64,
    top: f64,
    width: f64,
    height: f64,
}

impl From<Frame> for LookFrame {
    fn from(Frame { left, top, width, height }: Frame) -> Self {
        Self { left, top, width, height }
    }
}

/// Where each visual token of an image looks.
#[utoipa::path(post, path = "/v1/look", tag = "foveate", request_body = LookRequest, responses(
    (status = 200, body = LookReply),
    (status = 400, description = "A field that cannot be; a model that sees no images, or whose tokens look nowhere.",
        body = ErrorBody),
    (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 408, body = ErrorBody),
    (status = 413, body = ErrorBody), (status = 415, body = ErrorBody),
    (status = 429, description = "The queue is full; `Retry-After` says when to come again.", body = ErrorBody),
    (status = 500, body = ErrorBody), (status = 503, body = ErrorBody),
    (status = 504, description = "It took too long.", body = ErrorBody)))]
pub(crate) async fn look(State(app): State<App>, request: Json<LookRequest>) -> Answer<Response> {
    let accepted = Instant::now();
    let place = app.engine.place()?;
    let Json { value: request, held } = request;
    models::check(&app, &request.model)?;
    let admitted = in_the_background(&app, move |app| prepare(app, request)).await?;
    drop(held);
    let Admitted { picture, budget, frames } = admitted;
    let (told, reply) = oneshot::channel();
    let deadline = accepted + app.options.deadline;
    app.engine.submit(Look { picture, budget, accepted, deadline, told, place: Some(place) })?;
    let gaze = match reply.await {
        Ok(outcome) => outcome.map_err(ApiError::from)?,
        Err(_) => return Err(ApiError::internal(&"the model's thread has ended")),
    };
    in_the_background(&app, move |app| {
        let reply = LookReply::new(app, gaze, &frames)?;
        let body = serde_json::to_vec(&reply).map_err(|error| ApiError::internal(&error))?;
        Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
    })
    .await
}

/// Work that takes time, beside the threads that serve connections and within what requests may take of this machine.
async fn in_the_background<T: Send + 'static>(
    app: &App,
    work: impl FnOnce(&AppState) -> Answer<T> + Send + 'static,
) -> Answer<T> {
    let worker = app.workers.clone().acquire_owned().await;
    let worker = worker.map_err(|error| ApiError::internal(&error))?;
    let app = app.clone();
    let work = tokio::task::spawn_blocking(move || {
        let _worker = worker;
        work(&app)
    });
    work.await.map_err(|error| ApiError::internal(&error))?
}

/// A request that the engine can work on.
struct Admitted {
    picture: Picture,
    budget: Budget,
    frames: Vec<Frame>,
}

fn prepare(app: &AppState, request: LookRequest) -> Answer<Admitted> {
    let wanted = match request.visual_tokens {
        None => Wanted::Own,
        Some(VisualTokens::Number(tokens)) => Wanted::Exactly(Budget::Tokens(tokens)),
        Some(VisualTokens::Adaptive) => Wanted::Exactly(Budget::Adaptive),
        Some(VisualTokens::Auto) => {
            let message =
                "visual_tokens is auto: only an answer has a time to be in; a number is needed here";
            return Err(ApiError::field("visual_tokens", message));
        }
    };
    let source = Source::of_url(request.image);
    let source = source.map_err(|told| ApiError::field("image", format!("image: {told}")))?;
    if app.backend.viewer().is_some_and(|viewer| viewer.vlm().compressor().reads_question()) {
        let asked = app.backend.question(&request.question);
        asked.map_err(|refusal| ApiError::from(refusal).param("question"))?;
    }
    let shown = Shown { source, question: request.question, param: "image".to_owned() };
    let (picture, size) = picture(app, shown)?;
    let frames = app.backend.frames(size);
    let pictures = std::slice::from_ref(&picture);
    let budget = Estimate::new(app, pictures, 0).choose(wanted, None, Duration::ZERO, |_| 1)?;
    let (Some(budget), Some(viewer)) = (budget, app.backend.viewer()) else {
        return Err(ApiError::internal(&"an image without a budget was admitted"));
    };
    let patches = viewer.vlm().grid().patches();
    let tokens = match budget {
        Budget::Tokens(tokens) => tokens,
        _ => patches,
    };
    let weights = frames.len().saturating_mul(tokens).saturating_mul(patches);
    if weights > MOST_WEIGHTS {
        let pictures = frames.len();
        let message = format!(
            "visual_tokens: {tokens} tokens on {patches} patches of {pictures} pictures have {weights} weights, at most \
             {MOST_WEIGHTS} are told"
        );
        return Err(ApiError::field("visual_tokens", message).code("too_many_weights"));
    }
    Ok(Admitted { picture, budget, frames })
}

impl LookReply {
    fn new(app: &AppState, gaze: Gaze, frames: &[Frame]) -> Answer<Self> {
        let Some(viewer) = app.backend.viewer() else {
            return Err(ApiError::internal(&"a model without sight looked"));
        };
        let vlm = viewer.vlm();
        let mut kept = gaze.kept.into_iter().flatten();
        let mut pictures = Vec::with_capacity(gaze.weights.len());
        for (nth, weights) in gaze.weights.iter().enumerate() {
            let weights = weights.to_vec2::<f32>().map_err(|error| ApiError::internal(&error))?;
            let frame = frames.get(nth).copied().unwrap_or(Frame::WHOLE).into();
            pictures.push(LookPicture { visual_tokens: weights.len(), frame, kept: kept.next(), weights });
        }
        Ok(Self {
            object: "look",
            model: app.options.model.clone(),
            compressor: vlm.compressor().method().to_string(),
            grid: [vlm.grid().rows, vlm.grid().columns],
            pictures,
        })
    }
}
