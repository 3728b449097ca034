//! Many answers at once: each step gives every one that is being written its next token, in one pass over the weights, and
//! reads on in the prompts of those that are not.
//!
//! A prompt is read in pieces that ride along with the others' tokens, so that a long one delays nobody by more than a piece.
//! An answer is the same, to the bit, as alone ([`Decoder::forward_stack`]). What was read stays behind when an answer ends,
//! bounded by bytes, and prompts that begin alike start from a copy: a system prompt is read once.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use super::prefixes::{Prefixes, shared};
use super::prompt::{Position, Prompt, embed};
use super::{Sampler, Sampling, Scored};
use crate::cache::CacheStatistics;
use crate::llm::{Decoder, KeyValueCache, Padding, Stretch};
use crate::{ModelError, Result};

/// Which answer of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AnswerId(u64);

/// The answers in progress.
#[derive(Debug)]
pub struct Batch {
    decoder: Arc<Decoder>,
    answers: Vec<Answer>,
    prefixes: Prefixes,
    next: u64,
}

/// An answer in progress.
#[derive(Debug)]
struct Answer {
    id: AnswerId,
    /// The prompt, then every token drawn; the cache holds the first of them.
    positions: Vec<Position>,
    cache: KeyValueCache,
    history: Vec<u32>,
    sampler: Sampler,
    /// How many of the best tokens to score beside each one drawn, where scores are wanted.
    alternatives: Option<usize>,
    /// The positions of the prompt.
    prompt: usize,
}

/// What became of a new prompt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Added {
    /// The answer's name from now on.
    pub id: AnswerId,
    /// Positions of the prompt.
    pub prompt_positions: usize,
    /// How many of them need not be read.
    pub reused_positions: usize,
}

/// The next token of one answer.
#[derive(Debug)]
pub struct Drawn {
    /// Whose.
    pub id: AnswerId,
    /// The token, or why none can be drawn; the answer should then be removed.
    pub token: Result<u32>,
    /// How likely it was, where that was asked for.
    pub scored: Option<Scored>,
    /// Whether the context has no room for this token, so that none can follow it.
    pub full: bool,
}

impl Batch {
    /// No answer yet; at most `prefix_bytes` of what ended answers have read are kept.
    pub fn new(decoder: Arc<Decoder>, prefix_bytes: usize) -> Self {
        Self { decoder, answers: Vec::new(), prefixes: Prefixes::new(prefix_bytes), next: 0 }
    }

    /// How many answers are in progress.
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    /// How many answers are past their prompt, so that every step gives them a token.
    pub fn writing(&self) -> usize {
        self.answers.iter().filter(|answer| answer.writes()).count()
    }

    /// What the kept prefixes did and hold.
    pub fn prefixes(&self) -> CacheStatistics {
        self.prefixes.statistics()
    }

    /// Starts an answer to `prompt`. With `alternatives` each token comes with its log-probability and those of so many of
    /// the best tokens.
    ///
    /// # Errors
    /// An empty prompt, one that does not fit into the context, or an option outside its range.
    pub fn add(&mut self, prompt: &Prompt, sampling: Sampling, alternatives: Option<usize>) -> Result<Added> {
        let sampler = Sampler::new(sampling)?;
        let config = self.decoder.config();
        let positions = prompt.positions(config.width)?;
        if positions.is_empty() {
            return Err(ModelError::EmptyInput);
        }
        if positions.len() > config.context {
            return Err(ModelError::Context { needed: positions.len(), limit: config.context });
        }
        let cache = match self.like(&positions) {
            Some((kept, reused)) => kept.copy(reused)?,
            None => self.decoder.cache(Padding::none(1)),
        };
        self.prefixes.count(!cache.is_empty());
        let id = AnswerId(self.next);
        self.next += 1;
        let added = Added { id, prompt_positions: positions.len(), reused_positions: cache.len() };
        let history = positions.iter().filter_map(Position::token).collect();
        let prompt = positions.len();
        self.answers.push(Answer { id, positions, cache, history, sampler, alternatives, prompt });
        Ok(added)
    }

    /// The cache that shares the longest beginning with `positions`, and how long it is; that of an answer in progress or
    /// one that was kept. The last position is never shared: the scores after it are needed.
    fn like(&mut self, positions: &[Position]) -> Option<(&KeyValueCache, usize)> {
        let most = positions.len() - 1;
        let read = |answer: &Answer| {
            let kept = &answer.positions[..answer.cache.len()];
            shared(kept, positions).min(most)
        };
        let running = self.answers.iter().map(|answer| (&answer.cache, read(answer)));
        let running = running.max_by_key(|(_, length)| *length);
        let kept = self.prefixes.longest(positions).map(|(cache, length)| (cache, length.min(most)));
        kept.into_iter().chain(running).max_by_key(|(_, length)| *length).filter(|(_, length)| *length > 0)
    }

    /// One pass: the next token of every answer that is being written, and up to `most` positions of prompts, the oldest
    /// first. Returns what was drawn; an answer goes on until it is removed.
    ///
    /// # Errors
    /// Those of the pass as a whole. What goes wrong with one answer is in its [`Drawn::token`].
    pub fn step(&mut self, most: usize) -> Result<Vec<Drawn>> {
        let mut left = most.max(1);
        let mut positions: Vec<Position> = Vec::new();
        let mut stretches = Vec::new();
        // Answers whose scores this pass ends with, by the row of their last position.
        let mut ends = Vec::new();
        for (at, answer) in self.answers.iter_mut().enumerate() {
            let read = answer.cache.len();
            let unread = answer.positions.len() - read;
            let rows = if answer.writes() { unread } else { unread.min(left) };
            if rows == 0 {
                continue;
            }
            if !answer.writes() {
                left -= rows;
            }
            positions.extend_from_slice(&answer.positions[read..read + rows]);
            if rows == unread {
                ends.push((at, positions.len() - 1));
            }
            stretches.push(Stretch { rows, cache: &mut answer.cache });
        }
        if positions.is_empty() {
            return Ok(Vec::new());
        }
        let input = embed(&self.decoder, &positions, &Device::Cpu)?; // [1, t, d]
        let hidden = self.decoder.forward_stack(&input, &mut stretches)?; // [1, t, d]
        if ends.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<u32> = ends.iter().map(|(_, row)| *row as u32).collect();
        let last = hidden.squeeze(0)?.index_select(&Tensor::new(rows, &Device::Cpu)?, 0)?; // [answers, d]
        let scores = self.decoder.logits(&last)?.to_vec2::<f32>()?; // [answers, vocabulary]
        let context = self.decoder.config().context;
        Ok(ends
            .iter()
            .zip(scores)
            .map(|((at, _), scores)| self.answers[*at].draw(&scores, context))
            .collect())
    }

    /// Ends an answer; what it has read is kept for prompts that begin alike.
    pub fn remove(&mut self, id: AnswerId) {
        if let Some(at) = self.answers.iter().position(|answer| answer.id == id) {
            let Answer { mut positions, cache, .. } = self.answers.remove(at);
            positions.truncate(cache.len());
            self.prefixes.keep(positions, cache);
        }
    }
}

impl Answer {
    fn writes(&self) -> bool {
        self.cache.len() >= self.prompt
    }

    fn draw(&mut self, scores: &[f32], context: usize) -> Drawn {
        let token = self.sampler.next(scores, &self.history);
        let mut scored = None;
        if let Ok(token) = token {
            self.history.push(token);
            self.positions.push(Position::Token(token));
            scored = self.alternatives.map(|count| Scored::new(scores, token, count));
        }
        Drawn { id: self.id, token, scored, full: self.cache.len() == context }
    }
}
