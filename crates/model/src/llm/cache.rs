//! Keys and values of past positions, so that a new token costs one position instead of all.

use candle_core::{DType, Tensor};

use super::{DecoderConfig, Padding};
use crate::{ModelError, Result};

/// The smallest buffer, in positions.
const FIRST_CAPACITY: usize = 64;

/// The keys and values of a batch, for every block.
///
/// Buffers grow by doubling and are written in place: a step copies its own position, not the past. For that reason the
/// cache is not `Clone`.
#[derive(Debug)]
pub struct KeyValueCache {
    layers: Vec<Option<Layer>>,
    padding: Padding,
    len: usize,
}

#[derive(Debug)]
struct Layer {
    /// `[b, groups, capacity, head width]`, positions from `len` on are not defined.
    keys: Tensor,
    values: Tensor,
}

impl KeyValueCache {
    /// An empty cache for a batch whose rows are padded on the left as `padding` says.
    pub fn new(config: &DecoderConfig, padding: Padding) -> Self {
        Self { layers: (0..config.blocks).map(|_| None).collect(), padding, len: 0 }
    }

    /// How many positions are kept, padding included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The left padding of each row.
    pub fn padding(&self) -> &Padding {
        &self.padding
    }

    /// Forgets all positions from `len` on, so that another continuation of the first `len` can follow. Keeping more
    /// than there is changes nothing.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
    }

    /// Writes the keys and values of new positions, `[b, groups, t, head width]`, behind those kept, and returns all of
    /// them. The new ones count only after [`advance`](Self::advance): a pass that fails half-way leaves no trace.
    pub(super) fn write(&mut self, block: usize, keys: &Tensor, values: &Tensor) -> Result<(Tensor, Tensor)> {
        let (_, _, t, _) = keys.dims4()?;
        let total = self.len + t;
        let blocks = self.layers.len();
        let slot =
            self.layers.get_mut(block).ok_or_else(|| ModelError::index("block", block as i64, blocks))?;
        let layer = match slot.take() {
            Some(layer) if layer.keys.dim(2)? >= total => layer,
            old => {
                let capacity = total.next_power_of_two().max(FIRST_CAPACITY);
                Layer {
                    keys: grown(old.as_ref().map(|layer| &layer.keys), keys, self.len, capacity)?,
                    values: grown(old.as_ref().map(|layer| &layer.values), values, self.len, capacity)?,
                }
            }
        };
        layer.keys.slice_set(&keys.contiguous()?, 2, self.len)?;
        layer.values.slice_set(&values.contiguous()?, 2, self.len)?;
        let all = (layer.keys.narrow(2, 0, total)?, layer.values.narrow(2, 0, total)?);
        *slot = Some(layer);
        Ok(all)
    }

    pub(super) fn advance(&mut self, positions: usize) {
        self.len += positions;
    }
}

/// A buffer of `capacity` positions with the first `len` of `old`, shaped otherwise like `like`.
fn grown(old: Option<&Tensor>, like: &Tensor, len: usize, capacity: usize) -> Result<Tensor> {
    let (b, groups, _, width) = like.dims4()?;
    let buffer = Tensor::zeros((b, groups, capacity, width), DType::F32, like.device())?;
    if let Some(old) = old.filter(|_| len > 0) {
        buffer.slice_set(&old.narrow(2, 0, len)?.contiguous()?, 2, 0)?;
    }
    Ok(buffer)
}
