//! Results in memory of their own that nobody clears first: for large ones clearing takes a tenth of the time of a model,
//! and only one thread can do it.

use std::ops::Range;

use crate::attention::{Attention, Strided};
use crate::dense::{View, product};
use crate::epilogue::{Activation, Epilogue, Residual};
use crate::error::{Result, check_length};
use crate::matrix::Matrix;
use crate::norm::Norm;
use crate::pointwise::Turn;
use crate::pool::Pool;

/// A vector of `length` numbers that `write` writes, all of them and without reading any before.
fn fresh(length: usize, write: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<Vec<f32>> {
    let mut numbers: Vec<f32> = Vec::with_capacity(length);
    // SAFETY: the memory is ours, aligned and large enough for `length` numbers. They are not initialised yet, which a
    // slice of them should be by the letter: what makes this sound is that nothing reads through it before writing. The
    // callers are the functions of this file alone, whose products, norms and so on take the slice as a place to write to
    // and write every number of it; the tests below would see one that is not. Should they fail or panic, the vector is
    // still empty.
    let memory = unsafe { std::slice::from_raw_parts_mut(numbers.as_mut_ptr(), length) };
    write(memory)?;
    // SAFETY: all of it was written.
    unsafe { numbers.set_len(length) };
    Ok(numbers)
}

/// The same where there is nothing yet that could be added to.
fn into_fresh<'a>(epilogue: &Epilogue<'a>) -> Epilogue<'a> {
    let residual = match epilogue.residual {
        Residual::InPlace => Residual::None,
        other => other,
    };
    Epilogue { residual, ..*epilogue }
}

impl Matrix {
    /// [`Matrix::multiply_outputs`] into a vector of its own, `[rows, outputs]`. [`Residual::InPlace`] adds nothing here.
    ///
    /// # Errors
    /// As [`Matrix::multiply_outputs`].
    pub fn multiply_new(
        &self,
        outputs: Range<usize>,
        x: &[f32],
        rows: usize,
        epilogue: &Epilogue<'_>,
        pool: &Pool,
    ) -> Result<Vec<f32>> {
        let epilogue = into_fresh(epilogue);
        // Before memory is asked for: a slip in a size must not become a gigabyte.
        self.check_outputs(&outputs)?;
        check_length("the input", x.len(), rows.saturating_mul(self.k()), || {
            format!("[rows {rows}, k {}]", self.k())
        })?;
        fresh(rows.saturating_mul(outputs.len()), |out| {
            self.multiply_outputs(outputs, x, rows, out, &epilogue, pool)
        })
    }
}

/// [`product`](crate::product) into a vector of its own, `[rows, columns]`. [`Residual::InPlace`] adds nothing here.
///
/// # Errors
/// As [`product`](crate::product).
pub fn product_new(
    a: View<'_>,
    b: View<'_>,
    [rows, inner, columns]: [usize; 3],
    epilogue: &Epilogue<'_>,
    pool: &Pool,
) -> Result<Vec<f32>> {
    let epilogue = into_fresh(epilogue);
    // As above: both operands first.
    a.check("the left matrix", rows, inner)?;
    b.check("the right matrix", inner, columns)?;
    fresh(rows.saturating_mul(columns), |out| product(a, b, [rows, inner, columns], out, &epilogue, pool))
}

impl Norm<'_> {
    /// [`Norm::run`] into a vector of its own.
    ///
    /// # Errors
    /// As [`Norm::run`].
    pub fn run_new(&self, x: &[f32], pool: &Pool) -> Result<Vec<f32>> {
        fresh(x.len(), |out| self.run(x, out, pool))
    }
}

impl Activation {
    /// [`Activation::backward`] into a vector of its own.
    ///
    /// # Errors
    /// As [`Activation::backward`].
    pub fn backward_new(self, x: &[f32], dy: &[f32], pool: &Pool) -> Result<Vec<f32>> {
        fresh(x.len(), |dx| self.backward(x, dy, dx, pool))
    }

