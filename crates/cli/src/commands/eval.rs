//! `foveate eval`: how well a model answers, at which number of visual tokens.

mod perplexity;
mod tasks;

use std::path::{Path, PathBuf};

use clap::Args;
use foveate_eval::frontier::{Answers, Cost, Frontier, Point};
use foveate_eval::journal::{self, Header, Journal};
use foveate_eval::metric::Metric;
use foveate_eval::run::{figures, run};
use foveate_eval::statistics::{Paired, paired};
use foveate_eval::task::Task;
use foveate_eval::{EvalError, Figures, Sample, units};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::Outcome;
use crate::auto::AutoFlags;
use crate::evaluated::{AUTO, Evaluated, Reducer};
use crate::failure::Failure;
use crate::generation::Threads;
use crate::looking::{VisualTokens, visual_tokens};
use crate::model::{Model, Place};
use crate::output::{print, print_json};
use crate::text::{interval, table};
use tasks::{TaskFlags, control_of};

/// Measure a model on tasks, at several numbers of visual tokens.
///
/// A TASK is `scenes` or `texts` (generated pictures); `NAME=PATH` for a dataset of the project (easy-vqa, nlvr, text-lines,
/// emoji, folder) or the files of a published benchmark (vqav2, gqa, textvqa, vizwiz, pope, mme, mmbench, scienceqa, ai2d, mmmu,
/// mathvista, chartqa, docvqa); or FILE.toml with tasks of your own. Every figure has a 95 % interval; docs/evaluate.md says
/// how each is made. Nothing is cached from one question to the next, so that FLOPs and times are those of a first question
/// about a new picture.
#[derive(Args)]
// The word in front is MODEL, never left out. Positions are named: `mut_arg` moves what it changes to the end.
#[command(mut_arg("model", |model| model.index(1).default_value(None::<&str>).required(true)))]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// What is asked.
    #[arg(index = 2, value_name = "TASK", required_unless_present = "perplexity")]
    tasks: Vec<String>,
    #[command(flatten)]
    flags: TaskFlags,
    /// Numbers of visual tokens, such as 1,4,16; `auto` for what each question calls for, which is held against the fixed
    /// numbers beside it [default: the compressor's own].
    #[arg(long, value_name = "N,…", value_parser = visual_tokens, value_delimiter = ',')]
    visual_tokens: Vec<VisualTokens>,
    #[command(flatten)]
    auto: AutoFlags,
    /// What makes them: a compressor's name, `own` for the model's, `down-scaling` for smaller pictures.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', default_value = "own")]
    compressor: Vec<Reducer>,
    /// Keep every answer in this folder, a file of JSON lines for each task and number of tokens; a run that was cut off goes
    /// on with what is there.
    #[arg(long, value_name = "FOLDER")]
    samples: Option<PathBuf>,
    /// A folder of samples of another system, to be compared question by question.
    #[arg(long, value_name = "FOLDER")]
    against: Option<PathBuf>,
    /// Instead of tasks: how well the language model foretells a text, each line of which is a document. With --samples it is kept,
    /// and --against compares with what was kept of another model.
    #[arg(long, value_name = "FILE", conflicts_with = "tasks")]
    perplexity: Option<PathBuf>,
    #[command(flatten)]
    threads: Threads,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// What `eval --json` prints.
#[derive(Serialize)]
struct Document {
    model: String,
    params: u64,
    results: Vec<Measured>,
    /// `auto` against the fixed numbers, by FLOPs and by time, where both were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    frontier: Vec<Frontier>,
}

/// A task at a number of visual tokens.
#[derive(Serialize)]
struct Measured {
    task: String,
    metric: &'static str,
    family: &'static str,
    compressor: String,
    /// The task whose questions it asks, with other ones for the compressor; `against` is then the difference to that task.
    #[serde(skip_serializing_if = "Option::is_none")]
    control_of: Option<String>,
    /// As asked for: a number, `adaptive` or `auto`.
    asked_visual_tokens: String,
    /// Records of the benchmark whose answers are kept back.
    without_reference: usize,
    #[serde(flatten)]
    figures: Figures,
    /// The file of its answers.
    samples: Option<String>,
    /// Score less that of the other system on the same questions.
    #[serde(skip_serializing_if = "Option::is_none")]
    against: Option<Paired>,
}

