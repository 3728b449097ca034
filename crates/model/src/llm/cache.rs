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
    /// More positions are never kept.
    context: usize,
}

impl KeyValueCache {
    /// An empty cache for a batch whose rows are padded on the left as `padding` says.
    pub fn new(config: &DecoderConfig, padding: Padding) -> Self {
        let layers = (0..config.blocks).map(|_| None).collect();
        Self { layers, padding, len: 0, context: config.context.max(FIRST_CAPACITY) }
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

    /// A cache of its own that holds the first `len` positions, or all where there are fewer.
    ///
    /// # Errors
    /// Only those of the tensor library.
    pub fn copy(&self, len: usize) -> Result<Self> {
        let len = len.min(self.len);
        let copy = |buffer: &Tensor| {
            let (b, _, width) = buffer.dims3()?;
            let capacity = len.next_power_of_two().clamp(FIRST_CAPACITY, self.context.max(len));
            let copy = Tensor::zeros((b, capacity, width), DType::F32, buffer.device())?;
            if len > 0 {
                copy.slice_set(&buffer.narrow(1, 0, len)?.contiguous()?, 1, 0)?;
            }
            Ok(copy)
        };
        let layers = self.layers.iter().map(|layer| layer.as_ref().map(copy).transpose());
        let layers = layers.collect::<Result<_>>()?;
        Ok(Self { layers, padding: self.padding.clone(), len, context: self.context })
    }

    /// Bytes of the buffers.
    pub fn bytes(&self) -> usize {
        let bytes = |buffer: &Tensor| buffer.elem_count() * buffer.dtype().size_in_bytes();
        self.layers.iter().flatten().map(bytes).sum()
    }

    /// Writes the keys and values of new positions, `[b, t, 2 · keys]`, behind those kept, and returns the block's buffer
    /// with how many positions of it count. The new ones are kept only after [`advance`](Self::advance): a pass that
    /// fails half-way leaves no trace.
    pub(super) fn write(&mut self, block: usize, keys_values: &Tensor) -> Result<(&Tensor, usize)> {
        let (b, t, width) = keys_values.dims3()?;
        let (kept, total, blocks) = (self.len, self.len + t, self.layers.len());
        let slot =
            self.layers.get_mut(block).ok_or_else(|| ModelError::index("block", block as i64, blocks))?;
        // A tensor is a handle: the slot keeps its own until the new buffer is complete.
        let buffer = match &*slot {
            Some(buffer) if buffer.dim(1)? >= total => buffer.clone(),
            old => {
                let capacity = total.next_power_of_two().clamp(FIRST_CAPACITY, self.context.max(total));
                let buffer = Tensor::zeros((b, capacity, width), DType::F32, keys_values.device())?;
                if let Some(old) = old.as_ref().filter(|_| kept > 0) {
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