    /// [`Activation::run`] into a vector of its own.
    ///
    /// # Errors
    /// As [`Activation::run`].
    pub fn run_new(self, x: &[f32], pool: &Pool) -> Result<Vec<f32>> {
        fresh(x.len(), |out| self.run(x, out, pool))
    }

    /// [`Activation::gate`] into a vector of its own.
    ///
    /// # Errors
    /// As [`Activation::gate`].
    pub fn gate_new(self, joined: &[f32], hidden: usize, pool: &Pool) -> Result<Vec<f32>> {
        fresh(joined.len() / 2, |out| self.gate(joined, hidden, out, pool))
    }
}

impl Turn<'_> {
    /// [`Turn::run`] into a vector of its own.
    ///
    /// # Errors
    /// As [`Turn::run`].
    pub fn run_new(&self, x: &[f32], back: bool, pool: &Pool) -> Result<Vec<f32>> {
        fresh(x.len(), |out| self.run(x, out, back, pool))
    }
}

impl Attention {
    /// [`Attention::run`] into a vector of its own.
    ///
    /// # Errors
    /// As [`Attention::run`].
    pub fn run_new(
        &self,
        q: Strided<'_>,
        queries: usize,
        k: Strided<'_>,
        v: Strided<'_>,
        keys: usize,
        pool: &Pool,
    ) -> Result<Vec<f32>> {
        self.check(queries, keys)?;
        q.check("the queries", queries, self.heads, self.head_size)?;
        let length = queries.saturating_mul(self.heads).saturating_mul(self.head_size);
        fresh(length, |out| self.run(q, queries, k, v, keys, out, pool))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::{Format, Mask, Source};

    /// Ragged sizes, so that a number past the last whole vector that is not written is seen.
    #[test]
    fn every_number_is_written_whatever_the_size() {
        let pool = Pool::new(3).unwrap();
        for size in (1..70).chain([127, 128, 129, 255, 257, 1023, 8193, 20_000]) {
            let x: Vec<f32> = (0..size).map(|i| (i as f32).cos()).collect();
            let all_written = |out: &[f32]| {
                assert!(out.iter().all(|number| number.is_finite()), "{size}");
                drop(std::hint::black_box(vec![f32::NAN; out.len()]));
            };
            drop(std::hint::black_box(vec![f32::NAN; size]));
            all_written(&Activation::GeluTanh.run_new(&x, &pool).unwrap());
            all_written(&Norm::Layer { weight: &x, bias: &x, eps: 1.0 }.run_new(&x, &pool).unwrap());
            all_written(
                &Activation::Silu.gate_new(&x[..size / 2 * 2], (size / 2).max(1), &pool).unwrap_or_default(),
            );
            let turn = Turn { cos: &[1.0], sin: &[0.0], half: 1, head_size: 2, heads: size / 2, width: size };
            all_written(&turn.run_new(&x, true, &pool).unwrap());
            let (n, rows) = (size.min(300), 3);
            let matrix = Matrix::pack(Source::F32(&x[..n]), Format::Bf16, n, 1, &pool).unwrap();
            let out = matrix.multiply_new(0..n, &[1.0, 2.0, 3.0], rows, &Epilogue::default(), &pool).unwrap();
            all_written(&out);
            let head_size = size.min(256);
            let layer = Attention { heads: 1, key_heads: 1, head_size, scale: 1.0, mask: Mask::Full };
            let row = Strided::dense(&x[..head_size], 1, head_size);
            all_written(&layer.run_new(row, 1, row, row, 1, &pool).unwrap());
        }
    }

    /// Memory that was used before, so that a number that is not written is seen.
    fn soil() {
        for length in [6, 12, 66, 132, 1000] {
            drop(std::hint::black_box(vec![f32::NAN; length]));
        }
    }

    #[test]
    fn equal_what_is_written_into_given_memory() {
        let pool = Pool::new(2).unwrap();
        let numbers: Vec<f32> = (0..132).map(|i| (i as f32).sin()).collect();
        let matrix = Matrix::pack(Source::F32(&numbers[..66]), Format::F32, 33, 2, &pool).unwrap();
        let bias = vec![0.5; 33];
        let epilogue = Epilogue { residual: Residual::InPlace, ..Epilogue::bias(&bias) };
        let mut out = vec![0.0; 66];
        matrix.multiply(&numbers[..4], 2, &mut out, &Epilogue::bias(&bias), &pool).unwrap();
        soil();
        assert_eq!(matrix.multiply_new(0..33, &numbers[..4], 2, &epilogue, &pool).unwrap(), out);
        assert_eq!(matrix.multiply_new(0..33, &[], 0, &epilogue, &pool).unwrap(), []);
        for (outputs, rows) in [(0..33, 1), (0..33, usize::MAX), (0..usize::MAX, 2), (1..2, 2)] {
            assert!(matrix.multiply_new(outputs, &numbers[..4], rows, &epilogue, &pool).is_err());
        }

        let (a, b) = (View::rows(&numbers[..12], 4), View::rows(&numbers[12..], 4).transposed());
        let mut out = vec![0.0; 90];
        product(a, b, [3, 4, 30], &mut out, &Epilogue::bias(&bias[..30]), &pool).unwrap();
        soil();
        let epilogue = Epilogue { residual: Residual::InPlace, ..Epilogue::bias(&bias[..30]) };
        assert_eq!(product_new(a, b, [3, 4, 30], &epilogue, &pool).unwrap(), out);
        // A sum of nothing is written too.
        let mut out = vec![9.0; 6];
        product(a, b, [2, 0, 3], &mut out, &Epilogue::bias(&bias[..3]), &pool).unwrap();
        assert_eq!(out, [0.5; 6]);
        assert!(product_new(a, b, [4, 4, 30], &epilogue, &pool).is_err());

        let norm = Norm::RootMeanSquare { weight: &numbers[..12], eps: 1e-3 };
        let mut out = vec![0.0; 132];
        norm.run(&numbers, &mut out, &pool).unwrap();
        soil();
        assert_eq!(norm.run_new(&numbers, &pool).unwrap(), out);
        Activation::Gelu.run(&numbers, &mut out, &pool).unwrap();
        soil();
        assert_eq!(Activation::Gelu.run_new(&numbers, &pool).unwrap(), out);
        let dy: Vec<f32> = numbers.iter().map(|x| x.cos()).collect();
        Activation::Gelu.backward(&numbers, &dy, &mut out, &pool).unwrap();
        soil();
        assert_eq!(Activation::Gelu.backward_new(&numbers, &dy, &pool).unwrap(), out);
        Activation::Silu.gate(&numbers, 6, &mut out[..66], &pool).unwrap();
        soil();
        assert_eq!(Activation::Silu.gate_new(&numbers, 6, &pool).unwrap(), out[..66]);
        let turn = Turn { cos: &[0.6], sin: &[0.8], half: 1, head_size: 3, heads: 3, width: 11 };
        turn.run(&numbers, &mut out, false, &pool).unwrap();
        soil();
        assert_eq!(turn.run_new(&numbers, false, &pool).unwrap(), out);

        let layer = Attention {
            heads: 2,
            key_heads: 1,
            head_size: 3,
            scale: 0.5,
            mask: Mask::Causal { offset: 1, window: None },
        };
        let (q, k) = (Strided::dense(&numbers[..12], 2, 3), Strided::dense(&numbers[12..21], 1, 3));
        layer.run(q, 2, k, k, 3, &mut out[..12], &pool).unwrap();
        soil();
        assert_eq!(layer.run_new(q, 2, k, k, 3, &pool).unwrap(), out[..12]);
        assert!(layer.run_new(q, usize::MAX / 2, k, k, usize::MAX, &pool).is_err());
    }
}
