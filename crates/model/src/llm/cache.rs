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
    /// `[b, capacity, 2 · keys]` for each block: keys, then values; positions from `len` on are not defined.
    layers: Vec<Option<Tensor>>,
    padding: Padding,
    len: usize,
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

    /// Writes the keys and values of new positions, `[b, t, 2 · keys]`, behind those kept, and returns the block's buffer
    /// with how many positions of it count. The new ones are kept only after [`advance`](Self::advance): a pass that
    /// fails half-way leaves no trace.
    pub(super) fn write(&mut self, block: usize, keys_values: &Tensor) -> Result<(&Tensor, usize)> {
        let (b, t, width) = keys_values.dims3()?;
        let (kept, total, blocks) = (self.len, self.len + t, self.layers.len());
        let slot =
            self.layers.get_mut(block).ok_or_else(|| ModelError::index("block", block as i64, blocks))?;
        let buffer = match slot.take() {
            Some(buffer) if buffer.dim(1)? >= total => buffer,
            old => {
                let capacity = total.next_power_of_two().max(FIRST_CAPACITY);
                let buffer = Tensor::zeros((b, capacity, width), DType::F32, keys_values.device())?;
                if let Some(old) = old.filter(|_| kept > 0) {
                    buffer.slice_set(&old.narrow(1, 0, kept)?.contiguous()?, 1, 0)?;
                }
                buffer
            }
        };
        buffer.slice_set(&keys_values.contiguous()?, 1, kept)?;
        Ok((slot.insert(buffer), total))
    }

    pub(super) fn advance(&mut self, positions: usize) {
        self.len += positions;
    }
}
