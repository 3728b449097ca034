//! A plan: which models, numbers of visual tokens, compressors, tasks and seeds make the grid.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::cell::{Cell, RunSpec};
use crate::task::{TaskSpec, digest};
use crate::{EvalError, Result};

/// A sweep as it is written. Paths are seen from where the program runs, as those of recipes are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Names it in reports.
    pub name: String,
    /// Seeds of training, for models that do not say otherwise.
    #[serde(default = "one_seed")]
    pub seeds: Vec<u64>,
    /// Numbers of visual tokens, for models that do not say otherwise.
    pub visual_tokens: Vec<usize>,
    /// Compressors, for models that do not say otherwise: `own` for the model's, `down-scaling` for smaller pictures.
    #[serde(default = "own_compressor")]
    pub compressors: Vec<String>,
    /// Questions of each task, for tasks that do not say otherwise.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub limit: Option<usize>,
    /// What comes first.
    #[serde(default)]
    pub order: Order,
    /// The models.
    pub models: Vec<ModelSpec>,
    /// The tasks by name.
    pub tasks: BTreeMap<String, TaskSpec>,
    /// Digests of the recipes' texts, of a plan that was opened.
    #[serde(skip)]
    recipes: BTreeMap<PathBuf, String>,
}

/// A model of a plan: one that there is, or one that is trained where it is missing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Names it in results.
    pub name: String,
    /// Anything that MODEL is on a command line; `{seed}` stands for the seed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub model: Option<String>,
    /// The recipe that it is trained by, with `seed` set.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub recipe: Option<PathBuf>,
    /// `KEY=VALUE` for the recipe, as `foveate train --set` takes them; `{seed}` stands for the seed.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub set: Vec<String>,
    /// Models of one series make one law.
    #[serde(default = "grid")]
    pub series: String,
    /// The plan's unless given.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seeds: Option<Vec<u64>>,
    /// The plan's unless given.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub visual_tokens: Option<Vec<usize>>,
    /// The plan's unless given.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub compressors: Option<Vec<String>>,
    /// All of the plan's unless given.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub tasks: Option<Vec<String>>,
}

/// The order in which a sweep works through its models: what is done first is there if time runs short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Every seed of a model before the next model.
    #[default]
    Models,
    /// Of models of one series that stand together every one's first seed, then every one's second: the grid is whole before it
    /// is repeated.
    Seeds,
}

fn one_seed() -> Vec<u64> {
    vec![0]
}

/// The model's own compressor.
pub const OWN: &str = "own";
/// The baseline that makes pictures smaller.
pub const DOWN_SCALING: &str = "down-scaling";

fn own_compressor() -> Vec<String> {
    vec![OWN.to_owned()]
}

fn grid() -> String {
    "grid".to_owned()
}

impl Plan {
    /// Reads a file, and the recipes that it names: cells depend on their texts.
    ///
    /// # Errors
    /// As [`Plan::parse`], and a file that cannot be read.
    pub fn open(path: &Path) -> Result<Plan> {
        let read = |path: &Path| std::fs::read_to_string(path).map_err(EvalError::io(path));
        let mut plan = Plan::parse(&path.display().to_string(), &read(path)?)?;
        let recipes = plan.models.iter().filter_map(|model| model.recipe.clone());
        let named = recipes.map(|recipe| Ok((recipe.clone(), digest(&read(&recipe)?))));
        plan.recipes = named.collect::<Result<_>>()?;
        Ok(plan)
    }

    /// Reads the text of a plan; `place` is what errors call it.
    ///
    /// # Errors
    /// What is no TOML, with the line; fields that are unknown or missing; names that no file can have; values that make no
    /// grid.
    pub fn parse(place: &str, text: &str) -> Result<Plan> {
        let plan: Plan =
            toml::from_str(text).map_err(|error| EvalError::format(place, error.to_string().trim_end()))?;
        plan.check(place)?;
        Ok(plan)
    }

