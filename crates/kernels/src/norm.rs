//! Layer and root-mean-square normalisation of rows, forwards and backwards.

use crate::error::{Result, check_length};
use crate::pool::Pool;
use crate::tile::{Width, by_width};
use crate::{Error, Path};

/// What normalises a row x of `width` numbers.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Norm<'a> {
    /// x / √(mean(x²) + eps) · weight.
    RootMeanSquare {
        /// `[width]`.
        weight: &'a [f32],
        /// Added under the root.
        eps: f32,
    },
    /// (x − mean(x)) / √(variance(x) + eps) · weight + bias.
    Layer {
        /// `[width]`.
        weight: &'a [f32],
        /// `[width]`.
        bias: &'a [f32],
        /// Added under the root.
        eps: f32,
    },
}

/// Numbers that a task handles at least: less is not worth a second thread.
const TASK: usize = 1 << 14;

/// Columns of a task that adds up over rows.
const COLUMNS: usize = 64;

impl<'a> Norm<'a> {
    fn weight(&self) -> &'a [f32] {
        let (Self::RootMeanSquare { weight, .. } | Self::Layer { weight, .. }) = self;
        weight
    }

    /// # Errors
    /// A width of zero, or lengths that are no multiples of it.
    fn check(&self, x: &[f32], out: &[f32]) -> Result<()> {
        let width = self.weight().len();
        if width == 0 {
            return Err(Error::Size { what: "the width of a norm", found: 0, allowed: "at least 1" });
        }
        if let Self::Layer { bias, .. } = self {
            check_length("the bias", bias.len(), width, || format!("[width {width}]"))?;
        }
        let rows = x.len() / width;
        check_length("the input", x.len(), rows * width, || format!("[rows {rows}, width {width}]"))?;
        check_length("the output", out.len(), x.len(), || format!("[rows {rows}, width {width}]"))
    }

    /// Normalises each row: `x` and `out` are `[rows, width]`.
    ///
    /// ```
    /// use foveate_kernels::{Norm, Pool};
    /// let mut out = [0.0; 2];
    /// let norm = Norm::RootMeanSquare { weight: &[1.0, 10.0], eps: 0.0 };
    /// norm.run(&[3.0, 3.0], &mut out, &Pool::single())?;
    /// assert_eq!(out, [1.0, 10.0]);
    /// # Ok::<(), foveate_kernels::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Length`] and [`Error::Size`] for slices that do not fit each other.
    pub fn run(&self, x: &[f32], out: &mut [f32], pool: &Pool) -> Result<()> {
        self.check(x, out)?;
        let width = self.weight().len();
        let rows = TASK.div_ceil(width);
        let path = Width::of(Path::best());
        pool.chunks(out, rows * width, |task, out| {
            let x = &x[task * rows * width..][..out.len()];
            match *self {
                Self::RootMeanSquare { weight, eps } => root_mean_square(path, x, weight, eps, out),
                Self::Layer { weight, bias, eps } => layer(path, x, weight, bias, eps, out),
            }
        });
        Ok(())
    }

    /// Gradients for the gradient `dy` `[rows, width]` of the output: `dx` `[rows, width]`, and where wanted those of weight
    /// and bias, `[width]` each. Sums over rows run in their order, whatever the number of threads.
    ///
    /// # Errors
    /// As [`Norm::run`].
    pub fn backward(
        &self,
        x: &[f32],
        dy: &[f32],
        dx: &mut [f32],
        parameters: Option<(&mut [f32], &mut [f32])>,
        pool: &Pool,
    ) -> Result<()> {
        self.check(x, dx)?;
        let weight = self.weight();
        let width = weight.len();
        check_length("the gradient", dy.len(), x.len(), || format!("[rows, width {width}]"))?;
        if let Some((d_weight, d_bias)) = &parameters {
            check_length("the weight's gradient", d_weight.len(), width, || format!("[width {width}]"))?;
            check_length("the bias' gradient", d_bias.len(), width, || format!("[width {width}]"))?;
        }
        let (centred, eps) = match *self {
            Self::RootMeanSquare { eps, .. } => (false, eps),
            Self::Layer { eps, .. } => (true, eps),
        };
        let rows = TASK.div_ceil(width);
        let path = Width::of(Path::best());
        // What each row is shifted and scaled by.
        let mut moments = vec![[0.0_f32; 2]; x.len() / width];
        pool.chunk_pairs(dx, &mut moments, (rows * width, rows), |task, dx, moments| {
            let at = task * rows * width;
            let (x, dy) = (&x[at..][..dx.len()], &dy[at..][..dx.len()]);
            backward_rows(path, x, dy, weight, (centred, eps), dx, moments);
        });
        if let Some((d_weight, d_bias)) = parameters {
            pool.chunk_pairs(d_weight, d_bias, (COLUMNS, COLUMNS), |task, d_weight, d_bias| {
                backward_columns(path, x, dy, &moments, task * COLUMNS, d_weight, d_bias);
            });
        }
        Ok(())
    }
}

