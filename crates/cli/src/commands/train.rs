//! `foveate train`: a recipe becomes a model.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use clap::Args;
use foveate_data::baseline::Report;
use foveate_law::plot::Unit;
use foveate_train::TrainError;
use foveate_train::card;
use foveate_train::estimate::{Estimate, StageEstimate, estimate};
use foveate_train::evaluate::Score;
use foveate_train::families;
use foveate_train::log::{Event, Observer};
use foveate_train::recipe::Recipe;
use foveate_train::student::{Storage, Student};
use foveate_train::trainer::{Outcome as Ended, Trainer};
use indicatif::{HumanDuration, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use signal_hook::{consts, flag};

use crate::Outcome;
use crate::failure::Failure;
use crate::fetch::Fetch;
use crate::generation::Threads;
use crate::model::Unpacked;
use crate::output::{print, print_json};
use crate::text::table;

/// Train a model by a recipe.
///
/// The run lives in a folder: `log.jsonl` and an event file for TensorBoard, `checkpoints`, and at the end `model`, which
/// every other command opens, with a model card in it. Ctrl-C, SIGTERM and a hang-up finish the step at hand, save the run and
/// end with exit code 128 and the signal's number (130, 143, 129), unless they are ignored, as nohup has it; whatever else stops
/// it, --resume goes on from its last checkpoint and ends with the same weights, bit for bit. --dry-run takes three steps of each
/// stage, throws them away and prints FLOPs, memory and hours.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The recipe, a TOML file; see recipes/.
    recipe: PathBuf,
    /// Change a field of the recipe: a dotted path and a TOML value, such as `stages.0.steps=100`; may be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// The folder of the run [default: runs/ and the recipe's name].
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Go on with the run in that folder; begin it if there is none.
    #[arg(long)]
    resume: bool,
    /// Say what it will cost and stop.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    fetch: Fetch,
    #[command(flatten)]
    threads: Threads,
    /// Print one JSON document.
    #[arg(long)]
    json: bool,
}

/// What `train --json` prints.
#[derive(Serialize)]
struct Document {
    name: String,
    run: String,
    /// Absent where the run was interrupted.
    model: Option<String>,
    step: u64,
    steps: u64,
    questions: u64,
    seconds: f64,
    trained_parameters: usize,
    parameters: usize,
    scores: Vec<ScoreRow>,
}

#[derive(Serialize)]
struct ScoreRow {
    data: String,
    visual_tokens: usize,
    accuracy: f64,
    questions: usize,
    loss: f64,
    skills: BTreeMap<String, f64>,
}

