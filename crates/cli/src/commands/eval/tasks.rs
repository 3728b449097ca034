//! TASK on the command line.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use foveate_data::dataset::{DataSource, EmojiName, Kind, SplitName};
use foveate_eval::EvalError;
use foveate_eval::benchmark::Benchmark;
use foveate_eval::metric::Metric;
use foveate_eval::task::{Answering, BenchmarkFiles, Task, TaskSpec};

use crate::failure::Failure;

/// Seed and number of generated pictures, and their side in pixels.
const GENERATED: (u64, usize, u32) = (1, 20_000, 168);

/// Settings that all tasks of a command share.
#[derive(Args)]
pub(super) struct TaskFlags {
    /// Ask at most so many questions of each task.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Chooses which.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The split of a dataset: train, validation or test; of a benchmark's folder, the files that begin so [default:
    /// validation, or the benchmark's split with public answers].
    #[arg(long, value_name = "NAME")]
    split: Option<String>,
    /// The folder of a benchmark's pictures, where they lie apart from its file.
    #[arg(long, value_name = "FOLDER")]
    images: Option<PathBuf>,
    /// How answers are got: generated, or the likeliest of the options' letters or texts.
    #[arg(long, value_enum)]
    answer: Option<AnswerName>,
    /// What all questions may be answered with, such as yes,no, for --answer options.
    #[arg(long, value_name = "TEXT,…", value_delimiter = ',')]
    options: Vec<String>,
    /// Another measure than the task's own.
    #[arg(long, value_name = "NAME")]
    metric: Option<Metric>,
    /// At most this many tokens of a generated answer.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_new_tokens: Option<u64>,
    /// Ask each task once more as a control: the compressor reads questions about other pictures, shuffled by SEED, and the
    /// language model the right ones.
    #[arg(long, value_name = "SEED", num_args = 0..=1, require_equals = true, default_missing_value = "1")]
    shuffle_questions: Option<u64>,
}

#[derive(Clone, Copy, ValueEnum)]
enum AnswerName {
    Generate,
    Letters,
    Options,
}

impl TaskFlags {
    /// The tasks with their questions.
    pub(super) fn open(&self, words: &[String]) -> Result<Vec<Task>, Failure> {
        let mut tasks: Vec<Task> = Vec::new();
        for word in words {
            for (name, spec) in self.specs(word)? {
                if tasks.iter().any(|task| task.name == name) {
                    return Err(Failure::user(format!("{word}: task {name} is there already")));
                }
                let spec = self.changed(spec);
                tasks.push(spec.open(&name)?);
                if spec.shuffle_questions.is_none() && self.shuffle_questions.is_some() {
                    let control = TaskSpec { shuffle_questions: self.shuffle_questions, ..spec };
                    tasks.push(control.open(&control_of(&name))?);
                }
            }
        }
        Ok(tasks)
    }

    /// What a word stands for.
    fn specs(&self, word: &str) -> Result<BTreeMap<String, TaskSpec>, Failure> {
        if word.ends_with(".toml") {
            return from_file(Path::new(word));
        }
        let (name, path) =
            word.split_once('=').map_or((word, None), |(name, path)| (name, Some(PathBuf::from(path))));
        let spec = match (name, path) {
            ("scenes" | "texts", Some(_)) => {
                return Err(Failure::user(format!("{word}: {name} are generated; leave the path out")));
            }
            ("scenes" | "texts", None) => TaskSpec::of(self.source(self.generated(name)?)),
            (_, None) if NAMES.contains(&name) || name.parse::<Benchmark>().is_ok() => {
                return Err(Failure::user(format!("{word}: its files are needed, as {name}=PATH")));
            }
            ("easy-vqa" | "nlvr" | "text-lines" | "emoji" | "folder", Some(path)) => {
                TaskSpec::of(self.source(self.dataset(name, path)?))
            }
            (_, Some(path)) if name.parse::<Benchmark>().is_ok() => TaskSpec::benchmark(BenchmarkFiles {
                name: name.parse()?,
                path,
                images: self.images.clone(),
                split: self.split.clone(),
            }),
            _ => {
                let known = NAMES.into_iter().chain(Benchmark::ALL.map(Benchmark::name)).collect::<Vec<_>>();
                let known = known.join(", ");
                return Err(Failure::user(format!("{word}: no task; there are {known}, and FILE.toml")));
            }
        };
        Ok(BTreeMap::from([(name.to_owned(), spec)]))
    }

    fn source(&self, kind: Kind) -> DataSource {
        DataSource { kind, cut: None, held_out: true }
    }

    fn split(&self) -> Result<SplitName, Failure> {
        match self.split.as_deref() {
            None | Some("validation") => Ok(SplitName::Validation),
            Some("train") => Ok(SplitName::Train),
            Some("test") => Ok(SplitName::Test),
            Some(other) => Err(Failure::user(format!(
                "--split {other}: train, validation or test for the project's datasets"
            ))),
        }
    }

    fn generated(&self, name: &str) -> Result<Kind, Failure> {
        let (split, (seed, length, side)) = (self.split()?, GENERATED);
        Ok(match name {
            "scenes" => {
                Kind::Scenes { split, seed, length, side, most_objects: 8, captions: false, questions: None }
            }
            _ => Kind::Texts { split, seed, length, side, numbers: false },
        })
    }

    fn dataset(&self, name: &str, path: PathBuf) -> Result<Kind, Failure> {
        let split = self.split()?;
        Ok(match name {
            "easy-vqa" => Kind::EasyVqa { path, split },
            "nlvr" => Kind::Nlvr { path, split },
            "text-lines" => Kind::TextLines { path, split },
            "emoji" => Kind::Emoji { path, set: EmojiName::Twitter, without: vec!["Flags".to_owned()] },
            _ => Kind::Folder { path },
        })
    }

    /// The flags that were given win over what a task says.
    fn changed(&self, spec: TaskSpec) -> TaskSpec {
        let answer = self.answer.map(|name| match name {
            AnswerName::Generate => Answering::Generate,
            AnswerName::Letters => Answering::Letters,
            AnswerName::Options => Answering::Options,
        });
        TaskSpec {
            limit: self.limit.map(|limit| limit as usize).or(spec.limit),
            seed: self.seed.unwrap_or(spec.seed),
            answer: answer.unwrap_or(spec.answer),
            metric: self.metric.or(spec.metric),
            options: if self.options.is_empty() { spec.options } else { self.options.clone() },
            max_new_tokens: self.max_new_tokens.map_or(spec.max_new_tokens, |most| most as usize),
            ..spec
        }
    }
}

/// The name of a task's control.
pub(super) fn control_of(task: &str) -> String {
    format!("{task}-shuffled")
}

/// The project's own datasets.
const NAMES: [&str; 7] = ["scenes", "texts", "easy-vqa", "nlvr", "text-lines", "emoji", "folder"];

/// A file with a table for each task.
fn from_file(path: &Path) -> Result<BTreeMap<String, TaskSpec>, Failure> {
    let failed = |error| EvalError::Io { path: path.to_owned(), error };
    let text = std::fs::read_to_string(path).map_err(failed)?;
    Ok(TaskSpec::parse_all(&path.display().to_string(), &text)?)
}
