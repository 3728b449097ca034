//! Matrices of a checkpoint, packed for the kernels as they are read.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::Tensor;
use foveate_kernels::{Format, Matrix, Source};
use foveate_nn::threads::pool;
use foveate_nn::with_slice;

use super::Weights;
use crate::dtype::{Dtype, blocks_as};
use crate::{ModelError, Result};

/// Names of a low-rank change beside a `weight`, as PEFT has them.
pub(super) const LORA_A: &str = "lora_A.weight";
pub(super) const LORA_B: &str = "lora_B.weight";

/// Matrices that were packed already, by what they were made of.
type Packed = HashMap<String, Arc<Matrix>>;

/// How the matrices of a checkpoint are kept.
#[derive(Clone, Debug)]
pub(super) struct Packing {
    dtype: Dtype,
    /// Whether int8 has one scale for each row of activations, rather than one for each 32 of its numbers.
    by_row: bool,
    /// Those that were packed already; `None` to pack anew whenever a model is loaded.
    again: Option<Arc<Mutex<Packed>>>,
}

/// A matrix as it is kept.
pub(crate) enum Kept {
    Tensor(Tensor),
    Packed(Arc<Matrix>),
}

/// A low-rank change of a matrix W `[out, in]`: W + scale · B A.
#[derive(Clone, Debug)]
pub struct LowRank {
    /// A, `[rank, in]`.
    pub a: Tensor,
    /// B, `[out, rank]`.
    pub b: Tensor,
    /// What B A is multiplied by.
    pub scale: f64,
}

impl LowRank {
    /// W with the change.
    ///
    /// # Errors
    /// A matrix of another shape.
    pub fn added_to(&self, weight: &Tensor) -> Result<Tensor> {
        Ok((weight + (self.b.matmul(&self.a)? * self.scale)?)?)
    }
}

impl Weights {
    /// The same weights, with the matrices of linear layers kept as `dtype`, packed for the CPU and frozen. Without this
    /// they are f32 tensors. Weights on another device stay tensors.
    #[must_use]
    pub fn packed(self, dtype: Dtype) -> Self {
        let packing = self.on_cpu().then_some(Packing { dtype, by_row: false, again: None });
        Self { packing, ..self }
    }

    /// As [`packed`](Self::packed), and whatever is loaded from this value, its clones and views of the same tensors shares
    /// one copy of each matrix: for training, which builds models on the same frozen parts again and again. Each view is
    /// to show the same tensors under the same names, but for [live](Self::with_live) ones, which are not packed at all.
    #[must_use]
    pub fn packed_once(self, dtype: Dtype) -> Self {
        let packing = self.on_cpu().then(|| Packing { dtype, by_row: false, again: Some(Arc::default()) });
        Self { packing, ..self }
    }

    /// The same weights with low-rank changes (`lora_A.weight` `[rank, in]` and `lora_B.weight` `[out, rank]` beside a
    /// `weight` `[out, in]`) multiplied by `scale`; 1 unless this is called.
    #[must_use]
    pub fn with_adapter_scale(self, scale: f64) -> Self {
        Self { adapter_scale: scale, ..self }
    }

    /// The same weights for a vision tower, whose activations have no outliers: int8 takes one scale for each row.
    /// Towers ask for it themselves.
    #[must_use]
    pub fn by_row(&self) -> Self {
        let packing = self.packing.clone().map(|packing| Packing { by_row: true, ..packing });
        Self { packing, ..self.clone() }
    }

    /// The same weights with at least 16 bits to a number, for what reads pixels.
    pub(crate) fn without_int8(&self) -> Self {
        let at_least = |packing: Packing| match packing.dtype {
            Dtype::Int8 => Packing { dtype: Dtype::Bf16, ..packing },
            _ => packing,
        };
        Self { packing: self.packing.clone().map(at_least), ..self.clone() }
    }

    /// How `weight` is packed, with `k` numbers in a row; `None` where it stays a tensor.
    fn format(&self, k: usize) -> Option<Format> {
        let &Packing { dtype, by_row, .. } = self.packing.as_ref()?;
        if self.is_live("weight") {
            return None;
        }
        let stored = self.stored("weight").and_then(|stored| stored.format);
        Some(dtype.format(stored, k, by_row))
    }

    /// Whether a low-rank change is merged into `weight` as it is read. Beside it stays one that is trained, and one of a
    /// matrix that is kept in scaled integers: these are what it was trained with, and to round the sum to integers again
    /// would cost more accuracy than two thin products cost time.
    fn merges(&self, k: usize) -> bool {
        let floats = |format| matches!(format, Format::F32 | Format::Bf16 | Format::F16);
        self.contains(LORA_A) && !self.is_live(LORA_A) && self.format(k).is_none_or(floats)
    }

