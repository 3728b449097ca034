//! A conversation with a language model: what was read stays in the cache, so that the next prompt pays only for what it
//! adds.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use candle_core::Device;
use tokenizers::Tokenizer;

use super::prompt::{Position, Prompt, embed};
use super::scored::log_probabilities;
use super::{Sampler, Sampling, Writer};
use crate::llm::{Decoder, Input, KeyValueCache, Padding};
use crate::{ModelError, Result};

/// Positions read at once: the scores of a chunk against everything before stay small for long prompts.
const CHUNK: usize = 512;

/// How to generate.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// At most this many new tokens, ≥ 1.
    pub max_tokens: usize,
    /// Text that ends the answer and is not part of it.
    pub stop: Vec<String>,
    /// Tokens that end the answer; those of the configuration where this is `None`.
    pub end_tokens: Option<Vec<u32>>,
}

impl Default for GenerateOptions {
    /// Greedy, up to 256 tokens, until the model's own end token.
    fn default() -> Self {
        Self { sampling: Sampling::greedy(), max_tokens: 256, stop: Vec::new(), end_tokens: None }
    }
}

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finish {
    /// The model gave an end token.
    End,
    /// The stop string of this index was found.
    Stop(usize),
    /// As many tokens as asked for.
    MaxTokens,
    /// The context is full.
    Context,
    /// The caller broke off.
    Cancelled,
}

/// An answer and what it took.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Generated {
    /// The new tokens, an end token left out.
    pub tokens: Vec<u32>,
    /// The text that was streamed, joined.
    pub text: String,
    /// Why it ended.
    pub finish: Finish,
    /// Positions of the prompt.
    pub prompt_positions: usize,
    /// How many of them were still in the cache.
    pub reused_positions: usize,
    /// Time to read the prompt.
    pub prefill: Duration,
    /// Time for all tokens after the first.
    pub decode: Duration,
}

/// A decoder with the positions it has read.
#[derive(Debug)]
pub struct Session {
    decoder: Arc<Decoder>,
    cache: KeyValueCache,
    /// What the cache holds, position by position.
    kept: Vec<Position>,
    device: Device,
}

impl Session {
    /// A session that has read nothing, on the CPU.
    pub fn new(decoder: Arc<Decoder>) -> Self {
        let cache = decoder.cache(Padding::none(1));
        Self { decoder, cache, kept: Vec::new(), device: Device::Cpu }
    }

    /// The decoder.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// How many positions are kept.
    pub fn len(&self) -> usize {
        self.cache.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.cache.is_empty()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.cache.truncate(0);
        self.kept.clear();
    }

    /// Answers `prompt`; `show` gets each piece of text as soon as it is certain, and may break off.
    ///
    /// # Errors
    /// An empty prompt, one that does not fit into the context, or an option outside its range.
    pub fn generate(
        &mut self,
        prompt: &Prompt,
        options: &GenerateOptions,
        tokenizer: &Tokenizer,
        mut show: impl FnMut(&str) -> ControlFlow<()>,
    ) -> Result<Generated> {
        let mut writer = Writer::new(tokenizer, options.stop.clone())?;
        let mut text = String::new();
        let mut stopped = None;
        let mut show = |piece: &str, text: &mut String| {
            text.push_str(piece);
            if piece.is_empty() { ControlFlow::Continue(()) } else { show(piece) }
        };
        let mut generated = self.generate_tokens(prompt, options, |token| {
            let scanned = writer.push(token)?;
            let shown = show(&scanned.text, &mut text);
            stopped = scanned.stop;
            Ok(if stopped.is_some() { ControlFlow::Break(()) } else { shown })
        })?;
        if stopped.is_none() && generated.finish != Finish::Cancelled {
            let rest = writer.finish()?;
            stopped = rest.stop;
            if show(&rest.text, &mut text).is_break() {
                generated.finish = Finish::Cancelled;
            }
        }
        if let Some(stop) = stopped {
            generated.finish = Finish::Stop(stop);
        }
        generated.text = text;
        Ok(generated)
    }

    /// The same without text: `see` gets each new token and may break off. Stop strings are not looked for.
    ///
    /// # Errors
    /// As [`generate`](Self::generate), and those of `see`.
    pub fn generate_tokens(
        &mut self,
        prompt: &Prompt,
        options: &GenerateOptions,
        mut see: impl FnMut(u32) -> Result<ControlFlow<()>>,
    ) -> Result<Generated> {
        if options.max_tokens == 0 {
            return Err(ModelError::option("max tokens", 0, "must be at least 1"));
        }
        let mut sampler = Sampler::new(options.sampling)?;
        let ends = options.end_tokens.clone().unwrap_or_else(|| self.decoder.config().end_tokens.clone());
        let positions = prompt.positions(self.decoder.config().width)?;
        let mut history: Vec<u32> = positions.iter().filter_map(Position::token).collect();
        let started = Instant::now();
        let reused = self.reuse(&positions)?;
        let prompt_positions = positions.len();
        let mut scores = self.read(&positions[reused..])?;
        let prefill = started.elapsed();
        let mut tokens = Vec::new();
        let started = Instant::now();
        let finish = loop {
            let next = sampler.next(&scores, &history)?;
            if ends.contains(&next) {
                break Finish::End;
            }
            tokens.push(next);
            history.push(next);
            if see(next)?.is_break() {
                break Finish::Cancelled;
            }
            if tokens.len() == options.max_tokens {
                break Finish::MaxTokens;
            }
            if self.cache.len() == self.decoder.config().context {
                break Finish::Context;
            }
            scores = self.read(&[Position::Token(next)])?;
        };
        let decode = started.elapsed();
        let text = String::new();
        Ok(Generated { tokens, text, finish, prompt_positions, reused_positions: reused, prefill, decode })
    }

