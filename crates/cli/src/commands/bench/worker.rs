//! A process that measures what it is told, line by line: so that a script can take turns between engines in one run.
//!
//! A line is a JSON case, the answer is `{"ms": …}` or `{"error": …}`. Models are opened once and run once before they
//! count.

use std::collections::HashMap;
use std::io::{BufRead, Write};

use foveate_compress::{Budget, Method};
use foveate_model::Dtype;
use serde::{Deserialize, Serialize};

use super::stages::{self, Text};
use super::subject::Subject;
use crate::Outcome;
use crate::failure::Failure;
use crate::fetch::Fetch;

/// The longest line that is read, in bytes.
const MOST_LINE: usize = 1 << 16;

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Stage {
    Tower,
    Prefill,
    Decode,
    FirstToken,
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
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    Ms(f64),
    Error(String),
}

/// Answers lines until the input ends.
pub(super) fn run(fetch: &Fetch) -> Outcome {
    let mut models = HashMap::new();
    let mut output = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| Failure::user(format!("standard input: {error}")))?;
        if line.trim().is_empty() {
            continue;
        }
        let reply = match measure(&line, &mut models, fetch) {
            Ok(ms) => Reply::Ms(ms),
            Err(error) => Reply::Error(error.message()),
        };
        let text = serde_json::to_string(&reply).map_err(|error| Failure::Other(error.into()))?;
        let written = writeln!(output, "{text}").and_then(|()| output.flush());
        written.map_err(|error| Failure::user(format!("standard output: {error}")))?;
    }
    Ok(())
}

fn measure(
    line: &str,
    models: &mut HashMap<(String, Dtype, Option<Method>), Subject>,
    fetch: &Fetch,
) -> Result<f64, Failure> {
    if line.len() > MOST_LINE {
        return Err(Failure::user(format!("a case of {} bytes; at most {MOST_LINE}", line.len())));
    }
    let case: Case = serde_json::from_str(line).map_err(|error| Failure::user(format!("case: {error}")))?;
    foveate_model::threads::set(match case.threads {
        Some(threads) => threads,
        None => std::thread::available_parallelism().map_or(1, usize::from),
    })?;
    let pooled = case.compressor.unwrap_or(Method::AveragePooling);
    let compressor = (case.stage == Stage::FirstToken).then_some(pooled);
    let key = (case.model.clone(), case.dtype, compressor);
    if let std::collections::hash_map::Entry::Vacant(entry) = models.entry(key.clone()) {
        let subject = entry.insert(Subject::open(&case.model, case.dtype, compressor, fetch)?);
        once(&case, subject)?;
    }
    once(&case, &models[&key])
}

/// One measurement, in milliseconds.
fn once(case: &Case, subject: &Subject) -> Result<f64, Failure> {
    let lacks = |part: &str| Failure::user(format!("{}: {:?} needs {part}", case.model, case.stage));
    let decoder = || subject.decoder.as_ref().ok_or_else(|| lacks("a language model"));
    let time = match case.stage {
        Stage::Tower => stages::tower(subject)?.ok_or_else(|| lacks("a vision tower"))?,
        Stage::Prefill => stages::prefill(decoder()?, case.visual_tokens, case.text_tokens)?,
        Stage::Decode => stages::decode(decoder()?, case.context, case.new_tokens)?,
        Stage::FirstToken => {
            let text = Text { tokens: case.text_tokens, new_tokens: case.new_tokens };
            let first = stages::first_token(subject, Budget::Tokens(case.visual_tokens), text)?;
            first.ok_or_else(|| lacks("a vision-language model"))?.total
        }
    };
    Ok(time.as_secs_f64() * 1e3)
}
