//! Compressor, projector and adapters of an earlier run, which a recipe goes on from.

use std::path::Path;

use foveate_model::Weights;
use serde_json::Value;

use super::network::Network;
use super::parts::read_json;
use crate::recipe::Lora;
use crate::{Result, TrainError};

/// What says which windows there are: a model may start from one with more of them.
const WINDOWS: [&str; 2] = ["filters", "sides"];

/// Sets compressor and projector of `network`, and its adapters where the model in `folder` has some, to those of that
/// model. `own` is the configuration of the model that starts.
///
/// # Errors
/// A model with another compressor or other adapters, or without one of the tensors.
pub(super) fn take(network: &mut Network, folder: &Path, own: &Value, lora: Option<&Lora>) -> Result<()> {
    let stored = read_json(&folder.join("config.json"))?;
    for field in ["compressor", "vision_feature_layer"] {
        let (found, needed) = (settings(&stored[field]), settings(&own[field]));
        if found != needed {
            return Err(TrainError::field(
                "parts.start",
                format!("one of {field} {found}"),
                needed.to_string(),
            ));
        }
    }
    let weights = Weights::open(folder)?;
    network.start_connector(&weights)?;
    let adapted = weights.names().iter().any(|name| name.contains(".lora_"));
    match lora.filter(|_| adapted) {
        None if !adapted => Ok(()),
        None => {
            let allowed = "one without, or `lora` and a rate for it in this recipe";
            Err(TrainError::field("parts.start", "one with adapters", allowed))
        }
        Some(lora) => {
            let scale = stored["adapter_scale"].as_f64().unwrap_or(1.0);
            if scale != lora.alpha / lora.rank as f64 {
                let allowed = format!("{}, as in `parts.start`", scale * lora.rank as f64);
                return Err(TrainError::field("lora.alpha", lora.alpha, allowed));
            }
            network.start_adapters(&weights)
        }
    }
}

fn settings(field: &Value) -> Value {
    let mut field = field.clone();
    if let Some(fields) = field.as_object_mut() {
        fields.retain(|name, _| !WINDOWS.contains(&name.as_str()));
    }
    field
}
