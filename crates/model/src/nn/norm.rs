//! Layer and root-mean-square normalisation over the last dimension, with their weights.

use candle_core::Tensor;
use foveate_nn::{layer_norm, rms_norm};

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
        Ok(layer_norm(x, &self.weight, &self.bias, self.eps)?)
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
        Ok(rms_norm(x, &self.weight, self.eps)?)
    }
}
