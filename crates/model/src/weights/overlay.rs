//! Tensors laid over a checkpoint: what is trained over what is frozen, a table of another size over the stored one.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use candle_core::{Shape, Tensor};

use super::memory::InMemory;
use super::{Source, Stored, Weights, WeightsError};

struct Overlay {
    base: Weights,
    over: InMemory,
    live: bool,
}

impl Weights {
    /// The same weights with `tensors` (f32 on the CPU) in place of those of the same names below the prefix, and beside
    /// the others. The result has no prefix and a fresh record of requests.
    #[must_use]
    pub fn with_tensors(&self, tensors: HashMap<String, Tensor>) -> Self {
        self.overlaid(tensors, false)
    }

    /// The same for tensors that pass gradients or change in place, as candle's variables do: they stay tensors where
    /// everything else is [packed](Self::packed).
    ///
    /// ```
    /// # use std::collections::HashMap;
    /// use candle_core::{DType, Device, Tensor, Var};
    /// use foveate_model::{Dtype, Weights, nn::Linear};
    ///
    /// let frozen = Weights::random(0).packed_once(Dtype::Bf16);
    /// let variable = Var::zeros((2, 2), DType::F32, &Device::Cpu)?;
    /// let live = HashMap::from([("up.weight".to_owned(), variable.as_tensor().clone())]);
    /// let weights = frozen.with_live(live);
    /// let up = Linear::load(&weights.pp("up"), 2, 2, false)?;
    /// let down = Linear::load(&weights.pp("down"), 2, 2, false)?; // packed
    /// let x = Tensor::ones((1, 2), DType::F32, &Device::Cpu)?;
    /// let gradients = down.forward(&up.forward(&x)?)?.sum_all()?.backward()?;
    /// assert!(gradients.get(&variable).is_some());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_live(&self, tensors: HashMap<String, Tensor>) -> Self {
        self.overlaid(tensors, true)
    }

    fn overlaid(&self, tensors: HashMap<String, Tensor>, live: bool) -> Self {
        let overlay = Overlay { base: self.clone(), over: InMemory::new(tensors), live };
        let placed = Self::from_source(Arc::new(overlay)).on_device(self.shared.device.clone());
        Self { packing: self.packing.clone(), adapter_scale: self.adapter_scale, ..placed }
    }
}

impl Overlay {
    fn has(&self, name: &str) -> bool {
        self.over.shape(name).is_some()
    }

    /// The source below, and the name that it has for `name`.
    fn below<'a>(&'a self, name: &str) -> Option<(&'a dyn Source, &'a str)> {
        let stored = self.base.shared.names.get(&format!("{}{name}", self.base.prefix))?;
        Some((&*self.base.shared.source, stored))
    }
}

impl Source for Overlay {
    fn origin(&self) -> String {
        self.base.shared.source.origin()
    }

    fn file_of(&self, name: &str) -> String {
        match self.below(name).filter(|_| !self.has(name)) {
            Some((source, stored)) => source.file_of(stored),
            None => self.over.origin(),
        }
    }

    fn names(&self) -> Vec<String> {
        let mut names = self.base.names();
        names.retain(|name| !self.has(name));
        names.extend(self.over.names());
        names
    }

    fn shape(&self, name: &str) -> Option<Shape> {
        self.over.shape(name).or_else(|| self.base.shape(name))
    }

    fn stored(&self, name: &str) -> Option<Stored> {
        self.over.stored(name).or_else(|| self.base.stored(name))
    }

    fn read(&self, name: &str) -> Result<Tensor, WeightsError> {
        match self.below(name).filter(|_| !self.has(name)) {
            Some((source, stored)) => source.read(stored),
            None => self.over.read(name),
        }
    }

    fn blocks(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        let (source, stored) = self.below(name).filter(|_| !self.has(name))?;
        source.blocks(stored)
    }

    fn release(&self, name: &str) {
        if let Some((source, stored)) = self.below(name) {
            source.release(stored);
        }
    }

    fn is_live(&self, name: &str) -> bool {
        if self.has(name) { self.live } else { self.base.is_live(name) }
    }

    fn make(&self, name: &str, shape: &Shape) -> Option<Result<Tensor, WeightsError>> {
        if self.has(name) {
            return None;
        }
        self.base.shared.source.make(&format!("{}{name}", self.base.prefix), shape)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use candle_core::{DType, Device};

    use super::*;

    fn tensor(value: f32) -> Tensor {
        Tensor::full(value, (2, 2), &Device::Cpu).unwrap()
    }

    #[test]
    fn what_lies_above_counts() {
        let names = ["a.weight", "b.weight"].map(|name| (format!("model.{name}"), tensor(1.0)));
        let below = Weights::from_tensors(HashMap::from(names)).pp("model");
        let over = below.with_live(HashMap::from([
            ("b.weight".to_owned(), tensor(2.0)),
            ("c.weight".to_owned(), tensor(3.0)),
        ]));
        assert_eq!(over.names(), ["a.weight", "b.weight", "c.weight"]);
        let first = |name: &str| over.get((2, 2), name).unwrap().to_vec2::<f32>().unwrap()[0][0];
        assert_eq!(["a.weight", "b.weight", "c.weight"].map(first), [1.0, 2.0, 3.0]);
        assert_eq!(["a.weight", "b.weight"].map(|name| over.is_live(name)), [false, true]);
        // And once more on top.
        let top = over.with_tensors(HashMap::from([("c.weight".to_owned(), tensor(4.0))]));
        assert!(top.is_live("b.weight") && !top.is_live("c.weight"));
        let error = top.get((2, 3), "a.weight").unwrap_err().to_string();
        assert!(error.contains("tensor `a.weight` has shape [2, 2], expected [2, 3]"), "{error}");
    }

    #[test]
    fn made_up_tensors_are_those_below() {
        let random = Weights::random(3);
        let over = random.pp("x").with_tensors(HashMap::from([("b".to_owned(), tensor(2.0))]));
        let read = |weights: &Weights, name| weights.get((2, 2), name).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(read(&over, "a"), read(&random, "x.a"));
        assert_eq!(read(&over, "b"), [[2.0; 2]; 2]);
        assert_eq!(over.get((2, 2), "b").unwrap().dtype(), DType::F32);
    }
}
