//! Square windows that tile a grid of patches: attention inside each of them, and the depthwise convolution whose stride is
//! its side, forwards and backwards.
//!
//! Both read the patches where they lie, row-major in their grid. Together the windows have as many query-key pairs as there
//! are patches, which is little beside the products around them: straight loops will do. Every number of a result is
//! summed by one task in one order, so that neither threads nor the rows beside it change it.

use crate::Path;
use crate::error::{Error, Result, check_length};
use crate::pool::Pool;
use crate::sums::{add_multiple, sum_rows};
use crate::tile::{Width, by_width};

/// Multiplications of a task at least: less is not worth a second thread.
const TASK: usize = 1 << 14;

/// A tiling of a grid by windows, both counted row-major.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Rows of patches; a multiple of the side.
    pub rows: usize,
    /// Columns of patches; a multiple of the side.
    pub columns: usize,
    /// Patches along the side of a window.
    pub side: usize,
}

impl Windows {
    /// Patches of the grid.
    #[must_use]
    pub fn patches(self) -> usize {
        self.rows * self.columns
    }

    /// Patches of a window.
    #[must_use]
    pub fn inside(self) -> usize {
        self.side * self.side
    }

    /// How many windows there are; 0 for a side of 0.
    #[must_use]
    pub fn count(self) -> usize {
        self.patches().checked_div(self.inside()).unwrap_or(0)
    }

    /// The patches of window `window`, row by row.
    #[inline(always)]
    fn patches_of(self, window: usize) -> impl Iterator<Item = usize> {
        let Self { columns, side, .. } = self;
        let across = columns / side;
        let corner = window / across * side * columns + window % across * side;
        (0..side).flat_map(move |row| (0..side).map(move |column| corner + row * columns + column))
    }

    /// The window of `patch`, and the patch's place in it.
    #[inline(always)]
    fn place_of(self, patch: usize) -> (usize, usize) {
        let Self { columns, side, .. } = self;
        let (row, column) = (patch / columns, patch % columns);
        (row / side * (columns / side) + column / side, row % side * side + column % side)
    }

    fn check(self) -> Result<()> {
        let Self { rows, columns, side } = self;
        if side > 0 && rows > 0 && columns > 0 && rows.is_multiple_of(side) && columns.is_multiple_of(side) {
            return Ok(());
        }
        let allowed = "a divisor of the grid's rows and columns";
        Err(Error::Size { what: "the side of a window", found: side, allowed })
    }

    /// Images `[images, patches, width]` in a slice.
    fn images(self, x: &[f32], width: usize) -> Result<usize> {
        self.check()?;
        if width == 0 {
            return Err(Error::Size { what: "the width of a patch", found: 0, allowed: "at least 1" });
        }
        let (patches, images) = (self.patches(), x.len() / (self.patches() * width));
        check_length("the patches", x.len(), images * patches * width, || {
            format!("[images {images}, patches {patches}, width {width}]")
        })?;
        Ok(images)
    }

    /// A depthwise convolution whose stride is its side: in each window a weighted sum of its patches, channel by channel.
    /// `x` `[images, patches, width]`, `filter` `[width, side²]`, `bias` `[width]`, to `[images, windows, width]`.
    ///
    /// ```
    /// use foveate_kernels::{Pool, Windows};
    /// let windows = Windows { rows: 2, columns: 4, side: 2 };
    /// let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
    /// let y = windows.convolve(&x, &[1.0, 0.0, 0.0, 10.0], &[0.5], &Pool::single())?;
    /// assert_eq!(y, [1.0 + 60.0 + 0.5, 3.0 + 80.0 + 0.5]);
    /// # Ok::<(), foveate_kernels::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Size`] for a side that does not divide the grid, [`Error::Length`] for slices that do not fit.
    pub fn convolve(self, x: &[f32], filter: &[f32], bias: &[f32], pool: &Pool) -> Result<Vec<f32>> {
        let width = bias.len();
        let images = self.images(x, width)?;
        let filter = self.by_place(filter, width)?;
        let (path, each) = (Width::of(Path::best()), TASK.div_ceil(self.inside() * width));
        let mut out = vec![0.0; images * self.count() * width];
        pool.chunks(&mut out, each * width, |task, out| {
            convolve(path, self, task * each, x, &filter, bias, out)
        });
        Ok(out)
    }