    fn check(&self, place: &str) -> Result<()> {
        let refuse =
            |field: String, found: String, allowed: &str| Err(EvalError::field(place, field, found, allowed));
        let lists = |field: &str, seeds: usize, tokens: &[usize], compressors: &[String]| {
            for (list, empty) in [
                ("seeds", seeds == 0),
                ("visual_tokens", tokens.is_empty()),
                ("compressors", compressors.is_empty()),
            ] {
                if empty {
                    return refuse(
                        format!("{field}{list}"),
                        "an empty list".into(),
                        "a list of at least one",
                    );
                }
            }
            match tokens.iter().find(|tokens| **tokens == 0) {
                Some(_) => refuse(format!("{field}visual_tokens"), "0".into(), "whole numbers of at least 1"),
                None => Ok(()),
            }
        };
        lists("", self.seeds.len(), &self.visual_tokens, &self.compressors)?;
        if self.models.is_empty() || self.tasks.is_empty() {
            let field = if self.models.is_empty() { "models" } else { "tasks" };
            return refuse(field.into(), "empty".into(), "at least one");
        }
        for (at, model) in self.models.iter().enumerate() {
            let field = format!("models.{at}.");
            lists(&field, self.seeds(model).len(), self.tokens(model), self.compressors(model))?;
            named(place, &format!("{field}name"), &model.name)?;
            named(place, &format!("{field}series"), &model.series)?;
            if self.models[..at].iter().any(|other| other.name == model.name) {
                return refuse(
                    format!("{field}name"),
                    format!("{:?} again", model.name),
                    "a name of its own",
                );
            }
            match (&model.model, &model.recipe) {
                (Some(_), None) if !model.set.is_empty() => {
                    return refuse(
                        format!("{field}set"),
                        "there".into(),
                        "nothing beside `model`: it is for a `recipe`",
                    );
                }
                (Some(_), None) | (None, Some(_)) => {}
                (None, None) => {
                    return refuse(format!("{field}model"), "missing".into(), "`model` or `recipe`");
                }
                (Some(_), Some(_)) => {
                    return refuse(format!("{field}recipe"), "there beside `model`".into(), "one of the two");
                }
            }
            let unknown = model.tasks.iter().flatten().find(|task| !self.tasks.contains_key(*task));
            if let Some(task) = unknown {
                let known = self.tasks.keys().cloned().collect::<Vec<_>>().join(", ");
                return refuse(format!("{field}tasks"), format!("{task:?}"), &known);
            }
        }
        self.tasks.keys().try_for_each(|task| named(place, "tasks", task))
    }

    /// The task of this name with the plan's limit.
    pub fn task(&self, name: &str) -> Option<TaskSpec> {
        let spec = self.tasks.get(name)?;
        Some(TaskSpec { limit: spec.limit.or(self.limit), ..spec.clone() })
    }

    fn seeds<'a>(&'a self, model: &'a ModelSpec) -> &'a [u64] {
        model.seeds.as_deref().unwrap_or(&self.seeds)
    }

    fn tokens<'a>(&'a self, model: &'a ModelSpec) -> &'a [usize] {
        model.visual_tokens.as_deref().unwrap_or(&self.visual_tokens)
    }

    fn compressors<'a>(&'a self, model: &'a ModelSpec) -> &'a [String] {
        model.compressors.as_deref().unwrap_or(&self.compressors)
    }

    /// The training runs, or models that there are, in the order of the plan.
    pub fn runs(&self) -> Vec<RunSpec> {
        self.in_order().into_iter().map(|(model, seed)| self.run(model, seed)).collect()
    }

    /// Every model with each of its seeds.
    fn in_order(&self) -> Vec<(&ModelSpec, u64)> {
        // Models among which seeds go round.
        let rounds: Vec<&[ModelSpec]> = match self.order {
            Order::Models => self.models.chunks(1).collect(),
            Order::Seeds => self.models.chunk_by(|one, next| one.series == next.series).collect(),
        };
        let mut runs = Vec::new();
        for models in rounds {
            let most = models.iter().map(|model| self.seeds(model).len()).max().unwrap_or(0);
            for nth in 0..most {
                runs.extend(models.iter().filter_map(|model| Some((model, *self.seeds(model).get(nth)?))));
            }
        }
        runs
    }

    fn run(&self, model: &ModelSpec, seed: u64) -> RunSpec {
        let digest = model.recipe.as_ref().and_then(|recipe| self.recipes.get(recipe));
        RunSpec::new(model, digest.map(String::as_str), seed)
    }

    /// Every cell, in the order in which one process works through them: model by model, so that each is opened once.
    pub fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for (model, seed) in self.in_order() {
            for task in self.tasks.keys() {
                if model.tasks.as_ref().is_some_and(|tasks| !tasks.contains(task)) {
                    continue;
                }
                let spec = self.task(task).map(|spec| (task.clone(), spec));
                for compressor in self.compressors(model) {
                    for tokens in self.tokens(model) {
                        let run = self.run(model, seed);
                        cells.extend(spec.clone().map(|(name, spec)| {
                            Cell::new(run, &model.series, *tokens, compressor, name, &spec)
                        }));
                    }
                }
            }
        }
        cells
    }
}

