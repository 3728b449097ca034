//! A recipe: one TOML file that says what is trained, on what, and how.
//!
//! ```
//! use foveate_train::recipe::{Group, Recipe};
//! # let text = std::fs::read_to_string("../../recipes/smoke.toml").unwrap();
//! let recipe = Recipe::parse("smoke.toml", &text, &["stages.0.steps=7"])?;
//! assert_eq!(recipe.stages[0].steps, 7);
//! assert!(recipe.stages[0].rates.contains_key(&Group::Compressor));
//!
//! let error = Recipe::parse("smoke.toml", &text, &["stages.0.warm_up=2"]).unwrap_err().to_string();
//! assert_eq!(error, "recipe: `stages.0.warm_up` is 2, allowed is a fraction of the steps, from 0 to 1");
//! # Ok::<(), foveate_train::TrainError>(())
//! ```

mod overrides;
mod parts;
mod validate;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use foveate_data::dataset::{Cut, DataSource, EmojiName, Kind, ShownPart, SplitName};
pub use parts::{ImagePreset, ImageSteps, Lora, Parts, Projection, Source, TokenizerShape, Tokens};
use serde::{Deserialize, Serialize};

pub use crate::families::Families;
use crate::student::Scope;
use crate::{Result, TrainError};

/// Everything that decides what a training run does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Names the run and the model.
    pub name: String,
    /// Of every random choice; datasets may have seeds of their own besides.
    pub seed: u64,
    /// What the model is made of.
    pub parts: Parts,
    /// Low-rank adapters on the language model.
    pub lora: Option<Lora>,
    /// Datasets by name; stages and evaluation choose among them.
    pub data: BTreeMap<String, DataSource>,
    /// Questions that are asked about one picture, at most.
    #[serde(default = "four")]
    pub questions: usize,
    /// The part of a dataset that may be broken.
    #[serde(default = "one_in_a_hundred")]
    pub tolerance: f64,
    /// One after the other.
    pub stages: Vec<Stage>,
    /// Scores on data that is not trained on.
    #[serde(default)]
    pub evaluation: Evaluation,
    /// The guess of a question's family, fitted when training is over; none without this table.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub families: Option<Families>,
    /// When the run can be gone on with.
    #[serde(default)]
    pub checkpoints: Checkpoints,
    /// What counts as a step that must not be taken.
    #[serde(default)]
    pub spikes: Spikes,
    /// Bytes on the disk that features of a frozen tower may take; 0 to compute them each time.
    #[serde(default)]
    pub feature_cache_bytes: u64,
    /// Where they lie; absent for the run's own folder. Runs on one tower and the same pictures may share a folder, also at the
    /// same time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub feature_cache_folder: Option<PathBuf>,
    /// What the model holds in the end: `whole`, or `trained` for what the published files of frozen parts do not hold.
    #[serde(default)]
    pub export: Scope,
}

fn four() -> usize {
    4
}

fn one_in_a_hundred() -> f64 {
    0.01
}

/// Parameters that share a learning rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Group {
    /// The vision tower.
    Tower,
    /// The compressor.
    Compressor,
    /// The projector behind it.
    Projector,
    /// The language model's own weights.
    Language,
    /// Low-rank adapters on the language model.
    Adapters,
    /// The linear layer that names what a patch shows, which only [`Learns::Patches`] needs; no part of the model.
    Patches,
}

impl Group {
    /// All of them.
    pub const ALL: [Group; 6] =
        [Group::Tower, Group::Compressor, Group::Projector, Group::Language, Group::Adapters, Group::Patches];

    /// As written in recipes and logs.
    pub fn name(self) -> &'static str {
        match self {
            Group::Tower => "tower",
            Group::Compressor => "compressor",
            Group::Projector => "projector",
            Group::Language => "language",
            Group::Adapters => "adapters",
            Group::Patches => "patches",
        }
    }
}

/// What a stage learns from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Learns {
    /// Questions, through the whole model: the loss is on the answers' tokens.
    #[default]
    Answers,
    /// The words of the answers, without a pass of the language model: visual tokens learn to lie near the embeddings of what
    /// they show. For a connector from scratch beside a frozen language model, and answers that say what is there.
    Words,
    /// What each patch of a generated picture shows ([`PatchField`](foveate_data::PatchField)), through the tower alone and
    /// a linear layer on its last state: what a tower from scratch must see before a language model can ask for it.
    Patches,
}