impl Arguments {
    pub(crate) fn run(self) -> Outcome {
        let file = self.recipe.display().to_string();
        let text = std::fs::read_to_string(&self.recipe)
            .map_err(|error| TrainError::Io { path: self.recipe.clone(), error })?;
        let recipe = Recipe::parse(&file, &text, &self.set)?;
        self.threads.apply()?;
        let threads = rayon::current_num_threads();
        let nano = Unpacked::default();
        let fetch = |word: &str| nano.part(word, &self.fetch).map_err(|failure| failure.message());
        let student = Student::new(&recipe, &fetch)?;
        if self.dry_run {
            let cost = estimate(&recipe, &student, threads)?;
            return if self.json { print_json(&cost) } else { print(&told_cost(&cost)) };
        }
        let folder = self.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(&recipe.name));
        let mut trainer = Trainer::new(recipe.clone(), student, &folder, self.resume, threads)?;
        let stop = Stop::listen();
        let mut progress = Progress::new(recipe.steps(), trainer.step());
        progress.scores = !self.json;
        let ended = trainer.run(&mut progress, &stop.asked);
        progress.bar.finish_and_clear();
        let ended = ended?;
        let (seconds, questions) = trainer.spent();
        let (trained_parameters, parameters) = trainer.student().sizes();
        let interrupted = matches!(ended, Ended::Interrupted { .. });
        let mut baselines = BTreeMap::new();
        let (model, scores) = match ended {
            Ended::Finished(scores) => {
                let model = folder.join("model");
                trainer.student().save(&model, Storage::F16, recipe.export)?;
                let families = families::export(&recipe, trainer.student(), &model, threads)?;
                // A run that was over already scores nothing; the card that it wrote then knows more.
                if !scores.is_empty() || !model.join("README.md").exists() {
                    baselines = card::baselines(&recipe)?;
                    let facts = card::Facts {
                        recipe: &recipe,
                        text: &text,
                        overrides: &self.set,
                        parameters: (trained_parameters, parameters),
                        seconds,
                        questions,
                        threads,
                        scores: &scores,
                        baselines: &baselines,
                        start: trainer.student().start(),
                        families: families.as_ref(),
                        program: concat!("foveate ", env!("CARGO_PKG_VERSION")),
                        commit: option_env!("FOVEATE_COMMIT"),
                    };
                    card::save(&model, &facts)?;
                } else if let Some(head) = &families {
                    card::tell_families(&model, head)?;
                }
                (Some(model), scores)
            }
            Ended::Interrupted { .. } => (None, Vec::new()),
        };
        let document = Document {
            name: recipe.name.clone(),
            run: folder.display().to_string(),
            model: model.map(|model| model.display().to_string()),
            step: trainer.step(),
            steps: recipe.steps(),
            questions,
            seconds,
            trained_parameters,
            parameters,
            scores: scores.iter().map(ScoreRow::of).collect(),
        };
        if self.json {
            print_json(&document)?
        } else {
            print(&told(&document, &baselines))?
        }
        if interrupted { Err(Failure::Stopped { signal: stop.signal() }) } else { Ok(()) }
    }
}

impl ScoreRow {
    fn of(score: &Score) -> ScoreRow {
        ScoreRow {
            data: score.data.clone(),
            visual_tokens: score.visual_tokens,
            accuracy: score.accuracy(),
            questions: score.total().asked,
            loss: score.loss,
            skills: score.skills.iter().map(|(skill, count)| (skill.clone(), count.accuracy())).collect(),
        }
    }
}

/// The signals that ask a run to save itself and end.
#[cfg(unix)]
const SIGNALS: [i32; 3] = [consts::SIGINT, consts::SIGTERM, consts::SIGHUP];
#[cfg(not(unix))]
const SIGNALS: [i32; 2] = [consts::SIGINT, consts::SIGTERM];

/// Whether one of [`SIGNALS`] came; a second one ends the program at once, as ever.
struct Stop {
    asked: Arc<AtomicBool>,
    number: Arc<AtomicUsize>,
}

impl Stop {
    fn listen() -> Stop {
        let stop = Stop { asked: Arc::default(), number: Arc::default() };
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        for signal in SIGNALS.into_iter().filter(|signal| !ignores(&status, *signal)) {
            // In this order when one comes. Without a handler it ends the program at once, and the last checkpoint is what
            // remains.
            _ = flag::register_conditional_default(signal, stop.asked.clone())
                .and_then(|_| {
                    flag::register_usize(signal, stop.number.clone(), signal.unsigned_abs() as usize)
                })
                .and_then(|_| flag::register(signal, stop.asked.clone()));
        }
        stop
    }

    /// The number of the signal that came, which is below 65 on every system.
    fn signal(&self) -> u8 {
        u8::try_from(self.number.load(Ordering::Relaxed)).unwrap_or(0)
    }
}

