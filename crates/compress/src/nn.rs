//! The layers that compressors share, made of operations that pass gradients.
//!
//! candle's own `LayerNorm::forward` and `softmax_last_dim` cut the gradient without an error, so both are spelt out here.

use candle_core::{D, Tensor};

use crate::{CompressError, Parameters, Result, Start};

/// The epsilon of every LayerNorm in QueCC, TokenPacker and MQT.
const EPS: f64 = 1e-6;

/// `x [.., in] · weight [out, in]ᵀ`.
pub(crate) fn product(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (output, input) = weight.dims2()?;
    let mut shape = x.dims().to_vec();
    let rows = x.elem_count() / input.max(1);
    crate::count::dots(rows * output, input);
    // One large product instead of one for each image: candle would copy the weight for each.
    let y = x.reshape((rows, input))?.matmul(&weight.t()?)?;
    if let Some(last) = shape.last_mut() {
        *last = output;
    }
    Ok(y.reshape(shape)?)
}

/// Softmax over the last dimension, safe against overflow.
pub(crate) fn softmax(x: &Tensor) -> Result<Tensor> {
    // The subtracted maximum cancels in the value and in the gradient.
    let exp = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?.exp()?;
    Ok(exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)?)
}

/// `x · weightᵀ + bias`.
#[derive(Clone, Debug)]
pub(crate) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    pub(crate) fn load(from: &Parameters<'_>, input: usize, output: usize) -> Result<Self> {
        let bias = Some(from.get(&[output], "bias", Start::Constant(0.0))?);
        Ok(Self { bias, ..Self::without_bias(from, input, output)? })
    }

    pub(crate) fn without_bias(from: &Parameters<'_>, input: usize, output: usize) -> Result<Self> {
        let start = Start::Uniform((input.max(1) as f64).powf(-0.5));
        Ok(Self { weight: from.get(&[output, input], "weight", start)?, bias: None })
    }

    /// `[.., in] -> [.., out]`
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = product(x, &self.weight)?;
        match &self.bias {
            Some(bias) => Ok(y.broadcast_add(bias)?),
            None => Ok(y),
        }
    }

    pub(crate) fn parameters(&self) -> usize {
        self.weight.elem_count() + self.bias.as_ref().map_or(0, Tensor::elem_count)
    }
}

/// `(x − mean) / sqrt(variance + 1e-6) · weight + bias` over the last dimension.
#[derive(Clone, Debug)]
pub(crate) struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
}

impl LayerNorm {
    pub(crate) fn load(from: &Parameters<'_>, width: usize) -> Result<Self> {
        Ok(Self {
            weight: from.get(&[width], "weight", Start::Constant(1.0))?,
            bias: from.get(&[width], "bias", Start::Constant(0.0))?,
        })
    }

    /// `[.., width] -> [.., width]`
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + EPS)?.sqrt()?;
        Ok(centred.broadcast_div(&deviation)?.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)?)
    }

    pub(crate) fn parameters(&self) -> usize {
        self.weight.elem_count() + self.bias.elem_count()
    }
}

/// Linear, exact GELU, Linear.
#[derive(Clone, Debug)]
pub(crate) struct TwoLayers {
    first: Linear,
    second: Linear,
}

impl TwoLayers {
    /// Takes `0` and `2` below `from`.
    pub(crate) fn load(from: &Parameters<'_>, input: usize, output: usize) -> Result<Self> {
        Ok(Self {
            first: Linear::load(&from.below("0"), input, output)?,
            second: Linear::load(&from.below("2"), output, output)?,
        })
    }

    /// `[.., in] -> [.., out]`
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.second.forward(&self.first.forward(x)?.gelu_erf()?)
    }

    pub(crate) fn parameters(&self) -> usize {
        self.first.parameters() + self.second.parameters()
    }
}

/// The projections of PyTorch's multi-head attention: `in_proj_weight` `[3d, d]` stacks q, k and v.
#[derive(Clone, Debug)]
pub(crate) struct MultiHead {
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    pub(crate) heads: usize,
    pub(crate) width: usize,
}

