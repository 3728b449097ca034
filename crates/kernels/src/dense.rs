//! Products of f32 matrices that change with every step, as trainable layers have: nothing is packed beforehand.
//!
//! With a layer's weights W `[n, k]`, inputs x and output gradients dy, all row-major, the three products of a training
//! step are x · Wᵀ, dy · W and dyᵀ · x: transposing is a matter of strides.

use std::ops::Range;

use crate::Path;
use crate::activations::{Cut, STRIDE};
use crate::buffer::{Buffer, Plain};
use crate::driver::{Left, PANELS, Product};
use crate::epilogue::{Epilogue, Rows, finish};
use crate::error::{Error, Result, check_length};
use crate::format::{Layout, PANEL};
use crate::pool::Pool;
use crate::tile::{Width, by_columns, tiles};
use crate::transpose::transpose;

/// A matrix in a slice: row i, column j is `numbers[i * row_stride + j * column_stride]`.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// The slice.
    pub numbers: &'a [f32],
    /// From a row to the next.
    pub row_stride: usize,
    /// From a column to the next.
    pub column_stride: usize,
}

impl<'a> View<'a> {
    /// A dense row-major matrix with `columns` columns.
    #[must_use]
    pub fn rows(numbers: &'a [f32], columns: usize) -> Self {
        Self { numbers, row_stride: columns, column_stride: 1 }
    }

    /// The transposed matrix.
    #[must_use]
    pub fn transposed(self) -> Self {
        Self { numbers: self.numbers, row_stride: self.column_stride, column_stride: self.row_stride }
    }

    pub(crate) fn check(&self, what: &'static str, rows: usize, columns: usize) -> Result<()> {
        let last = |count: usize, stride: usize| count.saturating_sub(1).saturating_mul(stride);
        let needed =
            last(rows, self.row_stride).saturating_add(last(columns, self.column_stride)).saturating_add(1);
        if rows == 0 || columns == 0 || self.numbers.len() >= needed {
            return Ok(());
        }
        let Self { row_stride, column_stride, .. } = self;
        Err(Error::Length {
            what,
            shape: format!("[{rows}, {columns}] with strides [{row_stride}, {column_stride}]"),
            expected: needed,
            found: self.numbers.len(),
        })
    }
}

/// out = epilogue(a · b): `a` is `[rows, inner]`, `b` `[inner, columns]`, `out` `[rows, columns]` row-major.
///
/// A row of the output depends on that row of `a` and on `b` alone, to the bit.
///
/// ```
/// use foveate_kernels::{Epilogue, Pool, View, product};
/// let (pool, mut out) = (Pool::single(), [0.0; 4]);
/// let a = View::rows(&[1.0, 2.0, 3.0, 4.0], 2);
/// product(a, a, [2, 2, 2], &mut out, &Epilogue::default(), &pool)?;
/// assert_eq!(out, [7.0, 10.0, 15.0, 22.0]);
/// product(a.transposed(), a, [2, 2, 2], &mut out, &Epilogue::default(), &pool)?;
/// assert_eq!(out, [10.0, 14.0, 14.0, 20.0]);
/// # Ok::<(), foveate_kernels::Error>(())
/// ```
///
/// # Errors
/// [`Error::Length`] if a slice is too short for its shape and strides (the output and what the epilogue holds: not
/// exactly as long as theirs).
pub fn product(
    a: View<'_>,
    b: View<'_>,
    [rows, inner, columns]: [usize; 3],
    out: &mut [f32],
    epilogue: &Epilogue<'_>,
    pool: &Pool,
) -> Result<()> {
    product_on(Path::best(), a, b, [rows, inner, columns], out, epilogue, pool)
}

