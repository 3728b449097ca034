//! A grid of models (N), visual tokens (V), compressors, tasks and seeds, cell by cell.
//!
//! Each finished cell is a row of one table; a cell that is there is not done again. Everything that takes time is kept as it
//! is done (checkpoints of training, answers of a cell), so that a sweep that is killed at any moment goes on and ends with
//! the rows of one that was not. Several processes may work on one folder: each takes cells that nobody holds.

mod cell;
mod folder;
mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

pub use cell::{Cell, RunSpec};
pub use folder::{Environment, Folder};
pub use plan::{DOWN_SCALING, ModelSpec, OWN, Order, Plan};

use crate::journal::Journal;
use crate::results::Row;
use crate::run::{Progress, System, figures, run};
use crate::task::{Task, digest};
use crate::{EvalError, Result};

/// Where models come from.
pub trait ModelSource {
    /// What ends a sweep.
    type Error: From<EvalError>;
    /// A model that answers.
    type System: System<Error = Self::Error>;

    /// Names the contents of a given model, whose name may come to mean another; `None` for one that is trained, which is named
    /// by its recipe.
    ///
    /// # Errors
    /// A model that is not there.
    fn fingerprint(&self, run: &RunSpec) -> std::result::Result<Option<String>, Self::Error>;

    /// Whether a model can be opened now, or has to be made first.
    fn is_ready(&self, run: &RunSpec) -> bool;

    /// Makes a model; nobody else makes it at the same time. What an earlier attempt left is gone on with.
    ///
    /// # Errors
    /// Whatever stops its training.
    fn make(&mut self, run: &RunSpec) -> std::result::Result<(), Self::Error>;

    /// Opens the system of a cell, whose model is ready.
    ///
    /// # Errors
    /// A model that cannot be opened; a compressor or a number of tokens that it does not offer.
    fn open(&mut self, cell: &Cell) -> std::result::Result<Opened<Self::System>, Self::Error>;
}

/// A system and what a row says of it.
#[derive(Clone, Debug)]
pub struct Opened<S> {
    /// What answers.
    pub system: S,
    /// Parameters of its language model, tied embeddings once.
    pub params: u64,
    /// The same without embedding and head.
    pub body_params: u64,
    /// What makes its visual tokens, by name.
    pub compressor: String,
}

/// What happens in a sweep.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A model is made.
    Making(&'a RunSpec),
    /// A question of a cell was answered.
    Asked {
        /// The cell.
        cell: &'a Cell,
        /// How far it is.
        progress: Progress,
        /// What all cells will take that are not finished, training apart; `None` before there is anything to judge it by.
        left: Option<Duration>,
    },
    /// A cell is finished.
    Finished {
        /// Its row.
        row: &'a Row,
        /// Cells finished, by whomever.
        done: usize,
        /// All of them.
        of: usize,
    },
    /// All that is left is being done by other processes.
    Waiting,
}

/// The cells of a plan; those of a given model depend on its contents as well.
///
/// # Errors
/// A given model that is not there.
pub fn cells<S: ModelSource>(plan: &Plan, source: &S) -> std::result::Result<Vec<Cell>, S::Error> {
    let mut prints: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut cells = plan.cells();
    for cell in &mut cells {
        let name = cell.run.name();
        if !prints.contains_key(&name) {
            prints.insert(name.clone(), source.fingerprint(&cell.run)?);
        }
        if let Some(Some(print)) = prints.get(&name) {
            cell.digest = digest(&format!("{} {print}", cell.digest));
        }
    }
    Ok(cells)
}

