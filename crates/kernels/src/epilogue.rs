//! What happens to a product while it is still in the cache: bias, activation, gate, residual.

use crate::error::{Result, check_length};
use crate::format::PANEL;
use crate::math::{gelu, gelu_tanh, sigmoid_unit};

/// A function applied to every number of a product after the bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Activation {
    /// None.
    #[default]
    Identity,
    /// x/2 · (1 + erf(x/√2)), to 4e-7 · max(1, |x|).
    Gelu,
    /// x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))), as SigLIP has it, to 4e-7 · max(1, |x|).
    GeluTanh,
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

    /// Finishes up to 32 sums of row `row` from column `column` on, of a product with `n` columns.
    #[inline(always)]
    fn finish_row<const FUSED: bool>(
        &self,
        values: &mut [f32; PANEL],
        bias: &[f32; PANEL],
        at: usize,
        out: &mut [f32],
    ) {
        values.iter_mut().zip(bias).for_each(|(value, bias)| *value += bias);
        // All 32 at once, those past the end as well: a fixed number is what the compiler makes vectors of.
        match self.activation {
            Activation::Identity => {}
            Activation::Gelu => values.iter_mut().for_each(|x| *x = gelu::<FUSED>(*x)),
            Activation::GeluTanh => values.iter_mut().for_each(|x| *x = gelu_tanh::<FUSED>(*x)),
            Activation::QuickGelu => values.iter_mut().for_each(|x| *x = sigmoid_unit::<FUSED>(*x, 1.702)),
            Activation::Silu => values.iter_mut().for_each(|x| *x = sigmoid_unit::<FUSED>(*x, 1.0)),
        }
        if let Some(gate) = self.gate {
            let gate = padded(&gate[at..at + out.len()]);
            values.iter_mut().zip(gate).for_each(|(value, gate)| *value *= sigmoid_unit::<FUSED>(gate, 1.0));
        }
        let residual = match self.residual {
            Residual::None => None,
            Residual::Add(residual) => Some(padded(&residual[at..at + out.len()])),
            Residual::InPlace => Some(padded(out)),
        };
        if let Some(residual) = residual {
            values.iter_mut().zip(residual).for_each(|(value, residual)| *value += residual);
        }
        copy(values, out);
    }

    /// Whether there is nothing to do but to add a bias and write.
    fn is_plain(&self) -> bool {
        self.activation == Activation::Identity
            && self.gate.is_none()
            && matches!(self.residual, Residual::None)
    }
}

/// The first numbers of a panel; a full panel, the usual case, is one copy of fixed size.
#[inline(always)]
fn copy(values: &[f32; PANEL], out: &mut [f32]) {
    match <&mut [f32; PANEL]>::try_from(&mut *out) {
        Ok(out) => *out = *values,
        Err(_) => out.copy_from_slice(&values[..out.len()]),
    }
}

/// Up to 32 numbers as 32; a full panel, the usual case, is one copy of fixed size.
#[inline(always)]
fn padded(numbers: &[f32]) -> [f32; PANEL] {
    <[f32; PANEL]>::try_from(numbers).unwrap_or_else(|_| {
        let mut all = [0.0; PANEL];
        all[..numbers.len()].copy_from_slice(numbers);
        all
    })
}

/// The rows of an output that the tasks of a product write in parts.
pub(crate) struct Rows {
    start: *mut f32,
    length: usize,
    columns: usize,
}

// SAFETY: a pointer and two numbers; what makes writing through it sound is the promise of `part`.
unsafe impl Sync for Rows {}

impl Rows {
    /// Rows of `columns` numbers.
    pub(crate) fn new(out: &mut [f32], columns: usize) -> Self {
        Self { start: out.as_mut_ptr(), length: out.len(), columns }
    }

    /// Asks for the cache lines of one panel of some rows.
    pub(crate) fn prefetch(&self, rows: std::ops::Range<usize>, panel: usize) {
        for row in rows {
            let start = self.start.wrapping_add(row * self.columns + panel * PANEL);
            // Two lines, and a third where they are not aligned.
            for line in [start, start.wrapping_add(16), start.wrapping_add(31)] {
                crate::tile::prefetch(line);
            }
        }
    }

    /// The numbers of row `row` from `column` to the end of its panel.
    ///
    /// # Safety
    /// The output outlives the result, and nobody else has any of these numbers at the same time.
    #[expect(clippy::mut_from_ref, reason = "that is what the promise is about")]
    unsafe fn part(&self, row: usize, column: usize) -> &mut [f32] {
        let (at, length) = (row * self.columns + column, PANEL.min(self.columns - column));
        assert!(at + length <= self.length, "row {row} and column {column} lie outside the output");
        // SAFETY: inside the output, as just asserted, and ours alone by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(at), length) }
    }
}

crate::tile::by_width! {
    /// Finishes the sums of one panel for rows from `row` on.
    ///
    /// The caller promises that no other thread finishes any of these rows in this panel: see [`Rows::part`].
    pub(crate) fn finish(epilogue: &Epilogue<'_>, sums: &mut [[f32; PANEL]], row: usize, panel: usize, out: &Rows) {
        let column = panel * PANEL;
        let end = out.columns.min(column + PANEL);
        // Adding −0 leaves every number as it is, 0 and −0 as well.
        let bias = epilogue.bias.map_or([-0.0; PANEL], |bias| padded(&bias[column..end]));
        let plain = epilogue.is_plain();
        for (row, sums) in (row..).zip(sums) {
            // SAFETY: the caller's promise; panels do not overlap.
            let part = unsafe { out.part(row, column) };
            if plain {
                sums.iter_mut().zip(&bias).for_each(|(sum, bias)| *sum += bias);
                copy(sums, part);
            } else {
                epilogue.finish_row::<FUSED>(sums, &bias, row * out.columns + column, part);
            }
        }
    }
}

crate::tile::by_width! {
    /// Sums of integers into floats in place: `sums[j] · (row · scales[j])`. One row at a time: over several, the
    /// compiler puts rows side by side and gathers them.
    pub(crate) fn scale_integers(sums: &mut [f32; PANEL], row: f32, scales: &[f32; PANEL]) {
        for (sum, scale) in sums.iter_mut().zip(scales) {
            *sum = sum.to_bits().cast_signed() as f32 * (row * scale);
        }
    }
}
