//! Layer and root-mean-square normalisation over the last dimension.

use candle_core::{D, Tensor};

use crate::Result;
use crate::weights::Weights;

/// `(x − mean) / sqrt(variance + eps) · weight + bias`.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Takes `weight` and `bias`, both `[width]`.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(weights: &Weights, width: usize, eps: f64) -> Result<Self> {
        Ok(Self { weight: weights.get(width, "weight")?, bias: weights.get(width, "bias")?, eps })
    }

    /// `[.., width] -> [.., width]`
    ///
    /// # Errors
    /// Another last dimension.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + self.eps)?.sqrt()?;
        Ok(centred.broadcast_div(&deviation)?.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)?)
    }
}

/// `x / sqrt(mean(x²) + eps) · weight`: no mean, no bias.
#[derive(Clone, Debug)]
pub struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    /// Takes `weight` `[width]`.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(weights: &Weights, width: usize, eps: f64) -> Result<Self> {
        Ok(Self { weight: weights.get(width, "weight")?, eps })
    }

    /// `[.., width] -> [.., width]`
    ///
    /// # Errors
    /// Another last dimension.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let size = (x.sqr()?.mean_keepdim(D::Minus1)? + self.eps)?.sqrt()?;
        Ok(x.broadcast_div(&size)?.broadcast_mul(&self.weight)?)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::Device;
    use std::collections::HashMap;

    fn weights(pairs: &[(&str, &[f32])]) -> Weights {
        let tensor = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        let map: HashMap<_, _> =
            pairs.iter().map(|(name, values)| ((*name).to_owned(), tensor(values))).collect();
        Weights::from_tensors(map)
    }

    #[test]
    fn layer_norm_of_a_hand_computed_row() {
        // mean 2, variance 2/3
        let norm =
            LayerNorm::load(&weights(&[("weight", &[1.0, 2.0, 1.0]), ("bias", &[0.0, 1.0, 0.0])]), 3, 0.0);
        let x = Tensor::new(&[1.0_f32, 2.0, 3.0], &Device::Cpu).unwrap();
        let y = norm.unwrap().forward(&x).unwrap().to_vec1::<f32>().unwrap();
        for (got, expected) in y.iter().zip([-1.5_f32.sqrt(), 1.0, 1.5_f32.sqrt()]) {
            assert!((got - expected).abs() < 1e-6, "{got} {expected}");
        }
    }

    #[test]
    fn eps_stands_under_the_root() {
        let x = Tensor::new(&[0.0_f32, 0.0, 2.0, 2.0], &Device::Cpu).unwrap();
        let norm = RmsNorm::load(&weights(&[("weight", &[1.0; 4])]), 4, 2.0).unwrap();
        // mean of squares 2, plus eps 2, root 2
        assert_eq!(norm.forward(&x).unwrap().to_vec1::<f32>().unwrap(), [0.0, 0.0, 1.0, 1.0]);
    }
}
