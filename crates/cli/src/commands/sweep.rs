//! `foveate sweep`: a grid of models, visual tokens, compressors, tasks and seeds.

mod cost;
mod models;

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use foveate_eval::sweep::{Environment, Event, Folder, Plan, sweep};
use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use serde::Serialize;

use super::bench;
use crate::Outcome;
use crate::failure::Failure;
use crate::fetch::Fetch;
use crate::generation::Threads;
use crate::output::{print, print_json};
use crate::text::table;
use models::Models;

/// Measure a grid of models and numbers of visual tokens, as a plan says.
///
/// PLAN is a TOML file with models (given, or trained by a recipe where they are missing), numbers of visual tokens,
/// compressors, tasks and seeds; docs/evaluate.md describes it. RESULTS gets `results.csv` and `results.parquet`, which `foveate
/// fit` reads, with a row for each finished cell, and every answer. A sweep that is stopped or killed at any moment goes on
/// when it is started again and ends with the same rows; several may work on one folder at the same time.
#[derive(Args)]
pub(crate) struct Arguments {
    /// The plan.
    plan: PathBuf,
    /// The folder of the results [default: results/ and the plan's name].
    #[arg(long, value_name = "RESULTS")]
    out: Option<PathBuf>,
    /// Only the cells of this model of the plan; may be repeated.
    #[arg(long, value_name = "NAME")]
    model: Vec<String>,
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

/// What `sweep --json` prints.
#[derive(Serialize)]
struct Document {
    name: String,
    results: String,
    parquet: String,
    cells: usize,
    /// Cells that this command finished.
    finished: usize,
}

impl Arguments {
    pub(crate) fn run(self) -> Outcome {
        let mut plan = Plan::open(&self.plan)?;
        only(&mut plan, &self.model)?;
        Models::check(&plan)?;
        self.threads.apply()?;
        let path = self.out.clone().unwrap_or_else(|| PathBuf::from("results").join(&plan.name));
        let folder = if self.dry_run { Folder::at(&path) } else { Folder::open(&path)? };
        let mut models = Models::new(folder.clone(), &self.fetch);
        if self.dry_run {
            let cost = cost::of(&plan, &folder, &mut models)?;
            return if self.json { print_json(&cost) } else { print(&cost.told()) };
        }
        folder.note(&environment())?;
        let cells = plan.cells().len();
        let mut progress = Progress::new(cells);
        sweep(&plan, &folder, &mut models, &mut |event| progress.on(&event))?;
        progress.bar.finish_and_clear();
        let document = Document {
            name: plan.name.clone(),
            results: folder.results().csv().display().to_string(),
            parquet: folder.results().parquet().display().to_string(),
            cells,
            finished: progress.finished,
        };
        if self.json { print_json(&document) } else { print(&told(&document, &folder)?) }
    }
}

/// Leaves the models of these names in a plan, or all where there are none.
fn only(plan: &mut Plan, names: &[String]) -> Result<(), Failure> {
    if let Some(unknown) = names.iter().find(|name| plan.models.iter().all(|model| model.name != **name)) {
        let known: Vec<&str> = plan.models.iter().map(|model| model.name.as_str()).collect();
        return Err(Failure::user(format!("--model {unknown}: the plan has {}", known.join(", "))));
    }
    plan.models.retain(|model| names.is_empty() || names.contains(&model.name));
    Ok(())
}

/// This command and machine.
fn environment() -> Environment {
    let commit = option_env!("FOVEATE_COMMIT").map_or(String::new(), |commit| format!(", commit {commit}"));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Environment {
        command: format!("foveate {}", arguments.join(" ")),
        program: format!("foveate {}{commit}", env!("CARGO_PKG_VERSION")),
        machine: format!("{}, {cores} cores, {}", bench::processor(), std::env::consts::ARCH),
        threads: rayon::current_num_threads(),
    }
}

/// A bar of questions on a terminal, above it a line for each finished cell.
struct Progress {
    bar: ProgressBar,
    finished: usize,
    cells: usize,
}

impl Progress {
    fn new(cells: usize) -> Progress {
        let bar = ProgressBar::new(0);
        // The template is a constant; one that indicatif refused would leave its default.
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}") {
            bar.set_style(style);
        }
        Progress { bar, finished: 0, cells }
    }

    fn on(&mut self, event: &Event<'_>) {
        match event {
            Event::Making(run) => {
                self.say(&format!("{} is trained first", run.name()));
            }
            Event::Asked { cell, progress, left } => {
                let of_all = left.map_or(String::new(), |left| format!(", {} for all", told_time(left)));
                self.bar.set_length(progress.of as u64);
                self.bar.set_position(progress.asked as u64);
                self.bar.set_message(format!("{}{of_all}", cell.key()));
            }
            Event::Finished { row, done, of } => {
                self.finished += 1;
                let score = 100.0 * row.score;
                self.say(&format!("{done}/{of} {}: {score:.1} %", row.cell));
            }
            Event::Waiting => self.say(&format!("the rest of {} cells is with other processes", self.cells)),
            _ => {}
        }
    }

    /// What should be seen, above the bar, or on its own where there is no terminal for one.
    fn say(&self, line: &str) {
        if self.bar.is_hidden() {
            // Nobody can be told that standard error is closed.
            _ = writeln!(anstream::stderr(), "{line}");
        } else {
            self.bar.println(line);
        }
    }
}

fn told_time(left: Duration) -> String {
    format!("{} left", HumanDuration(left))
}

fn told(document: &Document, folder: &Folder) -> Result<String, Failure> {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for row in folder.results().rows()? {
        rows.push(vec![
            row.run.clone(),
            row.compressor.clone(),
            row.task.clone(),
            row.visual_tokens.to_string(),
            row.n.to_string(),
            format!("{:.1}", 100.0 * row.score),
            format!("{:.1}", row.ms),
        ]);
    }
    let header = ["model", "compressor", "task", "V", "questions", "score %", "ms"];
    Ok(format!(
        "{}\n\n{} of {} cells were finished now: {}\nfoveate fit {} --task family; foveate report {}",
        table(&header, &rows, 3),
        document.finished,
        document.cells,
        document.results,
        document.results,
        folder.path().display()
    ))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use super::*;

    #[test]
    fn a_model_of_a_plan_can_be_swept_alone() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/results/law/plan.toml");
        let text = std::fs::read_to_string(path).unwrap();
        let cells = |names: &[&str]| {
            let mut plan = Plan::parse("law", &text).unwrap();
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            only(&mut plan, &names).map(|()| plan.cells())
        };
        let (all, alone) = (cells(&[]).unwrap(), cells(&["n8", "pooling"]).unwrap());
        assert!(alone.len() < all.len() && !alone.is_empty());
        let expected = all.into_iter().filter(|cell| ["n8", "pooling"].contains(&&*cell.run.model));
        assert!(alone.iter().map(|cell| cell.key()).eq(expected.map(|cell| cell.key())));
        let told = cells(&["n9"]).unwrap_err().message();
        assert!(told.contains("--model n9: the plan has n0.15, n0.55, n2.65, n8"), "{told}");
    }
}
