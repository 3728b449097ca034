//! What goes into the engine, and what comes back.

use std::time::{Duration, Instant};

use foveate_compress::Budget;
use foveate_model::generate::{Finish, Prompt, Sampling, Scored};
use foveate_model::vlm::{Gaze, Image as Pixels};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use utoipa::ToSchema;

/// What the engine is asked for.
pub(crate) enum Order {
    Answer(Box<Job>),
    Look(Box<Look>),
}

impl From<Job> for Order {
    fn from(job: Job) -> Self {
        Self::Answer(Box::new(job))
    }
}

impl From<Look> for Order {
    fn from(look: Look) -> Self {
        Self::Look(Box::new(look))
    }
}

/// An accepted question about where the tokens of an image look.
pub(crate) struct Look {
    pub(crate) picture: Picture,
    pub(crate) budget: Budget,
    /// When the request had arrived.
    pub(crate) accepted: Instant,
    /// When the reply must be there.
    pub(crate) deadline: Instant,
    /// Closed by a client that goes away, which ends the work.
    pub(crate) told: oneshot::Sender<Result<Gaze, Failed>>,
    /// Given back with the order.
    pub(crate) place: Option<OwnedSemaphorePermit>,
}

impl Look {
    /// Ends the order. The place is free before the client hears of it: its next request finds one.
    pub(super) fn tell(self, outcome: Result<Gaze, Failed>) {
        drop(self.place);
        // The client may have gone.
        _ = self.told.send(outcome);
    }
}

/// An accepted request for an answer.
pub(crate) struct Job {
    /// With a stand-in at the place of each image.
    pub(crate) prompt: Prompt,
    /// The images in their order.
    pub(crate) pictures: Vec<Picture>,
    /// How many tokens each becomes.
    pub(crate) budget: Option<Budget>,
    pub(crate) answering: Answering,
    /// When the request had arrived.
    pub(crate) accepted: Instant,
    /// When the answer must be there.
    pub(crate) deadline: Instant,
    /// What fetching, decoding and resizing the images took.
    pub(crate) decode_image: Duration,
    pub(crate) text_tokens: usize,
    /// Dropped by a client that goes away, which ends the work. What an answer can send is bounded by its tokens.
    pub(crate) events: UnboundedSender<Event>,
    /// Given back with the job; `None` for the server's own.
    pub(crate) place: Option<OwnedSemaphorePermit>,
}

/// An image as the tower reads it, and the question that a compressor may read with it.
pub(crate) struct Picture {
    pub(crate) pixels: Pixels,
    pub(crate) question: Option<Vec<u32>>,
}

/// How the answer is written.
pub(crate) struct Answering {
    pub(crate) sampling: Sampling,
    pub(crate) max_tokens: usize,
    pub(crate) stop: Vec<String>,
    /// How many of the best tokens to name beside each one, where probabilities are wanted.
    pub(crate) alternatives: Option<usize>,
}

/// What a client hears of its job, in this order: pieces, then one of the others.
#[derive(Debug)]
pub(crate) enum Event {
    /// The prompt is being read.
    Started,
    Piece(Piece),
    Done(Box<Done>),
    Failed(Failed),
}

/// Text that is certain, and the tokens that it came from where their probabilities are wanted.
#[derive(Debug, Default)]
pub(crate) struct Piece {
    pub(crate) text: String,
    pub(crate) scored: Vec<(u32, Scored)>,
}

/// An answer that has ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) finish: Finish,
    pub(crate) text_tokens: usize,
    pub(crate) image_tokens: usize,
    pub(crate) cached_tokens: usize,
    pub(crate) new_tokens: usize,
    pub(crate) flops: f64,
    pub(crate) ms: Milliseconds,
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The request cannot be answered.
    Refused(String),
    /// It took too long.
    Deadline,
    /// The server is stopping.
    Stopped,
    /// This machine failed; the reason is for the log.
    Internal(String),
}

/// Wall-clock times of an answer, in milliseconds: what a stage took while others were answered beside it.
#[derive(Clone, Copy, Debug, Default, Serialize, ToSchema)]
pub(crate) struct Milliseconds {
    /// Waiting for a place among the answers in progress.
    pub(crate) queue: f64,
    /// Fetching, decoding, resizing and normalising the images.
    pub(crate) decode_image: f64,
    /// The vision tower; nearly nothing for an image that was seen before.
    pub(crate) tower: f64,
    /// The question's pass through the language model, for a compressor that reads it.
    pub(crate) query: f64,
    /// The compressor.
    pub(crate) compress: f64,
    /// The projector.
    pub(crate) project: f64,
    /// Reading the prompt.
    pub(crate) prefill: f64,
    /// From the arrival of the request until the first token is known.
    pub(crate) first_token: f64,
    /// Of each pass after the first; `null` where there was none.
    pub(crate) decode_per_token: Option<f64>,
    /// From the arrival of the request to the end of the answer.
    pub(crate) total: f64,
}
