//! What a run tells: one JSON line for each step and each evaluation, the same for TensorBoard, and events for whoever
//! shows progress.

mod events;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

pub use events::{EventFile, Scalar, read_events};
use serde::{Deserialize, Serialize};

use crate::evaluate::{Evaluated, Score, Settings};
use crate::recipe::Group;
use crate::{Result, TrainError, atomic};

/// A step that was taken or skipped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepReport {
    /// Steps done, this one included.
    pub step: u64,
    /// Of this many.
    pub of: u64,
    /// The stage's name.
    pub stage: String,
    /// Mean of −log p over the answers' tokens.
    pub loss: f64,
    /// Length of the gradient before clipping.
    pub gradient_norm: f64,
    /// Why it was not taken, if it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
    /// Why samples were left out on the way to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub broken: Vec<String>,
    /// Learning rate of each group.
    pub rates: BTreeMap<Group, f64>,
    /// Of each part.
    pub visual_tokens: Vec<usize>,
    /// Questions of the step.
    pub questions: usize,
    /// Judged tokens of the step.
    pub targets: usize,
    /// Seconds that it took, waiting for data included.
    pub seconds: f64,
    /// Of them, waiting for data.
    pub waited: f64,
    /// Seconds until the end, by the last steps.
    pub eta: f64,
}

/// What a run tells while it goes on.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A step is done.
    Step(&'a StepReport),
    /// Scores on data that is not trained on.
    Evaluated {
        /// Steps done.
        step: u64,
        /// One for each dataset and number of visual tokens.
        scores: &'a [Score],
        /// Why samples were left out.
        broken: &'a [String],
    },
    /// The run was saved.
    Saved {
        /// Steps done.
        step: u64,
    },
}

/// Shows progress.
pub trait Observer {
    /// Something happened.
    fn on(&mut self, event: Event<'_>);
}

/// Shows nothing.
impl Observer for () {
    fn on(&mut self, _event: Event<'_>) {}
}

/// A line of the log.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Line<'a> {
    Step(std::borrow::Cow<'a, StepReport>),
    Evaluation {
        step: u64,
        scores: std::borrow::Cow<'a, [Score]>,
        /// Absent in logs of older programs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        settings: Option<Settings>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        broken: Vec<String>,
    },
}

/// An evaluation that the log has.
struct Noted {
    step: u64,
    settings: Option<Settings>,
    scores: Vec<Score>,
}

/// The files of a run's log.
pub struct Log {
    path: PathBuf,
    lines: File,
    events: EventFile,
    /// The last evaluation.
    evaluated: Option<Noted>,
}

impl Log {
    /// `log.jsonl` and an event file in `folder`. What the log says of steps after `step` is removed: the run goes on from
    /// there, and will say it again.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn open(folder: &Path, step: u64) -> Result<Log> {
        std::fs::create_dir_all(folder).map_err(TrainError::io(folder))?;
        let path = folder.join("log.jsonl");
        let mut evaluated = None;
        if path.exists() {
            let text = std::fs::read_to_string(&path).map_err(TrainError::io(&path))?;
            let is_before = |line: &&str| {
                // A line that was torn by a kill is none.
                let said: Option<serde_json::Value> = serde_json::from_str(line).ok();
                said.and_then(|said| said.get("step")?.as_u64()).is_some_and(|of| of <= step)
            };
            let kept: String = text.lines().filter(is_before).flat_map(|line| [line, "\n"]).collect();
            atomic::replace_bytes(&path, kept.as_bytes())?;
            evaluated = kept.lines().rev().find_map(|line| match serde_json::from_str(line).ok()? {
                Line::Evaluation { step, scores, settings, .. } => {
                    Some(Noted { step, settings, scores: scores.into_owned() })
                }
                Line::Step(_) => None,
            });
        }
        let lines =
            OpenOptions::new().create(true).append(true).open(&path).map_err(TrainError::io(&path))?;
        Ok(Log { path, lines, events: EventFile::create(folder, step)?, evaluated })
    }

    /// What an evaluation after `step` steps found, where it is the last that was noted and, as far as is known, had these
    /// settings.
    pub fn scores_at(&self, step: u64, settings: &Settings) -> Option<&[Score]> {
        let noted = self.evaluated.as_ref().filter(|noted| noted.step == step)?;
        noted.settings.as_ref().is_none_or(|of| of == settings).then_some(noted.scores.as_slice())
    }

    /// Notes a step.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn step(&mut self, report: &StepReport) -> Result<()> {
        self.line(&Line::Step(std::borrow::Cow::Borrowed(report)))?;
        let mut scalars = vec![
            ("loss".to_owned(), report.loss),
            ("gradient norm".to_owned(), report.gradient_norm),
            ("seconds".to_owned(), report.seconds),
        ];
        scalars.extend(report.rates.iter().map(|(group, rate)| (format!("rate/{}", group.name()), *rate)));
        self.events.scalars(report.step, &scalars)
    }

    /// Notes an evaluation.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn evaluation(&mut self, step: u64, settings: &Settings, found: &Evaluated) -> Result<()> {
        let Evaluated { scores, broken } = found;
        self.line(&Line::Evaluation {
            step,
            scores: std::borrow::Cow::Borrowed(scores.as_slice()),
            settings: Some(settings.clone()),
            broken: broken.clone(),
        })?;
        self.evaluated = Some(Noted { step, settings: Some(settings.clone()), scores: scores.clone() });
        let scalar = |score: &Score| {
            let place = format!("{}/{} tokens", score.data, score.visual_tokens);
            [(format!("accuracy/{place}"), score.accuracy()), (format!("loss/{place}"), score.loss)]
        };
        self.events.scalars(step, &scores.iter().flat_map(scalar).collect::<Vec<_>>())
    }

    fn line(&mut self, line: &Line<'_>) -> Result<()> {
        let mut text = serde_json::to_vec(line).map_err(|error| TrainError::checkpoint(&self.path, error))?;
        text.push(b'\n');
        // One write for the whole line: another process that reads it sees it whole.
        self.lines.write_all(&text).map_err(TrainError::io(&self.path))
    }
}
