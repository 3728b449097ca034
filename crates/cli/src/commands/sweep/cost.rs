//! What a sweep will cost: a few steps and a few questions tried, and multiplied.

use std::collections::BTreeMap;

use foveate_data::Picture;
use foveate_eval::run::Trouble;
use foveate_eval::sweep::{Folder, ModelSource, Plan, RunSpec, cells, finished};
use foveate_eval::task::Task;
use foveate_eval::{Question, System};
use foveate_law::plot::Unit;
use foveate_train::estimate::estimate;
use serde::Serialize;

use super::models::Models;
use crate::evaluated::Evaluated;
use crate::failure::Failure;
use crate::text::table;

/// Questions of each cell that are tried; the first warms up and is not counted.
const TRIED: usize = 3;

/// The cost of what is left of a sweep.
#[derive(Serialize)]
pub(super) struct Cost {
    cells: usize,
    finished: usize,
    training: Vec<Training>,
    answering: Vec<Answering>,
    /// Of all that is left.
    flops: f64,
    hours: f64,
    /// Cells of models that are to be trained first: what their answers take is known when the models are there.
    untrained_cells: usize,
}

#[derive(Serialize)]
struct Training {
    run: String,
    flops: f64,
    hours: f64,
}

/// The cells of one model that are left.
#[derive(Serialize)]
struct Answering {
    run: String,
    cells: usize,
    questions: usize,
    flops: f64,
    hours: f64,
}

/// Tries a few steps of every missing model and a few questions of every cell that is left.
pub(super) fn of(plan: &Plan, folder: &Folder, models: &mut Models<'_>) -> Result<Cost, Failure> {
    let cells = cells(plan, models)?;
    let done = finished(folder, &cells)?;
    let mut tasks: BTreeMap<String, Task> = BTreeMap::new();
    let mut training: Vec<Training> = Vec::new();
    let mut answering: Vec<Answering> = Vec::new();
    let mut untrained_cells = 0;
    for cell in cells.iter().filter(|cell| !done.contains(&cell.key())) {
        if let (false, Some(spec)) = (tasks.contains_key(&cell.task), plan.task(&cell.task)) {
            tasks.insert(cell.task.clone(), spec.open(&cell.task)?);
        }
        let Some(task) = tasks.get(&cell.task) else { continue };
        let run = cell.run.name();
        if !models.is_ready(&cell.run) {
            untrained_cells += 1;
            if training.iter().all(|known| known.run != run) {
                training.push(trained(models, &cell.run)?);
            }
            continue;
        }
        let (flops, seconds) = tried(task, &mut models.system(cell)?)?;
        let count = task.items.len();
        let (flops, hours) = (flops * count as f64, seconds * count as f64 / 3600.0);
        match answering.last_mut().filter(|last| last.run == run) {
            Some(last) => {
                last.cells += 1;
                last.questions += count;
                last.flops += flops;
                last.hours += hours;
            }
            None => answering.push(Answering { run, cells: 1, questions: count, flops, hours }),
        }
    }
    let flops = training.iter().map(|one| one.flops).chain(answering.iter().map(|one| one.flops)).sum();
    let hours = training.iter().map(|one| one.hours).chain(answering.iter().map(|one| one.hours)).sum();
    Ok(Cost { cells: cells.len(), finished: done.len(), training, answering, flops, hours, untrained_cells })
}

fn trained(models: &Models<'_>, run: &RunSpec) -> Result<Training, Failure> {
    let recipe = Models::recipe(run)?;
    let cost = estimate(&recipe, &models.student(&recipe)?, rayon::current_num_threads())?;
    Ok(Training { run: run.name(), flops: cost.flops, hours: cost.hours })
}

/// FLOPs and seconds of a question, from the first few of the task.
fn tried(task: &Task, system: &mut Evaluated) -> Result<(f64, f64), Failure> {
    let (mut flops, mut seconds, mut asked) = (0.0, 0.0, 0);
    for (nth, item) in task.items.iter().take(TRIED).enumerate() {
        let pictures = item.pictures.iter().map(Picture::image).collect::<Result<Vec<_>, _>>()?;
        let (text, candidates) = (task.prompt.ask(item), task.candidates(item));
        let looked_for = task.looked_for(nth);
        let question = Question {
            pictures: &pictures,
            text: &text,
            looked_for: looked_for.as_deref(),
            candidates: candidates.as_deref(),
            max_new_tokens: task.max_new_tokens,
        };
        let reply = match system.ask(&question) {
            Ok(reply) => reply,
            Err(Trouble::Question(reason)) => {
                return Err(Failure::user(format!("task {}: {}: {reason}", task.name, item.id)));
            }
            Err(Trouble::System(failure)) => return Err(failure),
        };
        if nth > 0 || task.items.len() == 1 {
            flops += reply.flops;
            seconds += reply.ms / 1e3;
            asked += 1;
        }
    }
    let asked = f64::from(asked.max(1));
    Ok((flops / asked, seconds / asked))
}

impl Cost {
    pub(super) fn told(&self) -> String {
        let mut rows: Vec<Vec<String>> = Vec::new();
        let row = |run: &str, what: String, flops: f64, hours: f64| {
            vec![run.to_owned(), what, Unit::Flops.format(flops), format!("{hours:.3}")]
        };
        for one in &self.training {
            rows.push(row(&one.run, "training".to_owned(), one.flops, one.hours));
        }
        for one in &self.answering {
            rows.push(row(
                &one.run,
                format!("{} questions, {} cells", one.questions, one.cells),
                one.flops,
                one.hours,
            ));
        }
        let mut text = format!("{} of {} cells are finished\n", self.finished, self.cells);
        if !rows.is_empty() {
            text += &format!("{}\n", table(&["model", "what", "FLOPs", "hours"], &rows, 2));
        }
        text += &format!("{}, {:.2} hours are left", Unit::Flops.format(self.flops), self.hours);
        if self.untrained_cells > 0 {
            text += &format!(
                "; the answers of {} cells come on top, whose models are to be trained first",
                self.untrained_cells
            );
        }
        text
    }
}