impl Arguments {
    pub(crate) fn run(self) -> Outcome {
        self.threads.apply()?;
        if let Some(file) = &self.perplexity {
            return perplexity::run(&self, file);
        }
        let tasks = self.flags.open(&self.tasks)?;
        let model = self.place.open()?;
        let mut systems = self.systems(&model)?;
        if tasks.iter().any(Task::is_control) {
            systems.iter().try_for_each(Evaluated::check_control)?;
        }
        let temporary;
        let folder = match &self.samples {
            Some(folder) => {
                std::fs::create_dir_all(folder)
                    .map_err(|error| EvalError::Io { path: folder.clone(), error })?;
                folder.as_path()
            }
            None => {
                temporary = tempfile::tempdir().map_err(|error| Failure::Other(error.into()))?;
                temporary.path()
            }
        };
        // Kept answers are gone on with if the model is the same.
        let contents =
            self.samples.as_ref().map(|_| self.place.fingerprint()).transpose()?.unwrap_or_default();
        let questions: usize = tasks.iter().map(|task| task.items.len()).sum();
        let bar = bar(questions * systems.len());
        let mut results = Vec::new();
        let mut answers: Vec<Vec<(&str, Vec<Sample>)>> = vec![Vec::new(); systems.len()];
        for (nth, task) in tasks.iter().enumerate() {
            let before = nth.checked_sub(1).and_then(|nth| tasks.get(nth));
            for (system, answers) in systems.iter_mut().zip(&mut answers) {
                let (measured, samples) = self.measure(&contents, task, before, system, folder, &bar)?;
                results.push(measured);
                // A control is no part of what is asked of the system.
                if !task.is_control() {
                    answers.push((task.name.as_str(), samples));
                }
            }
        }
        bar.finish_and_clear();
        let params = systems.first().map_or(0, |system| system.params().0);
        let frontier = frontier(&systems, &answers);
        let document = Document { model: model.name.clone(), params, results, frontier };
        if self.json { print_json(&document) } else { print(&document.told()) }
    }

    /// The model with every way to make tokens and every number of them.
    fn systems(&self, model: &Model) -> Result<Vec<Evaluated>, Failure> {
        let tokens: Vec<Option<VisualTokens>> = match self.visual_tokens.as_slice() {
            [] => vec![None],
            some => some.iter().copied().map(Some).collect(),
        };
        if !tokens.contains(&Some(VisualTokens::Auto)) {
            self.auto.refuse()?;
        }
        let mut systems = Vec::new();
        for reducer in &self.compressor {
            for tokens in &tokens {
                systems.push(match tokens {
                    Some(VisualTokens::Auto) if *reducer == Reducer::Own => {
                        Evaluated::by_question(model, self.auto.open(model)?)
                    }
                    Some(VisualTokens::Auto) => {
                        return Err(Failure::user("--visual-tokens auto goes with --compressor own alone"));
                    }
                    Some(VisualTokens::Fixed(budget)) => Evaluated::new(model, *reducer, Some(*budget))?,
                    None => Evaluated::new(model, *reducer, None)?,
                });
            }
        }
        Ok(systems)
    }

