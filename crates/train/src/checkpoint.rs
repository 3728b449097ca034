//! What a run needs to go on as if it had never stopped.
//!
//! A checkpoint is a folder `step-00000123` with `state.safetensors` (trainable weights in f32, both moments of AdamW) and
//! `state.json` (everything else). It is written under another name, brought to the disk and then renamed: a reader finds
//! it whole or not at all, and until the rename the one before it is the last. Random numbers need no state: each is a
//! function of the seed and the step.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::feed::FeedState;
use crate::optimiser::{AdamW, Moments};
use crate::recipe::{DataSource, Recipe};
use crate::spike::SpikeGuard;
use crate::student::Student;
use crate::{Result, TrainError, atomic};

const TENSORS: &str = "state.safetensors";
const STATE: &str = "state.json";
const PREFIX: &str = "step-";
const UNFINISHED: &str = ".unfinished-";

/// Everything but tensors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Steps done.
    pub step: u64,
    /// How far the datasets were read.
    pub feed: FeedState,
    /// What the spike guard has seen.
    pub spikes: SpikeGuard,
    /// Updates of each tensor.
    pub updates: BTreeMap<String, u64>,
    /// Seconds of training so far, for reports.
    pub seconds: f64,
    /// Questions that were trained on so far.
    pub questions: u64,
    /// The recipe, overrides applied.
    pub recipe: Recipe,
    /// What the run learns from; not known of runs of older programs.
    #[serde(default)]
    pub material: Option<Material>,
}

/// What a run learns from besides its recipe: files that may change while the recipe stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Material {
    /// SHA-256 of the tokenizer's JSON, in hexadecimal digits.
    pub tokenizer: String,
    /// Samples of each dataset that a stage learns from.
    pub samples: BTreeMap<String, usize>,
    /// SHA-256 of the weights that it started from, where it did not start fresh: what of them is not trained is in no
    /// checkpoint.
    #[serde(default)]
    pub start: Option<String>,
}

impl Material {
    /// That of a recipe and its student.
    ///
    /// # Errors
    /// A dataset that cannot be opened.
    pub fn of(recipe: &Recipe, student: &Student) -> Result<Material> {
        let json = student.tokenizer.to_string(false);
        let json = json.map_err(|error| TrainError::Tokenizer(error.to_string()))?;
        let digest = Sha256::digest(json.as_bytes());
        let mut samples = BTreeMap::new();
        for (name, data) in &recipe.data {
            if recipe.trains_on(name) {
                samples.insert(name.clone(), data.open(recipe.questions)?.len());
            }
        }
        let tokenizer = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Material { tokenizer, samples, start: student.start().map(|start| start.sha256.clone()) })
    }

    /// What is not as it was when a run began.
    fn changed(&self, began: &Material) -> Option<String> {
        let other = self.samples.iter().find_map(|(name, now)| {
            let then = began.samples.get(name).filter(|then| *then != now)?;
            Some(format!("data.{name} has {now} samples, the run began with {then}"))
        });
        let tokenizer = || {
            (self.tokenizer != began.tokenizer).then(|| {
                format!(
                    "the tokenizer has the SHA-256 {}, the run began with one of {}: its file is another one, or the texts \
                     that it was learnt from are",
                    self.tokenizer, began.tokenizer
                )
            })
        };
        let start = || {
            let digest = |of: &Option<String>| of.clone().unwrap_or_else(|| "none".to_owned());
            (self.start != began.start).then(|| {
                let (now, then) = (digest(&self.start), digest(&began.start));
                format!("parts.start has weights of the SHA-256 {now}, the run began with {then}")
            })
        };
        other.or_else(tokenizer).or_else(start)
    }
}

/// The checkpoints of a run.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
}

