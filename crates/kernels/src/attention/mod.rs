//! Softmax attention that never holds the matrix of scores: blocks of keys go past the queries, and each query keeps a
//! running maximum, a running sum and a running output (the online softmax of Milakov and Gimelshein, 2018, as in
//! FlashAttention), all in f32.
//!
//! The products are those of [`crate::tile`]: keys are transposed and values copied into panels, once per block of 128.

mod backward;

use std::cell::RefCell;
use std::ops::Range;

use crate::Path;
use crate::activations::{CHUNK, STRIDE};
use crate::buffer::Buffer;
use crate::error::{Error, Result, check_length};
use crate::format::{Layout, PANEL};
use crate::math::exp;
use crate::pool::Pool;
use crate::tile::{Tile, Width, tiles};
use crate::transpose::transpose;

/// Keys in a block; blocks begin at multiples of it, so that a query meets its keys in the same order in every call.
const KEYS: usize = 128;

/// Which keys a query sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mask {
    /// All of them, as in an encoder.
    Full,
    /// Query i stands at position `offset` + i, key j at position j, and a query sees the keys up to its own position:
    /// at most `window` of them, the nearest, if there is a window.
    Causal {
        /// Keys that were in the cache before the first query's own.
        offset: usize,
        /// How many keys a query sees at most, itself included.
        window: Option<usize>,
    },
}

impl Mask {
    /// The keys that query `query` sees.
    fn visible(self, query: usize, keys: usize) -> Range<usize> {
        match self {
            Self::Full => 0..keys,
            Self::Causal { offset, window } => {
                let end = offset + query + 1;
                window.map_or(0, |window| end.saturating_sub(window))..end
            }
        }
    }
}

/// Rows of heads anywhere in a slice: number i of head h of row r is `numbers[r * row_stride + h * head_stride + i]`.
#[derive(Debug, Clone, Copy)]
pub struct Strided<'a> {
    /// The slice.
    pub numbers: &'a [f32],
    /// From a row (a token) to the next.
    pub row_stride: usize,
    /// From a head to the next.
    pub head_stride: usize,
}

impl<'a> Strided<'a> {
    /// Dense rows `[rows, heads, head_size]`.
    #[must_use]
    pub fn dense(numbers: &'a [f32], heads: usize, head_size: usize) -> Self {
        Self { numbers, row_stride: heads * head_size, head_stride: head_size }
    }

    pub(crate) fn check(&self, what: &'static str, rows: usize, heads: usize, size: usize) -> Result<()> {
        let last = |count: usize, stride: usize| count.saturating_sub(1).saturating_mul(stride);
        let needed =
            last(rows, self.row_stride).saturating_add(last(heads, self.head_stride)).saturating_add(size);
        if rows == 0 || self.numbers.len() >= needed {
            return Ok(());
        }
        let Self { row_stride, head_stride, .. } = self;
        Err(Error::Length {
            what,
            shape: format!(
                "[rows {rows}, heads {heads}, {size}] with strides [{row_stride}, {head_stride}, 1]"
            ),
            expected: needed,
            found: self.numbers.len(),
        })
    }

    fn get(&self, row: usize, head: usize, size: usize) -> &'a [f32] {
        &self.numbers[row * self.row_stride + head * self.head_stride..][..size]
    }
}

/// An attention layer's sizes.
///
/// ```
/// use foveate_kernels::{Attention, Mask, Pool, Strided};
/// let layer = Attention { heads: 1, key_heads: 1, head_size: 2, scale: 1.0, mask: Mask::Full };
/// // Both keys are equal, so the values are averaged.
/// let (query, keys, values) = ([0.3, 0.1], [1.0, 2.0, 1.0, 2.0], [0.0, 10.0, 4.0, 30.0]);
/// let dense = |numbers| Strided { numbers, row_stride: 2, head_stride: 2 };
/// let mut out = [0.0; 2];
/// layer.run(dense(&query), 1, dense(&keys), dense(&values), 2, &mut out, &Pool::single())?;
/// assert_eq!(out, [2.0, 20.0]);
/// # Ok::<(), foveate_kernels::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Attention {
    /// Heads of the queries and of the output.
    pub heads: usize,
    /// Heads of keys and values; `heads / key_heads` neighbouring query heads share one.
    pub key_heads: usize,
    /// Numbers in a head, 1 to 256.
    pub head_size: usize,
    /// What scores are multiplied by, usually 1 / √head_size.
    pub scale: f32,
    /// Which keys a query sees.
    pub mask: Mask,
}