    /// The low-rank change that is to be computed beside `weight` `[output, k]`, if there is one.
    ///
    /// # Errors
    /// A tensor of it that is missing or has another shape.
    pub(crate) fn beside(&self, output: usize, k: usize) -> Result<Option<LowRank>> {
        if self.merges(k) { Ok(None) } else { self.low_rank(output, k) }
    }

    fn low_rank(&self, output: usize, k: usize) -> Result<Option<LowRank>> {
        let Some(shape) = self.shape(LORA_A) else { return Ok(None) };
        let rank = shape.dims().first().copied().unwrap_or(0);
        let (a, b) = (self.get((rank, k), LORA_A)?, self.get((output, rank), LORA_B)?);
        Ok(Some(LowRank { a, b, scale: self.adapter_scale }))
    }

    /// Cuts `parts` (with the outputs of each) into runs that can be one matrix: all of them, or each alone.
    pub(crate) fn alike(parts: &[(Self, usize)], k: usize) -> Vec<&[(Self, usize)]> {
        let first = parts.first().and_then(|(weights, _)| weights.format(k));
        let alike = |(weights, _): &(Self, usize)| {
            weights.format(k) == first && (!weights.contains(LORA_A) || weights.merges(k))
        };
        if first.is_some() && parts.iter().all(alike) { vec![parts] } else { parts.chunks(1).collect() }
    }

