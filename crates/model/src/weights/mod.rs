//! The named tensors of a checkpoint, whatever file they come from.
//!
//! A [`Weights`] value is a view of a checkpoint below a prefix. Models ask it for tensors by the Hugging Face name and
//! the shape that they need; a missing or wrongly shaped tensor is an error that says so, and after a model is built
//! [`Weights::unused`] lists what it never asked for.

mod bytes;
pub mod convert;
mod error;
pub mod gguf;
mod memory;
mod onnx;
mod overlay;
mod packing;
mod protobuf;
mod pytorch;
mod random;
mod safetensors;
mod scales;
mod shards;
mod tokens;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Display;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{Device, Shape, Tensor};

pub use error::WeightsError;
pub(crate) use packing::Kept;
pub use packing::LowRank;
use packing::Packing;
pub use tokens::sentence_piece;

/// Where tensors come from: one implementation for each file format.
pub(crate) trait Source: Send + Sync {
    /// The file or folder, for errors.
    fn origin(&self) -> String;
    /// The file that holds the tensor, for errors.
    fn file_of(&self, _name: &str) -> String {
        self.origin()
    }
    /// All stored names.
    fn names(&self) -> Vec<String>;
    /// The shape of a stored tensor, without reading it.
    fn shape(&self, name: &str) -> Option<Shape>;
    /// How a tensor is stored, without reading it.
    fn stored(&self, name: &str) -> Option<Stored>;
    /// A stored tensor as f32 on the CPU; only called with a name that [`Source::names`] lists.
    fn read(&self, name: &str) -> Result<Tensor, WeightsError>;
    /// The bytes of a stored tensor whose numbers lie in blocks, rows first; `None` for all others.
    fn blocks(&self, _name: &str) -> Option<Cow<'_, [u8]>> {
        None
    }
    /// Tells the system that a tensor was copied and will hardly be read again.
    fn release(&self, _name: &str) {}
    /// Whether the values of a stored tensor change while models hold it, so that nothing may be made of it once and kept.
    fn is_live(&self, _name: &str) -> bool {
        false
    }
    /// A tensor that is made up as it is asked for; `None` for all real checkpoints.
    fn make(&self, _name: &str, _shape: &Shape) -> Option<Result<Tensor, WeightsError>> {
        None
    }
}

/// How the numbers of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Their format; `None` for one that no model computes with, such as integers.
    pub format: Option<gguf::Quantisation>,
    /// The bytes they take.
    pub bytes: u64,
}

impl Stored {
    /// `count` numbers of `format`.
    fn numbers(format: gguf::Quantisation, count: usize) -> Self {
        let (length, bytes) = format.block();
        Self { format: Some(format), bytes: (count.div_ceil(length) * bytes) as u64 }
    }
}

/// The tensors of a checkpoint whose names start with a prefix.
///
/// Cheap to clone: clones and [`Weights::pp`] share the file and the record of what was asked for.
///
/// ```
/// # use std::collections::HashMap;
/// use candle_core::{Device, Tensor};
/// use foveate_model::Weights;
///
/// let bias = Tensor::new(&[1f32, 2.0], &Device::Cpu)?;
/// let weights = Weights::from_tensors(HashMap::from([("encoder.layers.0.bias".to_owned(), bias)]));
/// let layer = weights.pp("encoder").pp("layers").pp(0);
/// assert_eq!(layer.get(2, "bias")?.to_vec1::<f32>()?, [1.0, 2.0]);
/// let error = layer.get(3, "bias").unwrap_err().to_string();
/// assert!(error.contains("`encoder.layers.0.bias` has shape [2], expected [3]"));
/// let error = layer.get(2, "biases").unwrap_err().to_string();
/// assert!(error.contains("no tensor `encoder.layers.0.biases` of shape [2]; the nearest name is `encoder.layers.0.bias`"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Weights {
    shared: Arc<Shared>,
    /// Empty, or ends with a dot.
    prefix: String,
    /// `None`: matrices are tensors.
    packing: Option<Packing>,
    /// What low-rank changes of matrices are multiplied by.
    adapter_scale: f64,
}

struct Shared {
    source: Arc<dyn Source>,
    /// Name shown → name stored.
    names: BTreeMap<String, String>,
    requested: Mutex<HashSet<String>>,
    device: Device,
}

