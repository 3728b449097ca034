//! Our own checkpoints: a folder in the layout of Hugging Face with the compressor's configuration in `config.json` and its
//! tensors below `compressor.` in `model.safetensors`.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::Tensor;
use foveate_compress::CompressorConfig;
use serde_json::Value;

use super::VlmConfig;
use crate::atomic::replace;
use crate::{ModelError, Result};

/// Writes `config.json` and `model.safetensors` into `folder`, which is made where it is missing. Tokenizer and image
/// processor are the caller's to copy.
///
/// `config` is a LLaVA's, nested (`text_config`, `vision_config`) or original; what it says of a compressor is replaced by
/// `compressor`. `tensors` go by the published names (`language_model.…`, `vision_tower.…`, `multi_modal_projector.…`,
/// `compressor.…`) and are stored in the dtype that they have.
///
/// Each file is written beside its place, flushed to the disk and then moved there, the configuration last: what a reader
/// finds is whole, and a run that is interrupted leaves the older checkpoint readable.
///
/// # Errors
/// A configuration that could not be read back; a folder or file that cannot be written.
pub fn save_checkpoint(
    folder: &Path,
    config: &Value,
    compressor: Option<&CompressorConfig>,
    tensors: &BTreeMap<String, Tensor>,
) -> Result<()> {
    let config = with_compressor(config, compressor)?;
    let text = serde_json::to_string_pretty(&config);
    let text = text.map_err(|error| ModelError::json("config.json", &error))?;
    VlmConfig::from_json(&text)?;
    std::fs::create_dir_all(folder).map_err(failed(folder))?;
    // Readers written in Python refuse a file that does not say this.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let (weights, config) = (folder.join("model.safetensors"), folder.join("config.json"));
    let serialize = |path: &Path| {
        safetensors::serialize_to_file(tensors, Some(metadata), path).map_err(std::io::Error::other)
    };
    replace(&weights, serialize).map_err(failed(&weights))?;
    replace(&config, |path| std::fs::write(path, text + "\n")).map_err(failed(&config))
}

/// The fields by which published layouts tell of a compressor.
const PUBLISHED: [&str; 5] = [
    "mm_vision_token_compression_type",
    "scale_factor",
    "query_abstractor_type",
    "matryoshka_vis_token_scale",
    "compressor",
];

fn with_compressor(config: &Value, compressor: Option<&CompressorConfig>) -> Result<Value> {
    let mut config = config.clone();
    let Some(fields) = config.as_object_mut() else {
        return Err(ModelError::config("config.json", "no object", "must be a LLaVA's configuration"));
    };
    for field in PUBLISHED {
        fields.remove(field);
    }
    if let Some(compressor) = compressor {
        let value = serde_json::to_value(compressor);
        let value = value.map_err(|error| ModelError::json("config.json, `compressor`", &error))?;
        fields.insert("compressor".to_owned(), value);
    }
    Ok(config)
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> ModelError {
    let path = path.to_owned();
    move |source| ModelError::Io { path, source }
}