    fn measure(
        &self,
        contents: &str,
        task: &Task,
        plain: Option<&Task>,
        system: &mut Evaluated,
        folder: &Path,
        bar: &ProgressBar,
    ) -> Result<(Measured, Vec<Sample>), Failure> {
        let (compressor, tokens) = (system.compressor()?, system.tokens());
        let path_of = |task: &str| folder.join(format!("{task}-v{tokens}-{compressor}.jsonl"));
        let path = path_of(&task.name);
        let header = self.header(contents, task, &compressor, &tokens, &system.settings());
        let Some(mut journal) = Journal::open(&path, &header)? else {
            return Err(Failure::user(format!("{}: another run is writing it", path.display())));
        };
        let before = bar.position();
        bar.set_message(format!("{} V = {tokens} {compressor}", task.name));
        run(task, system, &mut journal, &mut |progress| bar.set_position(before + progress.asked as u64))?;
        bar.set_position(before + task.items.len() as u64);
        // A control is compared with what it is a control of, which was asked before it.
        let plain = plain.filter(|plain| control_of(&plain.name) == task.name);
        let against = match (plain, &self.against) {
            (Some(plain), _) => {
                side_by_side(task.metric, journal.samples(), &journal::read(&path_of(&plain.name))?.1)
            }
            (None, Some(other)) => Some(compare(journal.samples(), &header, other)?),
            (None, None) => None,
        };
        let measured = Measured {
            task: task.name.clone(),
            metric: task.metric.name(),
            family: task.family_name(),
            compressor,
            control_of: plain.map(|plain| plain.name.clone()),
            asked_visual_tokens: tokens,
            without_reference: task.without_reference,
            figures: figures(task, journal.samples())?,
            samples: self.samples.is_some().then(|| path.display().to_string()),
            against,
        };
        Ok((measured, journal.samples().to_vec()))
    }

    /// All that the answers depend on: a file of other answers must not be continued.
    fn header(&self, contents: &str, task: &Task, compressor: &str, tokens: &str, chosen_by: &str) -> Header {
        let Place { model, dtype, .. } = &self.place;
        let settings = format!("{contents} {dtype} {compressor} {tokens} {}{chosen_by}", task.digest);
        let digest = Sha256::digest(settings.as_bytes());
        Header {
            task: task.name.clone(),
            metric: task.metric,
            family: task.family_name().to_owned(),
            model: model.clone(),
            compressor: compressor.to_owned(),
            visual_tokens: tokens.to_owned(),
            split: Some(task.split.clone()),
            run: digest[..6].iter().map(|byte| format!("{byte:02x}")).collect(),
        }
    }
}

/// The number that each question calls for against the fixed ones of the model's own compressor, over all tasks.
fn frontier(systems: &[Evaluated], answers: &[Vec<(&str, Vec<Sample>)>]) -> Vec<Frontier> {
    let mut own = Vec::new();
    for (system, answers) in systems.iter().zip(answers).filter(|(system, _)| system.is_own()) {
        let tasks = answers.iter().map(|(task, samples)| (*task, samples.as_slice())).collect();
        own.push(Answers { visual_tokens: system.tokens(), tasks });
    }
    let (auto, fixed): (Vec<_>, Vec<_>) = own.into_iter().partition(|answers| answers.visual_tokens == AUTO);
    let Some(auto) = auto.first().filter(|_| !fixed.is_empty()) else { return Vec::new() };
    [Cost::Flops, Cost::Ms].into_iter().filter_map(|cost| Frontier::new(&fixed, auto, cost, 0)).collect()
}

fn bar(length: usize) -> ProgressBar {
    let bar = ProgressBar::new(length as u64);
    // The template is a constant; one that indicatif refused would leave its default.
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} questions, {eta} left") {
        bar.set_style(style);
    }
    bar
}

/// Compares with the samples of another system on the same task at the same number of tokens: those of the same compressor
/// where there are several.
fn compare(own: &[Sample], header: &Header, folder: &Path) -> Result<Paired, Failure> {
    let refuse = |reason: String| Failure::user(format!("{}: {reason}", folder.display()));
    let mut found = journal::read_folder(folder)?;
    let (task, tokens) = (&header.task, &header.visual_tokens);
    found.retain(|(_, other, _)| other.task == *task && other.visual_tokens == *tokens);
    if found.len() > 1 {
        found.retain(|(_, other, _)| other.compressor == header.compressor);
    }
    let [(_, _, others)] = found.as_slice() else {
        let wanted =
            format!("one file of samples of {task} with {tokens} visual tokens and {}", header.compressor);
        return Err(refuse(format!("holds {} to compare with; {wanted} is needed", found.len())));
    };
    side_by_side(header.metric, own, others).ok_or_else(|| {
        refuse(format!(
            "has none of these questions of {task}; the same TASK, --limit and --seed ask the same"
        ))
    })
}