impl Weights {
    /// Weights held in memory, for tests and training. Tensors of other dtypes are converted to f32 when asked for.
    pub fn from_tensors(tensors: HashMap<String, Tensor>) -> Self {
        Self::from_source(Arc::new(memory::InMemory::new(tensors)))
    }

    /// Opens a checkpoint: a folder with `model.safetensors` or `pytorch_model.bin` or the index of either, or a
    /// `.safetensors`, PyTorch (`.bin`, `.pt`, `.pth`), `.gguf` or `.onnx` file. Nothing but the headers is read until a
    /// tensor is asked for, and no code that a PyTorch file names is run. Weights of signed bytes with scales beside them
    /// (`quantization_config` of the method `compressed-tensors`, format `int-quantized`, symmetric) are read as the
    /// numbers they stand for.
    ///
    /// Names are shown as Hugging Face transformers has them; see [`Weights::rename`] for other layouts.
    ///
    /// # Errors
    /// [`WeightsError::Io`], [`WeightsError::NotACheckpoint`], and [`WeightsError::Malformed`] or
    /// [`WeightsError::Unsupported`] naming the file and the field.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        if path.is_dir() {
            return Ok(Self::from_source(Arc::new(shards::Shards::open_folder(path)?)));
        }
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        match extension.to_ascii_lowercase().as_str() {
            "safetensors" => Self::from_file(safetensors::read(bytes::Bytes::map(path)?)?),
            "bin" | "pt" | "pth" => Self::from_file(pytorch::read(bytes::Bytes::map(path)?)?),
            "gguf" => gguf::GgufFile::open(path)?.weights(),
            "onnx" => Ok(Self::from_source(Arc::new(onnx::Onnx::open(path)?))),
            _ => Err(WeightsError::NotACheckpoint {
                path: path.to_owned(),
                reason: format!(
                    "the name ends in `{extension}`, expected a folder, .safetensors, .bin, .gguf or .onnx"
                ),
            }),
        }
    }

    /// The tensors of a safetensors file that is in memory, for example a model inside of the program; `name` stands
    /// for the file in errors.
    ///
    /// # Errors
    /// As [`Weights::open`].
    pub fn from_safetensors(name: &str, bytes: impl Into<Cow<'static, [u8]>>) -> Result<Self, WeightsError> {
        Self::from_file(safetensors::read(bytes::Bytes::held(name, bytes))?)
    }

    fn from_file(file: shards::TensorFile) -> Result<Self, WeightsError> {
        Ok(Self::from_source(Arc::new(shards::Shards::single(file)?)))
    }

    pub(crate) fn from_source(source: Arc<dyn Source>) -> Self {
        let names = source.names().into_iter().map(|name| (name.clone(), name)).collect();
        let shared = Shared { source, names, requested: Mutex::default(), device: Device::Cpu };
        Self { shared: Arc::new(shared), prefix: String::new(), packing: None, adapter_scale: 1.0 }
    }

    /// The weights below `segment`: `weights.pp("encoder").get(shape, "bias")` reads `encoder.bias`.
    pub fn pp(&self, segment: impl Display) -> Self {
        let prefix = format!("{}{segment}.", self.prefix);
        Self { shared: Arc::clone(&self.shared), prefix, packing: self.packing.clone(), ..*self }
    }

    /// The same weights, with tensors placed on `device`. The record of requests starts afresh.
    pub fn on_device(self, device: Device) -> Self {
        let shared = Shared {
            source: Arc::clone(&self.shared.source),
            names: self.shared.names.clone(),
            requested: Mutex::default(),
            device,
        };
        let packing = self.packing.clone().filter(|_| shared.device.is_cpu());
        Self { shared: Arc::new(shared), packing, ..self }
    }

    /// The tensor `name` as f32.
    ///
    /// # Errors
    /// [`WeightsError::Missing`] with the nearest existing name, [`WeightsError::WrongShape`] with both shapes, or the
    /// reader's error.
    pub fn get(&self, shape: impl Into<Shape>, name: &str) -> Result<Tensor, WeightsError> {
        let (expected, full) = (shape.into(), format!("{}{name}", self.prefix));
        let source = &self.shared.source;
        if let Some(made) = source.make(&full, &expected) {
            return made?
                .to_device(&self.shared.device)
                .map_err(WeightsError::tensor(source.origin(), &full));
        }
        let stored = self.find(&expected, &full)?;
        let tensor = source.read(stored)?;
        source.release(stored);
        if *tensor.shape() != expected {
            return Err(self.wrong_shape(stored, &full, tensor.shape().clone(), expected));
        }
        tensor.to_device(&self.shared.device).map_err(WeightsError::tensor(source.file_of(stored), &full))
    }

    /// The stored blocks of the tensor `name`, rows first; `None` where it is not stored in blocks.
    ///
    /// # Errors
    /// As [`Weights::get`].
    pub(crate) fn blocks(
        &self,
        shape: impl Into<Shape>,
        name: &str,
    ) -> Result<Option<Cow<'_, [u8]>>, WeightsError> {
        let stored = self.find(&shape.into(), &format!("{}{name}", self.prefix))?;
        Ok(self.shared.source.blocks(stored))
    }

    /// Tells the system that the tensor `name` was copied, so that no file is in memory twice.
    pub(crate) fn release(&self, name: &str) {
        if let Some(stored) = self.shared.names.get(&format!("{}{name}", self.prefix)) {
            self.shared.source.release(stored);
        }
    }

    /// The stored name of the tensor `full`, whose shape is checked where it can be told without reading.
    fn find(&self, expected: &Shape, full: &str) -> Result<&str, WeightsError> {
        let source = &self.shared.source;
        let Some(stored) = self.shared.names.get(full) else {
            return Err(WeightsError::Missing {
                nearest: self.nearest(full),
                file: source.origin(),
                name: full.to_owned(),
                expected: Some(expected.clone()),
            });
        };
        self.requested().insert(full.to_owned());
        // Before reading: a wrong shape should not cost the dequantisation of a gigabyte.
        match source.shape(stored).filter(|found| found != expected) {
            Some(found) => Err(self.wrong_shape(stored, full, found, expected.clone())),
            None => Ok(stored),
        }
    }

    fn wrong_shape(&self, stored: &str, full: &str, found: Shape, expected: Shape) -> WeightsError {
        WeightsError::WrongShape {
            file: self.shared.source.file_of(stored),
            name: full.to_owned(),
            found,
            expected,
        }
    }

    /// Whether the tensor `name` is [live](Self::with_live).
    pub(crate) fn is_live(&self, name: &str) -> bool {
        let stored = self.shared.names.get(&format!("{}{name}", self.prefix));
        stored.is_some_and(|stored| self.shared.source.is_live(stored))
    }

    /// Whether tensors are placed on the CPU.
    pub(crate) fn on_cpu(&self) -> bool {
        self.shared.device.is_cpu()
    }

    /// The shape of the tensor `name`, if there is one; it does not count as asked for.
    pub fn shape(&self, name: &str) -> Option<Shape> {
        self.shared.source.shape(self.shared.names.get(&format!("{}{name}", self.prefix))?)
    }

    /// How the tensor `name` is stored, if there is one; it does not count as asked for.
    pub fn stored(&self, name: &str) -> Option<Stored> {
        self.shared.source.stored(self.shared.names.get(&format!("{}{name}", self.prefix))?)
    }

    /// Whether there is a tensor `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.shared.names.contains_key(&format!("{}{name}", self.prefix))
    }

    /// The names below the prefix, without it, sorted.
    pub fn names(&self) -> Vec<String> {
        self.below_prefix().map(|(name, _)| name.to_owned()).collect()
    }

    /// The names below the prefix, without it, that were never asked for with [`Weights::get`] through this value, its
    /// clones, or any other view of the same checkpoint: what a complete model should leave empty.
    pub fn unused(&self) -> Vec<String> {
        let requested = self.requested();
        let unused =
            self.names().into_iter().filter(|name| !requested.contains(&format!("{}{name}", self.prefix)));
        unused.collect()
    }

    /// Shows the names below the prefix under other names: `map` gets each name that [`Weights::names`] lists and gives
    /// the one to show, or `None` to keep it. The result has no prefix and a fresh record of requests.
    ///
    /// Where two names map to one, the first in sorted order gets it and the other keeps its own, so that it shows up
    /// in [`Weights::unused`].
    pub fn rename(self, map: impl Fn(&str) -> Option<String>) -> Self {
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        let mut left_over = Vec::new();
        for (name, stored) in self.below_prefix() {
            let shown = map(name).unwrap_or_else(|| name.to_owned());
            match names.entry(shown) {
                std::collections::btree_map::Entry::Vacant(entry) => _ = entry.insert(stored.to_owned()),
                std::collections::btree_map::Entry::Occupied(_) => {
                    left_over.push((name.to_owned(), stored.to_owned()))
                }
            }
        }
        for (name, stored) in left_over {
            names.entry(name).or_insert(stored);
        }
        let shared = Shared {
            source: Arc::clone(&self.shared.source),
            names,
            requested: Mutex::default(),
            device: self.shared.device.clone(),
        };
        Self { shared: Arc::new(shared), prefix: String::new(), ..self }
    }

    /// Names below the prefix without it, and the stored names.
    fn below_prefix(&self) -> impl Iterator<Item = (&str, &str)> {
        self.shared
            .names
            .range(self.prefix.clone()..)
            .map_while(|(name, stored)| Some((name.strip_prefix(&self.prefix)?, stored.as_str())))
    }

    fn requested(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        // A set of strings is whole even if a thread died while it held the lock.
        self.shared.requested.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The existing name most similar to `name`. Bounded, since a hostile file may hold many long names.
    fn nearest(&self, name: &str) -> Option<String> {
        const MOST_NAMES: usize = 5_000;
        const LONGEST_NAME: usize = 200;
        let candidates = self.shared.names.keys().filter(|candidate| candidate.len() <= LONGEST_NAME);
        let nearest =
            candidates.take(MOST_NAMES).min_by_key(|candidate| strsim::levenshtein(candidate, name));
        nearest.filter(|_| name.len() <= LONGEST_NAME).cloned()
    }
}

