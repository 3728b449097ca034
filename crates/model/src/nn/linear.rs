//! The linear layer, and the one matrix product behind every projection.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{D, Tensor};
use foveate_kernels::Matrix;
use foveate_nn::{PackedPart, PackedProduct, PackedSum, count, linear, linear_added};

use super::Activation;
use crate::weights::{Kept, LowRank, Weights};
use crate::{ModelError, Result};

/// `x · weightᵀ + bias`, with `weight` stored `[out, in]` as PyTorch does.
///
/// The weight is a tensor, which may be trained and lie on any device, or packed for the kernels of the CPU, frozen.
/// Gradients with respect to `x` pass through both. A low-rank change (Hu et al., arXiv 2106.09685) may be computed beside
/// it, and be trained while the weight is frozen.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Weight,
    bias: Option<Tensor>,
    /// What each output is multiplied by, `[out]`, where that is trained; otherwise the weight and the bias hold it.
    gains: Option<Tensor>,
    adapter: Option<LowRank>,
}

/// What a layer multiplies with.
#[derive(Clone, Debug)]
pub(crate) enum Weight {
    /// `[out, in]`.
    Tensor(Tensor),
    /// The same, and its bias, as the kernels want them.
    Packed { matrix: Arc<Matrix>, bias: Option<Arc<[f32]>> },
}

