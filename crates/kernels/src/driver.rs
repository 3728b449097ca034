//! Which rows meet which weights, when and on which thread.
//!
//! A task owns some rows and some panels of the output and takes all of k, chunk by chunk: a chunk of activations stays
//! in the first- and second-level caches while the panels go past it. No sum is ever split between tasks, so the number
//! of threads and the shape of the tasks change no result.

use std::cell::RefCell;

use crate::activations::{Activations, Cut, STRIDE};
use crate::buffer::Buffer;
use crate::dense::View;
use crate::epilogue::Rows;
use crate::format::PANEL;
use crate::pool::Pool;
use crate::tile::{ColumnTile, Tile, WINDOW, Width};

/// Rows of a task: with a chunk of 256 words, 300 kB of activations and, with 8 panels, as much of sums and of weights.
const ROWS: usize = 288;
/// Panels of a task of many rows.
pub(crate) const PANELS: usize = 8;
/// Bytes of weights that a task of few rows should read at least.
const BYTES: usize = 64 << 10;

/// Memory that a thread keeps for its tasks.
#[derive(Default)]
struct Scratch {
    x: Buffer,
    sums: Buffer,
    weights: Buffer,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// See [`Product::weights`].
pub(crate) type Weights<'a> =
    dyn Fn(usize, std::ops::Range<usize>, usize, &mut Buffer) -> *const u8 + Sync + 'a;

/// See [`Product::stored`].
pub(crate) type Stored<'a> = dyn Fn(usize, std::ops::Range<usize>) -> (*const u8, usize) + Sync + 'a;

/// See [`Product::finish`].
pub(crate) type Finish<'a> = dyn Fn(usize, usize, &mut [[f32; PANEL]]) + Sync + 'a;

/// The left side of a product.
pub(crate) enum Left<'a> {
    /// Rows that were prepared for all tasks.
    Prepared(&'a Activations),
    /// Floats that each task gathers, chunk by chunk, while they stay in its cache.
    Gathered { a: View<'a>, rows: usize, cut: Cut },
    /// Floats that lie by columns, so that `tiles` read them where they are.
    Columns { a: View<'a>, rows: usize, cut: Cut, tiles: &'static [ColumnTile] },
}

impl Left<'_> {
    fn rows(&self) -> usize {
        match self {
            Left::Prepared(x) => x.rows,
            Left::Gathered { rows, .. } | Left::Columns { rows, .. } => *rows,
        }
    }

    fn cut(&self) -> Cut {
        match self {
            Left::Prepared(x) => x.cut,
            Left::Gathered { cut, .. } | Left::Columns { cut, .. } => *cut,
        }
    }

    /// Row `rows.start` of chunk `chunk`; those after it follow at [`STRIDE`], or at 1 where they lie by columns. `scratch` is
    /// where they may be put.
    fn chunk(&self, chunk: usize, rows: std::ops::Range<usize>, scratch: &mut Buffer) -> *const u32 {
        match self {
            Left::Prepared(x) => x.row(chunk, rows.start),
            Left::Gathered { a, cut, .. } => {
                scratch.reserve(4 * STRIDE * rows.len());
                let to = &mut scratch.view_mut::<u32>()[..STRIDE * rows.len()];
                crate::dense::gather(*a, rows, cut.chunk(chunk), to);
                to.as_ptr()
            }
            Left::Columns { a, cut, .. } => {
                a.numbers[cut.chunk(chunk).start * a.column_stride + rows.start..].as_ptr().cast()
            }
        }
    }
}

/// A product of rows with the panels of something.
pub(crate) struct Product<'a> {
    pub(crate) width: Width,
    /// Loops by rows.
    pub(crate) tiles: &'static [Tile],
    /// Units that the tiles read for each unit that the activations are cut by.
    pub(crate) units_ratio: usize,
    pub(crate) x: Left<'a>,
    pub(crate) panels: usize,
    /// Bytes of the weights of a panel, to judge how many make a task.
    pub(crate) panel_bytes: usize,
    /// `(panel, units, slot, scratch)`: a pointer to the weights of these units of the panel, or to where they were
    /// written, in the scratch buffer at slot `slot` of [`PANELS`]. They must be what the tiles read, for as many units,
    /// and stay until the slots are written again.
    pub(crate) weights: &'a Weights<'a>,
    /// `(panel, units)`: where `weights` will read these units from, and how many bytes; for asking ahead only.
    pub(crate) stored: &'a Stored<'a>,
    /// What `finish` writes to.
    pub(crate) out: &'a Rows,
    /// Called with `(first row, panel, sums)` for the rows of a tile, 32 sums each, once per tile and panel.
    pub(crate) finish: &'a Finish<'a>,
}