/// The scores of the questions that both have; `None` where there are none.
fn side_by_side(metric: Metric, own: &[Sample], others: &[Sample]) -> Option<Paired> {
    let others = units(metric, others);
    let own = units(metric, own);
    paired(own.iter().filter_map(|(name, unit)| Some((unit.group, unit.score, others.get(name)?.score))), 0)
}

impl Document {
    fn told(&self) -> String {
        let compared = self.results.iter().any(|measured| measured.against.is_some());
        let mut header =
            vec!["task", "metric", "compressor", "V", "questions", "score %", "95 % interval", "MFLOP", "ms"];
        if compared {
            header.extend(["against %", "95 % interval"]);
        }
        let percent = |[low, high]: [f64; 2]| interval([100.0 * low, 100.0 * high], 1);
        let row = |measured: &Measured| {
            let of = &measured.figures;
            let mut cells = vec![
                measured.task.clone(),
                measured.metric.to_owned(),
                measured.compressor.clone(),
                measured.asked_visual_tokens.clone(),
                of.n.to_string(),
                format!("{:.1}", 100.0 * of.score),
                percent(of.interval),
                format!("{:.1}", of.flops / 1e6),
                format!("{:.1}", of.ms),
            ];
            if compared {
                let against = measured.against.as_ref();
                cells
                    .push(against.map_or(String::new(), |found| format!("{:+.1}", 100.0 * found.difference)));
                cells.push(against.map_or(String::new(), |found| percent(found.interval)));
            }
            cells
        };
        let rows: Vec<Vec<String>> = self.results.iter().map(row).collect();
        let mut text = format!("{}: {} parameters in its language model\n\n", self.model, self.params);
        text += &table(&header, &rows, 3);
        for found in &self.frontier {
            text += &format!("\n\n{}\n{}", points(found), found.says());
        }
        for measured in &self.results {
            let name = format!("{} V = {}", measured.task, measured.asked_visual_tokens);
            let also =
                measured.figures.also.iter().map(|(what, figure)| {
                    format!("{what} {:.3} {}", figure.value, interval(figure.interval, 3))
                });
            let also: Vec<String> = also.collect();
            if !also.is_empty() {
                text += &format!("\n{name}: {}", also.join(", "));
            }
            if let (Some(plain), Some(found)) = (&measured.control_of, &measured.against) {
                let difference = interval(found.interval.map(|end| 100.0 * end), 1);
                let says = match found.differs() {
                    true => "the question that the compressor reads matters",
                    false => "no difference is shown",
                };
                text += &format!(
                    "\n{name}: with questions of other pictures for the compressor {:+.1} % {difference} against {plain}: {says}",
                    100.0 * found.difference
                );
            }
            if measured.figures.failed > 0 {
                text += &format!("\n{name}: {} questions could not be asked", measured.figures.failed);
            }
            if measured.without_reference > 0 {
                let left_out = measured.without_reference;
                text += &format!("\n{name}: {left_out} records without a reference answer were left out");
            }
        }
        text
    }
}

/// Mean cost and error of each fixed number and of the choice, over all tasks.
fn points(of: &Frontier) -> String {
    let (unit, scale) = match of.cost {
        Cost::Flops => ("MFLOP", 1e6),
        Cost::Ms => ("ms", 1.0),
    };
    let row = |point: &Point| {
        vec![
            point.visual_tokens.clone(),
            format!("{:.2}", point.cost / scale),
            format!("{:.1}", 100.0 * point.error.value),
            interval(point.error.interval.map(|end| 100.0 * end), 1),
        ]
    };
    let rows: Vec<Vec<String>> = of.fixed.iter().chain([&of.auto]).map(row).collect();
    table(&["V", unit, "error %", "95 % interval"], &rows, 1)
}
