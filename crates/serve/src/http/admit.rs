//! From a chat request to a job: everything that can be refused is refused here, before the model runs.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use candle_core::{DType, Device, Tensor};
use foveate_compress::Budget;
use foveate_data::image::{Image, Limits, Size, decode_bytes};
use foveate_data::prompt::Message;
use foveate_model::generate::Prompt;
use tokio::sync::mpsc::unbounded_channel;

use super::budget::Estimate;
use super::check::Checked;
use super::conversation::{Conversation, Shown};
use super::error::{Answer, ApiError};
use super::types::ChatRequest;
use super::{App, AppState, models};
use crate::engine::{Answering, Event, Job, Picture};
use crate::images::SourceError;

/// A request that can be answered.
pub(crate) struct Admitted {
    pub(crate) prompt: Prompt,
    pub(crate) pictures: Vec<Picture>,
    pub(crate) budget: Option<Budget>,
    pub(crate) answering: Answering,
    pub(crate) text_tokens: usize,
    pub(crate) image_tokens: usize,
    /// What fetching, decoding and resizing took.
    pub(crate) decode_image: Duration,
    /// What was asked last, for the log of an operator who wants it.
    pub(crate) question: String,
}

/// Reads a request, fetches and decodes its images, writes its prompt and decides its budget.
///
/// # Errors
/// Whatever stands against an answer.
pub(crate) async fn admit(app: &App, request: ChatRequest, accepted: Instant) -> Answer<Admitted> {
    models::check(app, &request.model)?;
    let checked = Checked::of(&request)?;
    let limits = &app.options.limits;
    if let Some(asked) = checked.max_tokens.filter(|asked| *asked > limits.answer_tokens) {
        let most = limits.answer_tokens;
        let message = format!("max_tokens is {asked}: this server answers with at most {most}");
        return Err(ApiError::field("max_tokens", message));
    }
    let conversation = Conversation::of(request.messages, app.backend.image_token(), limits.images)?;
    let worker = app.workers.clone().acquire_owned().await;
    let worker = worker.map_err(|error| ApiError::internal(&error))?;
    let app = app.clone();
    let work = tokio::task::spawn_blocking(move || {
        // Also when the client has gone: a fetch or a decode that has begun is not begun again beside itself.
        let _worker = worker;
        prepare(&app, conversation, checked, accepted)
    });
    work.await.map_err(|error| ApiError::internal(&error))?
}

/// The part that takes time.
fn prepare(
    app: &AppState,
    conversation: Conversation,
    checked: Checked,
    accepted: Instant,
) -> Answer<Admitted> {
    let Conversation { messages, images } = conversation;
    let started = Instant::now();
    let pictures = images.into_iter().map(|image| picture(app, image).map(|(picture, _)| picture));
    let pictures = pictures.collect::<Answer<Vec<_>>>()?;
    let decode_image = if pictures.is_empty() { Duration::ZERO } else { started.elapsed() };
    // Each image stands as one row until the tower has seen it: no text depends on how many it becomes.
    let row = Tensor::zeros((1, 1), DType::F32, &Device::Cpu);
    let stand_ins = vec![row.map_err(|error| ApiError::internal(&error))?; pictures.len()];
    let asked = app.backend.prompt(&messages, &stand_ins).map_err(|refusal| {
        let users = refusal.users;
        let error = ApiError::from(refusal);
        if users { error.param("messages") } else { error }
    })?;
    let context = app.backend.decoder().config().context;
    let text_tokens = asked.text_tokens;
    let room = |image_tokens: usize| context.saturating_sub(text_tokens + image_tokens);
    let length = |image_tokens: usize| {
        checked.max_tokens.unwrap_or_else(|| app.options.limits.answer_tokens.min(room(image_tokens))).max(1)
    };
    let estimate = Estimate::new(app, &pictures, text_tokens);
    let budget = estimate.choose(checked.visual_tokens, checked.max_latency, accepted.elapsed(), length)?;
    let image_tokens = estimate.image_tokens(budget);
    let (prompt, most) = (text_tokens + image_tokens, app.options.limits.prompt_tokens.min(context - 1));
    let new_tokens = length(image_tokens);
    if prompt > most || prompt + new_tokens > context {
        let what = format!("{text_tokens} text and {image_tokens} image tokens");
        let message = match prompt > most {
            true => format!("the prompt has {what}, at most {most} are read"),
            false => format!("{what} and {new_tokens} new ones do not fit into the context of {context}"),
        };
        return Err(ApiError::field("messages", message).code("context_length_exceeded"));
    }
    let Checked { sampling, stop, alternatives, .. } = checked;
    Ok(Admitted {
        prompt: asked.prompt,
        budget: budget.filter(|_| !pictures.is_empty()),
        pictures,
        answering: Answering { sampling, max_tokens: new_tokens, stop, alternatives },
        text_tokens,
        image_tokens,
        decode_image,
        question: if app.options.log_content { last_text(&messages) } else { String::new() },
    })
}

