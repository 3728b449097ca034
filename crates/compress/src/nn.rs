//! The layers that compressors share: operations of `foveate_nn`, which pass gradients, with their parameters.

use candle_core::Tensor;
use foveate_nn::{Activation, layer_norm, linear};

use crate::{CompressError, Parameters, Result, Start};

/// The epsilon of every LayerNorm in QueCC, TokenPacker and MQT.
const EPS: f64 = 1e-6;

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
        Ok(linear(x, &self.weight, self.bias.as_ref())?)
    }

    /// The same without its bias: what a part of the input adds.
    fn forward_part(&self, x: &Tensor) -> Result<Tensor> {
        Ok(linear(x, &self.weight, None)?)
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
        Ok(layer_norm(x, &self.weight, &self.bias, EPS)?)
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
        self.second.forward(&Activation::Gelu.forward(&self.first.forward(x)?)?)
    }

    /// `forward(x + shift)` for each image `[b, patches, in]` with each of its shifts `[b · q, in]`, those of one image one
    /// after the other: `-> [b · q, patches, out]`. The first layer is linear, so that W x is made once for each image.
    pub(crate) fn forward_shifted(&self, x: &Tensor, shifts: &Tensor) -> Result<Tensor> {
        let (x, shifts) = (self.first.forward(x)?, self.first.forward_part(shifts)?);
        self.second.forward(&Activation::Gelu.shifted(&x, &shifts)?)
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
        Ok(Self { q: part(0)?, k: part(1)?, v: part(2)?, out, heads })
    }

    pub(crate) fn queries(&self, x: &Tensor) -> Result<Tensor> {
        self.q.forward(x)
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
