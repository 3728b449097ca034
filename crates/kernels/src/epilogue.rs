//! What happens to a product while it is still in the cache: bias, activation, gate, residual.

use crate::error::{Result, check_length};
use crate::format::PANEL;
use crate::math::{gelu, sigmoid_unit};

/// A function applied to every number of a product after the bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Activation {
    /// None.
    #[default]
    Identity,
    /// x/2 · (1 + erf(x/√2)), to 4e-7 · max(1, |x|).
    Gelu,
    /// x · sigmoid(1.702 x), as CLIP has it.
    QuickGelu,
    /// x · sigmoid(x).
    Silu,
}

/// What to add to a product after everything else.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub enum Residual<'a> {
    /// Nothing: the output is overwritten.
    #[default]
    None,
    /// `[rows, n]` numbers.
    Add(&'a [f32]),
    /// What the output holds already.
    InPlace,
}

/// The steps after a product, in this order: out = activation(x·Wᵀ + bias) · silu(gate) + residual.
#[derive(Debug, Clone, Copy, Default)]
pub struct Epilogue<'a> {
    /// `[n]`, added to every row.
    pub bias: Option<&'a [f32]>,
    /// Applied to the sum.
    pub activation: Activation,
    /// `[rows, n]`: the result is multiplied by silu(gate), as in the gated layers of Llama.
    pub gate: Option<&'a [f32]>,
    /// Added last.
    pub residual: Residual<'a>,
}

impl<'a> Epilogue<'a> {
    /// Only a bias.
    #[must_use]
    pub fn bias(bias: &'a [f32]) -> Self {
        Self { bias: Some(bias), ..Self::default() }
    }

    /// # Errors
    /// A length that does not belong to `[rows, n]`.
    pub(crate) fn check(&self, rows: usize, n: usize) -> Result<()> {
        if let Some(bias) = self.bias {
            check_length("the bias", bias.len(), n, || format!("[n {n}]"))?;
        }
        let shape = || format!("[rows {rows}, n {n}]");
        if let Some(gate) = self.gate {
            check_length("the gate", gate.len(), rows * n, shape)?;
        }
        if let Residual::Add(residual) = self.residual {
            check_length("the residual", residual.len(), rows * n, shape)?;
        }
        Ok(())
    }

    /// Finishes `out.len()` ≤ 32 numbers of row `row` from column `column` on of a product with `n` columns.
    #[inline(always)]
    pub(crate) fn finish<const FUSED: bool>(
        &self,
        sums: &[f32; PANEL],
        row: usize,
        column: usize,
        n: usize,
        out: &mut [f32],
    ) {
        let length = out.len();
        let mut values = *sums;
        if let Some(bias) = self.bias {
            for (value, bias) in values.iter_mut().zip(&bias[column..column + length]) {
                *value += bias;
            }
        }
        // All 32 at once, those past the end as well: a fixed number is what the compiler makes vectors of.
        match self.activation {
            Activation::Identity => {}
            Activation::Gelu => values.iter_mut().for_each(|x| *x = gelu::<FUSED>(*x)),
            Activation::QuickGelu => values.iter_mut().for_each(|x| *x = sigmoid_unit::<FUSED>(*x, 1.702)),
            Activation::Silu => values.iter_mut().for_each(|x| *x = sigmoid_unit::<FUSED>(*x, 1.0)),
        }
        let at = row * n + column;
        if let Some(gate) = self.gate {
            let mut gates = [0.0; PANEL];
            gates[..length].copy_from_slice(&gate[at..at + length]);
            for (value, gate) in values.iter_mut().zip(gates) {
                *value *= sigmoid_unit::<FUSED>(gate, 1.0);
            }
        }
        match self.residual {
            Residual::None => {}
            Residual::Add(residual) => {
                for (value, residual) in values.iter_mut().zip(&residual[at..at + length]) {
                    *value += residual;
                }
            }
            Residual::InPlace => {
                for (value, out) in values.iter_mut().zip(out.iter()) {
                    *value += *out;
                }
            }
        }
        out.copy_from_slice(&values[..length]);
    }
}

crate::tile::by_width! {
    /// [`Epilogue::finish`] with the instructions of `width`.
    pub(crate) fn finish(epilogue: &Epilogue<'_>, sums: &[f32; PANEL], row: usize, column: usize, n: usize, out: &mut [f32]) {
        epilogue.finish::<FUSED>(sums, row, column, n, out)
    }
}

/// Sums of integers into floats: `sums[j] · (row_scale · scales[j])`.
#[inline(always)]
pub(crate) fn scale_integers(sums: &[i32; PANEL], row_scale: f32, scales: &[f32]) -> [f32; PANEL] {
    let mut out = [0.0; PANEL];
    for ((out, &sum), &scale) in out.iter_mut().zip(sums).zip(scales) {
        *out = sum as f32 * (row_scale * scale);
    }
    out
}
