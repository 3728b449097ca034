//! Tasks as data: a dataset, instructions, a metric and a family.
//!
//! ```
//! use foveate_eval::task::TaskSpec;
//! let spec = TaskSpec::parse("example.toml", r#"
//!     data = { kind = "scenes", split = "validation", seed = 1, length = 100, side = 64 }
//!     limit = 10
//! "#)?;
//! let task = spec.open("scenes")?;
//! assert_eq!((task.items.len(), task.metric.name(), task.family.name()), (10, "exact-match", "reasoning"));
//! # Ok::<(), foveate_eval::EvalError>(())
//! ```

mod choices;
mod control;
mod own;
mod prompt;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use foveate_data::Family;
use foveate_data::dataset::{DataSource, Kind, SplitName};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use control::CONTROL;
pub use prompt::PromptTemplate;

use crate::benchmark::Benchmark;
use crate::item::Item;
use crate::metric::{Expected, Metric, letter};
use crate::select::select;
use crate::{EvalError, Result};

/// How an answer is got from a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answering {
    /// It is generated, token by token.
    #[default]
    Generate,
    /// It is the option whose letter the model holds most likely.
    Letters,
    /// It is the option whose text, with an end behind it, the model holds most likely.
    Options,
}

/// A task as it is written in a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskSpec {
    /// One of the project's own datasets; else there is a `benchmark`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub data: Option<DataSource>,
    /// A published benchmark.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub benchmark: Option<BenchmarkFiles>,
    /// The benchmark's own where it is not given; `exact-match` for generated pictures.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub metric: Option<Metric>,
    /// `reasoning` or `text`; the dataset's own where it is not given.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub family: Option<String>,
    /// See [`PromptTemplate`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub prompt: Option<String>,
    /// How the answer is got.
    #[serde(default)]
    pub answer: Answering,
    /// What all questions may be answered with, for answers by likelihood about datasets without options.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub options: Vec<String>,
    /// The same, but as many for each question, drawn by `seed`: its own answer and others of the task.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub choices: Option<usize>,
    /// Longest generated answer, in tokens.
    #[serde(default = "most_tokens")]
    pub max_new_tokens: usize,
    /// Questions about one picture of the project's own datasets, at most.
    #[serde(default = "four")]
    pub questions: usize,
    /// Questions that are asked, at most: chosen by `seed`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<usize>,
    /// Chooses the questions.
    #[serde(default)]
    pub seed: u64,
    /// Makes it a control: with this seed, pictures are compressed for questions about other pictures. See [`CONTROL`].
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub shuffle_questions: Option<u64>,
}

fn most_tokens() -> usize {
    32
}

fn four() -> usize {
    4
}

/// Where a benchmark lies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchmarkFiles {
    /// Which.
    pub name: Benchmark,
    /// A file, or a folder of files.
    pub path: PathBuf,
    /// The folder of the pictures, where they lie apart; `path` itself or its folder where it is not given.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub images: Option<PathBuf>,
    /// The files of a folder that are read: those whose names begin so.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub split: Option<String>,
}

/// A task whose questions are known.
#[derive(Clone, Debug)]
pub struct Task {
    /// Names it in results.
    pub name: String,
    /// The questions, in order.
    pub items: Vec<Item>,
    /// How answers are scored.
    pub metric: Metric,
    /// Under which its score counts.
    pub family: Family,
    /// What is said around a question.
    pub prompt: PromptTemplate,
    /// How answers are got.
    pub answering: Answering,
    /// Longest generated answer, in tokens.
    pub max_new_tokens: usize,
    /// The part of the dataset that is asked: `train`, `validation` or `test`, of a benchmark how its files begin.
    pub split: String,
    /// Records of a benchmark that had no reference answer.
    pub without_reference: usize,
    options: Vec<String>,
    /// Names everything that answers depend on.
    pub digest: String,
    /// Of a control: the item whose question the compressor reads, for each item.
    looked_for: Option<Vec<usize>>,
}

impl TaskSpec {
    /// A task on a dataset with everything else as it is by default.
    pub fn of(data: DataSource) -> TaskSpec {
        TaskSpec { data: Some(data), ..TaskSpec::empty() }
    }

