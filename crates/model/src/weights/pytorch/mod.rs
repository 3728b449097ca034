//! PyTorch checkpoints: what `torch.save` of a state dict writes since version 1.6 (`pytorch_model.bin`).
//!
//! The file is a zip archive with nothing compressed: `NAME/data.pkl`, a pickle that says what tensors there are, and
//! `NAME/data/KEY` with the numbers of each storage. A pickle is a program; the interpreter here knows what a state dict
//! needs, calls nothing, and refuses the rest by name. candle's reader (`candle_core::pickle`) is not used because a
//! hostile file makes it allocate what a length says, panic on missing arguments, and skip tensors without an error.
//! Source: the file format is described in PyTorch's notes on serialisation, the opcodes in CPython's `pickletools`.

mod archive;
mod opcodes;
mod pickle;

use std::collections::BTreeMap;

use super::bytes::Bytes;
use super::shards::{Entry, TensorFile};
use super::{WeightsError, elements, usable};
use pickle::Stored;

/// Reads the archive's directory and the pickle, and places every tensor.
pub(super) fn read(bytes: Bytes) -> Result<TensorFile, WeightsError> {
    let tensors = {
        let archive = archive::Archive::read(&bytes)?;
        let mut tensors = BTreeMap::new();
        for (name, stored) in pickle::state_dict(&bytes, archive.pickle()?)? {
            let entry = place(&bytes, &archive, name, &stored)?;
            if tensors.insert(name.to_owned(), entry).is_some() {
                return Err(bytes.malformed(format!("tensor `{name}`"), "is given twice"));
            }
        }
        tensors
    };
    Ok(TensorFile { bytes, tensors })
}

/// Finds a tensor's numbers and sees that all of them are there.
fn place(
    bytes: &Bytes,
    archive: &archive::Archive<'_>,
    name: &str,
    stored: &Stored<'_>,
) -> Result<Entry, WeightsError> {
    let malformed =
        |part: &str, reason: String| Err(bytes.malformed(format!("tensor `{name}`: {part}"), reason));
    let storage = &stored.storage;
    let Some(at) = archive.storage(storage.key) else {
        return malformed("storage", format!("`{}` is not in the archive", storage.key));
    };
    let width = storage.dtype.width();
    if storage.count.checked_mul(width as u64) != Some(at.len() as u64) {
        let reason = format!("of {} numbers does not fit its {} bytes", storage.count, at.len());
        return malformed("storage", reason);
    }
    if stored.shape.len() != stored.strides.len() {
        let reason = format!("{:?} for a shape of {:?}", stored.strides, stored.shape);
        return malformed("strides", reason);
    }
    let (Some(count), Some(shape)) = (elements(&stored.shape), usable(&stored.shape)) else {
        return malformed("shape", format!("{:?} is more than this machine can address", stored.shape));
    };
    // The furthest element, and no more elements than the storage has: torch can repeat numbers with a stride of 0, and
    // a file of a hundred bytes could ask for all memory that way.
    let furthest =
        stored.shape.iter().zip(&stored.strides).try_fold(stored.offset, |furthest, (length, stride)| {
            furthest.checked_add(length.saturating_sub(1).checked_mul(*stride)?)
        });
    let inside = count == 0 || furthest.is_some_and(|furthest| furthest < storage.count);
    if !inside || count > storage.count || stored.offset > storage.count {
        let reason = format!(
            "{:?} with strides {:?} from element {} is not inside the storage of {} numbers",
            stored.shape, stored.strides, stored.offset, storage.count
        );
        return malformed("shape", reason);
    }
    // All of these are now below the length of the file.
    let start = at.start + stored.offset as usize * width;
    if is_rows_first(&stored.shape, &stored.strides) {
        let end = start + count as usize * width;
        return Ok(Entry { dtype: storage.dtype, shape, strides: None, at: start..end });
    }
    // A dimension of one element may have any stride.
    let used = stored.shape.iter().zip(&stored.strides);
    let strides = used.map(|(length, stride)| if *length > 1 { *stride as usize } else { 0 }).collect();
    Ok(Entry { dtype: storage.dtype, shape, strides: Some(strides), at: start..at.end })
}

/// Whether elements follow each other without gaps, the last dimension first.
fn is_rows_first(shape: &[u64], strides: &[u64]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(length, stride)| {
        let right = *length == 1 || *stride == expected;
        expected *= (*length).max(1);
        right
    }) || shape.contains(&0)
}

#[cfg(test)]
mod tests;
