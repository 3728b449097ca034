//! Layer and root-mean-square normalisation over the last dimension.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, D, Layout, Shape, Tensor};
use foveate_kernels::Norm;

use super::cpu::{result, slice, with_slice, wrap};
use crate::threads::pool;
use crate::weights::Weights;
use crate::{ModelError, Result};

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
        expect_width(x, &self.weight)?;
        if x.device().is_cpu() {
            return Ok(x.contiguous()?.apply_op3(&self.weight, &self.bias, Layer(self.eps as f32))?);
        }
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
        expect_width(x, &self.weight)?;
        if x.device().is_cpu() {
            return Ok(x.contiguous()?.apply_op2(&self.weight, RootMeanSquare(self.eps as f32))?);
        }
        let size = (x.sqr()?.mean_keepdim(D::Minus1)? + self.eps)?.sqrt()?;
        Ok(x.broadcast_div(&size)?.broadcast_mul(&self.weight)?)
    }
}

fn expect_width(x: &Tensor, weight: &Tensor) -> Result<()> {
    let (width, found) = (weight.elem_count(), x.dim(D::Minus1)?);
    if width == found { Ok(()) } else { Err(ModelError::shape("input of a norm", &[width], &[found])) }
}

fn run(norm: Norm<'_>, x: &CpuStorage, layout: &Layout) -> candle_core::Result<(CpuStorage, Shape)> {
    let out = norm.run_new(slice(x, layout)?, &pool()).map_err(wrap)?;
    Ok(result(out, layout.shape().clone()))
}

/// The gradient of the input, and those of weight and bias where they are trained.
fn backward(
    norm: Norm<'_>,
    x: &Tensor,
    dy: &Tensor,
    (width, trained): (usize, bool),
) -> candle_core::Result<(Tensor, Option<[Tensor; 2]>)> {
    let (mut dx, length) = (vec![0.0; x.elem_count()], if trained { width } else { 0 });
    let (mut dw, mut db) = (vec![0.0; length], vec![0.0; length]);
    let parameters = trained.then_some((&mut dw[..], &mut db[..]));
    with_slice(x, |x| with_slice(dy, |dy| norm.backward(x, dy, &mut dx, parameters, &pool()).map_err(wrap)))?;
    let dx = Tensor::from_vec(dx, x.shape().clone(), x.device())?;
    let tensor = |numbers| Tensor::from_vec(numbers, width, x.device());
    let parameters = if trained { Some([tensor(dw)?, tensor(db)?]) } else { None };
    Ok((dx, parameters))
}

struct RootMeanSquare(f32);

impl CustomOp2 for RootMeanSquare {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        weight: &CpuStorage,
        of_weight: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        run(Norm::RootMeanSquare { weight: slice(weight, of_weight)?, eps: self.0 }, x, layout)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let of = (weight.elem_count(), weight.track_op());
        let gradients = |w: &[f32]| backward(Norm::RootMeanSquare { weight: w, eps: self.0 }, x, dy, of);
        let (dx, parameters) = with_slice(weight, gradients)?;
        Ok((Some(dx), parameters.map(|[dw, _]| dw)))
    }
}

struct Layer(f32);

impl CustomOp3 for Layer {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        weight: &CpuStorage,
        of_weight: &Layout,
        bias: &CpuStorage,
        of_bias: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        let (weight, bias) = (slice(weight, of_weight)?, slice(bias, of_bias)?);
        run(Norm::Layer { weight, bias, eps: self.0 }, x, layout)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let of = (weight.elem_count(), weight.track_op() || bias.track_op());
        let (dx, parameters) = with_slice(weight, |w| {
            with_slice(bias, |b| backward(Norm::Layer { weight: w, bias: b, eps: self.0 }, x, dy, of))
        })?;
        let (dw, db) = parameters.map(|[dw, db]| (dw, db)).unzip();
        Ok((Some(dx), dw, db))
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