    /// A task on a benchmark with everything else as it is by default.
    pub fn benchmark(files: BenchmarkFiles) -> TaskSpec {
        TaskSpec { benchmark: Some(files), ..TaskSpec::empty() }
    }

    fn empty() -> TaskSpec {
        TaskSpec {
            data: None,
            benchmark: None,
            metric: None,
            family: None,
            prompt: None,
            answer: Answering::Generate,
            options: Vec::new(),
            choices: None,
            max_new_tokens: most_tokens(),
            questions: four(),
            limit: None,
            seed: 0,
            shuffle_questions: None,
        }
    }

    /// Reads the text of one task; `place` is what errors call it.
    ///
    /// # Errors
    /// What is no TOML, and fields that are unknown, missing or of another kind.
    pub fn parse(place: &str, text: &str) -> Result<TaskSpec> {
        toml::from_str(text).map_err(|error| EvalError::format(place, error.to_string().trim_end()))
    }

    /// Reads a file with a table for each task.
    ///
    /// # Errors
    /// As [`TaskSpec::parse`].
    pub fn parse_all(place: &str, text: &str) -> Result<BTreeMap<String, TaskSpec>> {
        toml::from_str(text).map_err(|error| EvalError::format(place, error.to_string().trim_end()))
    }

    /// Reads its questions; `name` is what results call it.
    ///
    /// # Errors
    /// A dataset that cannot be opened or is too broken; fields that do not go together.
    pub fn open(&self, name: &str) -> Result<Task> {
        let place = format!("task {name}");
        let refuse = |field: &str, found: &dyn std::fmt::Display, allowed: &str| {
            Err(EvalError::field(&place, field, found, allowed))
        };
        for (field, value) in [
            ("max_new_tokens", self.max_new_tokens),
            ("questions", self.questions),
            ("limit", self.limit.unwrap_or(1)),
        ] {
            if value == 0 {
                return refuse(field, &0, "a whole number of at least 1");
            }
        }
        let family = match self.family.as_deref().map(str::parse::<Family>).transpose() {
            Ok(family) => family,
            Err(_) => return refuse("family", &self.family.as_deref().unwrap_or(""), "reasoning or text"),
        };
        let (items, without_reference, metric, natural, prompt, split) = match (&self.data, &self.benchmark) {
            (Some(data), None) => {
                let (items, metric) = own::read(self, data)?;
                let natural = items.first().map_or(Family::Reasoning, |item| item.family);
                (items, 0, metric, natural, "{question}", split_of(data).to_owned())
            }
            (None, Some(files)) => {
                let images = files.images.clone().unwrap_or_else(|| beside(&files.path));
                let split = files.split.as_deref().unwrap_or(files.name.split());
                let found = files.name.read(&files.path, &images, split)?;
                let items = select(found.items, self.limit, self.seed);
                (
                    items,
                    found.without_reference,
                    files.name.metric(),
                    files.name.family(),
                    files.name.prompt(),
                    split.to_owned(),
                )
            }
            (None, None) => {
                return refuse("data", &"missing", "a dataset under `data` or a benchmark under `benchmark`");
            }
            (Some(_), Some(_)) => return refuse("benchmark", &"there beside `data`", "one of the two"),
        };
        let metric = self.metric.unwrap_or(metric);
        let mut items = items;
        if let Some(count) = self.choices {
            if !self.options.is_empty() || self.benchmark.is_some() {
                return refuse("options", &"given beside `choices`", "one of the two, and no benchmark");
            }
            if let Err(most) = choices::choose(&mut items, count, self.seed) {
                return refuse("choices", &count, &format!("2 to {most}, the different answers"));
            }
        }
        let looked_for = match self.shuffle_questions.map(|seed| control::shuffled(&items, seed)) {
            Some(None) => {
                let allowed = "absent: no order gives each picture another question about another picture";
                return refuse("shuffle_questions", &"given", allowed);
            }
            order => order.flatten(),
        };
        let task = Task {
            name: name.to_owned(),
            metric,
            family: family.unwrap_or(natural),
            prompt: PromptTemplate::new(self.prompt.as_deref().unwrap_or(prompt), &place, "prompt")?,
            answering: self.answer,
            max_new_tokens: self.max_new_tokens,
            split,
            without_reference,
            options: self.options.clone(),
            digest: self.digest(),
            looked_for,
            items,
        };
        task.check()?;
        Ok(task)
    }

