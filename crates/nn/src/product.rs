//! The products of linear layers as operations that gradients pass through.

use std::ops::Range;
use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, D, Layout, Shape, Tensor};
use foveate_kernels::{Epilogue, Matrix, Residual, View, product_new, sum_rows};

use crate::Activation;
use crate::cpu::{like, result, rows, slice, widened, with_slice, wrap};
use crate::threads::pool;

type Storage = (CpuStorage, Shape);

/// The outputs `range` of `x · weightᵀ` with what the epilogue adds to them.
fn packed(
    matrix: &Matrix,
    range: Range<usize>,
    (x, layout): (&CpuStorage, &Layout),
    epilogue: &Epilogue<'_>,
) -> candle_core::Result<Storage> {
    let ((rows, _), width) = (rows(layout.shape()), range.len());
    let out = matrix.multiply_new(range, slice(x, layout)?, rows, epilogue, &pool());
    Ok(result(out.map_err(wrap)?, widened(layout.shape(), width)))
}

/// `activation(x · weightᵀ + bias)` with frozen packed weights. Gradients pass only without an activation.
#[derive(Debug)]
pub struct PackedProduct {
    matrix: Arc<Matrix>,
    bias: Option<Arc<[f32]>>,
    activation: Option<Activation>,
}

impl PackedProduct {
    /// Of `matrix` `[out, in]` and `bias` `[out]`.
    pub fn new(matrix: &Arc<Matrix>, bias: Option<&Arc<[f32]>>, activation: Option<Activation>) -> Self {
        Self { matrix: Arc::clone(matrix), bias: bias.cloned(), activation }
    }
}

impl CustomOp1 for PackedProduct {
    fn name(&self) -> &'static str {
        "packed-product"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<Storage> {
        let activation = self.activation.map(Activation::kernel).unwrap_or_default();
        let epilogue = Epilogue { bias: self.bias.as_deref(), activation, ..Epilogue::default() };
        packed(&self.matrix, 0..self.matrix.n(), (x, layout), &epilogue)
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> candle_core::Result<Option<Tensor>> {
        if self.activation.is_some() {
            // Layers apply the activation on its own where a gradient is wanted.
            return Err(candle_core::Error::BackwardNotSupported { op: self.name() });
        }
        input_gradient(&self.matrix, x, dy).map(Some)
    }
}

/// A range of the outputs of `x · weightᵀ + bias` with frozen packed weights. Gradients do not pass.
#[derive(Debug)]
pub struct PackedPart<'a> {
    /// The weights of all outputs.
    pub matrix: &'a Matrix,
    /// The bias of all outputs.
    pub bias: Option<&'a [f32]>,
    /// The outputs wanted; the first is a multiple of 32.
    pub range: Range<usize>,
}

impl CustomOp1 for PackedPart<'_> {
    fn name(&self) -> &'static str {
        "packed-part"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> candle_core::Result<Storage> {
        let bias = self.bias.and_then(|bias| bias.get(self.range.clone()));
        let epilogue = Epilogue { bias, ..Epilogue::default() };
        packed(self.matrix, self.range.clone(), (x, layout), &epilogue)
    }
}

/// `x · weightᵀ + bias + residual` with frozen packed weights.
#[derive(Debug)]
pub struct PackedSum {
    matrix: Arc<Matrix>,
    bias: Option<Arc<[f32]>>,
}

impl PackedSum {
    /// Of `matrix` `[out, in]` and `bias` `[out]`.
    pub fn new(matrix: &Arc<Matrix>, bias: Option<&Arc<[f32]>>) -> Self {
        Self { matrix: Arc::clone(matrix), bias: bias.cloned() }
    }
}

impl CustomOp2 for PackedSum {
    fn name(&self) -> &'static str {
        "packed-sum"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        residual: &CpuStorage,
        of_residual: &Layout,
    ) -> candle_core::Result<Storage> {
        let residual = Residual::Add(slice(residual, of_residual)?);
        let epilogue = Epilogue { bias: self.bias.as_deref(), residual, ..Epilogue::default() };
        packed(&self.matrix, 0..self.matrix.n(), (x, layout), &epilogue)
    }

    fn bwd(
        &self,
        x: &Tensor,
        _: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(input_gradient(&self.matrix, x, dy)?), Some(dy.clone())))
    }
}

fn input_gradient(matrix: &Matrix, x: &Tensor, dy: &Tensor) -> candle_core::Result<Tensor> {
    let (rows, _) = rows(x.shape());
    let mut dx = vec![0.0; x.elem_count()];
    with_slice(dy, |dy| {
        matrix.multiply_transposed(dy, rows, &mut dx, Residual::None, &pool()).map_err(wrap)
    })?;
    like(dx, x)
}

/// `x [.., in] · weight [out, in]ᵀ + bias [out] -> [.., out]`, all of which may be trained.
///
/// # Errors
/// A last dimension other than `in`.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> candle_core::Result<Tensor> {
    let (output, input) = check(x, weight)?;
    crate::count::dots(x.elem_count() / input.max(1) * output, input);
    if x.device().is_cpu() {
        let (x, weight) = (x.contiguous()?, weight.contiguous()?);
        return match bias {
            Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, DenseProduct),
            None => x.apply_op2(&weight, DenseProduct),
        };
    }
    // One large product instead of one per batch row: candle would copy the weight for each.
    let y = x.reshape((x.elem_count() / input.max(1), input))?.matmul(&weight.t()?)?;
    let y = y.reshape(widened(x.shape(), output))?;
    match bias {
        Some(bias) => y.broadcast_add(bias),
        None => Ok(y),
    }
}

