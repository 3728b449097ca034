//! GGUF, the file format of llama.cpp: language models and image encoders with their weights, configuration and
//! tokenizer in one file.
//!
//! Tensors are shown in the layout of Hugging Face transformers: names mapped, dimensions rows first, and the rows of
//! rotary projections put back in transformers' order. Source of the layout: the format's specification in the ggml
//! repository (`docs/gguf.md`).

mod blocks;
mod cursor;
mod dequantise;
mod encoder_config;
mod file;
mod k_blocks;
mod language_config;
mod metadata;
mod names;
#[cfg(test)]
pub(super) mod testing;
mod tokenizer;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::Path;
use std::sync::Arc;

use candle_core::{Shape, Tensor};

use super::bytes::Bytes;
use super::{Source, Stored, Weights, WeightsError};
use file::{File, TensorEntry};
pub(super) use metadata::shorten;

pub use dequantise::Quantisation;
pub use encoder_config::{Activation, ImageEncoderConfig};
pub use language_config::{Architecture, LanguageModelConfig, RopeScaling};
pub use metadata::{FromMetadata, Metadata};
pub use tokenizer::GgufTokenizer;

/// An open GGUF file.
#[derive(Clone)]
pub struct GgufFile(Arc<File>);

impl GgufFile {
    /// Opens the file and checks its header; tensors are read when asked for.
    ///
    /// # Errors
    /// [`WeightsError::Io`], or [`WeightsError::Malformed`] and [`WeightsError::Unsupported`] naming the field.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        Ok(Self(Arc::new(File::read(Bytes::map(path)?)?)))
    }

    /// As [`GgufFile::open`], from bytes in memory; `name` stands for the file in errors.
    ///
    /// # Errors
    /// As [`GgufFile::open`].
    pub fn from_bytes(name: &str, bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self, WeightsError> {
        Ok(Self(Arc::new(File::read(Bytes::held(name, bytes))?)))
    }

    /// The metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.0.metadata
    }

    /// Each tensor's stored name, shape (rows first) and type, sorted by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &[usize], Quantisation)> {
        self.0.tensors.iter().map(|(name, entry)| (name.as_str(), entry.shape.as_slice(), entry.quantisation))
    }

    /// The configuration of the language model in the file.
    ///
    /// # Errors
    /// [`WeightsError::Unsupported`] for another architecture, [`WeightsError::Malformed`] naming the key.
    pub fn language_model(&self) -> Result<LanguageModelConfig, WeightsError> {
        LanguageModelConfig::read(&self.0)
    }

    /// The configuration of the image encoder in the file (`--mmproj`).
    ///
    /// # Errors
    /// As [`GgufFile::language_model`].
    pub fn image_encoder(&self) -> Result<ImageEncoderConfig, WeightsError> {
        ImageEncoderConfig::read(&self.0)
    }

    /// The tokenizer that the metadata describes.
    ///
    /// # Errors
    /// [`WeightsError::Unsupported`] for a kind that is not read here, [`WeightsError::Malformed`] naming the key.
    pub fn tokenizer(&self) -> Result<GgufTokenizer, WeightsError> {
        GgufTokenizer::read(&self.0.metadata)
    }

    /// The tokens that end a turn of a conversation: the one that the metadata names, else those whose text says so
    /// (`<|im_end|>`, `<|eot_id|>`, `<|end|>`, …).
    ///
    /// # Errors
    /// [`WeightsError::Malformed`] naming a key of another type.
    pub fn ends_of_turn(&self) -> Result<Vec<u32>, WeightsError> {
        tokenizer::ends_of_turn(&self.0.metadata)
    }

    /// The tensors under Hugging Face names. Files of other architectures keep their stored names.
    ///
    /// # Errors
    /// [`WeightsError::Malformed`] naming the key if a configuration that the layout depends on is broken.
    pub fn weights(&self) -> Result<Weights, WeightsError> {
        Ok(Weights::from_source(Arc::new(GgufSource::new(Arc::clone(&self.0))?)))
    }
}

/// The tensors under Hugging Face names.
struct GgufSource {
    file: Arc<File>,
    /// Name shown → how to read it.
    tensors: BTreeMap<String, Recipe>,
}

struct Recipe {
    stored: String,
    /// For interleaved rotary projections, the rows of a head.
    head_rows: Option<usize>,
}