    /// The natural logarithm of the probability that `answer`, and nothing else before it ends, follows `prompt`. What answers
    /// to one prompt have in common is read once.
    ///
    /// # Errors
    /// An empty prompt; one that does not fit into the context with the answer; a token outside of the vocabulary.
    pub fn log_likelihood(&mut self, prompt: &Prompt, answer: &[u32]) -> Result<f64> {
        self.likelihood(prompt, answer, &[])
    }

    /// The same of an answer that ends there, by any of `ends`.
    ///
    /// # Errors
    /// As [`log_likelihood`](Self::log_likelihood).
    pub fn log_likelihood_to_end(&mut self, prompt: &Prompt, answer: &[u32], ends: &[u32]) -> Result<f64> {
        self.likelihood(prompt, answer, ends)
    }

    fn likelihood(&mut self, prompt: &Prompt, answer: &[u32], ends: &[u32]) -> Result<f64> {
        let mut positions = prompt.positions(self.decoder.config().width)?;
        let asked = positions.len();
        let reused = self.reuse(&positions)?;
        let foretold = answer.len() + usize::from(!ends.is_empty());
        positions.extend(answer.iter().copied().take(foretold.saturating_sub(1)).map(Position::Token));
        let (mut at, mut sum) = (reused, 0.0);
        for chunk in positions[reused..].chunks(CHUNK) {
            let input = embed(&self.decoder, chunk, &self.device)?; // [1, t, d]
            let hidden = self.decoder.forward(Input::Embeddings(&input), &mut self.cache)?; // [1, t, d]
            self.kept.extend_from_slice(chunk);
            // The position before each token of the answer foretells it.
            let first = (asked - 1).saturating_sub(at).min(chunk.len());
            let rows = if foretold == 0 { 0 } else { chunk.len() - first };
            if rows > 0 {
                let logits = self.decoder.logits(&hidden.narrow(1, first, rows)?)?.squeeze(0)?; // [rows, vocabulary]
                for (row, scores) in logits.to_vec2::<f32>()?.iter().enumerate() {
                    let of = log_probabilities(scores);
                    let told = |token: &u32| {
                        of(*token).ok_or(ModelError::Token { token: *token, vocabulary: scores.len() })
                    };
                    sum += match answer.get(at + first + row + 1 - asked) {
                        Some(token) => told(token)?,
                        None => {
                            let each = ends.iter().map(told).collect::<Result<Vec<f64>>>()?;
                            each.into_iter().fold(f64::NEG_INFINITY, either)
                        }
                    };
                }
            }
            at += chunk.len();
        }
        Ok(sum)
    }

    /// Cuts the cache back to what it shares with `positions`, at least one position short of all of them, because the
    /// scores after the last one are needed. Returns how many are kept.
    fn reuse(&mut self, positions: &[Position]) -> Result<usize> {
        let limit = self.decoder.config().context;
        if positions.is_empty() {
            return Err(ModelError::EmptyInput);
        }
        if positions.len() > limit {
            return Err(ModelError::Context { needed: positions.len(), limit });
        }
        let shared = self.kept.iter().zip(positions).take_while(|(kept, new)| kept == new).count();
        let shared = shared.min(positions.len() - 1);
        self.cache.truncate(shared);
        self.kept.truncate(shared);
        Ok(shared)
    }

    /// Reads further positions, and returns the scores after the last one.
    fn read(&mut self, positions: &[Position]) -> Result<Vec<f32>> {
        let mut last = None;
        for chunk in positions.chunks(CHUNK) {
            let input = embed(&self.decoder, chunk, &self.device)?; // [1, t, d]
            last = Some(self.decoder.forward(Input::Embeddings(&input), &mut self.cache)?); // [1, t, d]
            self.kept.extend_from_slice(chunk);
        }
        let last = last.ok_or(ModelError::EmptyInput)?;
        Ok(self.decoder.last_logits(&last)?.squeeze(0)?.to_vec1()?) // [vocabulary]
    }
}

/// log(eᵃ + eᵇ): the logarithm of the probability of one or the other.
fn either(a: f64, b: f64) -> f64 {
    let (high, low) = (a.max(b), a.min(b));
    if high == f64::NEG_INFINITY { high } else { high + (low - high).exp().ln_1p() }
}
