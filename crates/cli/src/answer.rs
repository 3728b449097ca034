//! An answer and what it took, as the stable JSON document.

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

use candle_core::Tensor;
use foveate_compress::Method;
use foveate_law::cost::{Dtype, ImageSize, Workload};
use foveate_model::generate::{Finish, GenerateOptions, Generated, Session};
use serde::Serialize;

use crate::auto::Chosen;
use crate::failure::Failure;
use crate::model::{Asked, Model, Seen, in_file};

/// What `ask --json` and `chat --json` print for an answer. Other programs read it: fields are added, never renamed.
#[derive(Serialize)]
pub(crate) struct Answer {
    answer: String,
    model: String,
    pub(crate) compressor: Method,
    /// The pictures that the tower reads, in pixels; `null` for a model without sight.
    pub(crate) image_size: Option<ImageSize>,
    /// Positions that stand for images.
    pub(crate) visual_tokens: usize,
    /// All other positions of the prompt.
    text_tokens: usize,
    new_tokens: usize,
    /// Of everything that ran; positions that were in the cache already are left out.
    pub(crate) flops: f64,
    pub(crate) ms: Milliseconds,
    /// How the number of visual tokens was chosen, where it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) auto: Option<Chosen>,
}

/// Wall-clock times, without the time to open the model.
#[derive(Serialize)]
pub(crate) struct Milliseconds {
    /// Reading, decoding, resizing and normalising the files.
    decode_image: f64,
    pub(crate) tower: f64,
    /// The question's pass through the language model, for a compressor that reads it.
    pub(crate) query: f64,
    pub(crate) compress: f64,
    pub(crate) project: f64,
    pub(crate) prefill: f64,
    /// From the start until the first token is known.
    pub(crate) first_token: f64,
    /// Of each pass after the first; `null` where there was none.
    pub(crate) decode_per_token: Option<f64>,
    pub(crate) total: f64,
}

/// The images of a question after the tower, and the time that their files took.
#[derive(Default)]
pub(crate) struct Looked {
    pub(crate) seen: Vec<Seen>,
    pub(crate) decode: Duration,
    /// How many tokens they became, where that was chosen for the question.
    pub(crate) chosen: Option<Chosen>,
}

impl Looked {
    /// What the language model reads for each image.
    pub(crate) fn rows(&self) -> Vec<Tensor> {
        self.seen.iter().map(|seen| seen.view.rows.clone()).collect()
    }
}

/// Generates the answer; `show` gets the text as it comes. `before` is how long everything up to here took.
pub(crate) fn generate(
    model: &Model,
    session: &mut Session,
    asked: &Asked,
    looked: &Looked,
    options: &GenerateOptions,
    before: Duration,
    show: impl FnMut(&str) -> ControlFlow<()>,
) -> Result<Answer, Failure> {
    let options = GenerateOptions { end_tokens: Some(model.end_tokens.clone()), ..options.clone() };
    let generated = session.generate(&asked.prompt, &options, &model.tokenizer, show);
    let generated = generated.map_err(|error| in_file(Path::new(&model.name), error))?;
    let sum = |time: fn(&Seen) -> Duration| looked.seen.iter().map(time).sum::<Duration>();
    let passes = passes_after_the_first(&generated);
    // Where a number was chosen, the pass over the question ran before the images were looked at.
    let chosen = looked.chosen.as_ref().map_or(Duration::ZERO, |chosen| chosen.query.0);
    let ms = Milliseconds {
        decode_image: milliseconds(looked.decode + sum(|seen| seen.preprocess)),
        tower: milliseconds(sum(|seen| seen.view.times.tower)),
        query: milliseconds(chosen + sum(|seen| seen.view.times.query)),
        compress: milliseconds(sum(|seen| seen.view.times.compress)),
        project: milliseconds(sum(|seen| seen.view.times.project)),
        prefill: milliseconds(generated.prefill),
        first_token: milliseconds(before + generated.prefill),
        decode_per_token: (passes > 0).then(|| milliseconds(generated.decode) / passes as f64),
        total: milliseconds(before + generated.prefill + generated.decode),
    };
    Ok(Answer {
        flops: cost(model, asked, looked, generated.reused_positions, passes)?,
        answer: generated.text,
        model: model.name.clone(),
        compressor: model.viewer().map_or(Method::Identity, |viewer| viewer.vlm().compressor().method()),
        image_size: model.viewer().map(|viewer| viewer.vlm().tower().config().image_size()),
        visual_tokens: asked.visual_tokens,
        text_tokens: asked.text_tokens,
        new_tokens: generated.tokens.len(),
        ms,
        auto: looked.chosen.clone(),
    })
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        &self.answer
    }
}

/// How often the language model ran after the prompt: for each token but the last, and for an end token once more.
fn passes_after_the_first(generated: &Generated) -> usize {
    match generated.finish {
        Finish::End => generated.tokens.len(),
        _ => generated.tokens.len().saturating_sub(1),
    }
}

/// FLOPs of what ran: the images' stages, the prompt without its `reused` positions, and `passes` of one token after it.
pub(crate) fn cost(
    model: &Model,
    asked: &Asked,
    looked: &Looked,
    reused: usize,
    passes: usize,
) -> Result<f64, Failure> {
    let llm = model.decoder.config().dimensions("language model");
    let prompt = asked.text_tokens + asked.visual_tokens;
    let workload = Workload::new(prompt, passes + 1);
    let stages = llm.stages(&workload, reused, Dtype::F32)?;
    let mut flops: f64 = stages.iter().map(|stage| stage.flops).sum();
    for seen in &looked.seen {
        let of = &seen.view.flops;
        flops += of.tower + of.query + of.compress + of.project;
    }
    Ok(flops + looked.chosen.as_ref().map_or(0.0, |chosen| chosen.query.1))
}

fn milliseconds(time: Duration) -> f64 {
    // Three digits after the point: microseconds.
    (time.as_secs_f64() * 1e6).round() / 1e3
}