impl Linear {
    /// Takes `weight` `[output, input]` and, where asked for, `bias` `[output]` from `weights`.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(weights: &Weights, input: usize, output: usize, bias: bool) -> Result<Self> {
        Self::load_with_gains(weights, input, output, bias, None)
    }

    /// The same, with every output channel multiplied by its entry of `gains` `[output]`.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_with_gains(
        weights: &Weights,
        input: usize,
        output: usize,
        bias: bool,
        gains: Option<&Tensor>,
    ) -> Result<Self> {
        Ok(Stacked::load(&[(weights.clone(), output)], input, bias, gains)?.into_single())
    }

    /// Joins a weight `[out, in]` and a bias `[out]` that are already at hand.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Self { weight: Weight::Tensor(weight), bias, gains: None, adapter: None }
    }

    pub(crate) fn packed(matrix: Arc<Matrix>, bias: Option<Tensor>) -> Result<Self> {
        let numbers = bias.as_ref().map(|bias| bias.to_vec1::<f32>()).transpose()?;
        let weight = Weight::Packed { matrix, bias: numbers.map(Arc::from) };
        Ok(Self { weight, bias, gains: None, adapter: None })
    }

    /// The width of what [`forward`](Self::forward) returns.
    pub fn output_width(&self) -> usize {
        match &self.weight {
            Weight::Tensor(weight) => weight.dims()[0],
            Weight::Packed { matrix, .. } => matrix.n(),
        }
    }

    fn input_width(&self) -> usize {
        match &self.weight {
            Weight::Tensor(weight) => weight.dims().get(1).copied().unwrap_or(0),
            Weight::Packed { matrix, .. } => matrix.k(),
        }
    }

    /// `[.., in] -> [.., out]`
    ///
    /// # Errors
    /// A last dimension other than `in`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let y = match &self.weight {
            Weight::Tensor(weight) => {
                let (weight, bias) = self.scaled(weight)?;
                linear(x, &weight, bias.as_ref())?
            }
            Weight::Packed { matrix, bias } => {
                self.count(x, self.output_width())?;
                let product = PackedProduct::new(matrix, bias.as_ref(), None);
                x.contiguous()?.apply_op1(product)?
            }
        };
        self.adapted(x, y)
    }

    /// `weight` and the bias times the gains, as all three are at this moment.
    fn scaled(&self, weight: &Tensor) -> Result<(Tensor, Option<Tensor>)> {
        let Some(gains) = &self.gains else { return Ok((weight.clone(), self.bias.clone())) };
        let bias = self.bias.as_ref().map(|bias| bias.mul(gains)).transpose()?;
        Ok((weight.broadcast_mul(&gains.unsqueeze(1)?)?, bias))
    }

    /// `y`, the output for `x`, with the low-rank change.
    fn adapted(&self, x: &Tensor, y: Tensor) -> Result<Tensor> {
        let Some(LowRank { a, b, scale }) = &self.adapter else { return Ok(y) };
        let inside = (linear(x, a, None)? * *scale)?; // [.., rank]
        Ok((y + linear(&inside, b, None)?)?)
    }

    /// `activation(forward(x))`
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_activated(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        match &self.weight {
            // Its gradient would need the product once more, so it is kept where one will be asked for.
            Weight::Packed { matrix, bias } if !x.track_op() && self.adapter.is_none() => {
                self.count(x, self.output_width())?;
                let product = PackedProduct::new(matrix, bias.as_ref(), Some(activation));
                Ok(x.contiguous()?.apply_op1(product)?)
            }
            _ => Ok(activation.forward(&self.forward(x)?)?),
        }
    }

    /// The outputs `range` alone: `[.., in] -> [.., range]`.
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and a range past the outputs.
    fn forward_outputs(&self, x: &Tensor, range: Range<usize>) -> Result<Tensor> {
        match &self.weight {
            _ if self.adapter.is_some() => {
                Ok(self.forward(x)?.narrow(D::Minus1, range.start, range.len())?)
            }
            Weight::Packed { matrix, bias } if !x.track_op() => {
                self.count(x, range.len())?;
                // Channels are packed in 32s; what comes before the range is thrown away and does not count.
                let start = range.start / 32 * 32;
                let part = PackedPart { matrix, bias: bias.as_deref(), range: start..range.end };
                let y = x.contiguous()?.apply_op1_no_bwd(&part)?;
                if start == range.start {
                    return Ok(y);
                }
                Ok(y.narrow(D::Minus1, range.start - start, range.len())?.contiguous()?)
            }
            Weight::Packed { .. } => Ok(self.forward(x)?.narrow(D::Minus1, range.start, range.len())?),
            Weight::Tensor(weight) => {
                let (weight, bias) = self.scaled(weight)?;
                let bias = bias.map(|bias| bias.narrow(0, range.start, range.len())).transpose()?;
                Ok(linear(x, &weight.narrow(0, range.start, range.len())?, bias.as_ref())?)
            }
        }
    }

    /// `forward(x) + residual`
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and a residual of another shape.
    pub fn forward_added(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        match &self.weight {
            Weight::Packed { matrix, bias } => {
                self.count(x, self.output_width())?;
                let sum = PackedSum::new(matrix, bias.as_ref());
                self.adapted(x, x.contiguous()?.apply_op2(&residual.contiguous()?, sum)?)
            }
            Weight::Tensor(weight)
                if self.bias.is_none() && self.gains.is_none() && self.adapter.is_none() =>
            {
                Ok(linear_added(x, weight, residual)?)
            }
            Weight::Tensor(_) => Ok((residual + self.forward(x)?)?),
        }
    }

    /// The weight as a tensor `[out, in]`, unless it is packed.
    fn weight(&self) -> Option<&Tensor> {
        match &self.weight {
            Weight::Tensor(weight) => Some(weight),
            Weight::Packed { .. } => None,
        }
    }

    /// Counts a product with the packed weight, after a look at the widths.
    fn count(&self, x: &Tensor, outputs: usize) -> Result<()> {
        let (input, width) = (self.input_width(), x.dim(D::Minus1)?);
        if width != input {
            return Err(ModelError::shape("input of a linear layer", &[input], &[width]));
        }
        count::dots(x.elem_count() / input.max(1) * outputs, input);
        Ok(())
    }

    /// The rows of the weight that stand for `ids` (u32, any shape), as an embedding reads them: `[count, in]`.
    pub(crate) fn rows(&self, ids: &Tensor) -> Result<Tensor> {
        match &self.weight {
            Weight::Tensor(weight) => Ok(weight.index_select(&ids.flatten_all()?, 0)?),
            Weight::Packed { matrix, .. } => {
                let ids = ids.flatten_all()?.to_vec1::<u32>()?;
                let mut rows = vec![0.0; ids.len() * matrix.k()];
                matrix.rows(&ids, &mut rows).map_err(ModelError::Kernels)?;
                Ok(Tensor::from_vec(rows, (ids.len(), matrix.k()), &candle_core::Device::Cpu)?)
            }
        }
    }

    /// Bytes that the weight takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        match &self.weight {
            Weight::Tensor(weight) => weight.elem_count() * weight.dtype().size_in_bytes(),
            Weight::Packed { matrix, .. } => matrix.bytes(),
        }
    }
}