/// Fetches, decodes and resizes an image; it and the size that it had.
///
/// # Errors
/// Whatever is wrong with the image, its source or its question; a model without sight.
pub(super) fn picture(app: &AppState, image: Shown) -> Answer<(Picture, Size)> {
    let Shown { source, question, param } = image;
    let Some(viewer) = app.backend.viewer() else {
        return Err(ApiError::field(&param, format!("{param}: this model sees no images")).code("no_sight"));
    };
    let limits = &app.options.limits;
    let refuse = |message: String| ApiError::field(&param, message).code("invalid_image");
    let bytes = source.load(&app.files, app.fetcher.as_ref(), limits.image_bytes);
    let bytes = bytes.map_err(|error| match error {
        SourceError::NoFile(_) => ApiError::new(StatusCode::NOT_FOUND, format!("{param}: {error}"))
            .param(&param)
            .code("no_such_file"),
        SourceError::Io(error) => ApiError::internal(&error),
        error => refuse(format!("{param}: {error}")),
    })?;
    let image = decode(app, &param, &bytes)?;
    drop(bytes);
    let pixels = app.backend.prepare(&image).map_err(|refusal| {
        let users = refusal.users;
        let error = ApiError::from(refusal);
        if users { error.param(&param) } else { error }
    })?;
    let question = match viewer.vlm().compressor().reads_question() {
        true => {
            Some(app.backend.question(&question).map_err(|refusal| ApiError::from(refusal).param(&param))?)
        }
        false => None,
    };
    Ok((Picture { pixels, question }, image.size()))
}

/// Decodes an image that came from outside, within the server's limits.
pub(crate) fn decode(app: &AppState, param: &str, bytes: &[u8]) -> Answer<Image> {
    let limits = &app.options.limits;
    let limits =
        Limits { max_bytes: limits.image_bytes, max_pixels: limits.image_pixels, ..Limits::default() };
    decode_bytes(param, bytes, &limits)
        .map_err(|error| ApiError::field(param, error.to_string()).code("invalid_image"))
}

fn last_text(messages: &[Message]) -> String {
    use foveate_data::prompt::Part;
    let parts = messages.last().into_iter().flat_map(|message| &message.content);
    let texts = parts.filter_map(|part| match part {
        Part::Text(text) => Some(text.as_str()),
        Part::Image => None,
    });
    texts.collect()
}

/// An answer that the server gives itself, about a grey picture where it sees: what it measures of itself first.
pub(crate) async fn warm_up(app: &App) -> Answer<()> {
    const QUESTION: &str = "What is in the picture?";
    const TOKENS: usize = 8;
    // The operator's deadline is for clients.
    const PATIENCE: Duration = Duration::from_secs(600);
    let started = Instant::now();
    let request = serde_json::json!({
        "model": app.options.model, "temperature": 0, "messages": [{"role": "user", "content": QUESTION}],
    });
    let request: ChatRequest = serde_json::from_value(request).map_err(|error| ApiError::internal(&error))?;
    let mut admitted = admit(app, request, started).await?;
    admitted.answering.max_tokens = TOKENS.min(admitted.answering.max_tokens);
    if let Some(viewer) = app.backend.viewer() {
        let vlm = viewer.vlm();
        // The fewest tokens that there are: they fit into the smallest context.
        let rung = vlm
            .ladder()
            .values()
            .into_iter()
            .filter(|tokens| vlm.check_budget((*tokens).into()).is_ok())
            .min();
        let budget = rung.map_or(Budget::Adaptive, Budget::Tokens);
        let size = vlm.tower().config().image_size();
        let length = |pixels: usize| u32::try_from(pixels).unwrap_or(1).max(1);
        let pixels =
            app.backend.prepare(&Image::filled(length(size.width), length(size.height), [127; 3]))?;
        let question = match vlm.compressor().reads_question() {
            true => Some(app.backend.question(QUESTION)?),
            false => None,
        };
        let row =
            Tensor::zeros((1, 1), DType::F32, &Device::Cpu).map_err(|error| ApiError::internal(&error))?;
        let asked = app.backend.prompt(&[Message::user(QUESTION).with_images(1)], &[row])?;
        admitted.prompt = asked.prompt;
        admitted.pictures = vec![Picture { pixels, question }];
        admitted.budget = Some(budget);
    }
    let (events, mut inbox) = unbounded_channel();
    app.engine.submit(admitted.into_job(events, None, started, started + PATIENCE))?;
    loop {
        match inbox.recv().await {
            Some(Event::Done(_)) => return Ok(()),
            Some(Event::Failed(failed)) => return Err(failed.into()),
            Some(Event::Started | Event::Piece(_)) => {}
            None => return Err(ApiError::internal(&"the model's thread has ended")),
        }
    }
}

impl Admitted {
    pub(crate) fn into_job(
        self,
        events: tokio::sync::mpsc::UnboundedSender<Event>,
        place: Option<tokio::sync::OwnedSemaphorePermit>,
        accepted: Instant,
        deadline: Instant,
    ) -> Job {
        let Self { prompt, pictures, budget, answering, text_tokens, decode_image, .. } = self;
        Job {
            prompt,
            pictures,
            budget,
            answering,
            accepted,
            deadline,
            decode_image,
            text_tokens,
            events,
            place,
        }
    }
}
