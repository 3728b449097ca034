//! A GGUF file as its bytes lie, for writing it again.

use std::ops::Range;
use std::sync::Arc;

use super::super::WeightsError;
use super::super::bytes::Bytes;
use super::dequantise::Quantisation;
use super::file::{File, TensorEntry};

/// The parts of a file under their stored names and in their stored order.
pub(in super::super) struct RawFile(File);

/// A tensor as it is stored.
#[derive(Debug, Clone)]
pub(in super::super) struct RawTensor<'a> {
    pub(in super::super) name: &'a str,
    /// Rows first.
    pub(in super::super) shape: &'a [usize],
    pub(in super::super) format: Quantisation,
    /// Bytes of the file.
    pub(in super::super) at: Range<usize>,
}

impl RawFile {
    pub(in super::super) fn read(bytes: Arc<Bytes>) -> Result<Self, WeightsError> {
        File::read(bytes).map(Self)
    }

    /// In the order of the data.
    pub(in super::super) fn tensors(&self) -> Vec<RawTensor<'_>> {
        let tensors = self.0.tensors.iter().map(|(name, TensorEntry { shape, quantisation, at })| {
            RawTensor { name, shape, format: *quantisation, at: at.clone() }
        });
        let mut tensors: Vec<RawTensor<'_>> = tensors.collect();
        tensors.sort_by_key(|tensor| tensor.at.start);
        tensors
    }

    /// The numbers of a tensor, in the stored order.
    pub(in super::super) fn values(&self, tensor: &RawTensor<'_>) -> Vec<f32> {
        let row = tensor.shape.last().copied().unwrap_or(1);
        let rows = tensor.shape.iter().product::<usize>() / row.max(1);
        tensor.format.expand_rows(&self.0.bytes[tensor.at.clone()], rows, row, |row| row)
    }

    pub(in super::super) fn version(&self) -> u32 {
        self.0.layout.version
    }

    /// How many pairs of metadata there are.
    pub(in super::super) fn pairs(&self) -> usize {
        self.0.layout.pairs
    }

    /// Where they lie.
    pub(in super::super) fn metadata_range(&self) -> Range<usize> {
        self.0.layout.metadata.clone()
    }

    /// Where the value of a key lies.
    pub(in super::super) fn place(&self, key: &str) -> Option<Range<usize>> {
        self.0.metadata.place(key)
    }

    /// What the place of a tensor is a multiple of.
    pub(in super::super) fn alignment(&self) -> u64 {
        self.0.layout.alignment
    }
}