/// Layers with one input, whose outputs stand side by side: query, key and value; gate and up. One product where their
/// weights are stored alike.
#[derive(Clone, Debug)]
pub(crate) struct Stacked(Vec<Linear>);

impl Stacked {
    /// Takes `weight` `[output, input]` and `bias` `[output]` of each part; `gains` multiply the outputs of a single one:
    /// once, as it is loaded, or whenever it is used where they are trained.
    pub(crate) fn load(
        parts: &[(Weights, usize)],
        input: usize,
        bias: bool,
        gains: Option<&Tensor>,
    ) -> Result<Self> {
        let live = |(weights, _): &(Weights, usize)| weights.is_live("weight");
        let (gains, later) = match gains {
            Some(trained) if parts.iter().any(live) => (None, Some(trained)),
            gains => (gains, None),
        };
        let scaled = |bias: Tensor| match gains {
            Some(gains) => Ok(bias.mul(gains)?),
            None => Ok::<_, ModelError>(bias),
        };
        let biases = |parts: &[(Weights, usize)]| -> Result<Option<Tensor>> {
            if !bias {
                return Ok(None);
            }
            let all = parts.iter().map(|(weights, output)| Ok(weights.get(*output, "bias")?));
            match &all.collect::<Result<Vec<_>>>()?[..] {
                [bias] => Ok(Some(scaled(bias.clone())?)),
                several => Ok(Some(Tensor::cat(several, 0)?)),
            }
        };
        let mut layers = Vec::new();
        for parts in Weights::alike(parts, input) {
            let layer = match Weights::matrix(parts, input, gains)? {
                Kept::Tensor(weight) => Linear::new(weight, biases(parts)?),
                Kept::Packed(matrix) => Linear::packed(matrix, biases(parts)?)?,
            };
            let adapter = match parts {
                [(weights, output)] => weights.beside(*output, input)?,
                _ => None,
            };
            layers.push(Linear { adapter, gains: later.cloned(), ..layer });
        }
        Ok(Self(layers))
    }

    /// `[.., in] -> [.., sum of outputs]`
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match &self.0[..] {
            [layer] => layer.forward(x),
            layers if self.is_trained() => {
                // Weights are smaller than what they give for a batch, and one product reads the batch once.
                let weights: Vec<&Tensor> = layers.iter().filter_map(Linear::weight).collect();
                let biases: Vec<&Tensor> = layers.iter().filter_map(|layer| layer.bias.as_ref()).collect();
                let bias = if biases.is_empty() { None } else { Some(Tensor::cat(&biases, 0)?) };
                Ok(linear(x, &Tensor::cat(&weights, 0)?, bias.as_ref())?)
            }
            layers => {
                let parts = layers.iter().map(|layer| layer.forward(x)).collect::<Result<Vec<_>>>()?;
                Ok(Tensor::cat(&parts, D::Minus1)?)
            }
        }
    }

    /// Whether all weights are tensors of which one gets a gradient. All have a bias, or none has.
    fn is_trained(&self) -> bool {
        self.0.iter().all(|layer| layer.weight().is_some() && layer.adapter.is_none())
            && self.0.iter().filter_map(Linear::weight).any(Tensor::track_op)
    }

    /// The outputs `range` alone, of one part or of several.
    pub(crate) fn forward_outputs(&self, x: &Tensor, range: Range<usize>) -> Result<Tensor> {
        let mut parts = Vec::new();
        let mut first = 0;
        for layer in &self.0 {
            let last = first + layer.output_width();
            let wanted = range.start.max(first)..range.end.min(last);
            if !wanted.is_empty() {
                parts.push(layer.forward_outputs(x, wanted.start - first..wanted.end - first)?);
            }
            first = last;
        }
        match &parts[..] {
            [part] => Ok(part.clone()),
            parts => Ok(Tensor::cat(parts, D::Minus1)?),
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.0.iter().map(Linear::bytes).sum()
    }

    /// Only called on what was loaded as one part, which is never cut.
    fn into_single(self) -> Linear {
        self.0.into_iter().next().unwrap_or_else(|| unreachable!("one part makes one layer"))
    }
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
    fn names_both_widths() {
        let x = Tensor::new(&[[1.0_f32, 1.0, 1.0]], &Device::Cpu).unwrap();
        let message = layer().forward(&x).unwrap_err().to_string();
        assert!(message.contains("[2]") && message.contains("[3]"), "{message}");
    }
}
