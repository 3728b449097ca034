//! Matrices of a checkpoint, packed for the kernels as they are read.

use std::borrow::Cow;

use candle_core::Tensor;
use foveate_kernels::{Format, Matrix, Source};
use foveate_nn::threads::pool;
use foveate_nn::with_slice;

use super::Weights;
use crate::dtype::{Dtype, blocks_as};
use crate::{ModelError, Result};

/// How the matrices of a checkpoint are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Packing {
    dtype: Dtype,
    /// Whether int8 has one scale for each row of activations, rather than one for each 32 of its numbers.
    by_row: bool,
}

/// A matrix as it is kept.
pub(crate) enum Kept {
    Tensor(Tensor),
    Packed(Matrix),
}

impl Weights {
    /// The same weights, with the matrices of linear layers kept as `dtype`, packed for the CPU and frozen. Without this
    /// they are f32 tensors. Weights on another device stay tensors.
    #[must_use]
    pub fn packed(self, dtype: Dtype) -> Self {
        let packing = self.on_cpu().then_some(Packing { dtype, by_row: false });
        Self { packing, ..self }
    }

    /// The same weights for a vision tower, whose activations have no outliers: int8 takes one scale for each row.
    /// Towers ask for it themselves.
    #[must_use]
    pub fn by_row(&self) -> Self {
        let packing = self.packing.map(|packing| Packing { by_row: true, ..packing });
        Self { packing, ..self.clone() }
    }

    /// The same weights with at least 16 bits to a number, for what reads pixels.
    pub(crate) fn without_int8(&self) -> Self {
        let at_least = |packing: Packing| match packing.dtype {
            Dtype::Int8 => Packing { dtype: Dtype::Bf16, ..packing },
            _ => packing,
        };
        Self { packing: self.packing.map(at_least), ..self.clone() }
    }

    /// How `weight` is packed, with `k` numbers in a row; `None` where it stays a tensor.
    fn format(&self, k: usize) -> Option<Format> {
        let Packing { dtype, by_row } = self.packing?;
        let stored = self.stored("weight").and_then(|stored| stored.format);
        Some(dtype.format(stored, k, by_row))
    }

    /// Cuts `parts` (with the outputs of each) into runs that can be one matrix: all of them, or each alone.
    pub(crate) fn alike(parts: &[(Self, usize)], k: usize) -> Vec<&[(Self, usize)]> {
        let first = parts.first().and_then(|(weights, _)| weights.format(k));
        if first.is_some() && parts.iter().all(|(weights, _)| weights.format(k) == first) {
            vec![parts]
        } else {
            parts.chunks(1).collect()
        }
    }

    /// The matrix whose rows are those of `weight` `[output, k]` of each part, one after the other. `gains` `[output]`
    /// multiply the rows of a single part.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub(crate) fn matrix(parts: &[(Self, usize)], k: usize, gains: Option<&Tensor>) -> Result<Kept> {
        let tensor = |(weights, output): &(Self, usize)| -> Result<Tensor> {
            let weight = weights.get((*output, k), "weight")?;
            Ok(match gains {
                Some(gains) => weight.broadcast_mul(&gains.unsqueeze(1)?)?,
                None => weight,
            })
        };
        let Some(first) = parts.first() else { return Err(ModelError::EmptyInput) };
        let Some(format) = first.0.format(k) else { return Ok(Kept::Tensor(tensor(first)?)) };
        let n = parts.iter().map(|(_, output)| output).sum();
        // Rows that are to be scaled are no longer the stored blocks.
        let stored = if gains.is_none() { blocks(parts, format, k)? } else { None };
        if let Some(blocks) = stored {
            let matrix = pack(Source::Blocks(&blocks), format, n, k)?;
            parts.iter().for_each(|(weights, _)| weights.release("weight"));
            return Ok(Kept::Packed(matrix));
        }
        let tensors = parts.iter().map(tensor).collect::<Result<Vec<_>>>()?;
        Ok(Kept::Packed(Self::pack_tensor_as(&Tensor::cat(&tensors, 0)?, format)?))
    }

    /// Packs `weight` `[n, k]`, a form of the tensor `weight` of these weights, as they are packed.
    pub(crate) fn keep(&self, weight: Tensor) -> Result<Kept> {
        match self.format(weight.dim(1)?) {
            Some(format) => Ok(Kept::Packed(Self::pack_tensor_as(&weight, format)?)),
            None => Ok(Kept::Tensor(weight)),
        }
    }

    fn pack_tensor_as(weight: &Tensor, format: Format) -> Result<Matrix> {
        let (n, k) = weight.dims2()?;
        // Formats that hold blocks of a file only: the numbers were changed on the way.
        let format = if format.takes_floats() { format } else { Format::Q8_0 };
        let mut packed = None;
        with_slice(weight, |numbers| {
            packed = Some(pack(Source::F32(numbers), format, n, k));
            Ok(())
        })?;
        packed.unwrap_or(Err(ModelError::EmptyInput))
    }
}

/// The stored blocks of all parts, if they are those of `format`.
fn blocks<'a>(parts: &'a [(Weights, usize)], format: Format, k: usize) -> Result<Option<Cow<'a, [u8]>>> {
    let mut all: Option<Cow<'a, [u8]>> = None;
    for (weights, output) in parts {
        let stored = weights.stored("weight").and_then(|stored| stored.format);
        if stored.and_then(|stored| blocks_as(stored, k)) != Some(format) {
            return Ok(None);
        }
        let Some(blocks) = weights.blocks((*output, k), "weight")? else { return Ok(None) };
        match &mut all {
            None => all = Some(blocks),
            Some(all) => all.to_mut().extend_from_slice(&blocks),
        }
    }
    Ok(all)
}

fn pack(source: Source<'_>, format: Format, n: usize, k: usize) -> Result<Matrix> {
    Matrix::pack(source, format, n, k, &pool()).map_err(ModelError::Kernels)
}
