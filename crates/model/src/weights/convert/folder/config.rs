//! `config.json` of a converted folder.

use std::path::Path;

use serde_json::{Map, Value, json};

use crate::weights::WeightsError;
use crate::weights::convert::{ConvertError, Target};

/// The configuration at `path` for weights of `target`; `ignored` are the linear layers that stay in bf16.
pub(super) fn converted(path: &Path, target: Target, ignored: Vec<String>) -> Result<String, ConvertError> {
    let malformed = |reason: String| {
        ConvertError::Weights(WeightsError::malformed(&path.display().to_string(), "configuration", reason))
    };
    let text = std::fs::read_to_string(path).map_err(ConvertError::read(path))?;
    let mut config: Value = serde_json::from_str(&text).map_err(|error| malformed(error.to_string()))?;
    let Some(fields) = config.as_object_mut() else { return Err(malformed("is no object".to_owned())) };
    set_dtype(fields, true);
    for part in ["text_config", "vision_config"] {
        if let Some(Value::Object(fields)) = fields.get_mut(part) {
            set_dtype(fields, false);
            fields.remove("quantization_config");
        }
    }
    fields.remove("compression_config");
    fields.remove("quantization_config");
    if let Some(quantisation) = quantisation(target, ignored) {
        fields.insert("quantization_config".to_owned(), quantisation);
    }
    Ok(format!("{config:#}\n"))
}

/// The numbers that are not quantised are bf16; older and newer transformers name the field differently.
fn set_dtype(fields: &mut Map<String, Value>, always: bool) {
    let known: Vec<&str> =
        ["torch_dtype", "dtype"].into_iter().filter(|name| fields.contains_key(*name)).collect();
    let names = if known.is_empty() && always { vec!["torch_dtype"] } else { known };
    for name in names {
        fields.insert(name.to_owned(), json!("bfloat16"));
    }
}

/// What compressed-tensors reads: its fields `QuantizationConfig` and `QuantizationArgs`.
fn quantisation(target: Target, ignored: Vec<String>) -> Option<Value> {
    let (strategy, group) = match target {
        Target::Bf16 => return None,
        Target::Int8 => ("channel", None),
        Target::Q8_0 => ("group", Some(32)),
    };
    let weights = json!({
        "num_bits": 8,
        "type": "int",
        "symmetric": true,
        "strategy": strategy,
        "group_size": group,
        "block_structure": null,
        "dynamic": false,
        "actorder": null,
        "observer": "minmax",
        "observer_kwargs": {},
    });
    Some(json!({
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "quantization_status": "compressed",
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": weights,
                "input_activations": null,
                "output_activations": null,
            },
        },
        "ignore": ignored,
        "kv_cache_scheme": null,
        "global_compression_ratio": null,
    }))
}