impl GgufSource {
    fn new(file: Arc<File>) -> Result<Self, WeightsError> {
        let architecture = file.metadata.get::<&str>("general.architecture")?.unwrap_or_default();
        let mut tensors = BTreeMap::new();
        let mut show = |stored: &str, shown: Option<String>, head_rows| {
            let recipe = Recipe { stored: stored.to_owned(), head_rows };
            match tensors.entry(shown.unwrap_or_else(|| stored.to_owned())) {
                Entry::Vacant(entry) => {
                    entry.insert(recipe);
                    Ok(())
                }
                Entry::Occupied(entry) => Err(file.bytes.malformed(
                    format!("tensor `{stored}`"),
                    format!("has the same meaning as `{}`: both are `{}`", entry.get().stored, entry.key()),
                )),
            }
        };
        match (architecture, Architecture::named(architecture)) {
            ("clip", _) => {
                let swapped = encoder_config::feed_forward_is_swapped(&file);
                for stored in file.tensors.keys() {
                    show(stored, names::encoder(stored, swapped), None)?;
                }
            }
            (_, Some(architecture)) => {
                let fused = architecture == Architecture::Phi3;
                let interleaved = |name: &str| architecture == Architecture::Llama && names::is_rotary(name);
                // A file without such tensors, say a vocabulary alone, may do without a configuration.
                let head_width = match file.tensors.keys().any(|name| interleaved(name)) {
                    true => LanguageModelConfig::read(&file)?.head_width,
                    false => 1,
                };
                for (stored, entry) in &file.tensors {
                    let head_rows = match interleaved(stored) {
                        true => interleaved_head_rows(&file, stored, entry, head_width)?,
                        false => None,
                    };
                    show(stored, names::decoder(stored, fused), head_rows)?;
                }
            }
            (_, None) => {
                for stored in file.tensors.keys() {
                    show(stored, None, None)?;
                }
            }
        }
        Ok(Self { tensors, file })
    }
}

/// The rows of a head of a `llama` file's q or k projection, which [`names::rotary_source_row`] needs. `None` for a
/// projection of another size than the configuration says: `Weights::get` reports it with both shapes.
fn interleaved_head_rows(
    file: &File,
    stored: &str,
    entry: &TensorEntry,
    head_width: usize,
) -> Result<Option<usize>, WeightsError> {
    if entry.shape.len() == 1 && !entry.is_plain_vector() {
        return Err(WeightsError::Unsupported {
            file: file.bytes.file.clone(),
            field: format!("tensor `{stored}`: type"),
            value: format!("a bias in {:?}", entry.quantisation),
            supported: "biases in F32, F16, BF16".to_owned(),
        });
    }
    Ok(entry.shape[0].is_multiple_of(head_width).then_some(head_width))
}

impl Source for GgufSource {
    fn origin(&self) -> String {
        self.file.bytes.file.clone()
    }

    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Shape> {
        let recipe = self.tensors.get(name)?;
        Some(Shape::from(self.file.tensors.get(&recipe.stored)?.shape.clone()))
    }

    fn stored(&self, name: &str) -> Option<Stored> {
        let entry = self.file.tensors.get(&self.tensors.get(name)?.stored)?;
        Some(Stored::numbers(entry.quantisation, entry.shape.iter().product()))
    }

    fn read(&self, name: &str) -> Result<Tensor, WeightsError> {
        let missing = || WeightsError::missing(&self.origin(), name);
        let recipe = self.tensors.get(name).ok_or_else(missing)?;
        match recipe.head_rows {
            None => self.file.tensor(&recipe.stored, |row| row),
            Some(head_rows) => {
                self.file.tensor(&recipe.stored, |row| names::rotary_source_row(row, head_rows))
            }
        }
    }

    fn blocks(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let recipe = self.tensors.get(name)?;
        match recipe.head_rows {
            None => self.file.blocks(&recipe.stored, None),
            Some(head_rows) => {
                self.file.blocks(&recipe.stored, Some(&|row| names::rotary_source_row(row, head_rows)))
            }
        }
    }

    fn release(&self, name: &str) {
        if let Some(recipe) = self.tensors.get(name) {
            self.file.release(&recipe.stored);
        }
    }
}

#[cfg(test)]
mod tests;
