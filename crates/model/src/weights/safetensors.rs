//! Safetensors files, one or several with an index.
//!
//! Layout: the length of a JSON header (u64, little-endian), the header, the data. The header gives each tensor's dtype,
//! shape and place in the data. It is read here and not by the crate of that name because that one does not say which
//! tensor broke a rule, and adds up a hostile header's offsets without a check for overflow (a panic in builds that have
//! such checks); tests hold the two against each other. Source: the format's description in the safetensors repository.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::Path;

use candle_core::{Device, Shape, Tensor};
use half::{bf16, f16};
use serde::Deserialize;
use serde::de::{Error as _, MapAccess, Visitor};

use super::bytes::Bytes;
use super::gguf::Quantisation;
use super::{Source, Stored, WeightsError, elements, usable};

/// The format's limit on the header, in bytes.
const LONGEST_HEADER: u64 = 100_000_000;
const INDEX: &str = "model.safetensors.index.json";
const SINGLE: &str = "model.safetensors";

/// The tensors of one file, or of the files that an index names.
pub(super) struct SafeTensors {
    origin: String,
    files: Vec<File>,
    /// Tensor name → index into `files`.
    owner: BTreeMap<String, usize>,
}

struct File {
    bytes: Bytes,
    tensors: BTreeMap<String, Entry>,
}

struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    /// Bytes of the file.
    at: Range<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dtype {
    F32,
    F16,
    BF16,
    /// Stored by some checkpoints for positions and masks; shown, but cannot be read as weights.
    Other,
}

/// A tensor as the header gives it.
#[derive(Deserialize)]
struct Info {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl SafeTensors {
    pub(super) fn open(path: &Path) -> Result<Self, WeightsError> {
        Ok(Self::single(File::read(Bytes::map(path)?)?))
    }

    pub(super) fn from_bytes(bytes: Bytes) -> Result<Self, WeightsError> {
        Ok(Self::single(File::read(bytes)?))
    }

    fn single(file: File) -> Self {
        let owner = file.tensors.keys().map(|name| (name.clone(), 0)).collect();
        Self { origin: file.bytes.file.clone(), files: vec![file], owner }
    }

    /// Opens a folder with an index, or else with a single file.
    pub(super) fn open_folder(folder: &Path) -> Result<Self, WeightsError> {
        let index = folder.join(INDEX);
        if index.is_file() {
            return Self::open_index(folder, &index);
        }
        let single = folder.join(SINGLE);
        if single.is_file() {
            return Self::open(&single);
        }
        let reason = format!("the folder has neither {SINGLE} nor {INDEX}");
        Err(WeightsError::NotACheckpoint { path: folder.to_owned(), reason })
    }

    fn open_index(folder: &Path, path: &Path) -> Result<Self, WeightsError> {
        #[derive(Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let bytes = Bytes::map(path)?;
        let index: Index =
            serde_json::from_slice(&bytes).map_err(|error| bytes.malformed("index", error.to_string()))?;
        let mut files: Vec<File> = Vec::new();
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
                    files.push(File::read(Bytes::map(&folder.join(shard))?)?);
                    position.insert(shard, files.len() - 1);
                    files.len() - 1
                }
            };
            let file = &files[place];
            if !file.tensors.contains_key(name) {
                return Err(WeightsError::Missing {
                    file: file.bytes.file.clone(),
                    name: name.clone(),
                    nearest: None,
                });
            }
            owner.insert(name.clone(), place);
        }
        // What a file holds beyond the index is shown as well, as transformers loads it.
        for (place, file) in files.iter().enumerate() {
            for name in file.tensors.keys() {
                owner.entry(name.clone()).or_insert(place);
            }
        }
        Ok(Self { origin: folder.display().to_string(), files, owner })
    }

    fn entry(&self, name: &str) -> Option<(&File, &Entry)> {
        let file = &self.files[*self.owner.get(name)?];
        Some((file, file.tensors.get(name)?))
    }
}