/// Memory that the next chunk will need, handed out in windows to the tiles of this one.
#[derive(Default)]
struct Ahead {
    areas: [(usize, usize); PANELS + 1],
    count: usize,
    area: usize,
    at: usize,
}

impl Ahead {
    fn add(&mut self, start: *const u8, bytes: usize) {
        if let Some(area) = self.areas.get_mut(self.count) {
            *area = (start.addr(), bytes);
            self.count += 1;
        }
    }

    fn take(&mut self) -> Option<*const u8> {
        let (start, bytes) = *self.areas[..self.count].get(self.area)?;
        let window = start + self.at;
        self.at += WINDOW;
        if self.at >= bytes {
            (self.area, self.at) = (self.area + 1, 0);
        }
        // An address to prefetch, never to read.
        Some(std::ptr::without_provenance(window))
    }
}

/// `total` cut into `parts` as even as can be: the range of part `i`.
pub(crate) fn part(total: usize, parts: usize, i: usize) -> std::ops::Range<usize> {
    if parts <= 1 {
        return 0..total;
    }
    divided(total * i, parts)..divided(total * (i + 1), parts)
}

/// a / b. Divisions of 64 bits take up to four times as long as those of 32, and for one row a tile is called every few
/// hundred nanoseconds.
pub(crate) fn divided(a: usize, b: usize) -> usize {
    match (u32::try_from(a), u32::try_from(b)) {
        (Ok(a), Ok(b)) => (a / b) as usize,
        _ => a / b,
    }
}