    fn digest(&self) -> String {
        // A struct of texts and numbers always has a form in JSON.
        let text = serde_json::to_string(self).unwrap_or_default();
        digest(&text)
    }
}

/// The part of the project's own datasets that is asked. Where a dataset has no parts, what is held out is there to decide by.
fn split_of(data: &DataSource) -> &'static str {
    match &data.kind {
        Kind::Scenes { split, .. }
        | Kind::Texts { split, .. }
        | Kind::EasyVqa { split, .. }
        | Kind::Nlvr { split, .. }
        | Kind::TextLines { split, .. } => match split {
            SplitName::Train => "train",
            SplitName::Validation => "validation",
            SplitName::Test => "test",
        },
        Kind::Llava { .. } | Kind::Emoji { .. } | Kind::Folder { .. } => {
            if data.held_out() {
                "validation"
            } else {
                "train"
            }
        }
    }
}

/// Twelve digits that name a text.
pub(crate) fn digest(text: &str) -> String {
    Sha256::digest(text.as_bytes())[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A folder itself, or the folder of a file.
fn beside(path: &Path) -> PathBuf {
    if path.is_dir() { path.to_owned() } else { path.parent().unwrap_or(Path::new("")).to_owned() }
}

impl Task {
    /// The family that results count under: [`CONTROL`] for a control.
    pub fn family_name(&self) -> &'static str {
        if self.looked_for.is_some() { CONTROL } else { self.family.name() }
    }

    /// Whether compressors read questions about other pictures.
    pub fn is_control(&self) -> bool {
        self.looked_for.is_some()
    }

    /// What a compressor reads at item number `nth`, where it is not what the language model reads.
    pub fn looked_for(&self, nth: usize) -> Option<String> {
        let other = *self.looked_for.as_ref()?.get(nth)?;
        self.items.get(other).map(|item| self.prompt.ask(item))
    }

    /// What an item may be answered with, where answers are got by likelihood: what is said, and what it stands for.
    pub fn candidates(&self, item: &Item) -> Option<Vec<String>> {
        let letters = |count: usize| (0..count).map(|at| letter(at).to_string()).collect();
        match (self.answering, &item.expected) {
            (Answering::Generate, _) => None,
            (_, Expected::YesNo(_)) => Some(vec!["Yes".to_owned(), "No".to_owned()]),
            (Answering::Letters, _) => Some(letters(item.options.len())),
            (Answering::Options, _) if item.options.is_empty() => Some(self.options.clone()),
            (Answering::Options, _) => Some(item.options.clone()),
        }
        .filter(|candidates: &Vec<String>| !candidates.is_empty())
    }

    /// Refuses a metric that cannot judge the items, and likelihoods of nothing.
    fn check(&self) -> Result<()> {
        for item in &self.items {
            if !self.metric.fits(&item.expected) {
                return Err(EvalError::Metric {
                    task: self.name.clone(),
                    metric: self.metric.name(),
                    item: item.id.clone(),
                    expected: match &item.expected {
                        Expected::Texts(_) => "a text",
                        Expected::Option(_) => "an option",
                        Expected::YesNo(_) => "yes or no",
                        Expected::Number { .. } => "a number",
                    }
                    .to_owned(),
                });
            }
            if self.answering != Answering::Generate && self.candidates(item).is_none() {
                return Err(EvalError::field(
                    format!("task {}", self.name),
                    "answer",
                    if self.answering == Answering::Letters { "letters" } else { "options" },
                    format!(
                        "generate: question {} has no options to choose from; `options` may list them",
                        item.id
                    ),
                ));
            }
        }
        if self.items.is_empty() {
            return Err(EvalError::format(format!("task {}", self.name), "has no questions about a picture"));
        }
        Ok(())
    }
}
