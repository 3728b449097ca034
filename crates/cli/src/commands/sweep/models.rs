//! The models of a sweep: opened, or trained by their recipe first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use foveate_compress::{Budget, Method};
use foveate_eval::EvalError;
use foveate_eval::sweep::{Cell, Folder, ModelSource, Opened, Plan, RunSpec};
use foveate_model::{Dtype, atomic};
use foveate_train::families;
use foveate_train::recipe::Recipe;
use foveate_train::student::{Storage, Student};
use foveate_train::trainer::Trainer;

use crate::commands::train;
use crate::evaluated::{Evaluated, Reducer, no_control};
use crate::failure::Failure;
use crate::fetch::Fetch;
use crate::model::{Model, Place, Unpacked};

/// Says that the model beside it is whole, and by what it was trained.
const FINISHED: &str = "finished";

/// What a sweep opens and trains; the model opened last stays open.
pub(super) struct Models<'a> {
    folder: Folder,
    fetch: &'a Fetch,
    nano: Unpacked,
    open: Option<(String, Model)>,
}

impl<'a> Models<'a> {
    pub(super) fn new(folder: Folder, fetch: &'a Fetch) -> Models<'a> {
        Models { folder, fetch, nano: Unpacked::default(), open: None }
    }

    /// Refuses recipes and compressors that there are not, and controls that change nothing, before anything is trained or
    /// asked.
    pub(super) fn check(plan: &Plan) -> Result<(), Failure> {
        let mut trained: BTreeMap<String, Method> = BTreeMap::new();
        for run in plan.runs().iter().filter(|run| run.recipe.is_some()) {
            trained.insert(run.name(), Self::recipe(run)?.parts.compressor.method());
        }
        for cell in plan.cells() {
            let method = match reducer(&cell)? {
                Reducer::Own => trained.get(&cell.run.name()).copied(),
                Reducer::DownScaling => Some(Method::Identity),
                Reducer::Method(method) => Some(method),
            };
            let control = plan.task(&cell.task).is_some_and(|task| task.shuffle_questions.is_some());
            // A given model is asked for its own compressor when it is open.
            if let Some(method) = method.filter(|method| control && !method.reads_question()) {
                let told = no_control(method);
                return Err(Failure::user(format!(
                    "cell {}: {told}; `tasks` of {} may leave it out",
                    cell.key(),
                    cell.run.model
                )));
            }
        }
        Ok(())
    }

    /// A run's recipe as it is trained.
    pub(super) fn recipe(run: &RunSpec) -> Result<Recipe, Failure> {
        let path = run.recipe.as_deref().unwrap_or(Path::new(""));
        Ok(Recipe::open(path, &run.overrides())?)
    }

    /// The model that a recipe starts from.
    pub(super) fn student(&self, recipe: &Recipe) -> Result<Student, Failure> {
        let part = |word: &str| self.nano.part(word, self.fetch).map_err(|failure| failure.message());
        Ok(Student::new(recipe, &part)?)
    }

    fn place(&self, model: String) -> Place {
        let fetch = self.fetch.clone();
        Place { model, mmproj: None, tower: None, language: None, dtype: Dtype::AsStored, fetch }
    }

    fn model(&mut self, run: &RunSpec) -> Result<&Model, Failure> {
        let name = run.name();
        if self.open.as_ref().is_none_or(|(open, _)| *open != name) {
            // Two large models need not be in memory at the same time.
            self.open = None;
            let trained = || self.folder.run(run).join("model").display().to_string();
            let place = self.place(run.word.clone().unwrap_or_else(trained));
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

    fn fingerprint(&self, run: &RunSpec) -> Result<Option<String>, Failure> {
        run.word.as_ref().map(|word| self.place(word.clone()).fingerprint()).transpose()
    }

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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

    /// A plan of the repository, whose paths are seen from its root.
    fn plan(name: &str, change: impl Fn(String) -> String) -> Plan {
        let text = std::fs::read_to_string(format!("{ROOT}/docs/results/{name}/plan.toml")).unwrap();
        Plan::parse(name, &change(text).replace("\"recipes/", &format!("\"{ROOT}/recipes/"))).unwrap()
    }

    #[test]
    fn the_plans_of_published_results_hold() {
        let compressors = plan("compressors", |text| text);
        Models::check(&compressors).unwrap();
        assert_eq!(
            compressors.runs().iter().filter(|run| !run.model.ends_with("words")).count(),
            4 * 5 + 3 * 5
        );
        let law = plan("law", |text| text);
        Models::check(&law).unwrap();
        assert_eq!(plan("foveate-135m", |text| text).cells().len(), 7 * 4);
        // The whole grid stands before everything else.
        let grid = law.cells().iter().take_while(|cell| cell.series == "grid").count();
        assert_eq!(grid, (3 * 3 + 1) * 5 * 2);
        assert!(law.cells()[grid..].iter().all(|cell| cell.series != "grid"));
    }

    #[test]
    fn a_control_for_a_compressor_without_ears_is_refused_before_anything_is_trained() {
        let deaf = plan("compressors", |text| text.replacen("tasks = [\"scenes\", \"texts\"]\n", "", 1));
        let error = Models::check(&deaf).unwrap_err().message();
        assert!(
            error.contains("token-packer reads no question") && error.contains("`tasks` of token_packer"),
            "{error}"
        );
    }
}