impl MultiHead {
    pub(crate) fn load(from: &Parameters<'_>, width: usize, heads: usize) -> Result<Self> {
        if heads == 0 || !width.is_multiple_of(heads) {
            return Err(CompressError::config("heads", heads, format!("a divisor of the width {width}")));
        }
        // Glorot's bound for one of the three square matrices.
        let start = Start::Uniform((3.0 / width as f64).sqrt());
        let weight = from.get(&[3 * width, width], "in_proj_weight", start)?;
        let bias = from.get(&[3 * width], "in_proj_bias", Start::Constant(0.0))?;
        let part = |nth: usize| -> Result<Linear> {
            Ok(Linear {
                weight: weight.narrow(0, nth * width, width)?,
                bias: Some(bias.narrow(0, nth * width, width)?),
            })
        };
        let out = Linear::load(&from.below("out_proj"), width, width)?;
        Ok(Self { q: part(0)?, k: part(1)?, v: part(2)?, out, heads, width })
    }

    /// The queries, scaled: `[.., d] -> [.., d]`.
    pub(crate) fn queries(&self, x: &Tensor) -> Result<Tensor> {
        Ok((self.q.forward(x)? * ((self.width / self.heads) as f64).powf(-0.5))?)
    }

    pub(crate) fn keys(&self, x: &Tensor) -> Result<Tensor> {
        self.k.forward(x)
    }

    pub(crate) fn values(&self, x: &Tensor) -> Result<Tensor> {
        self.v.forward(x)
    }

    pub(crate) fn output(&self, x: &Tensor) -> Result<Tensor> {
        self.out.forward(x)
    }

    pub(crate) fn parameters(&self) -> usize {
        self.q.parameters() + self.k.parameters() + self.v.parameters() + self.out.parameters()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn norm_of_a_hand_computed_row() {
        let row = |values: &[f32]| Tensor::new(values, &Device::Cpu).unwrap();
        let norm = LayerNorm { weight: row(&[1.0, 2.0, 1.0]), bias: row(&[0.0, 1.0, 0.0]) };
        // mean 2, variance 2/3
        let y = norm.forward(&row(&[1.0, 2.0, 3.0])).unwrap().to_vec1::<f32>().unwrap();
        for (got, expected) in y.iter().zip([-1.5_f32.sqrt(), 1.0, 1.5_f32.sqrt()]) {
            assert!((got - expected).abs() < 3e-6, "{got} {expected}");
        }
        // Where the variance is nothing, epsilon decides: ±1e-3 of variance 1e-6 over sqrt(2e-6).
        let y = norm.forward(&row(&[-1e-3, 0.0, 1e-3])).unwrap().to_vec1::<f32>().unwrap();
        let expected = 1e-3 / (2.0 / 3.0 * 1e-6 + 1e-6_f32).sqrt();
        assert!((y[2] - expected).abs() < 1e-5, "{} {expected}", y[2]);
    }

    #[test]
    fn softmax_passes_the_gradient_and_survives_large_scores() {
        let x = Var::new(&[0.3_f32, -0.2, 1e4], &Device::Cpu).unwrap();
        assert_eq!(softmax(&x).unwrap().to_vec1::<f32>().unwrap(), [0.0, 0.0, 1.0]);
        let x = Var::new(&[0.3_f32, -0.2, 0.9], &Device::Cpu).unwrap();
        let p = softmax(&x).unwrap();
        let gradient = p.get(1).unwrap().backward().unwrap();
        let gradient = gradient.get(&x).unwrap().to_vec1::<f32>().unwrap();
        let p = p.to_vec1::<f32>().unwrap();
        // d p₁ / d x_j = p₁ (δ₁ⱼ − p_j)
        for j in 0..3 {
            let expected = p[1] * (f32::from(u8::from(j == 1)) - p[j]);
            assert!((gradient[j] - expected).abs() < 1e-6);
        }
    }
}