/// The number of elements of a shape from a file, if all its strides are numbers, too: `[0, 2^40, 2^40]` has none.
fn elements(shape: &[u64]) -> Option<u64> {
    shape.iter().try_fold(1u64, |product, length| product.checked_mul((*length).max(1)))?;
    Some(shape.iter().product())
}

/// A shape from a file, if its lengths are numbers of this machine.
fn usable(shape: &[u64]) -> Option<Vec<usize>> {
    shape.iter().map(|length| usize::try_from(*length).ok()).collect()
}

impl std::fmt::Debug for Weights {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Weights")
            .field("origin", &self.shared.source.origin())
            .field("prefix", &self.prefix)
            .field("tensors", &self.shared.names.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::DType;

    fn example() -> Weights {
        let tensor = |rows: usize| Tensor::ones((rows, 2), DType::BF16, &Device::Cpu).unwrap();
        Weights::from_tensors(HashMap::from([
            ("a.weight".to_owned(), tensor(1)),
            ("a.b.weight".to_owned(), tensor(2)),
            ("ab.weight".to_owned(), tensor(3)),
        ]))
    }

    #[test]
    fn a_prefix_ends_at_a_dot() {
        let weights = example();
        assert_eq!(weights.pp("a").names(), ["b.weight", "weight"]);
        assert!(weights.pp("a").contains("b.weight"));
        assert!(!weights.pp("a").contains("a.b.weight"));
        assert_eq!(weights.shape("ab.weight").unwrap().dims(), [3, 2]);
    }

    #[test]
    fn what_was_not_asked_for_is_unused() {
        let weights = example();
        let tensor = weights.pp("a").pp("b").get((2, 2), "weight").unwrap();
        assert_eq!(tensor.dtype(), DType::F32);
        assert_eq!(weights.unused(), ["a.weight", "ab.weight"]);
        assert!(weights.pp("a").pp("b").unused().is_empty());
    }

    #[test]
    fn wrong_shapes_and_missing_names_are_told() {
        let error = example().get((2, 1), "a.weight").unwrap_err().to_string();
        assert_eq!(error, "tensors in memory: tensor `a.weight` has shape [1, 2], expected [2, 1]");
        let error = example().pp("a").get((2, 1), "c.weight").unwrap_err().to_string();
        assert_eq!(
            error,
            "tensors in memory: no tensor `a.c.weight` of shape [2, 1]; the nearest name is `a.b.weight`"
        );
    }

    #[test]
    fn renaming_keeps_what_collides_under_its_own_name() {
        let weights = example().rename(|name| name.ends_with("weight").then(|| "weight".to_owned()));
        assert_eq!(weights.names(), ["a.weight", "ab.weight", "weight"]);
        // In sorted order `a.b.weight` came first.
        assert_eq!(weights.get((2, 2), "weight").unwrap().dims(), [2, 2]);
        let below =
            example().pp("a").rename(|name| name.strip_prefix("b.").map(|rest| format!("model.{rest}")));
        assert_eq!(below.names(), ["model.weight", "weight"]);
    }
}
