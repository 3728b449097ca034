//! The layout of a GGUF file, versions 2 and 3: magic, version, counts, metadata, tensor table, padding, data.
//!
//! Everything in the header is checked when the file is opened, so that reading a tensor later cannot run out of
//! bounds, and nothing is allocated that is not in proportion to bytes of the file.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use candle_core::{Device, Shape, Tensor};

use super::super::WeightsError;
use super::super::bytes::Bytes;
use super::cursor::Cursor;
use super::dequantise::Quantisation;
use super::metadata::Metadata;

/// Where a tensor is and how it is stored.
#[derive(Debug, Clone)]
pub(super) struct TensorEntry {
    /// Rows first, as the rest of foveate has it (the file has the reverse).
    pub(super) shape: Vec<usize>,
    /// The stored type.
    pub(super) quantisation: Quantisation,
    /// Bytes of the file.
    at: Range<usize>,
}

impl TensorEntry {
    /// Whether it is a vector whose numbers can be told apart without expanding blocks.
    pub(super) fn is_plain_vector(&self) -> bool {
        self.shape.len() == 1 && self.quantisation.block().0 == 1
    }
}

/// The header of a GGUF file, with access to its tensors under their stored names.
pub(super) struct File {
    pub(super) bytes: Arc<Bytes>,
    pub(super) metadata: Metadata,
    pub(super) tensors: BTreeMap<String, TensorEntry>,
}

/// The format's limit on dimensions.
const MOST_DIMENSIONS: u32 = 4;

impl File {
    pub(super) fn read(bytes: Bytes) -> Result<Self, WeightsError> {
        let bytes = Arc::new(bytes);
        let mut cursor = Cursor::new(&bytes);
        let magic: [u8; 4] = cursor.array(|| "magic".to_owned())?;
        if &magic != b"GGUF" {
            return Err(bytes.malformed("magic", format!("is `{}`, expected `GGUF`", magic.escape_ascii())));
        }
        let version = cursor.u32(|| "version".to_owned())?;
        if !(2..=3).contains(&version) {
            return Err(WeightsError::Unsupported {
                file: bytes.file.clone(),
                field: "version".to_owned(),
                value: version.to_string(),
                supported: "2 and 3, little-endian".to_owned(),
            });
        }
        // The least a tensor takes: name length, dimensions' count, one dimension, type, offset. The least a pair takes:
        // key length, type, a byte.
        let tensor_count = cursor.count(32, || "tensor count".to_owned())?;
        let pair_count = cursor.count(13, || "metadata count".to_owned())?;
        let metadata = Metadata::read(&bytes, &mut cursor, pair_count)?;
        let alignment = alignment(&metadata)?;
        refuse_parts(&metadata)?;

        let mut table = Vec::with_capacity(tensor_count);
        for index in 0..tensor_count {
            table.push(read_entry(&bytes, &mut cursor, index, alignment)?);
        }
        let data_start = (cursor.position() as u64).next_multiple_of(alignment);
        let tensors = place(&bytes, table, data_start)?;
        Ok(Self { metadata, tensors, bytes })
    }

    /// Reads a tensor as f32 in its stored shape; row r of the result is row `source_row(r)` of the file, where a row
    /// is a run along the last dimension, or one number of a vector that is not quantised.
    pub(super) fn tensor(
        &self,
        name: &str,
        source_row: impl Fn(usize) -> usize + Sync,
    ) -> Result<Tensor, WeightsError> {
        let file = || self.bytes.file.clone();
        let entry = self.tensors.get(name).ok_or_else(|| WeightsError::missing(&self.bytes.file, name))?;
        let elements: usize = entry.shape.iter().product();
        let row_length = if entry.is_plain_vector() { 1 } else { entry.shape.last().copied().unwrap_or(1) };
        let rows = elements / row_length;
        let values =
            entry.quantisation.expand_rows(&self.bytes[entry.at.clone()], rows, row_length, source_row);
        Tensor::from_vec(values, Shape::from(entry.shape.clone()), &Device::Cpu)
            .map_err(WeightsError::tensor(file(), name))
    }

    /// The bytes of a tensor stored in blocks, its rows in the order of [`File::tensor`]; `None` for numbers without
    /// blocks.
    pub(super) fn blocks(
        &self,
        name: &str,
        source_row: Option<&dyn Fn(usize) -> usize>,
    ) -> Option<Cow<'_, [u8]>> {
        let entry = self.tensors.get(name)?;
        let (length, bytes) = entry.quantisation.block();
        let row_length = *entry.shape.last()?;
        if length == 1 || row_length == 0 {
            return None;
        }
        let stored = &self.bytes[entry.at.clone()];
        let Some(source_row) = source_row else { return Some(Cow::Borrowed(stored)) };
        let row_bytes = row_length / length * bytes;
        let rows = (0..stored.len() / row_bytes).map(source_row);
        Some(rows.flat_map(|row| &stored[row * row_bytes..][..row_bytes]).copied().collect())
    }

    pub(super) fn release(&self, name: &str) {
        if let Some(entry) = self.tensors.get(name) {
            self.bytes.release(entry.at.clone());
        }
    }
}