impl Attention {
    /// out = softmax(scale · q · kᵀ) · v for each head; `out` is `[queries, heads, head_size]`, dense.
    ///
    /// A query's output depends on its own row and on the keys and values it sees, to the bit, not on the queries beside
    /// it nor on the threads, as long as keys and values are finite. Key rows past those a mask allows are not read.
    ///
    /// # Errors
    /// [`Error::Length`] if a slice is too short for its shape and strides (the output: not exactly as long),
    /// [`Error::Size`] if heads are not a multiple of key heads, the head size is not 1 to 256, there is no key, a
    /// window is empty, or causal queries reach past the last key.
    #[expect(
        clippy::too_many_arguments,
        reason = "three tensors with two lengths, an output and the threads"
    )]
    pub fn run(
        &self,
        q: Strided<'_>,
        queries: usize,
        k: Strided<'_>,
        v: Strided<'_>,
        keys: usize,
        out: &mut [f32],
        pool: &Pool,
    ) -> Result<()> {
        self.run_on(Path::best(), q, queries, k, v, keys, out, pool)
    }

    /// [`Attention::run`] on a path of the caller's choice.
    ///
    /// # Errors
    /// Also [`Error::Unavailable`] if this machine does not have the path.
    #[expect(clippy::too_many_arguments, reason = "as for `run`")]
    pub fn run_on(
        &self,
        path: Path,
        q: Strided<'_>,
        queries: usize,
        k: Strided<'_>,
        v: Strided<'_>,
        keys: usize,
        out: &mut [f32],
        pool: &Pool,
    ) -> Result<()> {
        path.check()?;
        let &Self { heads, key_heads, head_size, .. } = self;
        self.check(queries, keys)?;
        q.check("the queries", queries, heads, head_size)?;
        k.check("the keys", keys, key_heads, head_size)?;
        v.check("the values", keys, key_heads, head_size)?;
        let length = queries.saturating_mul(heads).saturating_mul(head_size);
        check_length("the output", out.len(), length, || format!("[{queries}, heads {heads}, {head_size}]"))?;

        // A task is a key head with some of the queries: as few as give every thread two tasks, since each task packs
        // the keys and values it needs for itself.
        let parts = (2 * pool.threads()).div_ceil(key_heads).clamp(1, queries.div_ceil(16).max(1));
        let out = Output { start: out.as_mut_ptr(), length: out.len() };
        pool.run(if queries == 0 { 0 } else { key_heads * parts }, |task| {
            let (key_head, part) = (task / parts, task % parts);
            let group = Group {
                layer: self,
                width: Width::of(path),
                tiles: tiles(path, Layout::F32).by_rows,
                q,
                k,
                v,
                keys,
                key_head,
                sharing: heads / key_heads,
                queries: queries * part / parts..queries * (part + 1) / parts,
            };
            SCRATCH.with_borrow_mut(|scratch| group.run(scratch, &out));
        });
        Ok(())
    }

    pub(crate) fn check(&self, queries: usize, keys: usize) -> Result<()> {
        let size = |what, found, allowed| Err(Error::Size { what, found, allowed });
        if self.key_heads == 0 || !self.heads.is_multiple_of(self.key_heads) {
            return size(
                "the number of heads",
                self.heads,
                "multiples of the number of key heads, which is not 0",
            );
        }
        if !(1..=CHUNK).contains(&self.head_size) {
            return size("the head size", self.head_size, "1 to 256");
        }
        if keys == 0 && queries > 0 {
            return size("the number of keys", keys, "at least 1");
        }
        if let Mask::Causal { offset, window } = self.mask {
            if offset.saturating_add(queries) > keys {
                return size(
                    "the position after the last query",
                    offset.saturating_add(queries),
                    "the number of keys at most",
                );
            }
            if window == Some(0) {
                return size("the window", 0, "at least 1");
            }
        }
        Ok(())
    }
}

