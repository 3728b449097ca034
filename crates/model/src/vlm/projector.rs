//! The stock projector: tower width to the width of the language model, row by row.

use candle_core::Tensor;

use super::VlmConfig;
use crate::Result;
use crate::nn::{Activation, Linear};
use crate::weights::Weights;

/// Linear, activation (GELU), Linear.
#[derive(Clone, Debug)]
pub struct Projector {
    first: Linear,
    activation: Activation,
    second: Linear,
}

impl Projector {
    /// Takes `linear_1` `[D, input]` and `linear_2` `[D, D]`, with biases where configured.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(config: &VlmConfig, input: usize, weights: &Weights) -> Result<Self> {
        let (width, bias) = (config.text.width, config.projector_bias);
        Ok(Self {
            first: Linear::load(&weights.pp("linear_1"), input, width, bias)?,
            activation: config.projector_activation,
            second: Linear::load(&weights.pp("linear_2"), width, width, bias)?,
        })
    }

    /// `[.., input] -> [.., D]`
    ///
    /// # Errors
    /// Another last dimension.
    pub fn forward(&self, rows: &Tensor) -> Result<Tensor> {
        self.second.forward(&self.activation.forward(&self.first.forward(rows)?)?)
    }
}