/// Names become parts of file names.
fn named(place: &str, field: &str, name: &str) -> Result<()> {
    let usable = |character: char| character.is_ascii_alphanumeric() || "._".contains(character);
    if !name.is_empty() && !name.starts_with('.') && name.chars().all(usable) {
        return Ok(());
    }
    Err(EvalError::field(place, field, format!("{name:?}"), "letters, digits, points and underscores"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const PLAN: &str = r#"
        name = "small"
        seeds = [1, 2]
        visual_tokens = [1, 4, 16]
        limit = 50

        [[models]]
        name = "a"
        recipe = "smoke.toml"
        set = ["stages.0.steps=3"]

        [[models]]
        name = "b"
        model = "foveate-nano"
        seeds = [0]
        visual_tokens = [4]
        compressors = ["own", "down-scaling"]
        tasks = ["texts"]
        series = "peers"

        [tasks.scenes]
        data = { kind = "scenes", split = "validation", seed = 1, length = 100, side = 32 }

        [tasks.texts]
        data = { kind = "texts", split = "validation", seed = 1, length = 100, side = 32 }
        limit = 7
    "#;

    #[test]
    fn the_grid_is_the_product_of_its_axes() {
        let plan = Plan::parse("plan.toml", PLAN).unwrap();
        let cells = plan.cells();
        assert_eq!(cells.len(), 2 * 2 * 3 + 2);
        let keys: Vec<String> = cells.iter().map(Cell::key).collect();
        assert_eq!(keys[0], "a-s1-v1-own-scenes");
        assert_eq!(keys[13], "b-s0-v4-down-scaling-texts");
        let distinct: std::collections::BTreeSet<&String> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
        assert_eq!(plan.runs().len(), 3);
        assert_eq!(plan.runs()[1].overrides(), ["stages.0.steps=3", "seed=2"]);
        assert_eq!(
            (plan.task("scenes").unwrap().limit, plan.task("texts").unwrap().limit),
            (Some(50), Some(7))
        );
    }

    #[test]
    fn seeds_go_round_among_models_of_one_series() {
        let more = "[[models]]\nname = \"c\"\nmodel = \"x\"\nseeds = [5, 6, 7]\n\n[tasks.scenes]";
        let text = PLAN.replace("series = \"peers\"", "").replacen("[tasks.scenes]", more, 1);
        let names = |text: &str| {
            let plan = Plan::parse("plan.toml", text).unwrap();
            let cells: Vec<String> = plan.cells().iter().map(|cell| cell.run.name()).collect();
            let runs: Vec<String> = plan.runs().iter().map(RunSpec::name).collect();
            let mut of_cells = cells.clone();
            of_cells.dedup();
            assert_eq!(of_cells, runs, "cells of a run stand together");
            runs.join(" ")
        };
        assert_eq!(names(&text), "a-s1 a-s2 b-s0 c-s5 c-s6 c-s7");
        let round = text.replace("seeds = [1, 2]", "order = \"seeds\"\nseeds = [1, 2]");
        assert_eq!(names(&round), "a-s1 b-s0 c-s5 a-s2 c-s6 c-s7");
        // Another series waits until the one before it is done.
        assert_eq!(
            names(&round.replace("name = \"c\"", "name = \"c\"\nseries = \"late\"")),
            "a-s1 b-s0 a-s2 c-s5 c-s6 c-s7"
        );
    }

    /// What answers depend on names a cell; what does not, does not.
    #[test]
    fn a_cell_changes_its_name_with_what_it_depends_on() {
        let digest = |text: &str| Plan::parse("plan.toml", text).unwrap().cells()[0].digest.clone();
        let first = digest(PLAN);
        assert_eq!(first, digest(&PLAN.replace("\"small\"", "\"large\"").replace("limit = 7", "limit = 8")));
        for (old, new) in
            [("limit = 50", "limit = 51"), ("steps=3", "steps=4"), ("side = 32 }\n\n", "side = 16 }\n\n")]
        {
            assert_ne!(first, digest(&PLAN.replacen(old, new, 1)), "{new}");
        }
    }

    #[test]
    fn a_cell_depends_on_the_text_of_its_recipe() {
        let folder = tempfile::tempdir().unwrap();
        let (path, recipe) = (folder.path().join("plan.toml"), folder.path().join("smoke.toml"));
        std::fs::write(&path, PLAN.replace("\"smoke.toml\"", &format!("'{}'", recipe.display()))).unwrap();
        let missing = Plan::open(&path).unwrap_err().to_string();
        assert!(missing.contains("smoke.toml"), "{missing}");
        let digests = |text: &str| {
            std::fs::write(&recipe, text).unwrap();
            let plan = Plan::open(&path).unwrap();
            let (cells, runs) = (plan.cells(), plan.runs());
            [cells[0].digest.clone(), runs[0].digest(), cells[13].digest.clone(), runs[2].digest()]
        };
        let (one, other) = (digests("seed = 1"), digests("seed = 2"));
        assert!(one[0] != other[0] && one[1] != other[1]);
        // The model that is there depends on no recipe.
        assert_eq!(one[2..], other[2..]);
        assert_eq!(digests("seed = 1"), one);
    }

    #[test]
    fn what_makes_no_grid_is_named() {
        for (old, new, part) in [
            ("[1, 4, 16]", "[1, 0]", "`visual_tokens` is 0"),
            ("[1, 4, 16]", "[]", "`visual_tokens` is an empty list"),
            ("\"b\"", "\"a\"", "`models.1.name` is \"a\" again"),
            ("\"b\"", "\"b/c\"", "`models.1.name` is \"b/c\""),
            ("[\"texts\"]", "[\"speech\"]", "`models.1.tasks` is \"speech\", allowed is scenes, texts"),
            ("model = \"foveate-nano\"", "", "`models.1.model` is missing"),
            ("recipe = \"smoke.toml\"", "model = \"x\"", "`models.0.set` is there"),
            ("limit = 50", "limits = 50", "unknown field `limits`"),
        ] {
            let error = Plan::parse("plan.toml", &PLAN.replacen(old, new, 1)).unwrap_err().to_string();
            assert!(error.starts_with("plan.toml") && error.contains(part), "{error}");
        }
    }
}