impl Source for SafeTensors {
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
        let format = match entry.dtype {
            Dtype::F32 => Some(Quantisation::F32),
            Dtype::F16 => Some(Quantisation::F16),
            Dtype::BF16 => Some(Quantisation::BF16),
            Dtype::Other => None,
        };
        Some(Stored { format, bytes: entry.at.len() as u64 })
    }

    fn read(&self, name: &str) -> Result<Tensor, WeightsError> {
        let missing = || WeightsError::Missing { file: self.origin(), name: name.to_owned(), nearest: None };
        let (file, entry) = self.entry(name).ok_or_else(missing)?;
        let bytes = &file.bytes[entry.at.clone()];
        let values: Vec<f32> = match entry.dtype {
            Dtype::F32 => bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
            Dtype::F16 => {
                bytes.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect()
            }
            Dtype::BF16 => {
                bytes.as_chunks().0.iter().map(|bytes| bf16::from_le_bytes(*bytes).to_f32()).collect()
            }
            Dtype::Other => {
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
}

impl File {
    fn read(bytes: Bytes) -> Result<Self, WeightsError> {
        let size = bytes.len() as u64;
        let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
            return Err(bytes.malformed("header length", format!("takes 8 bytes, but the file has {size}")));
        };
        let length = u64::from_le_bytes(*length);
        if length > LONGEST_HEADER {
            let reason =
                format!("is {length}, expected at most {LONGEST_HEADER}: this is no safetensors file");
            return Err(bytes.malformed("header length", reason));
        }
        let Some((header, data)) =
            usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length))
        else {
            return Err(
                bytes.malformed("header length", format!("is {length}, but the file has {size} bytes"))
            );
        };
        let header = std::str::from_utf8(header)
            .map_err(|error| bytes.malformed("header", format!("is not UTF-8: {error}")))?;
        let Header(infos) =
            serde_json::from_str(header).map_err(|error| bytes.malformed("header", error.to_string()))?;
        let data_start = size - data.len() as u64;
        let tensors = place(&bytes, infos, data_start, data.len() as u64)?;
        Ok(Self { tensors, bytes })
    }
}

/// Checks the tensors against the format's rules: each as long as its dtype and shape say, and together covering the
/// data without gap or overlap.
fn place(
    bytes: &Bytes,
    mut infos: Vec<(String, Info)>,
    data_start: u64,
    data_length: u64,
) -> Result<BTreeMap<String, Entry>, WeightsError> {
    infos.sort_by_key(|(_, info)| info.data_offsets);
    let mut tensors = BTreeMap::new();
    let mut covered = 0;
    for (name, Info { dtype, shape, data_offsets: (start, end) }) in infos {
        let field = |part: &str| format!("tensor `{name}`: {part}");
        if start > end || end > data_length {
            let reason = format!("are {start} to {end}, but the data has {data_length} bytes");
            return Err(bytes.malformed(field("data_offsets"), reason));
        }
        if start != covered {
            let fault = if start < covered { "overlaps the tensor before it" } else { "leaves a gap" };
            let reason = format!("start at {start}, expected {covered}: {fault}");
            return Err(bytes.malformed(field("data_offsets"), reason));
        }
        covered = end;
        let Some((known, bits)) = dtype_and_bits(&dtype) else {
            return Err(WeightsError::Unsupported {
                file: bytes.file.clone(),
                field: field("dtype"),
                value: format!("`{dtype}`"),
                supported: "F32, F16, BF16".to_owned(),
            });
        };
        let needed = elements(&shape).and_then(|elements| elements.checked_mul(bits));
        let (Some(needed), Some(shape)) = (needed, usable(&shape)) else {
            return Err(
                bytes.malformed(field("shape"), format!("{shape:?} is more than this machine can address"))
            );
        };
        if needed != (end - start) * 8 {
            let reason = format!("{shape:?} of dtype {dtype} does not fit its {} bytes", end - start);
            return Err(bytes.malformed(field("shape"), reason));
        }
        // Inside the file, whose size is a usize.
        let at = (data_start + start) as usize..(data_start + end) as usize;
        tensors.insert(name, Entry { dtype: known, shape, at });
    }
    if covered != data_length {
        let reason = format!("has {data_length} bytes, but the tensors cover {covered}");
        return Err(bytes.malformed("data", reason));
    }
    Ok(tensors)
}

/// The dtypes of the format that whole bytes make up.
fn dtype_and_bits(name: &str) -> Option<(Dtype, u64)> {
    Some(match name {
        "F32" => (Dtype::F32, 32),
        "F16" => (Dtype::F16, 16),
        "BF16" => (Dtype::BF16, 16),
        "F64" | "I64" | "U64" => (Dtype::Other, 64),
        "I32" | "U32" => (Dtype::Other, 32),
        "I16" | "U16" => (Dtype::Other, 16),
        "BOOL" | "I8" | "U8" | "F8_E4M3" | "F8_E5M2" => (Dtype::Other, 8),
        _ => return None,
    })
}

/// The header's tensors in the file's order, each name once.
struct Header(Vec<(String, Info)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;

        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut infos: BTreeMap<String, Info> = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<Option<BTreeMap<String, String>>>()?;
                        continue;
                    }
                    let info = map
                        .next_value()
                        .map_err(|error| A::Error::custom(format!("tensor `{name}`: {error}")))?;
                    if infos.insert(name.clone(), info).is_some() {
                        return Err(A::Error::custom(format!("tensor `{name}` is given twice")));
                    }
                }
                Ok(Header(infos.into_iter().collect()))
            }
        }

        deserializer.deserialize_map(Entries)
    }
}

#[cfg(test)]
#[path = "safetensors_tests.rs"]
mod tests;
