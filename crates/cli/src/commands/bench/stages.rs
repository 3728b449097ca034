//! The stages of an answer, timed one by one.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use foveate_compress::Budget;
use foveate_model::generate::{GenerateOptions, Part, Prompt, Session};
use foveate_model::llm::Decoder;
use foveate_model::vision::{HiddenState, Wanted};
use foveate_model::vlm::{Image, PerStage};

use super::subject::Subject;
use crate::failure::Failure;

/// How much text there is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    /// Tokens of the prompt besides visual ones.
    pub(super) tokens: usize,
    /// Tokens of the answer.
    pub(super) new_tokens: usize,
}

/// What a question about an image takes until its first token.
pub(super) struct FirstToken {
    /// Positions that stand for the image.
    pub(super) visual_tokens: usize,
    pub(super) view: PerStage<Duration>,
    pub(super) prefill: Duration,
    pub(super) total: Duration,
}

/// Time to encode one image to the state that LLaVA reads, one block before the last.
pub(super) fn tower(subject: &Subject) -> Result<Option<Duration>, Failure> {
    let (Some(tower), Some(Image::Single(pixels))) = (&subject.tower, subject.image()?) else {
        return Ok(None);
    };
    let pixels = pixels.unsqueeze(0).map_err(Failure::calculation)?;
    let states = [HiddenState::from_end(2)];
    let started = Instant::now();
    tower.forward(&pixels, &Wanted::states(&states))?;
    Ok(Some(started.elapsed()))
}

/// Tokens that no model gives a meaning: all alike but not the same.
fn tokens(decoder: &Decoder, count: usize) -> Vec<u32> {
    let vocabulary = decoder.config().vocabulary;
    (0..count).map(|at| ((at * 7919 + 11) % vocabulary) as u32).collect()
}

/// `visual` rows in front of `text` tokens.
fn prompt(decoder: &Decoder, visual: usize, text: usize) -> Result<Prompt, Failure> {
    let width = decoder.config().width;
    let mut parts = Vec::new();
    if visual > 0 {
        let numbers: Vec<f32> =
            (0..visual * width).map(|at| ((at % 1013) as f32 * 0.37).sin() * 0.1).collect();
        let rows = Tensor::from_vec(numbers, (visual, width), &Device::Cpu).map_err(Failure::calculation)?;
        parts.push(Part::Rows(rows));
    }
    parts.push(Part::Tokens(tokens(decoder, text)));
    Ok(Prompt { parts })
}

/// Answers of exactly `count` tokens.
fn exactly(count: usize) -> GenerateOptions {
    GenerateOptions { max_tokens: count, end_tokens: Some(Vec::new()), ..GenerateOptions::default() }
}

fn go_on(_: u32) -> foveate_model::Result<ControlFlow<()>> {
    Ok(ControlFlow::Continue(()))
}

/// Time to read `visual` rows and `text` tokens, scores of the last position included.
pub(super) fn prefill(decoder: &Arc<Decoder>, visual: usize, text: usize) -> Result<Duration, Failure> {
    let prompt = prompt(decoder, visual, text)?;
    let mut session = Session::new(decoder.clone());
    Ok(session.generate_tokens(&prompt, &exactly(1), go_on)?.prefill)
}

/// Time of each token behind a context of `context`, the mean over `new_tokens`.
pub(super) fn decode(decoder: &Arc<Decoder>, context: usize, new_tokens: usize) -> Result<Duration, Failure> {
    let prompt = prompt(decoder, 0, context)?;
    let mut session = Session::new(decoder.clone());
    let generated = session.generate_tokens(&prompt, &exactly(new_tokens + 1), go_on)?;
    Ok(generated.decode / u32::try_from(new_tokens.max(1)).unwrap_or(u32::MAX))
}

/// Everything from normalised pixels to the first token.
pub(super) fn first_token(
    subject: &Subject,
    budget: Budget,
    text: Text,
) -> Result<Option<FirstToken>, Failure> {
    let (Some(viewer), Some(decoder), Some(image)) = (&subject.viewer, &subject.decoder, subject.image()?)
    else {
        return Ok(None);
    };
    let question = tokens(decoder, text.tokens);
    let mut session = Session::new(decoder.clone());
    let started = Instant::now();
    let view = viewer.view(&image, Some(&question), budget)?;
    let visual_tokens = view.visual_tokens.iter().sum();
    let parts = vec![Part::Rows(view.rows), Part::Tokens(question)];
    let generated = session.generate_tokens(&Prompt { parts }, &exactly(1), go_on)?;
    Ok(Some(FirstToken {
        visual_tokens,
        view: view.times,
        prefill: generated.prefill,
        total: started.elapsed(),
    }))
}