impl Checkpoints {
    /// Those in `folder`, which is made if it is not there. Remains of a run that was killed while it wrote are removed.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn open(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(TrainError::io(folder))?;
        for entry in fs::read_dir(folder).map_err(TrainError::io(folder))? {
            let entry = entry.map_err(TrainError::io(folder))?;
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                fs::remove_dir_all(entry.path()).map_err(TrainError::io(&entry.path()))?;
            }
        }
        Ok(Self { folder: folder.to_owned() })
    }

    /// The steps of the checkpoints, ascending.
    ///
    /// # Errors
    /// [`TrainError::Io`].
    pub fn steps(&self) -> Result<Vec<u64>> {
        let mut steps = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(TrainError::io(&self.folder))? {
            let name = entry.map_err(TrainError::io(&self.folder))?.file_name();
            steps.extend(
                name.to_string_lossy().strip_prefix(PREFIX).and_then(|step| step.parse::<u64>().ok()),
            );
        }
        steps.sort_unstable();
        Ok(steps)
    }

    fn path(&self, step: u64) -> PathBuf {
        self.folder.join(format!("{PREFIX}{step:08}"))
    }

    /// Saves a run and removes all but the last `keep` checkpoints.
    ///
    /// # Errors
    /// [`TrainError::Io`], for example for a full disk: older checkpoints are then as they were.
    pub fn save(&self, student: &Student, optimiser: &AdamW, state: &State, keep: usize) -> Result<()> {
        let path = self.path(state.step);
        let unfinished = self.folder.join(format!("{UNFINISHED}{:08}", state.step));
        let written = write(&unfinished, student, optimiser, state).and_then(|()| {
            // The same step may have been saved by a run that was stopped right behind it.
            if path.exists() {
                fs::remove_dir_all(&path).map_err(TrainError::io(&path))?;
            }
            fs::rename(&unfinished, &path).map_err(TrainError::io(&path))
        });
        if written.is_err() {
            // Best effort: the error that counts is the first.
            _ = fs::remove_dir_all(&unfinished);
        }
        written?;
        atomic::sync_folder(&self.folder);
        let steps = self.steps()?;
        for step in &steps[..steps.len().saturating_sub(keep)] {
            let old = self.path(*step);
            fs::remove_dir_all(&old).map_err(TrainError::io(&old))?;
        }
        Ok(())
    }

    /// The last checkpoint: its state, after its weights were put into `student`. `None` where there is none.
    ///
    /// # Errors
    /// [`TrainError::Checkpoint`] for one that cannot be read, is of another recipe or began with other `material`.
    pub fn resume(
        &self,
        student: &Student,
        recipe: &Recipe,
        material: &Material,
    ) -> Result<Option<(State, AdamW)>> {
        let Some(step) = self.steps()?.last().copied() else { return Ok(None) };
        let path = self.path(step);
        let refuse = |reason: String| TrainError::checkpoint(&path, reason);
        let text = fs::read_to_string(path.join(STATE)).map_err(TrainError::io(&path.join(STATE)))?;
        let state: State =
            serde_json::from_str(&text).map_err(|error| refuse(format!("{STATE}: {error}")))?;
        if !same_run(&state.recipe, recipe) {
            let reason = "it was made by another recipe (or other overrides); only `evaluation`, data that no stage \
                          learns from, `tolerance`, `families`, `checkpoints`, `spikes`, `feature_cache_folder` and the \
                          size of `feature_cache_bytes` may differ when a run goes on";
            return Err(refuse(reason.to_owned()));
        }
        if let Some(reason) = state.material.as_ref().and_then(|began| material.changed(began)) {
            return Err(refuse(reason));
        }
        let tensors = candle_core::safetensors::load(path.join(TENSORS), &Device::Cpu);
        let tensors = tensors.map_err(|error| refuse(format!("{TENSORS}: {error}")))?;
        student.network().restore(&below(&tensors, "weights")).map_err(|error| refuse(error.to_string()))?;
        let (mut first, mut second) = (below(&tensors, "first"), below(&tensors, "second"));
        let mut moments = BTreeMap::new();
        for (name, steps) in &state.updates {
            let values = |of: &mut HashMap<String, Tensor>| -> Result<Vec<f32>> {
                let tensor =
                    of.remove(name).ok_or_else(|| refuse(format!("{TENSORS}: no moments of {name}")))?;
                Ok(tensor.flatten_all()?.to_vec1()?)
            };
            let (first, second) = (values(&mut first)?, values(&mut second)?);
            moments.insert(name.clone(), Moments { first, second, steps: *steps });
        }
        Ok(Some((state, AdamW::from_moments(moments))))
    }
}

fn below(tensors: &HashMap<String, Tensor>, prefix: &str) -> HashMap<String, Tensor> {
    let strip = |name: &str| name.strip_prefix(prefix)?.strip_prefix('.').map(str::to_owned);
    tensors.iter().filter_map(|(name, tensor)| Some((strip(name)?, tensor.clone()))).collect()
}

/// The datasets that a stage learns from.
fn learnt(recipe: &Recipe) -> BTreeMap<String, DataSource> {
    let learnt = recipe.data.iter().filter(|(name, _)| recipe.trains_on(name));
    learnt.map(|(name, source)| (name.clone(), source.clone())).collect()
}

/// Whether two recipes take the same steps.
fn same_run(one: &Recipe, other: &Recipe) -> bool {
    let steps = |recipe: &Recipe| Recipe {
        data: learnt(recipe),
        // It ends a run or does not.
        tolerance: 0.0,
        evaluation: Default::default(),
        checkpoints: Default::default(),
        spikes: Default::default(),
        families: None,
        // Features from a cache are rounded to f16, so that having one matters and its size does not.
        feature_cache_bytes: recipe.feature_cache_bytes.min(1),
        feature_cache_folder: None,
        ..recipe.clone()
    };
    steps(one) == steps(other)
}

fn write(folder: &Path, student: &Student, optimiser: &AdamW, state: &State) -> Result<()> {
    let mut tensors: BTreeMap<String, Tensor> = BTreeMap::new();
    for (name, parameter) in student.parameters() {
        tensors.insert(format!("weights.{name}"), parameter.variable.as_detached_tensor());
    }
    for (name, moments) in optimiser.moments() {
        for (kind, values) in [("first", &moments.first), ("second", &moments.second)] {
            let tensor = Tensor::from_slice(values, values.len(), &Device::Cpu)?;
            tensors.insert(format!("{kind}.{name}"), tensor);
        }
    }
    fs::create_dir_all(folder).map_err(TrainError::io(folder))?;
    let path = folder.join(TENSORS);
    let written = safetensors::serialize_to_file(&tensors, None, &path);
    written.map_err(|error| match error {
        safetensors::SafeTensorError::IoError(error) => TrainError::io(&path)(error),
        other => TrainError::checkpoint(&path, other),
    })?;
    File::open(&path).and_then(|file| file.sync_all()).map_err(TrainError::io(&path))?;
    let text = serde_json::to_vec_pretty(state).map_err(|error| TrainError::checkpoint(folder, error))?;
    atomic::replace_bytes(&folder.join(STATE), &text)?;
    atomic::sync_folder(folder);
    Ok(())
}
