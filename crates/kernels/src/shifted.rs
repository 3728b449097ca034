//! An activation of patches that are shifted by a vector for each question: what a layer over x + t computes when the
//! products of x and of t are made apart, each once.

use crate::Path;
use crate::epilogue::Activation;
use crate::error::{Error, Result, check_length};
use crate::pointwise::{by_activation, slope, value};
use crate::pool::Pool;
use crate::tile::{Width, by_width};

/// Numbers that a task handles at least.
const TASK: usize = 1 << 13;

/// Images `[images, positions, width]` and for each of them several shifts, `[images · questions, width]`, those of one
/// image one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shifted {
    /// Rows of an image.
    pub positions: usize,
    /// Numbers of a row.
    pub width: usize,
    /// Shifts of an image.
    pub questions: usize,
}

impl Shifted {
    fn check(&self, x: &[f32], shifts: &[f32]) -> Result<usize> {
        let Self { positions, width, questions } = *self;
        for (what, size) in
            [("positions", positions), ("the width", width), ("shifts of an image", questions)]
        {
            if size == 0 {
                return Err(Error::Size { what, found: 0, allowed: "at least 1" });
            }
        }
        let images = x.len() / (positions * width);
        check_length("the input", x.len(), images * positions * width, || {
            format!("[images {images}, positions {positions}, width {width}]")
        })?;
        check_length("the shifts", shifts.len(), images * questions * width, || {
            format!("[images {images} · questions {questions}, width {width}]")
        })?;
        Ok(images)
    }

    /// f(x + shift) for each image with each of its shifts: `[images · questions, positions, width]`.
    ///
    /// ```
    /// use foveate_kernels::{Activation, Pool, Shifted};
    /// let sizes = Shifted { positions: 2, width: 1, questions: 2 };
    /// let y = sizes.run(Activation::Identity, &[1.0, 2.0], &[10.0, 20.0], &Pool::single())?;
    /// assert_eq!(y, [11.0, 12.0, 21.0, 22.0]);
    /// # Ok::<(), foveate_kernels::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Size`] and [`Error::Length`] for sizes that do not fit each other.
    pub fn run(&self, activation: Activation, x: &[f32], shifts: &[f32], pool: &Pool) -> Result<Vec<f32>> {
        let images = self.check(x, shifts)?;
        let Self { positions, width, questions } = *self;
        let (path, size) = (Width::of(Path::best()), positions * width);
        let mut out = vec![0.0; images * questions * size];
        pool.chunks(&mut out, size, |row, out| {
            let (x, shift) = (&x[row / questions * size..][..size], &shifts[row * width..][..width]);
            shifted(path, activation, x, shift, out);
        });
        Ok(out)
    }

    /// The gradients of [`Shifted::run`] for the gradient `dy` of its result: of `x`, and of the shifts.
    ///
    /// # Errors
    /// As [`Shifted::run`].
    pub fn backward(
        &self,
        activation: Activation,
        x: &[f32],
        shifts: &[f32],
        dy: &[f32],
        pool: &Pool,
    ) -> Result<[Vec<f32>; 2]> {
        let images = self.check(x, shifts)?;
        let Self { positions, width, questions } = *self;
        let (path, size) = (Width::of(Path::best()), positions * width);
        check_length("the gradient", dy.len(), images * questions * size, || {
            format!("[images {images} · questions {questions}, positions {positions}, width {width}]")
        })?;
        // Of each sum x + shift.
        let mut of_sums = vec![0.0; dy.len()];
        let mut of_shifts = vec![0.0; shifts.len()];
        pool.chunk_pairs(&mut of_sums, &mut of_shifts, (size, width), |row, of_sums, of_shift| {
            let (x, shift) = (&x[row / questions * size..][..size], &shifts[row * width..][..width]);
            shifted_back(path, activation, x, shift, &dy[row * size..][..size], of_sums, of_shift);
        });
        if questions == 1 {
            return Ok([of_sums, of_shifts]);
        }
        let mut of_x = vec![0.0; x.len()];
        pool.chunks(&mut of_x, size.min(TASK.next_multiple_of(width)), |task, of_x| {
            let start = task * size.min(TASK.next_multiple_of(width));
            add_questions(path, (size, questions), start, &of_sums, of_x);
        });
        Ok([of_x, of_shifts])
    }
}