/// `linear(x) + residual` without a bias, as one operation: `x [.., in]`, `weight [out, in]`, `residual [.., out]`, all of
/// which may be trained.
///
/// # Errors
/// A last dimension other than `in`, a residual of another shape.
pub fn linear_added(x: &Tensor, weight: &Tensor, residual: &Tensor) -> candle_core::Result<Tensor> {
    if !x.device().is_cpu() {
        return residual + linear(x, weight, None)?;
    }
    let (output, input) = check(x, weight)?;
    if residual.dims() != widened(x.shape(), output) {
        return Err(crate::shape("residual of a linear layer", &widened(x.shape(), output), residual.dims()));
    }
    crate::count::dots(x.elem_count() / input.max(1) * output, input);
    x.contiguous()?.apply_op3(&weight.contiguous()?, &residual.contiguous()?, DenseSum)
}

/// The widths of output and input, if they go with `x`.
fn check(x: &Tensor, weight: &Tensor) -> candle_core::Result<(usize, usize)> {
    let ((output, input), width) = (weight.dims2()?, x.dim(D::Minus1)?);
    if input == width {
        return Ok((output, input));
    }
    Err(crate::shape("input of a linear layer", &[input], &[width]))
}

/// `x · weightᵀ`, with `+ bias` as an operation of three, all of which may be trained.
#[derive(Clone, Copy)]
struct DenseProduct;

impl DenseProduct {
    fn run(
        (x, layout): (&CpuStorage, &Layout),
        (weight, of_weight): (&CpuStorage, &Layout),
        epilogue: &Epilogue<'_>,
    ) -> candle_core::Result<Storage> {
        let (rows, input) = rows(layout.shape());
        let (output, _) = of_weight.shape().dims2()?;
        let (x, weight) = (slice(x, layout)?, slice(weight, of_weight)?);
        let (x, weight) = (View::rows(x, input), View::rows(weight, input).transposed());
        let out = product_new(x, weight, [rows, input, output], epilogue, &pool()).map_err(wrap)?;
        Ok(result(out, widened(layout.shape(), output)))
    }

    /// Gradients of `x` and `weight`, where they are wanted.
    fn gradients(
        x: &Tensor,
        weight: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let ((rows, input), output) = (rows(x.shape()), weight.dim(0)?);
        let of_x = || {
            let dx = with_slice(dy, |dy| {
                with_slice(weight, |weight| {
                    let (dy, weight) = (View::rows(dy, output), View::rows(weight, input));
                    product_new(dy, weight, [rows, output, input], &Epilogue::default(), &pool())
                        .map_err(wrap)
                })
            })?;
            like(dx, x)
        };
        let of_weight = || {
            let dw = with_slice(dy, |dy| {
                with_slice(x, |x| {
                    let (dy, x) = (View::rows(dy, output).transposed(), View::rows(x, input));
                    product_new(dy, x, [output, rows, input], &Epilogue::default(), &pool()).map_err(wrap)
                })
            })?;
            like(dw, weight)
        };
        Ok((x.track_op().then(of_x).transpose()?, weight.track_op().then(of_weight).transpose()?))
    }
}

impl CustomOp2 for DenseProduct {
    fn name(&self) -> &'static str {
        "product"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        weight: &CpuStorage,
        of_weight: &Layout,
    ) -> candle_core::Result<Storage> {
        Self::run((x, layout), (weight, of_weight), &Epilogue::default())
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        Self::gradients(x, weight, dy)
    }
}

impl CustomOp3 for DenseProduct {
    fn name(&self) -> &'static str {
        "product-with-bias"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        weight: &CpuStorage,
        of_weight: &Layout,
        bias: &CpuStorage,
        of_bias: &Layout,
    ) -> candle_core::Result<Storage> {
        Self::run((x, layout), (weight, of_weight), &Epilogue::bias(slice(bias, of_bias)?))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dx, dw) = Self::gradients(x, weight, dy)?;
        let of_bias = || {
            let mut db = vec![0.0; bias.elem_count()];
            with_slice(dy, |dy| sum_rows(dy, &mut db, &pool()).map_err(wrap))?;
            like(db, bias)
        };
        Ok((dx, dw, bias.track_op().then(of_bias).transpose()?))
    }
}

/// `x · weightᵀ + residual`.
#[derive(Clone, Copy)]
struct DenseSum;

impl CustomOp3 for DenseSum {
    fn name(&self) -> &'static str {
        "product-with-residual"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &Layout,
        weight: &CpuStorage,
        of_weight: &Layout,
        residual: &CpuStorage,
        of_residual: &Layout,
    ) -> candle_core::Result<Storage> {
        let residual = Residual::Add(slice(residual, of_residual)?);
        let epilogue = Epilogue { residual, ..Epilogue::default() };
        DenseProduct::run((x, layout), (weight, of_weight), &epilogue)
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        residual: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dx, dw) = DenseProduct::gradients(x, weight, dy)?;
        Ok((dx, dw, residual.track_op().then(|| dy.clone())))
    }
}