impl Product<'_> {
    /// Runs the product.
    ///
    /// # Safety
    /// `tiles` are of a path that this processor has, and `weights` keeps its promise.
    pub(crate) unsafe fn run(&self, pool: &Pool) {
        let rows = self.x.rows();
        if rows == 0 || self.panels == 0 {
            return;
        }
        let blocks = rows.div_ceil(ROWS);
        let few = rows <= self.tiles.len() && matches!(self.x, Left::Prepared(_));
        let most = if few { (BYTES / self.panel_bytes.max(1)).clamp(1, 64) } else { PANELS };
        // At least four tasks a thread, if there are as many panels, so that none waits long for the last one.
        // One thread has nobody to wait for, and what is gathered for a task should serve as many panels as it can.
        let tasks = if pool.threads() == 1 { 1 } else { 4 * pool.threads() };
        let wanted = tasks.div_ceil(blocks).min(self.panels);
        let groups = self.panels.div_ceil(most).max(wanted);
        pool.run(blocks * groups, |task| {
            let rows = part(rows, blocks, task / groups);
            let panels = part(self.panels, groups, task % groups);
            SCRATCH.with_borrow_mut(|scratch| {
                // A single tile of rows gains nothing from keeping activations in the cache: weights in order then.
                let together = if few { 1 } else { panels.len() };
                for first in panels.clone().step_by(together) {
                    // SAFETY: the caller's promise.
                    unsafe { self.task(rows.clone(), first..panels.end.min(first + together), scratch) };
                }
            });
        });
    }

    /// # Safety
    /// As for [`Product::run`]; no more than [`PANELS`] panels.
    unsafe fn task(
        &self,
        rows: std::ops::Range<usize>,
        panels: std::ops::Range<usize>,
        scratch: &mut Scratch,
    ) {
        let tiles = rows.len().div_ceil(self.tiles.len());
        scratch.sums.reserve(4 * PANEL * rows.len() * panels.len());
        let (sums, _) = scratch.sums.view_mut::<f32>().as_chunks_mut::<PANEL>();
        let cut = self.x.cut();
        let chunks = cut.chunks();
        let few = tiles == 1;
        // Without k there is nothing to add, but an epilogue to run.
        for chunk in 0..chunks.max(1) {
            let units = if chunks == 0 { 0..0 } else { cut.chunk(chunk) };
            let x = match chunks {
                0 => std::ptr::null(),
                _ => self.x.chunk(chunk, rows.clone(), &mut scratch.x),
            };
            let mut weights = [std::ptr::null(); PANELS];
            for (slot, panel) in panels.clone().enumerate() {
                weights[slot] = (self.weights)(panel, units.clone(), slot, &mut scratch.weights);
            }
            let mut ahead = Ahead::default();
            if !few && chunk + 1 < chunks {
                let next = cut.chunk(chunk + 1);
                if let Left::Prepared(x) = &self.x {
                    ahead.add(x.row(chunk + 1, rows.start).cast(), 4 * STRIDE * rows.len());
                }
                for panel in panels.clone() {
                    let (weights, bytes) = (self.stored)(panel, next.clone());
                    ahead.add(weights, bytes);
                }
            }
            // The activations of a tile stay in the first-level cache while the panels go past them.
            for tile in (0..tiles).map(|i| part(rows.len(), tiles, i)) {
                let first = rows.start + tile.start;
                for (slot, panel) in panels.clone().enumerate() {
                    // Sums that no other chunk adds to need not be kept: the same few lines serve every tile.
                    let at = if chunks > 1 { slot * rows.len() + tile.start } else { 0 };
                    let sums = &mut sums[at..at + tile.len()];
                    if chunk == 0 {
                        self.start(first, sums);
                    }
                    if chunk + 1 >= chunks {
                        // Lines of the output come from memory while the sums are taken.
                        self.out.prefetch(first..first + tile.len(), panel);
                    }
                    if !units.is_empty() {
                        let window = ahead.take().unwrap_or(weights[slot]);
                        let units = units.len() * self.units_ratio;
                        let (rows, c) = (tile.len(), sums.as_mut_ptr().cast());
                        // SAFETY: the loops run on this processor and the weights are there by the caller's promise;
                        // `x` points at the task's rows of this chunk, of which `tile` are some; the sums are of
                        // its rows.
                        unsafe {
                            match &self.x {
                                Left::Columns { a, tiles, .. } => {
                                    let x = x.add(tile.start).cast();
                                    tiles[rows - 1](x, a.column_stride, weights[slot], units, c, window);
                                }
                                _ => {
                                    let x = x.add(tile.start * STRIDE);
                                    self.tiles[rows - 1](x, weights[slot], units, c, window);
                                }
                            }
                        };
                    }
                    if chunk + 1 >= chunks {
                        (self.finish)(first, panel, sums);
                    }
                }
            }
        }
    }

    /// What the sums of rows from `first` on begin with: zero, or the integer that takes the bias off.
    fn start(&self, first: usize, sums: &mut [[f32; PANEL]]) {
        match &self.x {
            Left::Prepared(x) if !x.scales.is_empty() => fill_each(self.width, sums, &x.scales[first..]),
            _ => fill(self.width, sums, 0.0),
        }
    }
}

crate::tile::by_width! {
    fn fill(sums: &mut [[f32; PANEL]], value: f32) {
        sums.as_flattened_mut().fill(value);
    }
}

crate::tile::by_width! {
    fn fill_each(sums: &mut [[f32; PANEL]], starts: &[(f32, i32)]) {
        for (sums, (_, start)) in sums.iter_mut().zip(starts) {
            *sums = [f32::from_bits(start.cast_unsigned()); PANEL];
        }
    }
}