/// Σ f(i) in sixteen interleaved sums, which the compiler turns into vectors.
#[inline(always)]
fn total(length: usize, f: impl Fn(usize) -> f32) -> f32 {
    let mut sums = [0.0_f32; 16];
    for start in (0..length / 16 * 16).step_by(16) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum += f(start + lane);
        }
    }
    let tail: f32 = (length / 16 * 16..length).map(&f).sum();
    sums.iter().sum::<f32>() + tail
}

/// The mean (zero where rows are not centred) and one over the root of the mean square of what is left.
#[inline(always)]
fn moments(x: &[f32], centred: bool, eps: f32) -> [f32; 2] {
    let width = x.len() as f32;
    let mean = if centred { total(x.len(), |i| x[i]) / width } else { 0.0 };
    let square = total(x.len(), |i| (x[i] - mean) * (x[i] - mean)) / width;
    [mean, 1.0 / (square + eps).sqrt()]
}

by_width! {
    fn root_mean_square(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        for (x, out) in x.chunks_exact(weight.len()).zip(out.chunks_exact_mut(weight.len())) {
            let [_, scale] = moments(x, false, eps);
            for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
                *out = x * scale * weight;
            }
        }
    }
}

by_width! {
    fn layer(x: &[f32], weight: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
        for (x, out) in x.chunks_exact(weight.len()).zip(out.chunks_exact_mut(weight.len())) {
            let [mean, scale] = moments(x, true, eps);
            for (((out, x), weight), bias) in out.iter_mut().zip(x).zip(weight).zip(bias) {
                *out = (x - mean) * scale * weight + bias;
            }
        }
    }
}

by_width! {
    /// With n = (x − mean) · scale and g = dy · weight: dx = scale · (g − mean(g) − n · mean(g · n)), the middle term for
    /// centred rows only.
    fn backward_rows(
        x: &[f32],
        dy: &[f32],
        weight: &[f32],
        kind: (bool, f32),
        dx: &mut [f32],
        kept: &mut [[f32; 2]],
    ) {
        let ((centred, eps), width) = (kind, weight.len());
        let rows = x.chunks_exact(width).zip(dy.chunks_exact(width)).zip(dx.chunks_exact_mut(width));
        for (((x, dy), dx), kept) in rows.zip(kept) {
            let [mean, scale] = moments(x, centred, eps);
            *kept = [mean, scale];
            let shift = if centred { total(width, |i| dy[i] * weight[i]) / width as f32 } else { 0.0 };
            let slope = total(width, |i| dy[i] * weight[i] * (x[i] - mean)) * scale / width as f32;
            for (((dx, x), dy), weight) in dx.iter_mut().zip(x).zip(dy).zip(weight) {
                *dx = scale * (dy * weight - shift - (x - mean) * scale * slope);
            }
        }
    }
}

