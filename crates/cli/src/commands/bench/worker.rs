//! A process that measures what it is told, line by line: so that a script can take turns between engines in one run.
//!
//! A line is a JSON case, the answer is `{"ms": …}` or `{"error": …}`. Models are opened once and run once before they
//! count.

use std::collections::{HashMap, VecDeque};
use std::io::{BufRead, Read, Write};
use std::time::Duration;

use foveate_compress::{Budget, Method};
use foveate_model::{Dtype, ModelError};
use serde::{Deserialize, Serialize};

use super::stages::{self, Text};
use super::subject::Subject;
use super::training::{Task, Training};
use crate::Outcome;
use crate::failure::Failure;
use crate::fetch::Fetch;

/// The longest line that is read, in bytes.
const MOST_LINE: u64 = 1 << 16;

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Stage {
    Tower,
    Prefill,
    Decode,
    FirstToken,
    TrainStep,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    stage: Stage,
    model: String,
    #[serde(default)]
    visual_tokens: usize,
    #[serde(default)]
    text_tokens: usize,
    #[serde(default)]
    new_tokens: usize,
    #[serde(default)]
    context: usize,
    #[serde(default)]
    dtype: Dtype,
    threads: Option<usize>,
    /// What makes visual tokens fewer for `first_token`; average pooling unless given.
    compressor: Option<Method>,
    /// Pictures of a `train_step`.
    #[serde(default = "one")]
    batch: usize,
    /// Parts of its batch that run at the same time.
    #[serde(default = "one")]
    accumulation: usize,
    /// Side of its pictures, in pixels.
    #[serde(default)]
    image_size: usize,
    /// Whether its tower's features come from the disk.
    #[serde(default)]
    cached_features: bool,
}

fn one() -> usize {
    1
}

/// What is open.
#[derive(Default)]
struct Open {
    models: HashMap<(String, Dtype, Option<Method>), Subject>,
    /// The last two, so that two dtypes can take turns without all of a run staying in memory.
    trainings: VecDeque<(Task, Training)>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    Ms(f64),
    Error(String),
}

/// Answers lines until the input ends.
pub(super) fn run(fetch: &Fetch) -> Outcome {
    let mut open = Open::default();
    let mut output = std::io::stdout().lock();
    let mut input = std::io::stdin().lock();
    loop {
        let mut line = Vec::new();
        let read = input.by_ref().take(MOST_LINE).read_until(b'\n', &mut line);
        if read.map_err(|error| Failure::user(format!("standard input: {error}")))? == 0 {
            return Ok(());
        }
        if line.len() as u64 == MOST_LINE && !line.ends_with(b"\n") {
            return Err(Failure::user(format!("a case is longer than {MOST_LINE} bytes")));
        }
        let line = String::from_utf8_lossy(&line);
        if line.trim().is_empty() {
            continue;
        }
        let reply = match measure(&line, &mut open, fetch) {
            Ok(ms) => Reply::Ms(ms),
            Err(error) => Reply::Error(error.message()),
        };
        let text = serde_json::to_string(&reply).map_err(|error| Failure::Other(error.into()))?;
        let written = writeln!(output, "{text}").and_then(|()| output.flush());
        written.map_err(|error| Failure::user(format!("standard output: {error}")))?;
    }
}

fn measure(line: &str, open: &mut Open, fetch: &Fetch) -> Result<f64, Failure> {
    let case: Case = serde_json::from_str(line).map_err(|error| Failure::user(format!("case: {error}")))?;
    foveate_model::threads::set(match case.threads {
        Some(threads) => threads,
        None => std::thread::available_parallelism().map_or(1, usize::from),
    })?;
    if case.stage == Stage::TrainStep {
        return Ok(train_step(case, &mut open.trainings)?.as_secs_f64() * 1e3);
    }
    let models = &mut open.models;
    let pooled = case.compressor.unwrap_or(Method::AveragePooling);
    let compressor = (case.stage == Stage::FirstToken).then_some(pooled);
    let key = (case.model.clone(), case.dtype, compressor);
    if let std::collections::hash_map::Entry::Vacant(entry) = models.entry(key.clone()) {
        let subject = entry.insert(Subject::open(&case.model, case.dtype, compressor, fetch)?);
        once(&case, subject)?;
    }
    once(&case, &models[&key])
}

/// A step of the training that is open for this case, or of a new one, whose first step does not count.
fn train_step(case: Case, trainings: &mut VecDeque<(Task, Training)>) -> Result<Duration, Failure> {
    let Case {
        model,
        dtype,
        batch,
        accumulation,
        image_size,
        cached_features,
        visual_tokens,
        text_tokens,
        ..
    } = case;
    let task =
        Task { model, dtype, batch, accumulation, image_size, cached_features, visual_tokens, text_tokens };
    let at = match trainings.iter().position(|(open, _)| *open == task) {
        Some(at) => at,
        None => {
            trainings.truncate(1);
            let mut training = Training::new(&task)?;
            training.step()?;
            trainings.push_front((task, training));
            0
        }
    };
    trainings[at].1.step()
}

/// One measurement, in milliseconds.
fn once(case: &Case, subject: &Subject) -> Result<f64, Failure> {
    let lacks = |part: &str| Failure::user(format!("{}: {:?} needs {part}", case.model, case.stage));
    let decoder = || subject.decoder.as_ref().ok_or_else(|| lacks("a language model"));
    if let Some(decoder) = &subject.decoder {
        let prompt = case.visual_tokens.saturating_add(case.text_tokens.max(case.context));
        let (needed, limit) = (prompt.saturating_add(case.new_tokens), decoder.config().context);
        if needed > limit {
            return Err(ModelError::Context { needed, limit }.into());
        }
    }
    if case.stage == Stage::Decode && case.new_tokens == 0 {
        return Err(Failure::user("new_tokens is 0: at least 1 is needed to time a token"));
    }
    let time = match case.stage {
        Stage::Tower => stages::tower(subject)?.ok_or_else(|| lacks("a vision tower"))?,
        Stage::Prefill => stages::prefill(decoder()?, case.visual_tokens, case.text_tokens)?,
        Stage::Decode => stages::decode(decoder()?, case.context, case.new_tokens)?,
        Stage::FirstToken => {
            let text = Text { tokens: case.text_tokens, new_tokens: case.new_tokens };
            let first = stages::first_token(subject, Budget::Tokens(case.visual_tokens), text)?;
            first.ok_or_else(|| lacks("a vision-language model"))?.total
        }
        // It needs a model of its own.
        Stage::TrainStep => return Err(lacks("shape:TOWER+LLM")),
    };
    Ok(time.as_secs_f64() * 1e3)
}
