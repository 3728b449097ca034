//! Between tensors and the slices that kernels work on.

use candle_core::{CpuStorage, Layout, Shape, Storage, Tensor};
use foveate_kernels::Error;

/// The numbers of an operand. Operands are made contiguous before an operation gets them.
pub(crate) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> candle_core::Result<&'a [f32]> {
    let numbers = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&numbers[start..end]),
        None => candle_core::bail!("operand of shape {:?} is not contiguous", layout.shape()),
    }
}

/// Calls `read` with the numbers of a tensor on the CPU.
///
/// # Errors
/// A tensor that lies elsewhere or is not f32; those of `read`.
pub fn with_slice<T>(
    tensor: &Tensor,
    read: impl FnOnce(&[f32]) -> candle_core::Result<T>,
) -> candle_core::Result<T> {
    let tensor = tensor.contiguous()?;
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(storage) => read(slice(storage, layout)?),
        _ => candle_core::bail!("tensor of shape {:?} is not on the CPU", tensor.shape()),
    }
}

/// Numbers as the result of an operation.
pub(crate) fn result(numbers: Vec<f32>, shape: impl Into<Shape>) -> (CpuStorage, Shape) {
    (CpuStorage::F32(numbers), shape.into())
}

/// Numbers as a tensor of the shape of `tensor`, where it is: the form of its gradient.
pub(crate) fn like(numbers: Vec<f32>, tensor: &Tensor) -> candle_core::Result<Tensor> {
    Tensor::from_vec(numbers, tensor.shape().clone(), tensor.device())
}

/// An error of the kernels as one of the tensor library, whose operations may return no other.
pub(crate) fn wrap(error: Error) -> candle_core::Error {
    candle_core::Error::wrap(error)
}

/// The last dimension, and how many rows of it there are.
pub(crate) fn rows(shape: &Shape) -> (usize, usize) {
    let width = shape.dims().last().copied().unwrap_or(1);
    (shape.elem_count() / width.max(1), width)
}

/// The shape `like` with another last dimension.
pub(crate) fn widened(like: &Shape, width: usize) -> Vec<usize> {
    let mut shape = like.dims().to_vec();
    if let Some(last) = shape.last_mut() {
        *last = width;
    }
    shape
}
