//! Sums over rows: the gradient of a bias.

use crate::Path;
use crate::error::{Error, Result, check_length};
use crate::pool::Pool;
use crate::tile::{Width, by_width};

/// Columns of a task.
const COLUMNS: usize = 64;

/// `out[j] = Σ x[i, j]`: `x` `[rows, width]`, `out` `[width]`. The sums run in the order of the rows, whatever the number of
/// threads.
///
/// ```
/// let mut sums = [0.0; 2];
/// foveate_kernels::sum_rows(&[1.0, 2.0, 10.0, 20.0], &mut sums, &foveate_kernels::Pool::single())?;
/// assert_eq!(sums, [11.0, 22.0]);
/// # Ok::<(), foveate_kernels::Error>(())
/// ```
///
/// # Errors
/// [`Error::Size`] for a width of zero, [`Error::Length`] for an input that is no multiple of it.
pub fn sum_rows(x: &[f32], out: &mut [f32], pool: &Pool) -> Result<()> {
    let width = out.len();
    if width == 0 {
        return Err(Error::Size { what: "the width of rows to sum", found: 0, allowed: "at least 1" });
    }
    let rows = x.len() / width;
    check_length("the input", x.len(), rows * width, || format!("[rows {rows}, width {width}]"))?;
    let path = Width::of(Path::best());
    pool.chunks(out, COLUMNS, |task, out| columns(path, x, width, task * COLUMNS, out));
    Ok(())
}

by_width! {
    fn columns(x: &[f32], width: usize, first: usize, out: &mut [f32]) {
        out.fill(0.0);
        for row in x.chunks_exact(width) {
            for (sum, x) in out.iter_mut().zip(&row[first..]) {
                *sum += x;
            }
        }
    }
}

/// Adds `factor` · `x` to `out`.
#[inline(always)]
pub(crate) fn add_multiple(out: &mut [f32], factor: f32, x: &[f32]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out += factor * x;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_column_is_summed_over_every_row() {
        for (rows, width) in [(1, 1), (3, 64), (5, 65), (7, 200), (0, 3)] {
            let x: Vec<f32> = (0..rows * width).map(|i| (i % 11) as f32 - 4.0).collect();
            let mut out = vec![9.0; width];
            sum_rows(&x, &mut out, &Pool::new(2).unwrap()).unwrap();
            for (column, sum) in out.iter().enumerate() {
                assert_eq!(*sum, (0..rows).map(|row| x[row * width + column]).sum::<f32>());
            }
        }
        assert!(sum_rows(&[1.0; 5], &mut [0.0; 2], &Pool::single()).is_err());
        assert!(sum_rows(&[], &mut [], &Pool::single()).is_err());
    }
}
