//! Tensors that are in memory already.

use std::collections::HashMap;

use candle_core::{DType, Shape, Tensor};

use super::gguf::Quantisation;
use super::{Source, Stored, WeightsError};

pub(super) struct InMemory(HashMap<String, Tensor>);

impl InMemory {
    pub(super) fn new(tensors: HashMap<String, Tensor>) -> Self {
        Self(tensors)
    }
}

impl Source for InMemory {
    fn origin(&self) -> String {
        "tensors in memory".to_owned()
    }

    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn shape(&self, name: &str) -> Option<Shape> {
        self.0.get(name).map(|tensor| tensor.shape().clone())
    }

    fn stored(&self, name: &str) -> Option<Stored> {
        let tensor = self.0.get(name)?;
        let format = match tensor.dtype() {
            DType::F32 => Some(Quantisation::F32),
            DType::F16 => Some(Quantisation::F16),
            DType::BF16 => Some(Quantisation::BF16),
            _ => None,
        };
        Some(Stored { format, bytes: (tensor.elem_count() * tensor.dtype().size_in_bytes()) as u64 })
    }

    fn read(&self, name: &str) -> Result<Tensor, WeightsError> {
        let missing = || WeightsError::missing(&self.origin(), name);
        let tensor = self.0.get(name).ok_or_else(missing)?;
        tensor.to_dtype(DType::F32).map_err(WeightsError::tensor(self.origin(), name))
    }
}
