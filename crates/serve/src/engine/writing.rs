//! An answer in progress: its tokens become pieces of text, and at the end an account of what it took.

use std::time::{Duration, Instant};

use candle_core::Tensor;
use foveate_law::cost::{CostError, Dtype, LlmDimensions, Stage, Workload};
use foveate_model::Result;
use foveate_model::generate::{Added, Finish, Scanned, Scored, Writer};
use foveate_model::vlm::{PerStage, View};

use super::{Done, Event, Failed, Job, Milliseconds, Piece};

/// What the images of a job became, and what that took.
#[derive(Default)]
pub(super) struct Seen {
    /// What the language model reads for each.
    pub(super) rows: Vec<Tensor>,
    pub(super) times: PerStage<Duration>,
    pub(super) flops: PerStage<f64>,
}

impl Seen {
    pub(super) fn add(&mut self, view: View) {
        let View { rows, times, flops, .. } = view;
        self.rows.push(rows);
        self.times.tower += times.tower;
        self.times.query += times.query;
        self.times.compress += times.compress;
        self.times.project += times.project;
        self.flops.tower += flops.tower;
        self.flops.query += flops.query;
        self.flops.compress += flops.compress;
        self.flops.project += flops.project;
    }

    fn total_flops(&self) -> f64 {
        let PerStage { tower, query, compress, project } = self.flops;
        tower + query + compress + project
    }

    fn positions(&self) -> usize {
        self.rows.iter().map(|rows| rows.dims().first().copied().unwrap_or(0)).sum()
    }
}

/// An answer in progress.
pub(super) struct Writing<'a> {
    pub(super) job: Job,
    writer: Writer<'a>,
    added: Added,
    seen: Seen,
    /// When the job got its place among those in progress.
    taken: Instant,
    /// When its prompt began to be read.
    started: Instant,
    first: Option<Instant>,
    tokens: usize,
    /// Tokens whose text is still held back.
    held: Vec<(u32, Scored)>,
}

impl<'a> Writing<'a> {
    pub(super) fn new(job: Job, writer: Writer<'a>, added: Added, seen: Seen, taken: Instant) -> Self {
        // A client that went away is noticed before the next step.
        _ = job.events.send(Event::Started);
        let (started, first, tokens, held) = (Instant::now(), None, 0, Vec::new());
        Self { job, writer, added, seen, taken, started, first, tokens, held }
    }

    /// Takes the next token; returns why the answer ends, if it does. `full` as in [`foveate_model::generate::Drawn`].
    pub(super) fn take(
        &mut self,
        token: u32,
        scored: Option<Scored>,
        full: bool,
        end_tokens: &[u32],
    ) -> Result<Option<Finish>> {
        self.first.get_or_insert_with(Instant::now);
        let finish = if end_tokens.contains(&token) {
            Finish::End
        } else {
            self.tokens += 1;
            self.held.extend(scored.map(|scored| (token, scored)));
            let Scanned { text, stop } = self.writer.push(token)?;
            if !text.is_empty() {
                self.send(text);
            }
            match stop {
                Some(stop) => return Ok(Some(Finish::Stop(stop))),
                None if self.tokens == self.job.answering.max_tokens => Finish::MaxTokens,
                None if full => Finish::Context,
                None => return Ok(None),
            }
        };
        // An unfinished character may complete a stop string only now.
        let Scanned { text, stop } = self.writer.finish()?;
        if !text.is_empty() || !self.held.is_empty() {
            self.send(text);
        }
        Ok(Some(stop.map_or(finish, Finish::Stop)))
    }

    fn send(&mut self, text: String) {
        let scored = std::mem::take(&mut self.held);
        _ = self.job.events.send(Event::Piece(Piece { text, scored }));
    }

    /// The account of the whole answer.
    pub(super) fn account(
        &self,
        finish: Finish,
        llm: &LlmDimensions,
    ) -> std::result::Result<Account, CostError> {
        let now = Instant::now();
        // The language model ran for each token but the last, and for an end token once more.
        let passes = if finish == Finish::End { self.tokens } else { self.tokens.saturating_sub(1) };
        let Added { prompt_positions, reused_positions, .. } = self.added;
        let workload = Workload::new(prompt_positions, passes + 1);
        let stages = llm.stages(&workload, reused_positions, Dtype::F32)?;
        let prefill_flops =
            stages.iter().filter(|cost| cost.stage == Stage::Prefill).map(|cost| cost.flops).sum();
        let first = self.first.unwrap_or(now);
        let (accepted, times) = (self.job.accepted, self.seen.times);
        let decode = now.saturating_duration_since(first);
        let prefill = first.saturating_duration_since(self.started);
        let queue = self.taken.saturating_duration_since(accepted).saturating_sub(self.job.decode_image);
        let ms = Milliseconds {
            queue: milliseconds(queue),
            decode_image: milliseconds(self.job.decode_image),
            tower: milliseconds(times.tower),
            query: milliseconds(times.query),
            compress: milliseconds(times.compress),
            project: milliseconds(times.project),
            prefill: milliseconds(prefill),
            first_token: milliseconds(first.saturating_duration_since(accepted)),
            decode_per_token: (passes > 0).then(|| milliseconds(decode) / passes as f64),
            total: milliseconds(now.saturating_duration_since(accepted)),
        };
        let done = Done {
            finish,
            text_tokens: self.job.text_tokens,
            image_tokens: self.seen.positions(),
            cached_tokens: reused_positions,
            new_tokens: self.tokens,
            flops: self.seen.total_flops() + stages.iter().map(|cost| cost.flops).sum::<f64>(),
            ms,
        };
        let busy = now.saturating_duration_since(self.taken);
        Ok(Account { done, prefill_flops, prefill, busy, seen: self.seen.flops, times })
    }

    pub(super) fn fail(self, failed: Failed) {
        _ = self.job.events.send(Event::Failed(failed));
    }
}

/// What an answer took, for its client and for the meter.
pub(super) struct Account {
    pub(super) done: Done,
    pub(super) prefill_flops: f64,
    pub(super) prefill: Duration,
    /// From a place among those in progress to the end.
    pub(super) busy: Duration,
    pub(super) seen: PerStage<f64>,
    pub(super) times: PerStage<Duration>,
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    // Three digits after the point: microseconds.
    (time.as_secs_f64() * 1e6).round() / 1e3
}
