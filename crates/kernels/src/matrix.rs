//! Packed weights and their product with rows of activations.

use std::cell::Cell;
use std::ops::Range;

use crate::Path;
use crate::activations::{Activations, Cut, Kind};
use crate::buffer::Buffer;
use crate::driver::{Left, PANELS, Product};
use crate::epilogue::{Epilogue, Rows, finish, scale_integers};
use crate::error::{Error, Result, check_length};
use crate::format::{Format, Layout, PANEL};
use crate::pack::{Source, pack};
use crate::pool::Pool;
use crate::tile::{Tiles, Width, expand, expanded, tiles};

/// Rows from which weights are unpacked before they are used. Below, reading them packed while computing costs less than
/// waiting for them first. To convert f16 takes the same units as the sums do, so that once for all rows pays sooner.
fn many(layout: Layout) -> usize {
    if layout == Layout::F16 { 48 } else { 100 }
}

/// How a product with weights of one layout is taken.
///
/// Got from [`Loops::of`], which checks the path, and in tests made of loops that every processor runs; products rely on it.
#[derive(Clone, Copy)]
pub(crate) struct Loops {
    pub(crate) width: Width,
    pub(crate) tiles: Tiles,
    /// What the weights are unpacked to before `tiles` read them, if they are.
    pub(crate) wider: Option<Layout>,
}

impl Loops {
    /// # Errors
    /// [`Error::Unavailable`] if this machine does not have the path.
    fn of(path: Path, layout: Layout, rows: usize) -> Result<Self> {
        path.check()?;
        let (width, packed) = (Width::of(path), tiles(path, layout));
        // Pairs of bf16 are multiplied as they are stored, whatever the number of rows.
        let wider = expanded(layout).filter(|_| rows >= many(layout) && packed.kind != Kind::Pairs);
        Ok(Self { width, tiles: wider.map_or(packed, |wider| tiles(path, wider)), wider })
    }
}

thread_local! {
    /// Memory for prepared activations, kept from call to call.
    pub(crate) static WORDS: Cell<Option<Buffer>> = const { Cell::new(None) };
}

/// Weights of a linear layer, `[n, k]`, packed for the inner loops.
///
/// Layers with the same input (query, key and value; gate and up) are best stacked into one matrix, the rows of one after
/// the rows of the other: the activations are then prepared once, and the threads meet once.
///
/// Each thread that multiplies keeps scratch memory of about a megabyte, and the calling one a copy of the largest input
/// it has seen.
///
/// ```
/// use foveate_kernels::{Epilogue, Format, Matrix, Pool, Source};
/// let pool = Pool::new(2)?;
/// // Two output channels of three weights.
/// let matrix = Matrix::pack(Source::F32(&[1.0, 2.0, 3.0, 0.5, 0.0, -0.5]), Format::F32, 2, 3, &pool)?;
/// let mut out = [0.0; 4];
/// matrix.multiply(&[1.0, 1.0, 1.0, 2.0, 0.0, 4.0], 2, &mut out, &Epilogue::bias(&[10.0, 20.0]), &pool)?;
/// assert_eq!(out, [16.0, 20.0, 24.0, 19.0]);
/// # Ok::<(), foveate_kernels::Error>(())
/// ```
#[derive(Debug)]
pub struct Matrix {
    format: Format,
    n: usize,
    k: usize,
    panels: Buffer,
    scales: Vec<f32>,
}

impl Matrix {
    /// Packs weights `[n, k]`: n output channels of k numbers.
    ///
    /// # Errors
    /// [`Error::Length`] if the source does not hold n · k numbers, [`Error::Size`] if k does not suit the format (stored
    /// blocks: multiples of 32; int8: at most 65,536), [`Error::Source`] for blocks where numbers are needed and the
    /// reverse: floats can be packed as f32, bf16, f16, int8 and Q8_0, blocks only as themselves.
    pub fn pack(source: Source<'_>, format: Format, n: usize, k: usize, pool: &Pool) -> Result<Self> {
        let (panels, scales) = pack(source, format, n, k, pool)?;
        Ok(Self { format, n, k, panels, scales })
    }

