//! `/v1/count`: what a request would cost, with nothing run.

use std::time::Instant;

use axum::extract::State;
use foveate_compress::Budget;
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::admit::admit;
use super::body::Json;
use super::budget::{Estimate, StageFlops};
use super::error::{Answer, ErrorBody};
use super::types::ChatRequest;

/// What a chat request comes to.
#[derive(Serialize, ToSchema)]
pub(crate) struct Count {
    /// Positions of the prompt that stand for text.
    text_tokens: usize,
    /// Positions that stand for images; where each image decides, the most that it may take.
    image_tokens: usize,
    prompt_tokens: usize,
    /// The most new tokens: `max_tokens`, or what the server takes for it.
    new_tokens: usize,
    /// Tokens for each image; `null` without images or where each image decides.
    visual_tokens: Option<usize>,
    /// Of the prompt and one new token.
    flops: f64,
    /// Of as many new tokens as there may be.
    flops_at_most: f64,
    /// `flops` by stage.
    stages: Vec<StageFlops>,
    /// The predicted time of the longest answer, from this server's own measurements, waiting included.
    predicted_ms: Option<f64>,
}

/// Counts what a chat request would cost. Images are fetched and decoded, since their sizes count; the model does not run,
/// but over the question for `auto`.
#[utoipa::path(post, path = "/v1/count", tag = "foveate", request_body = ChatRequest, responses(
    (status = 200, body = Count), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
    (status = 404, body = ErrorBody), (status = 408, body = ErrorBody), (status = 413, body = ErrorBody),
    (status = 415, body = ErrorBody), (status = 422, body = ErrorBody), (status = 429, body = ErrorBody)))]
pub(crate) async fn count(State(app): State<App>, request: Json<ChatRequest>) -> Answer<axum::Json<Count>> {
    let admitted = admit(&app, request.value, Instant::now()).await?;
    let estimate = Estimate::new(&app, &admitted.pictures, admitted.text_tokens);
    let new_tokens = admitted.answering.max_tokens;
    let sum = |stages: &[StageFlops]| stages.iter().map(StageFlops::flops).sum();
    let stages = estimate.stages(admitted.budget, 1)?;
    Ok(axum::Json(Count {
        text_tokens: admitted.text_tokens,
        image_tokens: admitted.image_tokens,
        prompt_tokens: admitted.text_tokens + admitted.image_tokens,
        new_tokens,
        visual_tokens: match admitted.budget {
            Some(Budget::Tokens(tokens)) => Some(tokens),
            _ => None,
        },
        flops: sum(&stages),
        flops_at_most: sum(&estimate.stages(admitted.budget, new_tokens)?),
        predicted_ms: estimate.forecast(admitted.budget, new_tokens)?,
        stages,
    }))
}