by_width! {
    fn shifted(activation: Activation, x: &[f32], shift: &[f32], out: &mut [f32]) {
        by_activation!(activation, CHOSEN => {
            for (x, out) in x.chunks_exact(shift.len()).zip(out.chunks_exact_mut(shift.len())) {
                for ((out, x), shift) in out.iter_mut().zip(x).zip(shift) {
                    *out = value::<FUSED>(CHOSEN, x + shift);
                }
            }
        });
    }
}

by_width! {
    fn shifted_back(
        activation: Activation,
        x: &[f32],
        shift: &[f32],
        dy: &[f32],
        of_sums: &mut [f32],
        of_shift: &mut [f32],
    ) {
        by_activation!(activation, CHOSEN => {
            let width = shift.len();
            let rows = x.chunks_exact(width).zip(dy.chunks_exact(width));
            for ((x, dy), of_sum) in rows.zip(of_sums.chunks_exact_mut(width)) {
                for (((of_sum, x), shift), dy) in of_sum.iter_mut().zip(x).zip(shift).zip(dy) {
                    *of_sum = dy * slope::<FUSED>(CHOSEN, x + shift);
                }
                for (total, of_sum) in of_shift.iter_mut().zip(&*of_sum) {
                    *total += of_sum;
                }
            }
        });
    }
}

by_width! {
    /// Part of the sums over an image's questions, from number `start` of the images on.
    fn add_questions(sizes: (usize, usize), start: usize, of_sums: &[f32], of_x: &mut [f32]) {
        let (size, questions) = sizes;
        let mut at = start;
        let mut rest = of_x;
        // A part may lie in two images.
        while !rest.is_empty() {
            let (image, within) = (at / size, at % size);
            let (part, behind) = rest.split_at_mut(rest.len().min(size - within));
            for question in 0..questions {
                let from = &of_sums[(image * questions + question) * size + within..][..part.len()];
                for (sum, of_sum) in part.iter_mut().zip(from) {
                    *sum += of_sum;
                }
            }
            at += part.len();
            rest = behind;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ALL: [Activation; 5] = [
        Activation::Identity,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::QuickGelu,
        Activation::Silu,
    ];

    fn waves(count: usize, pace: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * pace).sin() * 2.0).collect()
    }

    /// The sums written out, and the plain activation of them.
    #[test]
    fn equal_the_activation_of_the_sums() {
        for (images, positions, width, questions) in [(2, 3, 5, 3), (1, 700, 33, 2), (3, 2, 17, 1)] {
            let sizes = Shifted { positions, width, questions };
            let (x, shifts) =
                (waves(images * positions * width, 0.7), waves(images * questions * width, 1.3));
            let dy = waves(images * questions * positions * width, 0.31);
            let place = |at: usize| {
                let (row, within) = (at / (positions * width), at % (positions * width));
                (row / questions * positions * width + within, row * width + within % width)
            };
            let sums: Vec<f32> = (0..dy.len()).map(|at| x[place(at).0] + shifts[place(at).1]).collect();
            for activation in ALL {
                let (one, pool) = (Pool::single(), Pool::new(3).unwrap());
                let mut expected = vec![0.0; sums.len()];
                activation.run(&sums, &mut expected, &one).unwrap();
                assert_eq!(sizes.run(activation, &x, &shifts, &pool).unwrap(), expected);

                let mut of_sums = vec![0.0; sums.len()];
                activation.backward(&sums, &dy, &mut of_sums, &one).unwrap();
                let (mut of_x, mut of_shifts) = (vec![0.0; x.len()], vec![0.0; shifts.len()]);
                for (at, of_sum) in of_sums.iter().enumerate() {
                    of_x[place(at).0] += of_sum;
                    of_shifts[place(at).1] += of_sum;
                }
                assert_eq!(sizes.backward(activation, &x, &shifts, &dy, &pool).unwrap(), [of_x, of_shifts]);
            }
        }
    }

    #[test]
    fn sizes_that_do_not_fit_are_errors() {
        let (sizes, pool) = (Shifted { positions: 2, width: 2, questions: 2 }, Pool::single());
        assert!(sizes.run(Activation::Gelu, &[0.0; 5], &[0.0; 4], &pool).is_err());
        assert!(sizes.run(Activation::Gelu, &[0.0; 4], &[0.0; 3], &pool).is_err());
        assert!(sizes.backward(Activation::Gelu, &[0.0; 4], &[0.0; 4], &[0.0; 4], &pool).is_err());
        assert!(Shifted { width: 0, ..sizes }.run(Activation::Gelu, &[], &[], &pool).is_err());
    }
}