struct Output {
    start: *mut f32,
    length: usize,
}

// SAFETY: a pointer and a number; writing through it is justified where it is done.
unsafe impl Sync for Output {}

/// Memory that a thread keeps for its tasks.
#[derive(Default)]
struct Scratch {
    queries: Buffer,
    keys: Buffer,
    values: Buffer,
    scores: Buffer,
    weights: Buffer,
    outputs: Buffer,
    /// Per row: the largest score so far, and the sum of e^(score − largest).
    state: Vec<(f32, f32)>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// A task: the query heads that share a key head, for some queries. Its rows are (query, head) pairs, query by query.
struct Group<'a> {
    layer: &'a Attention,
    width: Width,
    tiles: &'static [Tile],
    q: Strided<'a>,
    k: Strided<'a>,
    v: Strided<'a>,
    keys: usize,
    key_head: usize,
    /// Query heads that share the key head.
    sharing: usize,
    queries: Range<usize>,
}

impl Group<'_> {
    fn query(&self, row: usize) -> usize {
        self.queries.start + self.split(row).0
    }

    /// Query and head of a row, counted from the first of the group. A division of 32 bits takes half as long as one of
    /// 64, and every row needs a few.
    fn split(&self, row: usize) -> (usize, usize) {
        match (u32::try_from(row), u32::try_from(self.sharing)) {
            (Ok(row), Ok(sharing)) => ((row / sharing) as usize, (row % sharing) as usize),
            _ => (row / self.sharing, row % self.sharing),
        }
    }

    fn head(&self, row: usize) -> usize {
        self.key_head * self.sharing + self.split(row).1
    }

    fn visible(&self, row: usize) -> Range<usize> {
        self.layer.mask.visible(self.query(row), self.keys)
    }

    fn run(&self, scratch: &mut Scratch, out: &Output) {
        let size = self.layer.head_size;
        let rows = self.queries.len() * self.sharing;
        if rows == 0 {
            return;
        }
        let panels = size.div_ceil(PANEL);
        scratch.queries.reserve(4 * rows * STRIDE);
        scratch.keys.reserve(4 * KEYS * size);
        scratch.values.reserve(4 * KEYS * panels * PANEL);
        scratch.scores.reserve(4 * KEYS * self.tiles.len());
        scratch.weights.reserve(4 * STRIDE * self.tiles.len());
        scratch.outputs.reserve(4 * rows * panels * PANEL);
        scratch.state.clear();
        scratch.state.resize(rows, (f32::NEG_INFINITY, 0.0));
        scratch.outputs.view_mut::<f32>()[..rows * panels * PANEL].fill(0.0);
        for (row, to) in scratch.queries.view_mut::<f32>().chunks_exact_mut(STRIDE).take(rows).enumerate() {
            let ahead = (row + 8).min(rows - 1);
            prefetch_all(self.q.get(self.query(ahead), self.head(ahead), size));
            for (to, from) in to.iter_mut().zip(self.q.get(self.query(row), self.head(row), size)) {
                *to = from * self.layer.scale;
            }
        }
        // Both ends of what a row sees only grow with the row.
        let seen = self.visible(0).start..self.visible(rows - 1).end;
        for block in seen.start / KEYS..seen.end.div_ceil(KEYS) {
            let keys = block * KEYS..seen.end.min((block + 1) * KEYS);
            self.pack(&keys, scratch);
            let sees = |row: usize| {
                let visible = self.visible(row);
                visible.start < keys.end && visible.end > keys.start
            };
            // Rows that see nothing of the block are left out: those before it, and those whose window is past it.
            let mut first = (0..rows).find(|&row| sees(row)).unwrap_or(rows);
            while first < rows {
                let count = (first..rows.min(first + self.tiles.len())).take_while(|&row| sees(row)).count();
                if count == 0 {
                    break;
                }
                self.tile(first..first + count, rows, &keys, scratch);
                first += count;
            }
        }
        for row in 0..rows {
            let at = (self.query(row) * self.layer.heads + self.head(row)) * size;
            assert!(at + size <= out.length, "row {row} lies outside the output");
            // SAFETY: inside the output, as just asserted; each (query, head) pair belongs to one row of one task.
            let to = unsafe { std::slice::from_raw_parts_mut(out.start.add(at), size) };
            let sum = scratch.state[row].1;
            for (panel, to) in to.chunks_mut(PANEL).enumerate() {
                let from = &scratch.outputs.view::<f32>()[(panel * rows + row) * PANEL..];
                for (to, from) in to.iter_mut().zip(from) {
                    *to = from / sum;
                }
            }
        }
    }

    /// Keys transposed, `[panel of keys][number][32]`, and values as they are, `[panel of numbers][key][32]`. What a
    /// panel has beyond the keys or the head is zero.
    fn pack(&self, keys: &Range<usize>, scratch: &mut Scratch) {
        let size = self.layer.head_size;
        let transposed = scratch.keys.view_mut::<f32>();
        let needed = keys.len().div_ceil(PANEL) * PANEL;
        for (panel, to) in transposed[..needed * size].chunks_exact_mut(PANEL * size).enumerate() {
            transposed_panel(self.k, self.key_head, size, keys.start + panel * PANEL..keys.end, to);
        }
        for (panel, to) in scratch.values.view_mut::<f32>().chunks_exact_mut(PANEL * KEYS).enumerate() {
            let numbers = panel * PANEL..size.min((panel + 1) * PANEL);
            if numbers.is_empty() {
                break;
            }
            for (key, to) in keys.clone().zip(to.chunks_exact_mut(PANEL)) {
                padded(&self.v.get(key, self.key_head, size)[numbers.clone()], to);
            }
        }
    }

    /// Takes some rows past a block of keys.
    fn tile(&self, part: Range<usize>, rows: usize, keys: &Range<usize>, scratch: &mut Scratch) {
        let size = self.layer.head_size;
        let tile = self.tiles[part.len() - 1];
        let panels = keys.len().div_ceil(PANEL);
        let scores = &mut scratch.scores.view_mut::<f32>()[..KEYS * part.len()];
        scores.fill(0.0);
        let queries = scratch.queries.view::<u32>()[part.start * STRIDE..].as_ptr();
        for (panel, scores) in scores.chunks_exact_mut(PANEL * part.len()).take(panels).enumerate() {
            let keys = scratch.keys.view::<u8>()[4 * panel * PANEL * size..].as_ptr();
            // SAFETY: the path was checked; `part` queries of `size` words lie at `STRIDE`, the panel has `size` units of
            // 32 keys, and the scores are 32 for each row.
            unsafe { tile(queries, keys, size, scores.as_mut_ptr(), keys) };
        }
        let weights = scratch.weights.view_mut::<f32>();
        for (i, row) in part.clone().enumerate() {
            let visible = self.visible(row);
            let visible = visible.start.saturating_sub(keys.start)..visible.end.min(keys.end) - keys.start;
            let mut all = [0.0; KEYS];
            for (panel, all) in all.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
                all.copy_from_slice(&scores[(panel * part.len() + i) * PANEL..][..PANEL]);
            }
            let (largest, sum) = &mut scratch.state[row];
            let factor = softmax(self.width, &mut all, visible.start, visible.end, largest, sum);
            weights[i * STRIDE..i * STRIDE + KEYS].copy_from_slice(&all);
            if factor != 1.0 {
                for panel in 0..size.div_ceil(PANEL) {
                    let output =
                        &mut scratch.outputs.view_mut::<f32>()[(panel * rows + row) * PANEL..][..PANEL];
                    output.iter_mut().for_each(|v| *v *= factor);
                }
            }
        }
        let weights = scratch.weights.view::<u32>().as_ptr();
        for panel in 0..size.div_ceil(PANEL) {
            let values = scratch.values.view::<u8>()[4 * panel * PANEL * KEYS..].as_ptr();
            let outputs =
                scratch.outputs.view_mut::<f32>()[(panel * rows + part.start) * PANEL..].as_mut_ptr();
            // SAFETY: as above: a weight for each key lies in each row at `STRIDE`, the panel has a unit for each key,
            // and the rows of an output panel lie one after the other.
            unsafe { tile(weights, values, keys.len(), outputs, values) };
        }
    }
}