by_width! {
    fn backward_columns(
        x: &[f32],
        dy: &[f32],
        moments: &[[f32; 2]],
        first: usize,
        d_weight: &mut [f32],
        d_bias: &mut [f32],
    ) {
        let width = x.len() / moments.len().max(1);
        d_weight.fill(0.0);
        d_bias.fill(0.0);
        for (row, [mean, scale]) in moments.iter().enumerate() {
            let at = row * width + first..row * width + first + d_weight.len();
            let (x, dy) = (&x[at.clone()], &dy[at]);
            for (((sum, bias), x), dy) in d_weight.iter_mut().zip(&mut *d_bias).zip(x).zip(dy) {
                *sum += dy * (x - mean) * scale;
                *bias += dy;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn rows(width: usize) -> impl Strategy<Value = Vec<f32>> {
        (1..6_usize).prop_flat_map(move |rows| proptest::collection::vec(-3.0_f32..3.0, rows * width))
    }

    /// The definition in f64.
    fn plain(x: &[f32], weight: &[f32], bias: Option<&[f32]>, eps: f64) -> Vec<f64> {
        let width = weight.len();
        x.chunks_exact(width)
            .flat_map(|x| {
                let mean = bias.map_or(0.0, |_| x.iter().map(|x| f64::from(*x)).sum::<f64>() / width as f64);
                let square = x.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / width as f64;
                (0..width)
                    .map(|i| {
                        let shift = bias.map_or(0.0, |bias| f64::from(bias[i]));
                        (f64::from(x[i]) - mean) / (square + eps).sqrt() * f64::from(weight[i]) + shift
                    })
                    .collect::<Vec<_>>()
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn both_norms_are_their_definitions(width in 1..40_usize, seed in rows(40), threads in 1..4_usize) {
            let pool = Pool::new(threads).unwrap();
            let x: Vec<f32> = seed[..seed.len() / width * width].to_vec();
            let weight: Vec<f32> = (0..width).map(|i| 0.5 + (i as f32 * 0.7).sin()).collect();
            let bias: Vec<f32> = (0..width).map(|i| (i as f32).cos()).collect();
            let mut out = vec![0.0; x.len()];
            for (norm, with) in [
                (Norm::RootMeanSquare { weight: &weight, eps: 1e-3 }, None),
                (Norm::Layer { weight: &weight, bias: &bias, eps: 1e-3 }, Some(&bias[..])),
            ] {
                norm.run(&x, &mut out, &pool).unwrap();
                for (got, expected) in out.iter().zip(plain(&x, &weight, with, 1e-3)) {
                    prop_assert!((f64::from(*got) - expected).abs() < 1e-4 * (1.0 + expected.abs()), "{got} {expected}");
                }
            }
        }
    }

    #[test]
    fn gradients_are_finite_differences() {
        let width = 19;
        let x: Vec<f32> = (0..3 * width).map(|i| (i as f32 * 1.7).sin()).collect();
        let dy: Vec<f32> = (0..3 * width).map(|i| (i as f32 * 0.9).cos()).collect();
        let weight: Vec<f32> = (0..width).map(|i| 1.0 + 0.3 * (i as f32).sin()).collect();
        let bias = vec![0.25; width];
        let loss = |x: &[f32], weight: &[f32], bias: &[f32], centred: bool| -> f64 {
            let y = plain(x, weight, centred.then_some(bias), 1e-5);
            y.iter().zip(&dy).map(|(y, dy)| y * f64::from(*dy)).sum()
        };
        let nudged = |values: &[f32], at: usize, by: f32| {
            let mut values = values.to_vec();
            values[at] += by;
            values
        };
        let step = 1e-3;
        for centred in [false, true] {
            let norm = if centred {
                Norm::Layer { weight: &weight, bias: &bias, eps: 1e-5 }
            } else {
                Norm::RootMeanSquare { weight: &weight, eps: 1e-5 }
            };
            let (mut dx, mut dw, mut db) = (vec![0.0; x.len()], vec![0.0; width], vec![0.0; width]);
            let pool = Pool::new(2).unwrap();
            norm.backward(&x, &dy, &mut dx, Some((&mut dw, &mut db)), &pool).unwrap();
            let mut alone = vec![0.0; x.len()];
            norm.backward(&x, &dy, &mut alone, None, &pool).unwrap();
            assert_eq!(alone, dx);
            let close = |got: f32, up: f64, down: f64| {
                let expected = (up - down) / f64::from(2.0 * step);
                assert!((f64::from(got) - expected).abs() < 2e-3, "{centred}: {got} {expected}");
            };
            for at in 0..x.len() {
                let loss = |by| loss(&nudged(&x, at, by), &weight, &bias, centred);
                close(dx[at], loss(step), loss(-step));
            }
            for at in 0..width {
                let moved = |by| loss(&x, &nudged(&weight, at, by), &bias, centred);
                close(dw[at], moved(step), moved(-step));
                if centred {
                    let moved = |by| loss(&x, &weight, &nudged(&bias, at, by), centred);
                    close(db[at], moved(step), moved(-step));
                }
            }
        }
    }

    #[test]
    fn lengths_that_do_not_fit_are_named() {
        let norm = Norm::RootMeanSquare { weight: &[1.0; 4], eps: 0.0 };
        let error = norm.run(&[0.0; 6], &mut [0.0; 6], &Pool::single()).unwrap_err().to_string();
        assert!(error.contains("[rows 1, width 4]"), "{error}");
        let none = Norm::RootMeanSquare { weight: &[], eps: 0.0 };
        assert!(none.run(&[], &mut [], &Pool::single()).is_err());
    }
}