    /// How the weights are stored.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Output channels.
    #[must_use]
    pub fn n(&self) -> usize {
        self.n
    }

    /// Input channels.
    #[must_use]
    pub fn k(&self) -> usize {
        self.k
    }

    /// Memory of the packed weights, in bytes; n is rounded up to 32 channels.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.panels.view::<u8>().len() + size_of_val(self.scales.as_slice())
    }

    /// The bytes of panel `panel`.
    pub(crate) fn panel(&self, panel: usize) -> &[u8] {
        let bytes = self.format.units(self.k) * self.format.unit_bytes();
        &self.panels.view::<u8>()[panel * bytes..(panel + 1) * bytes]
    }

    /// The scales of the channels, a multiple of 32; empty but for int8.
    pub(crate) fn scales(&self) -> &[f32] {
        &self.scales
    }

    /// out = epilogue(x · Wᵀ): `x` is `[rows, k]`, `out` `[rows, n]`, both row-major.
    ///
    /// A row of the output depends on that row of the input alone, to the bit: not on the number of rows nor of threads.
    ///
    /// # Errors
    /// [`Error::Length`] if a slice has another length than its shape.
    pub fn multiply(
        &self,
        x: &[f32],
        rows: usize,
        out: &mut [f32],
        epilogue: &Epilogue<'_>,
        pool: &Pool,
    ) -> Result<()> {
        self.multiply_outputs(0..self.n, x, rows, out, epilogue, pool)
    }

    /// [`Matrix::multiply`] on a path of the caller's choice, for tests and measurements.
    ///
    /// # Errors
    /// Also [`Error::Unavailable`] if this machine does not have the path.
    pub fn multiply_on(
        &self,
        path: Path,
        x: &[f32],
        rows: usize,
        out: &mut [f32],
        epilogue: &Epilogue<'_>,
        pool: &Pool,
    ) -> Result<()> {
        self.multiply_outputs_on(path, 0..self.n, x, rows, out, epilogue, pool)
    }

    /// [`Matrix::multiply`] for the output channels `outputs` alone, as when only the queries and keys of a stacked matrix
    /// are wanted: `out` is `[rows, outputs]`, and so is what the epilogue holds. The numbers are those of the same
    /// columns of the whole product, to the bit.
    ///
    /// ```
    /// use foveate_kernels::{Epilogue, Format, Matrix, Pool, Source};
    /// let pool = Pool::new(2)?;
    /// // Channel c of 64 is c times the one input channel.
    /// let weights: Vec<f32> = (0..64).map(|c| c as f32).collect();
    /// let matrix = Matrix::pack(Source::F32(&weights), Format::F32, 64, 1, &pool)?;
    /// let mut out = [0.0; 2];
    /// matrix.multiply_outputs(32..34, &[10.0], 1, &mut out, &Epilogue::default(), &pool)?;
    /// assert_eq!(out, [320.0, 330.0]);
    /// # Ok::<(), foveate_kernels::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Size`] if the range does not start at a multiple of 32, the channels that are packed together, or ends
    /// before it starts; [`Error::Index`] if it ends past the last channel; [`Error::Length`] if a slice has another
    /// length than its shape.
    pub fn multiply_outputs(
        &self,
        outputs: Range<usize>,
        x: &[f32],
        rows: usize,
        out: &mut [f32],
        epilogue: &Epilogue<'_>,
        pool: &Pool,
    ) -> Result<()> {
        self.multiply_outputs_on(Path::best(), outputs, x, rows, out, epilogue, pool)
    }

    /// [`Matrix::multiply_outputs`] on a path of the caller's choice.
    ///
    /// # Errors
    /// Also [`Error::Unavailable`] if this machine does not have the path.
    #[expect(clippy::too_many_arguments, reason = "those of `multiply`, the path and the range")]
    pub fn multiply_outputs_on(
        &self,
        path: Path,
        outputs: Range<usize>,
        x: &[f32],
        rows: usize,
        out: &mut [f32],
        epilogue: &Epilogue<'_>,
        pool: &Pool,
    ) -> Result<()> {
        let loops = Loops::of(path, self.format.layout(), rows)?;
        self.multiply_by(loops, outputs, x, rows, out, epilogue, pool)
    }

    #[expect(clippy::too_many_arguments, reason = "those of `multiply`, the loops and the range")]
    pub(crate) fn multiply_by(
        &self,
        Loops { width, tiles, wider }: Loops,
        outputs: Range<usize>,
        x: &[f32],
        rows: usize,
        out: &mut [f32],
        epilogue: &Epilogue<'_>,
        pool: &Pool,
    ) -> Result<()> {
        self.check_outputs(&outputs)?;
        let (n, k, first_panel) = (outputs.len(), self.k, outputs.start / PANEL);
        check_length("the input", x.len(), rows.saturating_mul(k), || format!("[rows {rows}, k {k}]"))?;
        check_length("the output", out.len(), rows.saturating_mul(n), || format!("[rows {rows}, n {n}]"))?;
        epilogue.check(rows, n)?;
        if rows * n == 0 {
            return Ok(());
        }

        let layout = self.format.layout();
        // Cut by the layout that is stored, so that chunks hold whole units of it.
        let cut = Cut::of(layout, tiles.kind, k);
        let buffer = WORDS.take().unwrap_or_default();
        let x = Activations::prepare(width, tiles.kind, x, (rows, k), cut, buffer, pool);

        let unit_bytes = layout.unit_bytes();
        let panel_bytes = cut.units * unit_bytes;
        let weights = |panel: usize, units: Range<usize>, slot: usize, scratch: &mut Buffer| {
            let stored = &self.panel(first_panel + panel)[units.start * unit_bytes..units.end * unit_bytes];
            match wider {
                None => stored.as_ptr(),
                Some(wider) => {
                    // Slots of the longest chunk's size: they do not move from chunk to chunk.
                    let bytes = layout.step() / wider.step() * wider.unit_bytes();
                    let size = cut.longest() * bytes;
                    scratch.reserve(PANELS * size);
                    let unpacked = &mut scratch.view_mut::<u8>()[slot * size..][..units.len() * bytes];
                    expand(width, layout, stored, unpacked);
                    unpacked.as_ptr()
                }
            }
        };
        let stored = |panel: usize, units: Range<usize>| {
            let stored = &self.panel(first_panel + panel)[units.start * unit_bytes..];
            (stored.as_ptr(), units.len() * unit_bytes)
        };
        let out = Rows::new(out, n);
        let finish = |row: usize, panel: usize, sums: &mut [[f32; PANEL]]| {
            // Empty but for int8.
            if let Some(scales) = self.scales.as_chunks().0.get(first_panel + panel) {
                for (sums, (scale, _)) in sums.iter_mut().zip(&x.scales[row..]) {
                    scale_integers(width, sums, *scale, scales);
                }
            }
            // The driver finishes each tile and panel once, on one thread.
            finish(width, epilogue, sums, row, panel, &out);
        };
        let product = Product {
            width,
            tiles: tiles.by_rows,
            units_ratio: wider.map_or(1, |wider| layout.step() / wider.step()),
            x: Left::Prepared(&x),
            panels: n.div_ceil(PANEL),
            panel_bytes,
            weights: &weights,
            stored: &stored,
            out: &out,
            finish: &finish,
        };
        // SAFETY: `Loops` are those of a path that was checked, and belong to the layout that `weights` hands out.
        unsafe { product.run(pool) };
        WORDS.set(Some(x.into_buffer()));
        Ok(())
    }
    pub(crate) fn check_outputs(&self, outputs: &Range<usize>) -> Result<()> {
        let &Range { start, end } = outputs;
        if !start.is_multiple_of(PANEL) {
            return Err(Error::Size {
                what: "the first of the outputs",
                found: start,
                allowed: "multiples of 32",
            });
        }
        if start > end {
            return Err(Error::Size {
                what: "the first of the outputs",
                found: start,
                allowed: "at most their end",
            });
        }
        if end > self.n {
            return Err(Error::Index { what: "the last of the outputs", found: end - 1, length: self.n });
        }
        Ok(())
    }
}
