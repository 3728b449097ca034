//! Tensors that are in memory already.

use std::collections::HashMap;

use candle_core::{DType, Shape, Tensor};

use super::{Source, WeightsError};

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

    fn read(&self, name: &str) -> Result<Tensor, WeightsError> {
        let missing = || WeightsError::Missing { file: self.origin(), name: name.to_owned(), nearest: None };
        let tensor = self.0.get(name).ok_or_else(missing)?;
        tensor.to_dtype(DType::F32).map_err(WeightsError::tensor(self.origin(), name))
    }
}