/// The first 32 of these rows of a head, transposed: `[number][32]`, zeros past the last row.
fn transposed_panel(from: Strided<'_>, head: usize, size: usize, rows: Range<usize>, to: &mut [f32]) {
    for j in (0..PANEL).step_by(4) {
        let row = |i: usize| {
            let row = rows.start + j + i;
            if row >= rows.end {
                return &ZEROS[..size];
            }
            // Rows lie far apart, where no hardware expects the next one.
            prefetch_all(from.get((row + 8).min(rows.end - 1), head, size));
            from.get(row, head, size)
        };
        transpose([row(0), row(1), row(2), row(3)], j, to);
    }
}

/// Up to 32 numbers and zeros after them; a whole panel, the usual case, is a copy of fixed size.
fn padded(from: &[f32], to: &mut [f32]) {
    match (<&[f32; PANEL]>::try_from(from), <&mut [f32; PANEL]>::try_from(&mut *to)) {
        (Ok(from), Ok(to)) => *to = *from,
        _ => {
            to[..from.len()].copy_from_slice(from);
            to[from.len()..].fill(0.0);
        }
    }
}

/// What stands for the keys past the last one.
static ZEROS: [f32; CHUNK] = [0.0; CHUNK];

/// Asks for the cache lines of a row.
fn prefetch_all(row: &[f32]) {
    for line in row.chunks(16) {
        crate::tile::prefetch(line.as_ptr());
    }
}

