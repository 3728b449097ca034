//! Attention inside the windows of a grid, and the depthwise convolution whose stride is its side.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor};
use foveate_kernels::{WindowAttention, Windows};

use crate::attention::softmax;
use crate::cpu::{like, result, slice, with_slice, wrap};
use crate::threads::pool;

/// The queries of each window attend to the window's own patches, softmax over scores times (d / heads)^−½: queries
/// `[b · q, windows, d]`, those of one image one after the other, keys and values `[b, patches, d]`, to `[b · q, windows, d]`.
///
/// # Errors
/// Shapes that do not fit together.
pub fn window_attention(
    windows: Windows,
    heads: usize,
    queries: &Tensor,
    keys: &Tensor,
    values: &Tensor,
) -> Result<Tensor> {
    let layer = layer(windows, heads, queries, keys)?;
    let (rows, _, d) = queries.dims3()?;
    crate::count::dots(2 * rows * windows.patches(), d);
    if queries.device().is_cpu() {
        let (queries, keys) = (queries.contiguous()?, keys.contiguous()?);
        return queries.apply_op3(&keys, &values.contiguous()?, Attend(layer));
    }
    composed_attention(&layer, queries, keys, values)
}

/// The weights of [`window_attention`], `[b · q, windows, heads, side²]`. On the CPU gradients do not pass.
///
/// # Errors
/// Shapes that do not fit together.
pub fn window_weights(windows: Windows, heads: usize, queries: &Tensor, keys: &Tensor) -> Result<Tensor> {
    let layer = layer(windows, heads, queries, keys)?;
    let (rows, count, d) = queries.dims3()?;
    crate::count::dots(rows * windows.patches(), d);
    if queries.device().is_cpu() {
        return queries.contiguous()?.apply_op2_no_bwd(&keys.contiguous()?, &Weights(layer));
    }
    let weights = composed_weights(&layer, queries, keys)?; // [b · windows, heads, q, side²]
    let weights = weights.reshape((keys.dim(0)?, count, heads, layer.questions, windows.inside()))?;
    weights.permute((0, 3, 1, 2, 4))?.reshape((rows, count, heads, windows.inside()))
}

/// In each window a weighted sum of its patches, channel by channel: `x` `[b, patches, d]`, `filter` `[d, 1, side, side]`,
/// `bias` `[d]`, to `[b, windows, d]`.
///
/// # Errors
/// Shapes that do not fit together.
pub fn window_convolution(windows: Windows, x: &Tensor, filter: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let (b, patches, d) = x.dims3()?;
    crate::count::dots(b * patches, d);
    if x.device().is_cpu() {
        return x.contiguous()?.apply_op3(&filter.contiguous()?, &bias.contiguous()?, Convolve(windows));
    }
    composed_convolution(windows, x, filter, bias)
}

/// The sizes that tensors state.
fn layer(windows: Windows, heads: usize, queries: &Tensor, keys: &Tensor) -> Result<WindowAttention> {
    let ((rows, _, width), (b, _, _)) = (queries.dims3()?, keys.dims3()?);
    if heads == 0 || !width.is_multiple_of(heads) {
        return Err(crate::shape("heads over the width of windows' queries", &[width], &[heads]));
    }
    let (questions, head) = (rows / b.max(1), width / heads);
    Ok(WindowAttention { windows, heads, width, questions, scale: (head as f64).powf(-0.5) as f32 })
}

/// `[b, patches, d] -> [b · windows, heads, side², d / heads]`
fn gathered(layer: &WindowAttention, x: &Tensor) -> Result<Tensor> {
    let WindowAttention { windows: Windows { rows, columns, side }, heads, .. } = *layer;
    let (b, _, d) = x.dims3()?;
    let split = x.reshape(vec![b, rows / side, side, columns / side, side, heads, d / heads])?;
    let gathered = split.permute(vec![0, 1, 3, 5, 2, 4, 6])?.contiguous()?;
    gathered.reshape((b * layer.windows.count(), heads, side * side, d / heads))
}

/// `[b · windows, heads, q, side²]`
fn composed_weights(layer: &WindowAttention, queries: &Tensor, keys: &Tensor) -> Result<Tensor> {
    let WindowAttention { heads, questions, scale, .. } = *layer;
    let ((_, windows, d), b) = (queries.dims3()?, keys.dim(0)?);
    let q = queries.reshape((b, questions, windows, heads, d / heads))?.permute((0, 2, 3, 1, 4))?;
    let q = q.contiguous()?.reshape((b * windows, heads, questions, d / heads))?;
    softmax(&(q.matmul(&gathered(layer, keys)?.t()?)? * f64::from(scale))?)
}