/// [`product`] on a path of the caller's choice.
///
/// # Errors
/// Also [`Error::Unavailable`] if this machine does not have the path.
pub fn product_on(
    path: Path,
    a: View<'_>,
    b: View<'_>,
    [rows, inner, columns]: [usize; 3],
    out: &mut [f32],
    epilogue: &Epilogue<'_>,
    pool: &Pool,
) -> Result<()> {
    path.check()?;
    a.check("the left matrix", rows, inner)?;
    b.check("the right matrix", inner, columns)?;
    let length = rows.saturating_mul(columns);
    check_length("the output", out.len(), length, || format!("[{rows}, {columns}]"))?;
    epilogue.check(rows, columns)?;
    if rows * columns == 0 {
        return Ok(());
    }

    let width = Width::of(path);
    let cut = Cut { units: inner, words: 1 };
    let weights = |panel: usize, units: Range<usize>, slot: usize, scratch: &mut Buffer| {
        let size = cut.longest() * PANEL;
        scratch.reserve(4 * PANELS * size);
        let to = &mut scratch.view_mut::<f32>()[slot * size..][..units.len() * PANEL];
        fill_panel(b, units, panel * PANEL..columns.min((panel + 1) * PANEL), to);
        to.as_ptr().cast()
    };
    // Too scattered to ask for ahead.
    let stored = |_: usize, _: Range<usize>| (std::ptr::null(), 0);
    let out = Rows::new(out, columns);
    // The driver finishes each tile and panel once, on one thread.
    let finish =
        |row: usize, panel: usize, sums: &mut [[f32; PANEL]]| finish(width, epilogue, sums, row, panel, &out);
    let x = match a.row_stride {
        1 => Left::Columns { a, rows, cut, tiles: by_columns(path) },
        _ => Left::Gathered { a, rows, cut },
    };
    let product = Product {
        width,
        tiles: tiles(path, Layout::F32).by_rows,
        units_ratio: 1,
        x,
        panels: columns.div_ceil(PANEL),
        panel_bytes: 4 * PANEL * inner,
        weights: &weights,
        stored: &stored,
        out: &out,
        finish: &finish,
    };
    // SAFETY: the path was checked, and `weights` writes a unit of 32 numbers for each unit of the cut.
    unsafe { product.run(pool) };
    Ok(())
}

/// The columns `inner` of `rows` as bits, a row every [`STRIDE`] words.
pub(crate) fn gather(a: View<'_>, rows: Range<usize>, inner: Range<usize>, to: &mut [u32]) {
    for (row, to) in rows.zip(to.chunks_mut(STRIDE)) {
        if a.column_stride == 1 {
            let from = &a.numbers[row * a.row_stride + inner.start..][..inner.len()];
            f32::view_mut(&mut to[..inner.len()]).copy_from_slice(from);
        } else {
            for (to, column) in to.iter_mut().zip(inner.clone()) {
                *to = a.numbers[row * a.row_stride + column * a.column_stride].to_bits();
            }
        }
    }
}

/// Rows `inner` and up to 32 columns of `b` as `[inner][32]`; zeros past the last column.
fn fill_panel(b: View<'_>, inner: Range<usize>, columns: Range<usize>, to: &mut [f32]) {
    if columns.len() < PANEL {
        to.fill(0.0);
    }
    if b.column_stride == 1 {
        for (i, to) in inner.zip(to.chunks_exact_mut(PANEL)) {
            let from = &b.numbers[i * b.row_stride + columns.start..][..columns.len()];
            to[..columns.len()].copy_from_slice(from);
        }
        return;
    }
    if b.row_stride == 1 {
        let column =
            |j: usize| &b.numbers[inner.start + (columns.start + j) * b.column_stride..][..inner.len()];
        let fours = columns.len() / 4;
        for four in 0..fours {
            transpose(std::array::from_fn(|n| column(4 * four + n)), 4 * four, to);
        }
        for j in 4 * fours..columns.len() {
            for (from, to) in column(j).iter().zip(to.chunks_exact_mut(PANEL)) {
                to[j] = *from;
            }
        }
        return;
    }
    for (j, column) in columns.enumerate() {
        for (i, to) in inner.clone().zip(to.chunks_exact_mut(PANEL)) {
            to[j] = b.numbers[i * b.row_stride + column * b.column_stride];
        }
    }
}
