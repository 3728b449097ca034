//! The linear layer, and the one matrix product behind every projection.

use candle_core::{D, Tensor};

use crate::weights::Weights;
use crate::{ModelError, Result};

/// `x · weightᵀ + bias`, with `weight` stored `[out, in]` as PyTorch does.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// Takes `weight` `[output, input]` and, where asked for, `bias` `[output]` from `weights`.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(weights: &Weights, input: usize, output: usize, bias: bool) -> Result<Self> {
        Ok(Self {
            weight: weights.get((output, input), "weight")?,
            bias: bias.then(|| weights.get(output, "bias")).transpose()?,
        })
    }

    /// Joins a weight `[out, in]` and a bias `[out]` that are already at hand, such as a tied output head.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight, bias }
    }

    /// The width of what [`forward`](Self::forward) returns.
    pub fn output_width(&self) -> usize {
        self.weight.dims()[0]
    }

    /// `[.., in] -> [.., out]`
    ///
    /// # Errors
    /// A last dimension other than `in`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = product(x, &self.weight)?;
        match &self.bias {
            Some(bias) => Ok(y.broadcast_add(bias)?),
            None => Ok(y),
        }
    }

    /// The layers that one fused matrix holds, cut at `widths` along its outputs (Phi-3: q, k, v and gate, up).
    ///
    /// # Errors
    /// Widths that do not add up to the layer's output.
    pub fn split<const N: usize>(&self, widths: [usize; N]) -> Result<[Self; N]> {
        let total: usize = widths.iter().sum();
        if total != self.output_width() {
            return Err(ModelError::shape("fused projection", &[total], &[self.output_width()]));
        }
        let mut start = 0;
        let mut parts = Vec::with_capacity(N);
        for width in widths {
            let bias = self.bias.as_ref().map(|bias| bias.narrow(0, start, width)).transpose()?;
            parts.push(Self { weight: self.weight.narrow(0, start, width)?, bias });
            start += width;
        }
        parts.try_into().map_err(|_| ModelError::shape("fused projection", &[N], &[0]))
    }
}

/// `x [.., in] · weight [out, in]ᵀ -> [.., out]`: the only place where an activation meets a weight matrix.
///
/// # Errors
/// Widths that differ.
pub fn product(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (output, input) = weight.dims2()?;
    let width = x.dim(D::Minus1)?;
    if width != input {
        return Err(ModelError::shape("input of a linear layer", &[input], &[width]));
    }
    let mut shape = x.dims().to_vec();
    let rows = x.elem_count() / input.max(1);
    crate::count::dots(rows * output, input);
    // One large product instead of one per batch row: candle would copy the weight for each.
    let y = x.reshape((rows, input))?.matmul(&weight.t()?)?;
    if let Some(last) = shape.last_mut() {
        *last = output;
    }
    Ok(y.reshape(shape)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::Device;

    fn layer() -> Linear {
        let weight = Tensor::new(&[[1.0_f32, 2.0], [3.0, 4.0], [5.0, 6.0]], &Device::Cpu).unwrap();
        Linear::new(weight, Some(Tensor::new(&[0.5_f32, 0.0, -0.5], &Device::Cpu).unwrap()))
    }

    #[test]
    fn keeps_leading_dimensions() {
        let x = Tensor::new(&[[[1.0_f32, 1.0], [0.0, 1.0]]], &Device::Cpu).unwrap();
        let y = layer().forward(&x).unwrap();
        assert_eq!(y.to_vec3::<f32>().unwrap(), [[[3.5, 7.0, 10.5], [2.5, 4.0, 5.5]]]);
    }

    #[test]
    fn split_parts_give_the_slices_of_the_whole() {
        let x = Tensor::new(&[[1.0_f32, -1.0]], &Device::Cpu).unwrap();
        let [first, rest] = layer().split([1, 2]).unwrap();
        assert_eq!(first.forward(&x).unwrap().to_vec2::<f32>().unwrap(), [[-0.5]]);
        assert_eq!(rest.forward(&x).unwrap().to_vec2::<f32>().unwrap(), [[-1.0, -1.5]]);
        assert!(layer().split([1, 1]).unwrap_err().to_string().contains('3'));
    }

    #[test]
    fn names_both_widths() {
        let x = Tensor::new(&[[1.0_f32, 1.0, 1.0]], &Device::Cpu).unwrap();
        let message = layer().forward(&x).unwrap_err().to_string();
        assert!(message.contains("[2]") && message.contains("[3]"), "{message}");
    }
}
