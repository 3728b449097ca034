//! Compressor, projector and adapters of an earlier run, which a recipe goes on from.
//!
//! They are worth something only between the tower and the language model that they were trained on: those must be the same.

use std::path::{Path, PathBuf};

use foveate_model::Weights;
use foveate_model::vlm::{FrozenPart, FrozenParts};
use serde_json::Value;

use super::network::{LANGUAGE, Network};
use super::parts::read_json;
use crate::recipe::{Group, Lora};
use crate::{Result, TrainError};

const FIELD: &str = "parts.start";
/// What says which windows there are: a model may start from one with more of them.
const WINDOWS: [&str; 2] = ["filters", "sides"];

/// The model that starts, as far as it is known.
pub(super) struct Own<'a> {
    /// Its configuration.
    pub(super) config: &'a Value,
    /// Where its tower lies; `None` for one from scratch.
    pub(super) tower: Option<PathBuf>,
    /// Where its language model lies.
    pub(super) language: Option<PathBuf>,
    /// Its adapters.
    pub(super) lora: Option<&'a Lora>,
}

/// Sets compressor and projector of `network`, and its adapters where the model in `folder` has some, to those of that
/// model, `word` in the recipe. Says which weights these were.
///
/// # Errors
/// A model with another compressor, other adapters, another tower or language model, or without one of the tensors.
pub(super) fn take(network: &mut Network, folder: &Path, word: &str, own: &Own<'_>) -> Result<FrozenPart> {
    let stored = read_json(&folder.join("config.json"))?;
    for field in ["compressor", "vision_feature_layer"] {
        let (found, needed) = (settings(&stored[field]), settings(&own.config[field]));
        if found != needed {
            return Err(TrainError::field(FIELD, format!("one of {field} {found}"), needed.to_string()));
        }
    }
    let parts = FrozenParts::read(&stored)?.unwrap_or_default();
    between("tower", parts.tower.as_ref(), own.tower.as_deref(), folder)?;
    between("language", parts.language.as_ref(), own.language.as_deref(), folder)?;
    let weights = Weights::open(folder)?;
    network.start(&weights, &[Group::Compressor, Group::Projector])?;
    adapters(network, &weights, stored["adapter_scale"].as_f64().unwrap_or(1.0), own.lora)?;
    Ok(FrozenPart::describe(folder, Some(word.to_owned()))?)
}

/// Refuses another tower or language model than that model has: `frozen` is the file that it was trained on, and without it
/// the part is in `folder`, with all that was merged into it.
fn between(part: &str, frozen: Option<&FrozenPart>, own: Option<&Path>, folder: &Path) -> Result<()> {
    let field = format!("parts.{part}");
    let Some(own) = own else {
        return Err(TrainError::field(field, "from scratch", "the one that `parts.start` was trained on"));
    };
    if let Some(frozen) = frozen {
        return Ok(frozen.verify(own)?);
    }
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if whole(own) == whole(folder) {
        return Ok(());
    }
    Err(TrainError::field(field, own.display(), "that of `parts.start`, which holds its own"))
}

/// Starts the adapters where there are some in `weights`, which were multiplied by `scale`.
fn adapters(network: &mut Network, weights: &Weights, scale: f64, lora: Option<&Lora>) -> Result<()> {
    let names = weights.names();
    let stored: Vec<&String> = names.iter().filter(|name| name.contains(".lora_")).collect();
    let Some(first) = stored.first() else { return Ok(()) };
    let Some(lora) = lora else {
        let allowed = "one without, or `lora` and a rate for it in this recipe";
        return Err(TrainError::field(FIELD, "one with adapters", allowed));
    };
    if let Some(lost) = stored.iter().find(|name| !network.parameters().contains_key(**name)) {
        let layer = lost.strip_prefix(LANGUAGE).unwrap_or(lost);
        let allowed = "all that `parts.start` has adapters for";
        return Err(TrainError::field("lora.projections", format!("without {layer}"), allowed));
    }
    let shape = weights.shape(first).map(candle_core::Shape::into_dims).unwrap_or_default();
    if let Some(rank) = shape.into_iter().min().filter(|rank| *rank != lora.rank) {
        return Err(TrainError::field("lora.rank", lora.rank, format!("{rank}, as in `parts.start`")));
    }
    if scale != lora.alpha / lora.rank as f64 {
        let allowed = format!("{}, as in `parts.start`", scale * lora.rank as f64);
        return Err(TrainError::field("lora.alpha", lora.alpha, allowed));
    }
    network.start(weights, &[Group::Adapters])
}

fn settings(field: &Value) -> Value {
    let mut field = field.clone();
    if let Some(fields) = field.as_object_mut() {
        fields.retain(|name, _| !WINDOWS.contains(&name.as_str()));
    }
    field
}