/// The largest number, as integers in the order of the floats: the compiler may take their maximum in any order. NaN ends
/// up first or last; −∞ if there is no number.
#[inline(always)]
fn largest_of(numbers: &[f32]) -> f32 {
    let ordered = |bits: i32| bits ^ (bits >> 31 & i32::MAX);
    let none = ordered(f32::NEG_INFINITY.to_bits().cast_signed());
    let most = numbers.iter().fold(none, |most, number| most.max(ordered(number.to_bits().cast_signed())));
    f32::from_bits(ordered(most).cast_unsigned())
}

/// The sum by halves, which is a fixed order that vectorises; N is a power of two.
#[inline(always)]
fn sum_of<const N: usize>(mut numbers: [f32; N]) -> f32 {
    let mut half = N / 2;
    while half > 0 {
        let (left, right) = numbers.split_at_mut(half);
        for (left, right) in left.iter_mut().zip(right) {
            *left += *right;
        }
        half /= 2;
    }
    numbers[0]
}

crate::tile::by_width! {
    /// Turns the scores of one row into weights relative to the largest score so far, zero outside `from..to`; returns
    /// what everything summed before must be multiplied by.
    fn softmax(scores: &mut [f32; KEYS], from: usize, to: usize, largest: &mut f32, sum: &mut f32) -> f32 {
        scores[..from].fill(f32::NEG_INFINITY);
        scores[to..].fill(f32::NEG_INFINITY);
        let most = largest_of(scores);
        let most = if most > *largest { most } else { *largest };
        // All −∞: there is nothing to subtract, and every weight is zero.
        let base = if most == f32::NEG_INFINITY { 0.0 } else { most };
        for score in scores.iter_mut() {
            *score = exp::<FUSED>(*score - base);
        }
        let factor = if *largest == most { 1.0 } else { exp::<FUSED>(*largest - base) };
        *sum = *sum * factor + sum_of(*scores);
        *largest = most;
        factor
    }
}
