//! Our own checkpoints: a folder in the layout of Hugging Face with the compressor's configuration in `config.json` and its
//! tensors below `compressor.` in `model.safetensors`.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::Tensor;
use foveate_compress::CompressorConfig;
use serde_json::Value;

use super::VlmConfig;
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
    replace(&folder.join("model.safetensors"), |path| {
        safetensors::serialize_to_file(tensors, Some(metadata), path).map_err(std::io::Error::other)
    })?;
    replace(&folder.join("config.json"), |path| std::fs::write(path, text + "\n"))
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

/// Lets `write` fill a file beside `path` and moves it there.
fn replace(path: &Path, write: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let partial: PathBuf = path.with_file_name(name);
    let written = write(&partial)
        .and_then(|()| File::open(&partial)?.sync_all())
        .and_then(|()| std::fs::rename(&partial, path));
    if written.is_err() {
        // Best effort: the error that counts is the first.
        _ = std::fs::remove_file(&partial);
    }
    written.map_err(failed(path))
}

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> ModelError {
    let path = path.to_owned();
    move |source| ModelError::Io { path, source }
}
