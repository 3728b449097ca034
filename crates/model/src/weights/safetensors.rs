//! The header of a safetensors file.
//!
//! Layout: the length of a JSON header (u64, little-endian), the header, the data. The header gives each tensor's dtype,
//! shape and place in the data. It is read here and not by the crate of that name because that one does not say which
//! tensor broke a rule, and adds up a hostile header's offsets without a check for overflow (a panic in builds that have
//! such checks); tests hold the two against each other. Source: the format's description in the safetensors repository.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Error as _, MapAccess, Visitor};

use super::bytes::Bytes;
use super::shards::{Dtype, Entry, TensorFile};
use super::{WeightsError, elements, usable};

/// The format's limit on the header, in bytes.
const LONGEST_HEADER: u64 = 100_000_000;

/// A tensor as the header gives it.
#[derive(Deserialize)]
struct Info {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// Reads the header of a file and checks it.
pub(super) fn read(bytes: Bytes) -> Result<TensorFile, WeightsError> {
    let size = bytes.len() as u64;
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(bytes.malformed("header length", format!("takes 8 bytes, but the file has {size}")));
    };
    let length = u64::from_le_bytes(*length);
    if length > LONGEST_HEADER {
        let reason = format!("is {length}, expected at most {LONGEST_HEADER}: this is no safetensors file");
        return Err(bytes.malformed("header length", reason));
    }
    let Some((header, data)) = usize::try_from(length).ok().and_then(|length| rest.split_at_checked(length))
    else {
        return Err(bytes.malformed("header length", format!("is {length}, but the file has {size} bytes")));
    };
    let header = std::str::from_utf8(header)
        .map_err(|error| bytes.malformed("header", format!("is not UTF-8: {error}")))?;
    let Header(infos) =
        serde_json::from_str(header).map_err(|error| bytes.malformed("header", error.to_string()))?;
    let data_start = size - data.len() as u64;
    let tensors = place(&bytes, infos, data_start, data.len() as u64)?;
    Ok(TensorFile { bytes, tensors })
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
        let Some(known) = dtype_named(&dtype) else {
            return Err(WeightsError::Unsupported {
                file: bytes.file.clone(),
                field: field("dtype"),
                value: format!("`{dtype}`"),
                supported: "F32, F16, BF16, I8".to_owned(),
            });
        };
        let needed = elements(&shape).and_then(|elements| elements.checked_mul(known.width() as u64));
        let (Some(needed), Some(shape)) = (needed, usable(&shape)) else {
            return Err(
                bytes.malformed(field("shape"), format!("{shape:?} is more than this machine can address"))
            );
        };
        if needed != end - start {
            let reason = format!("{shape:?} of dtype {dtype} does not fit its {} bytes", end - start);
            return Err(bytes.malformed(field("shape"), reason));
        }
        // Inside the file, whose size is a usize.
        let at = (data_start + start) as usize..(data_start + end) as usize;
        tensors.insert(name, Entry { dtype: known, shape, strides: None, at });
    }
    if covered != data_length {
        let reason = format!("has {data_length} bytes, but the tensors cover {covered}");
        return Err(bytes.malformed("data", reason));
    }
    Ok(tensors)
}

/// The dtypes of the format that whole bytes make up.
fn dtype_named(name: &str) -> Option<Dtype> {
    Some(match name {
        "F32" => Dtype::F32,
        "F16" => Dtype::F16,
        "BF16" => Dtype::BF16,
        "I8" => Dtype::I8,
        _ => {
            const OTHERS: [(&str, usize); 11] = [
                ("F64", 8),
                ("I64", 8),
                ("U64", 8),
                ("I32", 4),
                ("U32", 4),
                ("I16", 2),
                ("U16", 2),
                ("BOOL", 1),
                ("U8", 1),
                ("F8_E4M3", 1),
                ("F8_E5M2", 1),
            ];
            let (name, width) = OTHERS.into_iter().find(|(other, _)| *other == name)?;
            Dtype::other(name, width)
        }
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