    /// The gradients of [`Windows::convolve`] for the gradient `dy` `[images, windows, width]` of its result: those of `x`,
    /// filter and bias that are `wanted`.
    ///
    /// # Errors
    /// As [`Windows::convolve`].
    pub fn convolve_backward(
        self,
        x: &[f32],
        filter: &[f32],
        dy: &[f32],
        wanted: [bool; 3],
        pool: &Pool,
    ) -> Result<[Option<Vec<f32>>; 3]> {
        self.check()?;
        let width = filter.len() / self.inside();
        let images = self.images(x, width)?;
        let by_place = self.by_place(filter, width)?;
        check_length("the gradient", dy.len(), images * self.count() * width, || {
            format!("[images {images}, windows {}, width {width}]", self.count())
        })?;
        let path = Width::of(Path::best());
        let dx = wanted[0].then(|| {
            let (mut dx, each) = (vec![0.0; x.len()], TASK.div_ceil(width));
            pool.chunks(&mut dx, each * width, |task, dx| {
                convolve_back(path, self, task * each, dy, &by_place, dx)
            });
            dx
        });
        let d_filter = wanted[1].then(|| {
            let mut sums = vec![0.0; filter.len()];
            pool.chunks(&mut sums, width, |place, sums| filter_gradient(path, self, place, x, dy, sums));
            transposed(&sums, width)
        });
        let d_bias = if wanted[2] {
            let mut sums = vec![0.0; width];
            sum_rows(dy, &mut sums, pool)?;
            Some(sums)
        } else {
            None
        };
        Ok([dx, d_filter, d_bias])
    }

    /// `[width, side²]` as `[side², width]`.
    fn by_place(self, filter: &[f32], width: usize) -> Result<Vec<f32>> {
        let inside = self.inside();
        check_length("the filter", filter.len(), width * inside, || format!("[width {width}, {inside}]"))?;
        Ok(transposed(filter, inside))
    }
}

/// `[rows, columns]` as `[columns, rows]`.
fn transposed(x: &[f32], columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|column| x.iter().skip(column).step_by(columns).copied()).collect()
}

by_width! {
    fn convolve(windows: Windows, first: usize, x: &[f32], filter: &[f32], bias: &[f32], out: &mut [f32]) {
        let (width, patches) = (bias.len(), windows.patches());
        for (unit, out) in (first..).zip(out.chunks_exact_mut(width)) {
            let (image, window) = (unit / windows.count(), unit % windows.count());
            let image = &x[image * patches * width..][..patches * width];
            out.copy_from_slice(bias);
            for (patch, filter) in windows.patches_of(window).zip(filter.chunks_exact(width)) {
                for ((out, x), filter) in out.iter_mut().zip(&image[patch * width..][..width]).zip(filter) {
                    *out += x * filter;
                }
            }
        }
    }
}

by_width! {
    fn convolve_back(windows: Windows, first: usize, dy: &[f32], filter: &[f32], dx: &mut [f32]) {
        let width = filter.len() / windows.inside();
        for (unit, dx) in (first..).zip(dx.chunks_exact_mut(width)) {
            let (image, (window, place)) = (unit / windows.patches(), windows.place_of(unit % windows.patches()));
            let dy = &dy[(image * windows.count() + window) * width..][..width];
            for ((dx, dy), filter) in dx.iter_mut().zip(dy).zip(&filter[place * width..][..width]) {
                *dx = dy * filter;
            }
        }
    }
}

by_width! {
    /// Of the filter at one place of the window.
    fn filter_gradient(windows: Windows, place: usize, x: &[f32], dy: &[f32], sums: &mut [f32]) {
        let (width, side) = (sums.len(), windows.side);
        for (unit, dy) in dy.chunks_exact(width).enumerate() {
            let (image, window) = (unit / windows.count(), unit % windows.count());
            let across = windows.columns / side;
            let (row, column) = (window / across * side + place / side, window % across * side + place % side);
            let patch = image * windows.patches() + row * windows.columns + column;
            for ((sum, dy), x) in sums.iter_mut().zip(dy).zip(&x[patch * width..][..width]) {
                *sum += dy * x;
            }
        }
    }
}

/// Attention of the queries of each window to the window's own patches.
///
/// Queries are `[images · questions, windows, width]`, those of one image one after the other; keys and values
/// `[images, patches, width]`; the heads of a row stand beside each other.
#[derive(Debug, Clone, Copy)]
pub struct WindowAttention {
    /// The windows.
    pub windows: Windows,
    /// Heads; a divisor of the width.
    pub heads: usize,
    /// Numbers of a row.
    pub width: usize,
    /// Rows of queries for each image.
    pub questions: usize,
    /// What scores are multiplied by, usually 1 / √(width / heads).
    pub scale: f32,
}