/// A stretch of steps with settings of its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Names it in logs.
    pub name: String,
    /// What it learns from.
    #[serde(default)]
    pub learns: Learns,
    /// Optimiser steps.
    pub steps: u64,
    /// Pictures of one step.
    pub batch: usize,
    /// Equal parts that a step's pictures are cut into: they run one after the other, or on several processors, and
    /// their gradients are added. Each part has a number of visual tokens of its own.
    #[serde(default = "one")]
    pub accumulation: usize,
    /// The highest learning rate of each group; groups that are not named are frozen.
    pub rates: BTreeMap<Group, f64>,
    /// Datasets and their weights.
    pub mix: BTreeMap<String, f64>,
    /// Numbers of visual tokens and how often each is drawn; one entry for a fixed number. None where patches are learnt.
    #[serde(default)]
    pub ladder: Vec<(usize, f64)>,
    /// The part of the steps in which the rate rises from 0.
    #[serde(default)]
    pub warm_up: f64,
    /// Where the cosine ends, as a part of the highest rate.
    #[serde(default)]
    pub floor: f64,
    /// Longest gradient over all groups; longer ones are shortened to it.
    #[serde(default = "one_f64")]
    pub clip: f64,
    /// Decoupled weight decay of matrices; vectors (biases, norms) are never decayed.
    #[serde(default)]
    pub weight_decay: f64,
    /// AdamW's β₁ and β₂.
    #[serde(default = "betas")]
    pub betas: (f64, f64),
    /// AdamW's ε.
    #[serde(default = "epsilon")]
    pub epsilon: f64,
}

fn one() -> usize {
    1
}

fn one_f64() -> f64 {
    1.0
}

fn betas() -> (f64, f64) {
    (0.9, 0.999)
}

fn epsilon() -> f64 {
    1e-8
}

/// Scores while training goes on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evaluation {
    /// Steps from one to the next; 0 for none but the last.
    #[serde(default)]
    pub every: u64,
    /// Questions of each dataset, at most; 0 for no evaluation.
    #[serde(default)]
    pub questions: usize,
    /// The datasets.
    #[serde(default)]
    pub data: Vec<String>,
    /// Numbers of visual tokens.
    #[serde(default)]
    pub visual_tokens: Vec<usize>,
}

/// When the run is saved.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoints {
    /// Steps from one to the next.
    pub every: u64,
    /// How many are kept; older ones are removed.
    pub keep: usize,
}

impl Default for Checkpoints {
    /// Every 200 steps, the last two.
    fn default() -> Self {
        Self { every: 200, keep: 2 }
    }
}

/// The guard against steps that would ruin the model. A step is skipped if its loss or its gradient is not finite, or
/// above mean + `deviations` standard deviations of the last `window` steps and above `factor` times their mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spikes {
    /// Steps that the running distribution knows.
    pub window: usize,
    /// Standard deviations.
    pub deviations: f64,
    /// Multiple of the mean.
    pub factor: f64,
    /// Steps that may be skipped in a row.
    pub in_a_row: u64,
}

impl Default for Spikes {
    /// 64 steps; 6 deviations and twice the mean; 8 in a row.
    fn default() -> Self {
        Self { window: 64, deviations: 6.0, factor: 2.0, in_a_row: 8 }
    }
}

impl Recipe {
    /// Whether a stage learns from the dataset of this name.
    pub fn trains_on(&self, name: &str) -> bool {
        self.stages.iter().any(|stage| stage.mix.contains_key(name))
    }

    /// Reads a file; `overrides` are `key=value` with dotted keys, as `--set` takes them.
    ///
    /// # Errors
    /// As [`Recipe::parse`], and [`TrainError::Io`].
    pub fn open(path: &Path, overrides: &[impl AsRef<str>]) -> Result<Recipe> {
        let text = std::fs::read_to_string(path).map_err(TrainError::io(path))?;
        Recipe::parse(&path.display().to_string(), &text, overrides)
    }

    /// Reads the text of a recipe; `file` is what errors call it.
    ///
    /// # Errors
    /// [`TrainError::Syntax`] with the line, [`TrainError::Override`], [`TrainError::Field`] naming the field, its value
    /// and what is allowed.
    pub fn parse(file: &str, text: &str, overrides: &[impl AsRef<str>]) -> Result<Recipe> {
        let syntax = |error: &dyn std::fmt::Display| TrainError::Syntax {
            file: file.to_owned(),
            reason: error.to_string().trim_end().to_owned(),
        };
        let recipe: Recipe = if overrides.is_empty() {
            toml::from_str(text).map_err(|error| syntax(&error))?
        } else {
            let mut table: toml::Table = toml::from_str(text).map_err(|error| syntax(&error))?;
            for text in overrides {
                overrides::apply(&mut table, text.as_ref())?;
            }
            table.try_into().map_err(|error: toml::de::Error| syntax(&error))?
        };
        recipe.validate()?;
        Ok(recipe)
    }

    /// Optimiser steps of all stages.
    pub fn steps(&self) -> u64 {
        self.stages.iter().map(|stage| stage.steps).sum()
    }

    /// The stage of step `step`, counted from 0, and the step within it; `None` behind the last.
    pub fn stage_of(&self, step: u64) -> Option<(usize, u64)> {
        let mut left = step;
        for (index, stage) in self.stages.iter().enumerate() {
            if left < stage.steps {
                return Some((index, left));
            }
            left -= stage.steps;
        }
        None
    }

    /// Groups that any stage trains.
    pub fn trained_groups(&self) -> Vec<Group> {
        let trained = |group: &Group| self.stages.iter().any(|stage| stage.rates.contains_key(group));
        Group::ALL.into_iter().filter(trained).collect()
    }
}
