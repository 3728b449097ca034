//! `/v1/chat/completions`: one document, or a stream of chunks.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Instant;

use axum::extract::{Extension, State};
use axum::response::sse::{Event as Chunk, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use foveate_compress::Budget;
use futures_util::stream::unfold;
use serde::Serialize;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::admit::admit;
use super::body::Json;
use super::error::{Answer, ApiError, ErrorBody};
use super::reply::{Heading, finish_reason, logprobs};
use super::trace::RequestId;
use super::types::{ChatReply, ChatRequest, Logprobs};
use super::{App, AppState};
use crate::engine::{Done, Event, Piece};

/// Answers a conversation, about images or without any.
#[utoipa::path(post, path = "/v1/chat/completions", tag = "chat", request_body = ChatRequest, responses(
    (status = 200, description = "The answer; with `stream` a stream of `ChatChunk` as server-sent events.",
        content((ChatReply = "application/json"), (String = "text/event-stream"))),
    (status = 400, description = "A field that cannot be; `visual_tokens` off the ladder, with the ladder.", body = ErrorBody),
    (status = 401, body = ErrorBody), (status = 404, body = ErrorBody), (status = 408, body = ErrorBody),
    (status = 413, body = ErrorBody), (status = 415, body = ErrorBody),
    (status = 422, description = "`max_latency_ms` is out of reach, with the least predicted time.", body = ErrorBody),
    (status = 429, description = "The queue is full; `Retry-After` says when to come again.", body = ErrorBody),
    (status = 500, body = ErrorBody), (status = 503, body = ErrorBody),
    (status = 504, description = "The answer took too long.", body = ErrorBody)))]
pub(crate) async fn chat(
    State(app): State<App>,
    Extension(id): Extension<RequestId>,
    request: Json<ChatRequest>,
) -> Answer<Response> {
    let accepted = Instant::now();
    // Before any work: a server that is full says so at once.
    let place = app.engine.place()?;
    let Json { value: request, held } = request;
    let streams = request.stream.unwrap_or(false);
    let uses = request.stream_options.and_then(|options| options.include_usage).unwrap_or(false);
    let admitted = admit(&app, request, accepted).await?;
    drop(held);
    let (budget, images) = (admitted.budget, admitted.pictures.len());
    let mut answer = Answering {
        heading: Heading::new(&app, &id.0, budget, uses),
        scores: admitted.answering.alternatives.is_some(),
        note: Note { id, images, budget, question: admitted.question.clone(), text: String::new() },
        app: app.clone(),
    };
    let (events, mut inbox) = unbounded_channel();
    app.engine.submit(admitted.into_job(events, Some(place), accepted, accepted + app.options.deadline))?;
    // What goes wrong before the first token still has a status of its own.
    match inbox.recv().await {
        Some(Event::Started) => {}
        Some(Event::Failed(failed)) => return Err(failed.into()),
        Some(Event::Piece(_) | Event::Done(_)) | None => return Err(gone()),
    }
    if streams {
        return Ok(stream(answer, inbox).into_response());
    }
    let (mut text, mut scored) = (String::new(), Vec::new());
    loop {
        match inbox.recv().await {
            Some(Event::Piece(piece)) => {
                text += &piece.text;
                scored.extend(piece.scored);
            }
            Some(Event::Done(done)) => {
                answer.note.text.clone_from(&text);
                answer.note.write(&app, &done);
                let logprobs = answer.scores.then(|| logprobs(app.backend.tokenizer(), &scored));
                return Ok(axum::Json(answer.heading.reply(text, logprobs, &done)).into_response());
            }
            Some(Event::Failed(failed)) => return Err(failed.into()),
            Some(Event::Started) => {}
            None => return Err(gone()),
        }
    }
}

fn gone() -> ApiError {
    ApiError::internal(&"the model's thread has ended")
}

/// An answer that is being told.
struct Answering {
    heading: Heading,
    /// Whether probabilities were asked for.
    scores: bool,
    note: Note,
    app: App,
}

/// What the log says of an answer.
struct Note {
    id: RequestId,
    images: usize,
    budget: Option<Budget>,
    /// Empty unless the operator wants content in the log; the text as well.
    question: String,
    text: String,
}

impl Note {
    fn write(&self, app: &AppState, done: &Done) {
        let rung = match self.budget {
            Some(Budget::Tokens(tokens)) => tokens.to_string(),
            Some(_) => "adaptive".to_owned(),
            None => "none".to_owned(),
        };
        if self.images > 0 {
            app.metrics.images(&rung, self.images, done.image_tokens);
        }
        let Done { text_tokens, image_tokens, cached_tokens, new_tokens, ms, .. } = done;
        let (id, images, finish) = (&self.id.0, self.images, finish_reason(done.finish));
        let (first, total) = (ms.first_token, ms.total);
        tracing::info!(
            id,
            images,
            rung,
            text_tokens,
            image_tokens,
            cached_tokens,
            new_tokens,
            finish,
            ms_queue = ms.queue,
            ms_first_token = first,
            ms_total = total,
            "answered"
        );
        if app.options.log_content {
            tracing::info!(id, question = self.question, answer = self.text, "content");
        }
    }
}

impl Answering {
    fn logprobs(&self, piece: &Piece) -> Option<Logprobs> {
        self.scores.then(|| logprobs(self.app.backend.tokenizer(), &piece.scored))
    }
}

/// The chunks of an answer. When the client goes, this ends, and with it the receiver: the engine sees that.
fn stream(
    answer: Answering,
    inbox: UnboundedReceiver<Event>,
) -> Sse<impl futures_util::Stream<Item = Result<Chunk, Infallible>>> {
    let first = VecDeque::from([document(&answer.heading.opening())]);
    let state = (answer, inbox, first, false);
    let chunks = unfold(state, move |(mut answer, mut inbox, mut ready, mut ended)| async move {
        loop {
            if let Some(chunk) = ready.pop_front() {
                return Some((Ok(chunk), (answer, inbox, ready, ended)));
            }
            if ended {
                return None;
            }
            match inbox.recv().await {
                Some(Event::Piece(piece)) => {
                    if answer.app.options.log_content {
                        answer.note.text += &piece.text;
                    }
                    let logprobs = answer.logprobs(&piece);
                    ready.push_back(document(&answer.heading.piece(piece.text, logprobs)));
                }
                Some(Event::Done(done)) => {
                    answer.note.write(&answer.app, &done);
                    ready.push_back(document(&answer.heading.end(&done)));
                    ready.extend(answer.heading.used(&done).as_ref().map(document));
                    ready.push_back(Chunk::default().data("[DONE]"));
                    ended = true;
                }
                Some(Event::Failed(failed)) => {
                    ready.push_back(document(ApiError::from(failed).body()));
                    ended = true;
                }
                Some(Event::Started) => {}
                None => {
                    ready.push_back(document(gone().body()));
                    ended = true;
                }
            }
        }
    });
    Sse::new(chunks).keep_alive(KeepAlive::default())
}

fn document(value: &impl Serialize) -> Chunk {
    // These documents have nothing that JSON cannot say.
    Chunk::default().json_data(value).unwrap_or_else(|_| Chunk::default().comment("unsayable"))
}