impl WindowAttention {
    /// The images, if all slices fit: `of_queries` like the queries, `of_patches` like the keys.
    fn check(
        &self,
        of_queries: &[(&'static str, &[f32])],
        of_patches: &[(&'static str, &[f32])],
    ) -> Result<usize> {
        let Self { windows, heads, width, questions, .. } = *self;
        let images = windows.images(of_patches.first().map_or(&[], |(_, x)| x), width)?;
        if heads == 0 || !width.is_multiple_of(heads) {
            let allowed = "a divisor of the width";
            return Err(Error::Size { what: "the number of heads", found: heads, allowed });
        }
        let (count, patches) = (windows.count(), windows.patches());
        for (what, x) in of_queries {
            check_length(what, x.len(), images * questions * count * width, || {
                format!("[images {images} · questions {questions}, windows {count}, width {width}]")
            })?;
        }
        for (what, x) in of_patches {
            check_length(what, x.len(), images * patches * width, || {
                format!("[images {images}, patches {patches}, width {width}]")
            })?;
        }
        Ok(images)
    }

    /// softmax(scale · q · kᵀ) inside the windows: `[images · questions, windows, heads, side²]`.
    ///
    /// # Errors
    /// [`Error::Size`] and [`Error::Length`] for sizes that do not fit each other.
    pub fn weights(&self, queries: &[f32], keys: &[f32], pool: &Pool) -> Result<Vec<f32>> {
        self.check(&[("the queries", queries)], &[("the keys", keys)])?;
        let mut weights = self.products(queries, keys, pool);
        let (path, each) = (Width::of(Path::best()), self.each() * self.heads * self.windows.inside());
        pool.chunks(&mut weights, each, |_, weights| {
            softmax(path, self.windows.inside(), self.scale, weights);
        });
        Ok(weights)
    }

    /// softmax(scale · q · kᵀ) · v inside the windows: `[images · questions, windows, width]`.
    ///
    /// # Errors
    /// [`Error::Size`] and [`Error::Length`] for sizes that do not fit each other.
    pub fn run(&self, queries: &[f32], keys: &[f32], values: &[f32], pool: &Pool) -> Result<Vec<f32>> {
        self.check(&[("the queries", queries)], &[("the keys", keys), ("the values", values)])?;
        Ok(self.mixed(&self.weights(queries, keys, pool)?, values, pool))
    }

    /// The gradients of [`WindowAttention::run`] for the gradient `dy` of its result: those of queries, keys and values
    /// that are `wanted`.
    ///
    /// # Errors
    /// As [`WindowAttention::run`].
    pub fn backward(
        &self,
        [queries, keys, values]: [&[f32]; 3],
        dy: &[f32],
        wanted: [bool; 3],
        pool: &Pool,
    ) -> Result<[Option<Vec<f32>>; 3]> {
        let of_patches = [("the keys", keys), ("the values", values)];
        self.check(&[("the queries", queries), ("the gradient", dy)], &of_patches)?;
        let weights = self.weights(queries, keys, pool)?;
        let d_values = wanted[2].then(|| self.gathered(&weights, dy, pool));
        if !(wanted[0] || wanted[1]) {
            return Ok([None, None, d_values]);
        }
        // From the weights' gradients to those of the scores before scaling, times the scale.
        let mut d_scores = self.products(dy, values, pool);
        let (path, each) = (Width::of(Path::best()), self.each() * self.heads * self.windows.inside());
        pool.chunks(&mut d_scores, each, |task, d_scores| {
            let weights = &weights[task * each..][..d_scores.len()];
            softmax_back(path, self.windows.inside(), self.scale, weights, d_scores);
        });
        let d_queries = wanted[0].then(|| self.mixed(&d_scores, keys, pool));
        let d_keys = wanted[1].then(|| self.gathered(&d_scores, queries, pool));
        Ok([d_queries, d_keys, d_values])
    }

    /// Windows of one row of queries that a task takes.
    fn each(&self) -> usize {
        TASK.div_ceil(self.windows.inside() * self.width)
    }

    /// Head by head the products of each window's row with the window's patches: rows `[images · questions, windows, width]`,
    /// patches `[images, patches, width]`, to `[images · questions, windows, heads, side²]`.
    fn products(&self, rows: &[f32], patches: &[f32], pool: &Pool) -> Vec<f32> {
        let (path, each, size) = (Width::of(Path::best()), self.each(), self.heads * self.windows.inside());
        let mut out = vec![0.0; rows.len() / self.width * size];
        pool.chunks(&mut out, each * size, |task, out| products(path, self, task * each, rows, patches, out));
        out
    }

    /// Sums of each window's patches with the weights `[images · questions, windows, heads, side²]`, to rows.
    fn mixed(&self, weights: &[f32], patches: &[f32], pool: &Pool) -> Vec<f32> {
        let (path, each, size) = (Width::of(Path::best()), self.each(), self.heads * self.windows.inside());
        let mut out = vec![0.0; weights.len() / size * self.width];
        pool.chunks(&mut out, each * self.width, |task, out| {
            mixed(path, self, task * each, weights, patches, out)
        });
        out
    }

    /// The other way round: for each patch the sum over questions of its window's rows, with its own weights.
    fn gathered(&self, weights: &[f32], rows: &[f32], pool: &Pool) -> Vec<f32> {
        let images = rows.len() / (self.questions.max(1) * self.windows.count() * self.width);
        let (path, each) = (Width::of(Path::best()), TASK.div_ceil(self.questions.max(1) * self.width));
        let mut out = vec![0.0; images * self.windows.patches() * self.width];
        pool.chunks(&mut out, each * self.width, |task, out| {
            gathered(path, self, task * each, weights, rows, out)
        });
        out
    }
}

/// Σ a · b in sixteen interleaved sums, which the compiler turns into vectors.
#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let mut sums = [0.0_f32; 16];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..16 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

by_width! {
    fn products(layer: &WindowAttention, first: usize, rows: &[f32], patches: &[f32], out: &mut [f32]) {
        let WindowAttention { windows, heads, width, questions, .. } = *layer;
        let (count, inside, head) = (windows.count(), windows.inside(), width / heads);
        for (unit, out) in (first..).zip(out.chunks_exact_mut(heads * inside)) {
            let row = &rows[unit * width..][..width];
            let image = &patches[unit / count / questions * windows.patches() * width..];
            for (place, patch) in windows.patches_of(unit % count).enumerate() {
                let patch = &image[patch * width..][..width];
                let pairs = row.chunks_exact(head).zip(patch.chunks_exact(head));
                for (nth, (row, patch)) in pairs.enumerate() {
                    out[nth * inside + place] = dot(row, patch);
                }
            }
        }
    }
}

by_width! {
    fn mixed(layer: &WindowAttention, first: usize, weights: &[f32], patches: &[f32], out: &mut [f32]) {
        let WindowAttention { windows, heads, width, questions, .. } = *layer;
        let (count, inside, head) = (windows.count(), windows.inside(), width / heads);
        for (unit, out) in (first..).zip(out.chunks_exact_mut(width)) {
            let weights = &weights[unit * heads * inside..][..heads * inside];
            let image = &patches[unit / count / questions * windows.patches() * width..];
            for (place, patch) in windows.patches_of(unit % count).enumerate() {
                let patch = &image[patch * width..][..width];
                let pairs = out.chunks_exact_mut(head).zip(patch.chunks_exact(head));
                for (nth, (out, patch)) in pairs.enumerate() {
                    add_multiple(out, weights[nth * inside + place], patch);
                }
            }
        }
    }
}

by_width! {
    fn gathered(layer: &WindowAttention, first: usize, weights: &[f32], rows: &[f32], out: &mut [f32]) {
        let WindowAttention { windows, heads, width, questions, .. } = *layer;
        let (count, inside, head) = (windows.count(), windows.inside(), width / heads);
        for (unit, out) in (first..).zip(out.chunks_exact_mut(width)) {
            let (image, (window, place)) = (unit / windows.patches(), windows.place_of(unit % windows.patches()));
            for question in 0..questions {
                let unit = (image * questions + question) * count + window;
                let weights = &weights[unit * heads * inside..][..heads * inside];
                let row = &rows[unit * width..][..width];
                let pairs = out.chunks_exact_mut(head).zip(row.chunks_exact(head));
                for (nth, (out, row)) in pairs.enumerate() {
                    add_multiple(out, weights[nth * inside + place], row);
                }
            }
        }
    }
}

by_width! {
    fn softmax(length: usize, scale: f32, rows: &mut [f32]) {
        for row in rows.chunks_exact_mut(length) {
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            // As many as there are patches: the exact exponential costs nothing beside the products.
            row.iter_mut().for_each(|score| *score = ((*score - largest) * scale).exp());
            let sum: f32 = row.iter().sum();
            row.iter_mut().for_each(|weight| *weight /= sum);
        }
    }
}

by_width! {
    /// scale · w · (dw − Σ w · dw), in place.
    fn softmax_back(length: usize, scale: f32, weights: &[f32], gradients: &mut [f32]) {
        for (weights, gradients) in weights.chunks_exact(length).zip(gradients.chunks_exact_mut(length)) {
            let mean = dot(weights, gradients);
            for (gradient, weight) in gradients.iter_mut().zip(weights) {
                *gradient = scale * weight * (*gradient - mean);
            }
        }
    }
}

#[cfg(test)]
#[path = "windows_tests.rs"]
mod tests;