/// [`window_attention`] in operations that every device has.
pub(crate) fn composed_attention(
    layer: &WindowAttention,
    queries: &Tensor,
    keys: &Tensor,
    values: &Tensor,
) -> Result<Tensor> {
    let WindowAttention { heads, questions, .. } = *layer;
    let ((_, windows, d), b) = (queries.dims3()?, keys.dim(0)?);
    let mixed = composed_weights(layer, queries, keys)?.matmul(&gathered(layer, values)?)?;
    let mixed = mixed.reshape((b, windows, heads, questions, d / heads))?;
    mixed.permute((0, 3, 1, 2, 4))?.reshape(queries.shape()) // [b · q, windows, d]
}

/// [`window_convolution`] in operations that every device has.
pub(crate) fn composed_convolution(
    windows: Windows,
    x: &Tensor,
    filter: &Tensor,
    bias: &Tensor,
) -> Result<Tensor> {
    let (b, _, d) = x.dims3()?;
    let Windows { rows, columns, side } = windows;
    let filter = filter.reshape((d, side, side))?.permute((1, 2, 0))?; // [side, side, d]
    let filter = filter.contiguous()?.reshape(vec![1, 1, side, 1, side, d])?;
    let split = x.reshape(vec![b, rows / side, side, columns / side, side, d])?;
    let sum = split.broadcast_mul(&filter)?.sum((2, 4))?;
    sum.reshape((b, windows.count(), d))?.broadcast_add(bias)
}

/// Gradients as tensors like `inputs`, where there are any.
fn tensors<const N: usize>(
    gradients: [Option<Vec<f32>>; N],
    inputs: [&Tensor; N],
) -> Result<[Option<Tensor>; N]> {
    let mut found = [const { None }; N];
    for ((found, gradient), input) in found.iter_mut().zip(gradients).zip(inputs) {
        *found = gradient.map(|numbers| like(numbers, input)).transpose()?;
    }
    Ok(found)
}

struct Attend(WindowAttention);

impl CustomOp3 for Attend {
    fn name(&self) -> &'static str {
        "attention-inside-windows"
    }

    fn cpu_fwd(
        &self,
        queries: &CpuStorage,
        of_queries: &Layout,
        keys: &CpuStorage,
        of_keys: &Layout,
        values: &CpuStorage,
        of_values: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (q, k, v) = (slice(queries, of_queries)?, slice(keys, of_keys)?, slice(values, of_values)?);
        Ok(result(self.0.run(q, k, v, &pool()).map_err(wrap)?, of_queries.shape().clone()))
    }

    fn bwd(
        &self,
        queries: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let inputs = [queries, keys, values];
        let wanted = inputs.map(|input| input.track_op());
        let run = |q: &[f32], k: &[f32], v: &[f32], dy: &[f32]| {
            self.0.backward([q, k, v], dy, wanted, &pool()).map_err(wrap)
        };
        let gradients = with_slice(queries, |q| {
            with_slice(keys, |k| with_slice(values, |v| with_slice(dy, |dy| run(q, k, v, dy))))
        })?;
        let [d_queries, d_keys, d_values] = tensors(gradients, inputs)?;
        Ok((d_queries, d_keys, d_values))
    }
}

struct Weights(WindowAttention);

impl CustomOp2 for Weights {
    fn name(&self) -> &'static str {
        "weights-inside-windows"
    }

    fn cpu_fwd(
        &self,
        queries: &CpuStorage,
        of_queries: &Layout,
        keys: &CpuStorage,
        of_keys: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, count, _) = of_queries.shape().dims3()?;
        let (q, k) = (slice(queries, of_queries)?, slice(keys, of_keys)?);
        let weights = self.0.weights(q, k, &pool()).map_err(wrap)?;
        Ok(result(weights, (rows, count, self.0.heads, self.0.windows.inside())))
    }
}

struct Convolve(Windows);

impl CustomOp3 for Convolve {
    fn name(&self) -> &'static str {
        "convolution-of-windows"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        of_x: &Layout,
        filter: &CpuStorage,
        of_filter: &Layout,
        bias: &CpuStorage,
        of_bias: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (b, _, d) = of_x.shape().dims3()?;
        let (x, filter, bias) = (slice(x, of_x)?, slice(filter, of_filter)?, slice(bias, of_bias)?);
        let out = self.0.convolve(x, filter, bias, &pool()).map_err(wrap)?;
        Ok(result(out, (b, self.0.count(), d)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        filter: &Tensor,
        bias: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let inputs = [x, filter, bias];
        let wanted = inputs.map(|input| input.track_op());
        let run = |x: &[f32], filter: &[f32], dy: &[f32]| {
            self.0.convolve_backward(x, filter, dy, wanted, &pool()).map_err(wrap)
        };
        let gradients =
            with_slice(x, |x| with_slice(filter, |filter| with_slice(dy, |dy| run(x, filter, dy))))?;
        let [dx, d_filter, d_bias] = tensors(gradients, inputs)?;
        Ok((dx, d_filter, d_bias))
    }
}
