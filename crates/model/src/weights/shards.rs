//! Tensors that lie in files as plain numbers: one file, or several with an index.
//!
//! Safetensors and PyTorch files differ in how they say where a tensor is, and in nothing else. A reader of either makes
//! a [`TensorFile`]; joining files, converting numbers and the order in which a folder is searched are here.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use candle_core::{Device, Shape, Tensor};
use half::{bf16, f16};
use serde::Deserialize;

use super::bytes::Bytes;
use super::gguf::Quantisation;
use super::{Source, Stored, WeightsError, pytorch, safetensors};

/// The tensors of one file, or of several.
pub(super) struct Shards {
    origin: String,
    files: Vec<TensorFile>,
    /// Tensor name → index into `files`.
    owner: BTreeMap<String, usize>,
}

/// A file and where its tensors are.
pub(super) struct TensorFile {
    pub(super) bytes: Bytes,
    pub(super) tensors: BTreeMap<String, Entry>,
}

/// Where a tensor is.
pub(super) struct Entry {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// Numbers from one element to the next along each dimension; `None` for rows first without gaps.
    pub(super) strides: Option<Vec<usize>>,
    /// Bytes of the file, the tensor's first element first.
    pub(super) at: Range<usize>,
}

/// What the numbers of a tensor are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dtype {
    F32,
    F16,
    BF16,
    /// Of so many bytes. Stored by some checkpoints for positions and masks; shown, but cannot be read as weights.
    Other(usize),
}

impl Dtype {
    /// Bytes of a number.
    pub(super) fn width(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Other(bytes) => bytes,
        }
    }

    fn format(self) -> Option<Quantisation> {
        match self {
            Self::F32 => Some(Quantisation::F32),
            Self::F16 => Some(Quantisation::F16),
            Self::BF16 => Some(Quantisation::BF16),
            Self::Other(_) => None,
        }
    }
}

/// How the files of a folder are called in one format.
struct Names {
    index: &'static str,
    single: &'static str,
    read: fn(Bytes) -> Result<TensorFile, WeightsError>,
    /// A file beside the others with tensors that they may lack.
    beside: Option<&'static str>,
}

/// In the order in which a folder is searched, as transformers does.
const FORMATS: [Names; 2] = [
    Names {
        index: "model.safetensors.index.json",
        single: "model.safetensors",
        read: safetensors::read,
        beside: None,
    },
    Names {
        index: "pytorch_model.bin.index.json",
        single: "pytorch_model.bin",
        read: pytorch::read,
        // The original LLaVA keeps the projector there, often in both places.
        beside: Some("mm_projector.bin"),
    },
];

impl Shards {
    pub(super) fn single(file: TensorFile) -> Self {
        let origin = file.bytes.file.clone();
        Self::join(origin, vec![file], BTreeMap::new())
    }

    /// What `owner` does not assign belongs to the first file that has it.
    fn join(origin: String, files: Vec<TensorFile>, mut owner: BTreeMap<String, usize>) -> Self {
        for (place, file) in files.iter().enumerate() {
            for name in file.tensors.keys() {
                owner.entry(name.clone()).or_insert(place);
            }
        }
        Self { origin, files, owner }
    }

    /// Opens a folder with an index, or else with a single file.
    pub(super) fn open_folder(folder: &Path) -> Result<Self, WeightsError> {
        let is_file = |name: &str| folder.join(name).is_file();
        for names in &FORMATS {
            let (mut files, owner) = if is_file(names.index) {
                read_indexed(folder, names)?
            } else if is_file(names.single) {
                (vec![(names.read)(Bytes::map(&folder.join(names.single))?)?], BTreeMap::new())
            } else {
                continue;
            };
            if let Some(beside) = names.beside.filter(|name| is_file(name)) {
                files.push((names.read)(Bytes::map(&folder.join(beside))?)?);
            }
            let origin = match &files[..] {
                [file] => file.bytes.file.clone(),
                _ => folder.display().to_string(),
            };
            return Ok(Self::join(origin, files, owner));
        }
        let names: Vec<&str> = FORMATS.iter().flat_map(|names| [names.single, names.index]).collect();
        let reason = format!("the folder has none of {}", names.join(", "));
        Err(WeightsError::NotACheckpoint { path: folder.to_owned(), reason })
    }