/// Whether the process with this `/proc/PID/status` ignores a signal: whoever started it wanted that, `nohup` for one.
fn ignores(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// A bar on a terminal's standard error, above it a line for each score; without a terminal the lines alone.
pub(super) struct Progress {
    pub(super) bar: ProgressBar,
    /// Whether scores are told.
    scores: bool,
}

impl Progress {
    pub(super) fn new(steps: u64, done: u64) -> Progress {
        let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
        bar.set_position(done);
        // The template is a constant; one that indicatif refused would leave its default.
        if let Ok(style) = ProgressStyle::with_template("{pos}/{len} {wide_bar} {msg}") {
            bar.set_style(style);
        }
        Progress { bar, scores: true }
    }
}

impl Progress {
    /// What must be known, above the bar, and on its own where there is no terminal for a bar.
    fn say(&self, line: String) {
        if self.bar.is_hidden() {
            // Nobody can be told that standard error is closed.
            _ = writeln!(anstream::stderr(), "{line}");
        } else {
            self.bar.println(line);
        }
    }
}

impl Observer for Progress {
    fn on(&mut self, event: Event<'_>) {
        match event {
            Event::Step(report) => {
                self.bar.set_position(report.step);
                let left = HumanDuration(std::time::Duration::from_secs_f64(report.eta.max(0.0)));
                self.bar.set_message(format!("{}: loss {:.3}, {left} left", report.stage, report.loss));
                for broken in &report.broken {
                    self.say(format!("left out: {broken}"));
                }
                if let Some(reason) = &report.skipped {
                    self.say(format!("step {} skipped: {reason}", report.step));
                }
            }
            Event::Evaluated { step, scores, broken } => {
                for broken in broken {
                    self.say(format!("left out: {broken}"));
                }
                for score in scores.iter().filter(|_| self.scores) {
                    let (data, tokens, part) = (&score.data, score.visual_tokens, 100.0 * score.accuracy());
                    self.say(format!("step {step}: {data} with {tokens} visual tokens {part:.1} %"));
                }
            }
            _ => {}
        }
    }
}

/// The end of a run in words; `baselines` is by dataset what can be answered without looking.
fn told(document: &Document, baselines: &BTreeMap<String, Report>) -> String {
    let Document { step, steps, questions, seconds, trained_parameters, parameters, .. } = document;
    let mut text = format!(
        "{}: {step} of {steps} steps, {questions} questions in {:.1} minutes; {trained_parameters} of {parameters} \
         parameters trained\n",
        document.name,
        seconds / 60.0
    );
    if !document.scores.is_empty() {
        let percent = |part: f64| format!("{:.1} %", 100.0 * part);
        let row = |row: &ScoreRow| {
            let blind = baselines.get(&row.data).map(|report| percent(report.overall.best()));
            let (right, questions) = (percent(row.accuracy), row.questions.to_string());
            let blind = blind.unwrap_or_else(|| "–".to_owned());
            vec![row.data.clone(), row.visual_tokens.to_string(), right, blind, questions]
        };
        let rows: Vec<Vec<String>> = document.scores.iter().map(row).collect();
        text += &table(&["data", "visual tokens", "right", "question only", "questions"], &rows, 1);
        text.push('\n');
    }
    text + &match &document.model {
        Some(model) => format!("model: {model}"),
        None => format!("interrupted; --resume goes on with {}", document.run),
    }
}

fn told_cost(cost: &Estimate) -> String {
    let row = |stage: &StageEstimate| {
        let hours = stage.seconds_per_step * stage.steps as f64 / 3600.0;
        vec![
            stage.name.clone(),
            stage.steps.to_string(),
            Unit::Flops.format(stage.flops_per_step),
            format!("{:.1}", stage.flops_per_second / 1e9),
            format!("{:.2}", stage.seconds_per_step),
            format!("{hours:.2}"),
        ]
    };
    let rows: Vec<Vec<String>> = cost.stages.iter().map(row).collect();
    let table = table(&["stage", "steps", "a step", "GFLOP/s", "s a step", "hours"], &rows, 1);
    let peak = cost
        .peak_bytes
        .map_or(String::new(), |bytes| format!(", {:.2} GB at most while trying", bytes as f64 / 1e9));
    format!(
        "{} of {} parameters are trained\n{table}\n{}, {:.2} hours at the rates of the steps that were tried just now, with \
         {} threads; weights, gradients and moments {:.2} GB{peak}",
        cost.trained_parameters,
        cost.parameters,
        Unit::Flops.format(cost.flops),
        cost.hours,
        cost.threads,
        cost.state_bytes as f64 / 1e9,
    )
}