    /// The matrix whose rows are those of `weight` `[output, k]` of each part, one after the other. `gains` `[output]`
    /// multiply the rows of a single part.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub(crate) fn matrix(parts: &[(Self, usize)], k: usize, gains: Option<&Tensor>) -> Result<Kept> {
        let tensor = |(weights, output): &(Self, usize)| -> Result<Tensor> {
            let mut weight = weights.get((*output, k), "weight")?;
            if weights.merges(k)
                && let Some(change) = weights.low_rank(*output, k)?
            {
                weight = change.added_to(&weight)?;
            }
            Ok(match gains {
                Some(gains) => weight.broadcast_mul(&gains.unsqueeze(1)?)?,
                None => weight,
            })
        };
        let Some(first) = parts.first() else { return Err(ModelError::EmptyInput) };
        let Some(format) = first.0.format(k) else { return Ok(Kept::Tensor(tensor(first)?)) };
        let names: Vec<&str> = parts.iter().map(|(weights, _)| weights.prefix.as_str()).collect();
        first.0.once(&names.join(" "), format, || {
            let n = parts.iter().map(|(_, output)| output).sum();
            // Rows that are to be changed are no longer the stored blocks.
            let as_stored = gains.is_none() && !parts.iter().any(|(weights, _)| weights.merges(k));
            let stored = if as_stored { blocks(parts, format, k)? } else { None };
            if let Some(blocks) = stored {
                let matrix = pack(Source::Blocks(&blocks), format, n, k)?;
                parts.iter().for_each(|(weights, _)| weights.release("weight"));
                return Ok(matrix);
            }
            let tensors = parts.iter().map(tensor).collect::<Result<Vec<_>>>()?;
            Self::pack_tensor_as(&Tensor::cat(&tensors, 0)?, format)
        })
    }

    /// Packs `weight` `[n, k]`, a form of the tensor `weight` of these weights, as they are packed.
    pub(crate) fn keep(&self, weight: Tensor) -> Result<Kept> {
        match self.format(weight.dim(1)?) {
            Some(format) => self.once(&self.prefix, format, || Self::pack_tensor_as(&weight, format)),
            None => Ok(Kept::Tensor(weight)),
        }
    }

    /// The matrix made of the tensors below `prefixes`: the one that is there, or what `make` gives.
    fn once(&self, prefixes: &str, format: Format, make: impl FnOnce() -> Result<Matrix>) -> Result<Kept> {
        let Some(again) = self.packing.as_ref().and_then(|packing| packing.again.as_ref()) else {
            return Ok(Kept::Packed(Arc::new(make()?)));
        };
        let key = format!("{format} {prefixes}");
        // Matrices are whole once they are in the map, even if a thread died while it held the lock.
        let mut again = again.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(matrix) = again.get(&key) {
            return Ok(Kept::Packed(Arc::clone(matrix)));
        }
        let matrix = Arc::new(make()?);
        again.insert(key, Arc::clone(&matrix));
        Ok(Kept::Packed(matrix))
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::{Device, Var};

    use super::*;
    use crate::nn::Linear;

    fn tensor(rows: usize, columns: usize, seed: usize) -> Tensor {
        let values: Vec<f32> = (0..rows * columns).map(|at| ((at * 31 + seed) as f32 * 0.7).sin()).collect();
        Tensor::from_vec(values, (rows, columns), &Device::Cpu).unwrap()
    }

    fn low_rank() -> HashMap<String, Tensor> {
        HashMap::from([(LORA_A.to_owned(), tensor(2, 64, 1)), (LORA_B.to_owned(), tensor(96, 2, 2))])
    }

    fn matrix(weights: &Weights) -> Arc<Matrix> {
        match Weights::matrix(&[(weights.clone(), 96)], 64, None).unwrap() {
            Kept::Packed(matrix) => matrix,
            Kept::Tensor(_) => panic!("a frozen matrix is packed"),
        }
    }

    #[test]
    fn models_on_the_same_frozen_tensors_share_their_matrices() {
        let weights = Weights::from_tensors(HashMap::from([("weight".to_owned(), tensor(96, 64, 0))]));
        let frozen = weights.clone().packed_once(Dtype::Bf16);
        let first = matrix(&frozen);
        assert!(Arc::ptr_eq(&first, &matrix(&frozen.with_live(low_rank()))));
        // Not between dtypes, and not without being asked.
        assert!(!Arc::ptr_eq(&first, &matrix(&weights.clone().packed_once(Dtype::Bf16))));
        let anew = weights.packed(Dtype::Bf16);
        assert!(!Arc::ptr_eq(&matrix(&anew), &matrix(&anew)));
    }

    #[test]
    fn a_low_rank_change_is_the_same_beside_a_matrix_and_merged_into_it() {
        let weights = Weights::from_tensors(HashMap::from([("weight".to_owned(), tensor(96, 64, 0))]));
        let x = tensor(5, 64, 3);
        let product = tensor(96, 2, 2).matmul(&tensor(2, 64, 1)).unwrap();
        let changed = (tensor(96, 64, 0) + (product * 0.5).unwrap()).unwrap();
        let expected = x.matmul(&changed.t().unwrap()).unwrap();
        let load = |weights: Weights| Linear::load(&weights.with_adapter_scale(0.5), 64, 96, false).unwrap();
        let live = weights.with_live(low_rank());
        let stored = weights.with_tensors(low_rank());
        for (way, layer) in [
            ("live, tensors", load(live.clone())),
            ("live, packed", load(live.packed(Dtype::F32))),
            ("stored, tensors", load(stored.clone())),
            ("stored, packed", load(stored.packed(Dtype::F32))),
        ] {
            let residual = tensor(5, 96, 4);
            let added = (layer.forward_added(&x, &residual).unwrap() - residual).unwrap();
            for y in [layer.forward(&x).unwrap(), added] {
                let apart = (y - &expected).unwrap().abs().unwrap().max_all().unwrap();
                assert!(apart.to_scalar::<f32>().unwrap() < 1e-4, "{way}: {apart}");
            }
        }
    }

    #[test]
    fn gradients_reach_a_change_of_a_packed_matrix() {
        let weights = Weights::from_tensors(HashMap::from([("weight".to_owned(), tensor(96, 64, 0))]));
        let variables: HashMap<String, Var> =
            low_rank().into_iter().map(|(name, value)| (name, Var::from_tensor(&value).unwrap())).collect();
        let live = variables.iter().map(|(name, variable)| (name.clone(), variable.as_tensor().clone()));
        let weights = weights.packed_once(Dtype::Bf16).with_live(live.collect());
        let layer = Linear::load(&weights, 64, 96, false).unwrap();
        let x = tensor(5, 64, 3);
        let store = layer.forward(&x).unwrap().sum_all().unwrap().backward().unwrap();
        // Of Σ x Aᵀ Bᵀ: each row of B gets Σ x Aᵀ.
        let expected = x.matmul(&tensor(2, 64, 1).t().unwrap()).unwrap().sum(0).unwrap();
        let found = store.get(&variables[LORA_B]).unwrap().get(7).unwrap();
        let apart = (found - expected).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(apart < 1e-4, "{apart}");
        assert!(store.get(&variables[LORA_A]).is_some());
        // What changes in place is seen.
        let before = layer.forward(&x).unwrap();
        variables[LORA_B].set(&tensor(96, 2, 9)).unwrap();
        let apart = (layer.forward(&x).unwrap() - before).unwrap().abs().unwrap().max_all().unwrap();
        assert!(apart.to_scalar::<f32>().unwrap() > 0.1);
    }
}