fn alignment(metadata: &Metadata) -> Result<u64, WeightsError> {
    const KEY: &str = "general.alignment";
    let alignment = metadata.get::<u64>(KEY)?.unwrap_or(32);
    // The cap is far above what anybody writes and keeps sums of offsets away from overflow.
    if alignment.is_power_of_two() && alignment <= 1 << 30 {
        Ok(alignment)
    } else {
        Err(metadata.invalid(KEY, format!("is {alignment}, expected a power of two up to 2^30")))
    }
}

/// Models cut into several files are joined by llama.cpp's own tool before they get here.
fn refuse_parts(metadata: &Metadata) -> Result<(), WeightsError> {
    const KEY: &str = "split.count";
    match metadata.get::<u64>(KEY)? {
        Some(parts) if parts > 1 => Err(metadata.unsupported(
            KEY,
            &parts.to_string(),
            "a whole model in one file (`llama-gguf-split --merge`)",
        )),
        _ => Ok(()),
    }
}

/// A line of the tensor table, before its place in the file is known.
struct Row {
    name: String,
    shape: Vec<usize>,
    quantisation: Quantisation,
    offset: u64,
    length: u64,
}

fn read_entry(
    bytes: &Bytes,
    cursor: &mut Cursor<'_>,
    index: usize,
    alignment: u64,
) -> Result<Row, WeightsError> {
    let name = cursor.text(|| format!("name of tensor {index}"))?;
    let field = |part: &str| format!("tensor `{name}`: {part}");
    let dimensions = cursor.u32(|| field("number of dimensions"))?;
    if !(1..=MOST_DIMENSIONS).contains(&dimensions) {
        return Err(bytes.malformed(
            field("number of dimensions"),
            format!("is {dimensions}, expected 1 to {MOST_DIMENSIONS}"),
        ));
    }
    let mut shape = Vec::with_capacity(dimensions as usize);
    for axis in 0..dimensions {
        let length = cursor.u64(|| field(&format!("dimension {axis}")))?;
        let usable = usize::try_from(length).ok().filter(|length| *length > 0);
        shape.push(usable.ok_or_else(|| {
            bytes.malformed(field(&format!("dimension {axis}")), format!("is {length}, expected 1 or more"))
        })?);
    }
    let number = cursor.u32(|| field("type"))?;
    let quantisation = Quantisation::numbered(number).ok_or_else(|| WeightsError::Unsupported {
        file: bytes.file.clone(),
        field: field("type"),
        value: format!("number {number}"),
        supported: Quantisation::SUPPORTED.to_owned(),
    })?;
    let (block_length, block_bytes) = quantisation.block();
    // The file's order: the first dimension is the row.
    if shape[0] % block_length != 0 {
        let reason = format!("is {}, but {quantisation:?} comes in blocks of {block_length}", shape[0]);
        return Err(bytes.malformed(field("dimension 0"), reason));
    }
    let elements = shape.iter().try_fold(1u64, |product, length| product.checked_mul(*length as u64));
    // f32 values of every tensor must be addressable, too.
    let length = elements
        .filter(|elements| elements.checked_mul(4).is_some_and(|bytes| bytes <= isize::MAX as u64))
        .and_then(|elements| (elements / block_length as u64).checked_mul(block_bytes as u64))
        .ok_or_else(|| bytes.malformed(field("dimensions"), format!("{shape:?} are too many elements")))?;
    let offset = cursor.u64(|| field("offset"))?;
    if offset % alignment != 0 {
        return Err(bytes.malformed(field("offset"), format!("is {offset}, not a multiple of {alignment}")));
    }
    shape.reverse();
    Ok(Row { name: name.to_owned(), shape, quantisation, offset, length })
}

/// Turns offsets into places in the file, and refuses tensors that overlap, pass the end or share a name.
fn place(
    bytes: &Bytes,
    mut table: Vec<Row>,
    data_start: u64,
) -> Result<BTreeMap<String, TensorEntry>, WeightsError> {
    table.sort_by_key(|row| row.offset);
    let mut tensors: BTreeMap<String, TensorEntry> = BTreeMap::new();
    let mut previous: Option<(String, u64)> = None;
    for Row { name, shape, quantisation, offset, length } in table {
        let field = format!("tensor `{name}`");
        if let Some((before, end)) = previous.filter(|(_, end)| offset < *end) {
            let reason = format!("starts at {offset}, inside tensor `{before}`, which ends at {end}");
            return Err(bytes.malformed(field, reason));
        }
        let end = offset.checked_add(length).and_then(|end| Some((end, end.checked_add(data_start)?)));
        let Some((end, stop)) = end.filter(|(_, stop)| *stop <= bytes.len() as u64) else {
            let left = (bytes.len() as u64).saturating_sub(data_start);
            let reason = format!(
                "has {length} bytes ({quantisation:?}, shape {shape:?}) at offset {offset}, but the file has {left} bytes of data"
            );
            return Err(bytes.malformed(field, reason));
        };
        // Both ends are within the file, whose length is a usize.
        let at = (stop - length) as usize..stop as usize;
        previous = Some((name.clone(), end));
        if tensors.insert(name, TensorEntry { shape, quantisation, at }).is_some() {
            return Err(bytes.malformed(field, "is given twice"));
        }
    }
    Ok(tensors)
}
