//! Layer and root-mean-square normalisation over the last dimension.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, D, Layout, Result, Shape, Tensor};
use foveate_kernels::Norm;

use crate::cpu::{like, result, slice, with_slice, wrap};
use crate::threads::pool;

/// `(x − mean) / sqrt(variance + eps) · weight + bias` over the last dimension: `[.., width] -> [.., width]`, with `weight`
/// and `bias` `[width]`.
///
/// # Errors
/// Another last dimension.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    expect_width(x, weight)?;
    if x.device().is_cpu() {
        return x.contiguous()?.apply_op3(weight, bias, Layer(eps as f32));
    }
    let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
    centred.broadcast_div(&deviation)?.broadcast_mul(weight)?.broadcast_add(bias)
}

/// `x / sqrt(mean(x²) + eps) · weight`: no mean, no bias. `[.., width] -> [.., width]`, with `weight` `[width]`.
///
/// # Errors
/// Another last dimension.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    expect_width(x, weight)?;
    if x.device().is_cpu() {
        return x.contiguous()?.apply_op2(weight, RootMeanSquare(eps as f32));
    }
    let size = (x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?;
    x.broadcast_div(&size)?.broadcast_mul(weight)
}

fn expect_width(x: &Tensor, weight: &Tensor) -> Result<()> {
    let (width, found) = (weight.elem_count(), x.dim(D::Minus1)?);
    if width == found { Ok(()) } else { Err(crate::shape("input of a norm", &[width], &[found])) }
}

fn run(norm: Norm<'_>, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
    let out = norm.run_new(slice(x, layout)?, &pool()).map_err(wrap)?;
    Ok(result(out, layout.shape().clone()))
}

/// The gradient of the input, and those of weight and bias where they are trained.
fn backward(
    norm: Norm<'_>,
    x: &Tensor,
    dy: &Tensor,
    (width, trained): (usize, bool),
) -> Result<(Tensor, Option<[Tensor; 2]>)> {
    let (mut dx, length) = (vec![0.0; x.elem_count()], if trained { width } else { 0 });
    let (mut dw, mut db) = (vec![0.0; length], vec![0.0; length]);
    let parameters = trained.then_some((&mut dw[..], &mut db[..]));
    with_slice(x, |x| with_slice(dy, |dy| norm.backward(x, dy, &mut dx, parameters, &pool()).map_err(wrap)))?;
    let dx = like(dx, x)?;
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
    ) -> Result<(CpuStorage, Shape)> {
        run(Norm::RootMeanSquare { weight: slice(weight, of_weight)?, eps: self.0 }, x, layout)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
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
    ) -> Result<(CpuStorage, Shape)> {
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
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
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

    fn row(values: &[f32]) -> Tensor {
        Tensor::new(values, &Device::Cpu).unwrap()
    }

    #[test]
    fn layer_norm_of_a_hand_computed_row() {
        // mean 2, variance 2/3
        let (weight, bias) = (row(&[1.0, 2.0, 1.0]), row(&[0.0, 1.0, 0.0]));
        let y = layer_norm(&row(&[1.0, 2.0, 3.0]), &weight, &bias, 0.0).unwrap().to_vec1::<f32>().unwrap();
        for (got, expected) in y.iter().zip([-1.5_f32.sqrt(), 1.0, 1.5_f32.sqrt()]) {
            assert!((got - expected).abs() < 1e-6, "{got} {expected}");
        }
    }

    #[test]
    fn eps_stands_under_the_root() {
        let x = row(&[0.0, 0.0, 2.0, 2.0]);
        // mean of squares 2, plus eps 2, root 2
        assert_eq!(
            rms_norm(&x, &row(&[1.0; 4]), 2.0).unwrap().to_vec1::<f32>().unwrap(),
            [0.0, 0.0, 1.0, 1.0]
        );
        // Where the variance is nothing, eps decides: ±1e-3 of variance 2/3 · 1e-6 over the root with eps 1e-6.
        let y = layer_norm(&row(&[-1e-3, 0.0, 1e-3]), &row(&[1.0; 3]), &row(&[0.0; 3]), 1e-6).unwrap();
        let expected = 1e-3 / (2.0 / 3.0 * 1e-6 + 1e-6_f32).sqrt();
        assert!((y.to_vec1::<f32>().unwrap()[2] - expected).abs() < 1e-5);
    }
}