/// Works until every cell has its row.
///
/// # Errors
/// Those of the source and of the systems; tasks that cannot be opened; rows of other settings under a cell's name.
pub fn sweep<S: ModelSource>(
    plan: &Plan,
    folder: &Folder,
    source: &mut S,
    observe: &mut dyn FnMut(Event<'_>),
) -> std::result::Result<(), S::Error> {
    let cells = cells(plan, source)?;
    let mut tasks: BTreeMap<String, Task> = BTreeMap::new();
    for name in cells.iter().map(|cell| &cell.task) {
        if let (false, Some(spec)) = (tasks.contains_key(name), plan.task(name)) {
            tasks.insert(name.clone(), spec.open(name)?);
        }
    }
    let mut clock = Clock { started: Instant::now(), asked: 0, spent: Duration::ZERO };
    loop {
        let done = finished(folder, &cells)?;
        let pending: Vec<&Cell> = cells.iter().filter(|cell| !done.contains(&cell.key())).collect();
        if pending.is_empty() {
            folder.results().write_parquet()?;
            return Ok(());
        }
        let (mut worked, mut busy) = (false, None);
        for cell in &pending {
            let Some(task) = tasks.get(&cell.task) else { continue };
            let samples = folder.samples(&cell.key());
            let Some(mut journal) = folder.claim(cell, task)? else {
                busy.get_or_insert(samples);
                continue;
            };
            // Another process may have finished it since the list was made.
            if finished(folder, &cells)?.contains(&cell.key()) {
                if journal.samples().is_empty() {
                    // Its answers were packed meanwhile: what was opened here is a file without any.
                    std::fs::remove_file(&samples).map_err(EvalError::io(&samples))?;
                }
                worked = true;
                continue;
            }
            if !source.is_ready(&cell.run) {
                let training = folder.training(&cell.run);
                let Some(_lock) = folder::try_lock(&training)? else {
                    busy.get_or_insert(training);
                    continue;
                };
                if !source.is_ready(&cell.run) {
                    observe(Event::Making(&cell.run));
                    source.make(&cell.run)?;
                }
            }
            let open = &mut |progress: Progress, clock: &Clock| {
                let left = clock.left(&cells, &done, &tasks, cell, progress.asked);
                observe(Event::Asked { cell, progress, left });
            };
            let row = one_cell(cell, task, source, &mut journal, &mut clock, open)?;
            folder.results().append(&row)?;
            let done = finished(folder, &cells)?.len();
            observe(Event::Finished { row: &row, done, of: cells.len() });
            worked = true;
        }
        if let (false, Some(path)) = (worked, busy) {
            observe(Event::Waiting);
            folder::wait_for(&path)?;
        }
    }
}

fn one_cell<S: ModelSource>(
    cell: &Cell,
    task: &Task,
    source: &mut S,
    journal: &mut Journal,
    clock: &mut Clock,
    observe: &mut dyn FnMut(Progress, &Clock),
) -> std::result::Result<Row, S::Error> {
    let Opened { mut system, params, body_params, compressor } = source.open(cell)?;
    clock.started = Instant::now();
    run(task, &mut system, journal, &mut |progress| {
        clock.asked += 1;
        clock.spent += std::mem::replace(&mut clock.started, Instant::now()).elapsed();
        observe(progress, clock);
    })?;
    let figures = figures(task, journal.samples())?;
    Ok(Row {
        model: cell.run.model.clone(),
        params,
        visual_tokens: cell.visual_tokens as f64,
        compressor,
        task: cell.task.clone(),
        family: task.family_name().to_owned(),
        seed: cell.run.seed,
        n: figures.n,
        score: figures.score,
        error: figures.error,
        error_se: figures.error_se,
        flops: figures.flops,
        ms: figures.ms,
        score_low: figures.interval[0],
        score_high: figures.interval[1],
        body_params,
        series: cell.series.clone(),
        run: cell.run.name(),
        cell: cell.key(),
        settings: cell.digest.clone(),
    })
}

/// The keys of the cells that have a row.
///
/// # Errors
/// A row under a cell's name that was made with other settings.
pub fn finished(folder: &Folder, cells: &[Cell]) -> Result<BTreeSet<String>> {
    let rows = folder.results().rows()?;
    let rows: BTreeMap<String, &Row> = rows.iter().map(|row| (row.cell.clone(), row)).collect();
    let mut done = BTreeSet::new();
    for cell in cells {
        let Some(row) = rows.get(&cell.key()) else { continue };
        if row.settings != cell.digest {
            let reason = format!(
                "its row {} was made with other settings ({}, this plan has {}); choose another folder, or remove the row \
                 and its samples",
                cell.key(),
                row.settings,
                cell.digest
            );
            return Err(EvalError::format(folder.results().csv().display(), reason));
        }
        done.insert(cell.key());
    }
    Ok(done)
}

/// What answers have taken.
struct Clock {
    started: Instant,
    asked: usize,
    spent: Duration,
}

impl Clock {
    /// What is left at the pace so far. Cells of other models weigh alike: a pace of theirs is not known yet.
    fn left(
        &self,
        cells: &[Cell],
        done: &BTreeSet<String>,
        tasks: &BTreeMap<String, Task>,
        at: &Cell,
        asked: usize,
    ) -> Option<Duration> {
        let questions = |cell: &Cell| tasks.get(&cell.task).map_or(0, |task| task.items.len());
        let behind = cells.iter().skip_while(|cell| *cell != at).filter(|cell| !done.contains(&cell.key()));
        let left = behind.map(questions).sum::<usize>().saturating_sub(asked);
        (self.asked > 0).then(|| self.spent.mul_f64(left as f64 / self.asked as f64))
    }
}

#[cfg(test)]
mod tests;
