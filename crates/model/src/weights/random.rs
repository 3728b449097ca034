//! Weights that are made up: for measuring what a model of some shape takes, without a checkpoint.

use candle_core::{Device, Shape, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};

use super::{Source, Stored, Weights, WeightsError};

struct Random {
    seed: u64,
}

impl Weights {
    /// Weights that hold a tensor of every name and shape that is asked for: ones where it has one dimension, else numbers
    /// drawn evenly around zero, of such a size that activations neither grow nor vanish. A tensor depends on the seed,
    /// its name and its shape alone.
    pub fn random(seed: u64) -> Self {
        Self::from_source(std::sync::Arc::new(Random { seed }))
    }
}

impl Source for Random {
    fn origin(&self) -> String {
        format!("random weights (seed {})", self.seed)
    }

    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn shape(&self, _name: &str) -> Option<Shape> {
        None
    }

    fn stored(&self, _name: &str) -> Option<Stored> {
        None
    }

    fn read(&self, name: &str) -> Result<Tensor, WeightsError> {
        Err(WeightsError::missing(&self.origin(), name))
    }

    fn make(&self, name: &str, shape: &Shape) -> Option<Result<Tensor, WeightsError>> {
        let failed = WeightsError::tensor(self.origin(), name);
        if shape.rank() == 1 {
            return Some(Tensor::ones(shape.clone(), candle_core::DType::F32, &Device::Cpu).map_err(failed));
        }
        let digest = Sha256::digest(format!("{} {name} {:?}", self.seed, shape.dims()));
        let mut random = ChaCha8Rng::from_seed(digest.into());
        let inputs: usize = shape.dims()[1..].iter().product();
        // The standard deviation of 1 / √inputs.
        let bound = (3.0 / inputs.max(1) as f32).sqrt();
        let unit = |bits: u32| bits as f32 / (u32::MAX as f32) * 2.0 - 1.0;
        let numbers: Vec<f32> = (0..shape.elem_count()).map(|_| unit(random.next_u32()) * bound).collect();
        Some(Tensor::from_vec(numbers, shape.clone(), &Device::Cpu).map_err(failed))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_and_a_shape_say_everything() {
        let read = |seed, name: &str| {
            let tensor = Weights::random(seed).pp("layer").get((8, 300), name).unwrap();
            tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(read(1, "weight"), read(1, "weight"));
        assert!(read(1, "weight") != read(2, "weight") && read(1, "weight") != read(1, "other"));
        let square = read(1, "weight").iter().map(|x| x * x).sum::<f32>() / 2400.0;
        assert!((square * 300.0 - 1.0).abs() < 0.1, "variance {square}");
        assert_eq!(Weights::random(0).get(3, "norm").unwrap().to_vec1::<f32>().unwrap(), [1.0; 3]);
    }
}
