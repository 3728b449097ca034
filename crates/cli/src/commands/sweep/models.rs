//! The models of a sweep: opened, or trained by their recipe first.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use foveate_compress::Budget;
use foveate_eval::EvalError;
use foveate_eval::sweep::{Cell, Folder, ModelSource, Opened, Plan, RunSpec};
use foveate_model::{Dtype, atomic};
use foveate_train::families;
use foveate_train::recipe::Recipe;
use foveate_train::student::{Storage, Student};
use foveate_train::trainer::Trainer;

use crate::commands::train;
use crate::evaluated::{Evaluated, Reducer};
use crate::failure::Failure;
use crate::fetch::Fetch;
use crate::model::{Model, Place};

/// Says that the model beside it is whole, and by what it was trained.
const FINISHED: &str = "finished";

/// What a sweep opens and trains; the model opened last stays open.
pub(super) struct Models<'a> {
    folder: Folder,
    fetch: &'a Fetch,
    open: Option<(String, Model)>,
}

impl<'a> Models<'a> {
    pub(super) fn new(folder: Folder, fetch: &'a Fetch) -> Models<'a> {
        Models { folder, fetch, open: None }
    }

    /// Refuses recipes and compressors that there are not, before anything is trained or asked.
    pub(super) fn check(plan: &Plan) -> Result<(), Failure> {
        for run in plan.runs().iter().filter(|run| run.recipe.is_some()) {
            Self::recipe(run)?;
        }
        plan.cells().iter().try_for_each(|cell| reducer(cell).map(|_| ()))
    }

    /// A run's recipe as it is trained.
    pub(super) fn recipe(run: &RunSpec) -> Result<Recipe, Failure> {
        let path = run.recipe.as_deref().unwrap_or(Path::new(""));
        Ok(Recipe::open(path, &run.overrides())?)
    }

    /// The model that a recipe starts from.
    pub(super) fn student(&self, recipe: &Recipe) -> Result<Student, Failure> {
        Ok(Student::new(recipe, &|word| self.fetch.path(word).map_err(|failure| failure.message()))?)
    }

    fn model(&mut self, run: &RunSpec) -> Result<&Model, Failure> {
        let name = run.name();
        if self.open.as_ref().is_none_or(|(open, _)| *open != name) {
            // Two large models need not be in memory at the same time.
            self.open = None;
            let trained = || self.folder.run(run).join("model").display().to_string();
            let place = Place {
                model: run.word.clone().unwrap_or_else(trained),
                mmproj: None,
                tower: None,
                language: None,
                dtype: Dtype::AsStored,
                fetch: self.fetch.clone(),
            };
            self.open = Some((name, place.open()?));
        }
        match &self.open {
            Some((_, model)) => Ok(model),
            None => Err(Failure::Other(anyhow::anyhow!("no model is open"))),
        }
    }

    /// The system of a cell whose model is ready.
    pub(super) fn system(&mut self, cell: &Cell) -> Result<Evaluated, Failure> {
        let reducer = reducer(cell)?;
        let model = self.model(&cell.run)?;
        let system = Evaluated::new(model, reducer, Some(Budget::Tokens(cell.visual_tokens)));
        system.map_err(|failure| failure.reworded(|told| format!("cell {}: {told}", cell.key())))
    }

    fn finished(&self, run: &RunSpec) -> PathBuf {
        self.folder.run(run).join(FINISHED)
    }
}

fn reducer(cell: &Cell) -> Result<Reducer, Failure> {
    cell.compressor.parse().map_err(|told| Failure::user(format!("cell {}: {told}", cell.key())))
}

impl ModelSource for Models<'_> {
    type Error = Failure;
    type System = Evaluated;

    fn is_ready(&self, run: &RunSpec) -> bool {
        // A model of another recipe is not ready: to make it tells what is wrong, or scores it anew.
        let trained_by = || std::fs::read_to_string(self.finished(run)).ok();
        run.word.is_some() || trained_by().is_some_and(|digest| digest == run.digest())
    }

    fn make(&mut self, run: &RunSpec) -> Result<(), Failure> {
        let recipe = Self::recipe(run)?;
        let (folder, threads) = (self.folder.run(run), rayon::current_num_threads());
        let student = self.student(&recipe)?;
        let mut trainer = Trainer::new(recipe.clone(), student, &folder, true, threads)?;
        let mut progress = train::Progress::new(recipe.steps(), trainer.step());
        let ended = trainer.run(&mut progress, &AtomicBool::new(false));
        progress.bar.finish_and_clear();
        ended?;
        let model = folder.join("model");
        trainer.student().save(&model, Storage::F16, recipe.export)?;
        families::export(&recipe, trainer.student(), &model, threads)?;
        // Only now: a model that a killed process was writing is written again.
        let path = self.finished(run);
        atomic::replace(&path, |path| std::fs::write(path, run.digest()))
            .map_err(|error| EvalError::Io { path, error })?;
        Ok(())
    }

    fn open(&mut self, cell: &Cell) -> Result<Opened<Evaluated>, Failure> {
        let system = self.system(cell)?;
        let ((params, body_params), compressor) = (system.params(), system.compressor()?);
        Ok(Opened { system, params, body_params, compressor })
    }
}
