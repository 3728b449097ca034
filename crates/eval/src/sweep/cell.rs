//! One cell of the grid.

use std::path::PathBuf;

use super::plan::ModelSpec;
use crate::task::{TaskSpec, digest};

/// A training run of a plan, or a model that there is.
#[derive(Clone, Debug, PartialEq)]
pub struct RunSpec {
    /// The model's name.
    pub model: String,
    /// The seed.
    pub seed: u64,
    /// MODEL as on a command line; else it is trained.
    pub word: Option<String>,
    /// The recipe, for one that is trained.
    pub recipe: Option<PathBuf>,
    /// Names the recipe's text: what was trained by another text is another model.
    recipe_digest: Option<String>,
    set: Vec<String>,
}

impl RunSpec {
    pub(super) fn new(model: &ModelSpec, recipe_digest: Option<&str>, seed: u64) -> RunSpec {
        let filled = |text: &String| text.replace("{seed}", &seed.to_string());
        RunSpec {
            model: model.name.clone(),
            seed,
            word: model.model.as_ref().map(filled),
            recipe: model.recipe.clone(),
            recipe_digest: recipe_digest.map(str::to_owned),
            set: model.set.iter().map(filled).collect(),
        }
    }

    /// Names it in results and in folders.
    pub fn name(&self) -> String {
        format!("{}-s{}", self.model, self.seed)
    }

    /// Names what the run is trained by: the recipe's text and what is changed of it.
    pub fn digest(&self) -> String {
        digest(&format!("{:?} {:?} {:?}", self.recipe, self.recipe_digest, self.overrides()))
    }

    /// What is changed of the recipe: what the plan says, and the seed.
    pub fn overrides(&self) -> Vec<String> {
        self.set.iter().cloned().chain([format!("seed={}", self.seed)]).collect()
    }
}

/// A model at a number of visual tokens of a compressor on a task: one row.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// The model.
    pub run: RunSpec,
    /// Models of one series make one law.
    pub series: String,
    /// Visual tokens of a picture.
    pub visual_tokens: usize,
    /// What makes them, as the plan calls it.
    pub compressor: String,
    /// The task.
    pub task: String,
    /// Names all that the row depends on.
    pub digest: String,
}

impl Cell {
    pub(super) fn new(
        run: RunSpec,
        series: &str,
        visual_tokens: usize,
        compressor: &str,
        task: String,
        spec: &TaskSpec,
    ) -> Cell {
        // Structs of texts and numbers always have a form in JSON.
        let spec = serde_json::to_string(spec).unwrap_or_default();
        let digest = digest(&format!("{run:?} {visual_tokens} {compressor} {task} {spec}"));
        Cell {
            run,
            series: series.to_owned(),
            visual_tokens,
            compressor: compressor.to_owned(),
            task,
            digest,
        }
    }

    /// What tells it from the plan's other cells; the name of its file of samples.
    pub fn key(&self) -> String {
        let Cell { run, visual_tokens, compressor, task, .. } = self;
        format!("{}-v{visual_tokens}-{compressor}-{task}", run.name())
    }
}
