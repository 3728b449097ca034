//! Single rows of packed weights as numbers: what an embedding look-up reads from the table that the output head uses too.
//!
//! A row is one lane of its panel, so a look-up touches every cache line of a panel's units. That is 32 times the row's
//! bytes, some hundred kilobytes for a token; a prompt's look-ups together cost less than one layer of it.

use crate::error::{Error, Result, check_length};
use crate::format::{Layout, PANEL};
use crate::matrix::Matrix;
use crate::tile::{half_at, quants};

impl Matrix {
    /// The weights' rows (output channels) `indices`, as the f32 numbers that the stored weights stand for: `out` is
    /// `[indices, k]`, row-major. Blocks of 256 give scale · q + minimum with both rounded to f16, as the products use
    /// them ([`Format::Q4K`](crate::Format::Q4K)).
    ///
    /// ```
    /// use foveate_kernels::{Format, Matrix, Pool, Source};
    /// let matrix = Matrix::pack(Source::F32(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), Format::Bf16, 3, 2, &Pool::single())?;
    /// let mut out = [0.0; 4];
    /// matrix.rows(&[2, 0], &mut out)?;
    /// assert_eq!(out, [5.0, 6.0, 1.0, 2.0]);
    /// # Ok::<(), foveate_kernels::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Index`] for an index that is not below n, [`Error::Length`] if `out` has another length than its shape.
    pub fn rows(&self, indices: &[u32], out: &mut [f32]) -> Result<()> {
        let (n, k) = (self.n(), self.k());
        let count = indices.len();
        check_length("the rows", out.len(), count.saturating_mul(k), || format!("[indices {count}, k {k}]"))?;
        let index = |index: u32| usize::try_from(index).unwrap_or(usize::MAX);
        if let Some(&past) = indices.iter().find(|&&i| index(i) >= n) {
            return Err(Error::Index { what: "a row's index", found: index(past), length: n });
        }
        if k > 0 {
            for (&row, out) in indices.iter().zip(out.chunks_exact_mut(k)) {
                self.row(index(row), out);
            }
        }
        Ok(())
    }

    fn row(&self, row: usize, out: &mut [f32]) {
        let (panel, channel) = (row / PANEL, row % PANEL);
        let layout = self.format().layout();
        let units = self.panel(panel).chunks_exact(layout.unit_bytes());
        for (unit, out) in units.zip(out.chunks_mut(layout.step())) {
            let word = |i: usize| unit[4 * channel + i];
            match layout {
                Layout::F32 => out[0] = f32::from_le_bytes(std::array::from_fn(word)),
                Layout::Bf16 => {
                    for (i, number) in out.iter_mut().enumerate() {
                        *number = f32::from_le_bytes([0, 0, word(2 * i), word(2 * i + 1)]);
                    }
                }
                Layout::Int8 => {
                    let scale = self.scales()[row];
                    for (i, number) in out.iter_mut().enumerate() {
                        *number = f32::from((word(i) ^ 0x80).cast_signed()) * scale;
                    }
                }
                _ => {
                    let scale = half_at(unit, 2 * channel);
                    let minimum =
                        if layout.has_minimum() { half_at(unit, 2 * (PANEL + channel)) } else { 0.0 };
                    for (g, out) in out.chunks_mut(4).enumerate() {
                        for (number, quant) in out.iter_mut().zip(quants(layout, unit, g, channel)) {
                            *number = (quant - layout.bias()) as f32 * scale + minimum;
                        }
                    }
                }
            }
        }
    }
}