    fn entry(&self, name: &str) -> Option<(&TensorFile, &Entry)> {
        let file = &self.files[*self.owner.get(name)?];
        Some((file, file.tensors.get(name)?))
    }
}

/// The files that an index names, and which tensor it says to be in which. What a file holds beyond that is shown as
/// well, as transformers loads it.
fn read_indexed(
    folder: &Path,
    names: &Names,
) -> Result<(Vec<TensorFile>, BTreeMap<String, usize>), WeightsError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let bytes = Bytes::map(&folder.join(names.index))?;
    let index: Index =
        serde_json::from_slice(&bytes).map_err(|error| bytes.malformed("index", error.to_string()))?;
    let mut files: Vec<TensorFile> = Vec::new();
    let mut position: BTreeMap<&str, usize> = BTreeMap::new();
    let mut owner = BTreeMap::new();
    for (name, shard) in &index.weight_map {
        // A downloaded index must not reach outside of its folder.
        if Path::new(shard).file_name().is_none_or(|plain| plain != shard.as_str()) {
            let reason = format!("is `{shard}`, expected the plain name of a file in the same folder");
            return Err(bytes.malformed(format!("weight_map: `{name}`"), reason));
        }
        let place = match position.get(shard.as_str()) {
            Some(place) => *place,
            None => {
                files.push((names.read)(Bytes::map(&folder.join(shard))?)?);
                position.insert(shard, files.len() - 1);
                files.len() - 1
            }
        };
        let file = &files[place];
        if !file.tensors.contains_key(name) {
            return Err(WeightsError::missing(&file.bytes.file, name));
        }
        owner.insert(name.clone(), place);
    }
    Ok((files, owner))
}

impl Source for Shards {
    fn origin(&self) -> String {
        self.origin.clone()
    }

    fn file_of(&self, name: &str) -> String {
        self.entry(name).map_or_else(|| self.origin(), |(file, _)| file.bytes.file.clone())
    }

    fn names(&self) -> Vec<String> {
        self.owner.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Shape> {
        self.entry(name).map(|(_, entry)| Shape::from(entry.shape.clone()))
    }

    fn stored(&self, name: &str) -> Option<Stored> {
        let (_, entry) = self.entry(name)?;
        let numbers: usize = entry.shape.iter().product();
        Some(Stored { format: entry.dtype.format(), bytes: (numbers * entry.dtype.width()) as u64 })
    }

    fn read(&self, name: &str) -> Result<Tensor, WeightsError> {
        let (file, entry) = self.entry(name).ok_or_else(|| WeightsError::missing(&self.origin, name))?;
        let bytes = &file.bytes[entry.at.clone()];
        let values = match entry.dtype {
            Dtype::F32 => numbers(entry, bytes.as_chunks().0, f32::from_le_bytes),
            Dtype::F16 => numbers(entry, bytes.as_chunks().0, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Dtype::BF16 => numbers(entry, bytes.as_chunks().0, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            Dtype::Other(_) => {
                return Err(WeightsError::Unsupported {
                    file: file.bytes.file.clone(),
                    field: format!("tensor `{name}`"),
                    value: "its dtype".to_owned(),
                    supported: "F32, F16, BF16".to_owned(),
                });
            }
        };
        Tensor::from_vec(values, entry.shape.as_slice(), &Device::Cpu)
            .map_err(WeightsError::tensor(&file.bytes.file, name))
    }

    fn release(&self, name: &str) {
        if let Some((file, entry)) = self.entry(name) {
            file.bytes.release(entry.at.clone());
        }
    }
}

/// The numbers of a tensor, rows first. The reader of the file has seen to it that all lie in `stored`.
fn numbers<const N: usize>(entry: &Entry, stored: &[[u8; N]], convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    let Some(strides) = &entry.strides else { return stored.iter().map(|bytes| convert(*bytes)).collect() };
    let count: usize = entry.shape.iter().product();
    let mut values = Vec::with_capacity(count);
    let mut index = vec![0; entry.shape.len()];
    let mut at = 0;
    for _ in 0..count {
        values.push(convert(stored[at]));
        // Counting up: the last dimension first, with a carry to the one before it.
        for dimension in (0..index.len()).rev() {
            index[dimension] += 1;
            at += strides[dimension];
            if index[dimension] < entry.shape[dimension] {
                break;
            }
            at -= strides[dimension] * entry.shape[dimension];
            index[dimension] = 0;
        }
    }
    values
}
