//! An activation of rows that are shifted by a vector for each question.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use foveate_kernels::Shifted;

use crate::Activation;
use crate::cpu::{like, result, slice, with_slice, wrap};
use crate::threads::pool;

impl Activation {
    /// f(x + shift) for each image with each of its shifts: `x` `[b, positions, d]`, `shifts` `[b · q, d]`, those of one
    /// image one after the other, to `[b · q, positions, d]`.
    ///
    /// # Errors
    /// Another width of the shifts, or a number of them that is no multiple of the images.
    pub fn shifted(self, x: &Tensor, shifts: &Tensor) -> Result<Tensor> {
        let ((b, positions, d), (rows, width)) = (x.dims3()?, shifts.dims2()?);
        if width != d || b == 0 || !rows.is_multiple_of(b) {
            return Err(crate::shape("shifts of images", &[b, d], &[rows, width]));
        }
        if x.device().is_cpu() {
            let sizes = Shifted { positions, width, questions: rows / b };
            return x.contiguous()?.apply_op2(&shifts.contiguous()?, Shift(self, sizes));
        }
        self.composed_shifted(x, shifts)
    }

    /// In operations that every device has.
    pub(crate) fn composed_shifted(self, x: &Tensor, shifts: &Tensor) -> Result<Tensor> {
        let ((b, positions, d), rows) = (x.dims3()?, shifts.dim(0)?);
        let sums = x.unsqueeze(1)?.broadcast_add(&shifts.reshape((b, rows / b, 1, d))?)?;
        self.composed(&sums.reshape((rows, positions, d))?)
    }
}

struct Shift(Activation, Shifted);

impl CustomOp2 for Shift {
    fn name(&self) -> &'static str {
        "activation-of-shifted"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        of_x: &Layout,
        shifts: &CpuStorage,
        of_shifts: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, _) = of_shifts.shape().dims2()?;
        let Self(activation, sizes) = self;
        let (x, shifts) = (slice(x, of_x)?, slice(shifts, of_shifts)?);
        let out = sizes.run(activation.kernel(), x, shifts, &pool()).map_err(wrap)?;
        Ok(result(out, (rows, sizes.positions, sizes.width)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        shifts: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Self(activation, sizes) = self;
        let run = |x: &[f32], shifts: &[f32], dy: &[f32]| {
            sizes.backward(activation.kernel(), x, shifts, dy, &pool()).map_err(wrap)
        };
        let [of_x, of_shifts] =
            with_slice(x, |x| with_slice(shifts, |shifts| with_slice(dy, |dy| run(x, shifts, dy))))?;
        Ok((Some(like(of_x, x)?), Some(like(of_shifts, shifts)?)))
    }
}
