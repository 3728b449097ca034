//! The gradients of attention with respect to queries, keys and values.
//!
//! With P = softmax(scale · q · kᵀ) and g the gradient of the output, row i of which is P · v:
//!
//! - dv = Pᵀ · g
//! - dS = P ∘ (g · vᵀ − Dᵢ), where Dᵢ = Σⱼ Pᵢⱼ (g · vᵀ)ᵢⱼ
//! - dq = scale · dS · k and dk = scale · dSᵀ · q
//!
//! P is computed again, for [`ROWS`] queries and all the keys they see at a time: the two strips P and dS stay in the
//! second-level cache, and all five products read them there. Keys and values are packed once per call; dk and dv are
//! summed over a number of parts that depends on the sizes alone, then over the parts in their order, so that no result
//! depends on the threads.

use std::cell::{Cell, RefCell};
use std::ops::Range;

use super::{Attention, Strided, largest_of, padded, sum_of, transposed_panel};
use crate::Path;
use crate::activations::{CHUNK, STRIDE};
use crate::buffer::Buffer;
use crate::chunks::Chunks;
use crate::driver::part;
use crate::error::{Result, check_length};
use crate::format::{Layout, PANEL};
use crate::math::exp;
use crate::pool::Pool;
use crate::tile::{Tile, Width, tiles};
use crate::transpose::transpose_block;

/// Queries (of all heads that share a key head) in a strip; a multiple of 4.
const ROWS: usize = 96;

/// Tasks that the queries are cut into, if there are as many strips. More would mean more partial sums of dk and dv.
const TASKS: usize = 16;

/// Panels of keys in a piece of a strip: what a tile takes at once.
const PIECE: usize = CHUNK / PANEL;

thread_local! {
    /// Packed keys and values, and partial sums, kept from call to call.
    static SHARED: Cell<Option<(Buffer, Buffer)>> = const { Cell::new(None) };
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

impl Attention {
    /// The gradients of [`Attention::run`]: `d_out` is the gradient with respect to its output, `[queries, heads,
    /// head_size]`; written are `dq` `[queries, heads, head_size]`, `dk` and `dv` `[keys, key_heads, head_size]`, all dense.
    /// Gradients of keys and values are sums over the query heads that share them; those that no query sees get zeros.
    ///
    /// Besides the outputs it takes memory for three copies of the keys, 16 partial sums of `dk` and `dv` at most, and on
    /// each thread two strips of 96 scores by as many keys as a query sees. No result depends on the number of threads.
    ///
    /// ```
    /// use foveate_kernels::{Attention, Mask, Pool, Strided};
    /// let layer = Attention { heads: 1, key_heads: 1, head_size: 1, scale: 1.0, mask: Mask::Full };
    /// let dense = |numbers| Strided::dense(numbers, 1, 1);
    /// // A query of zero weighs both keys alike: dv is 1/2 each, dq = Σ P (v − 5) k = (−5 · 3 + 5 · 1) / 2.
    /// let (mut dq, mut dk, mut dv) = ([0.0; 1], [0.0; 2], [0.0; 2]);
    /// let (q, k, v, d_out) = (dense(&[0.0]), dense(&[3.0, 1.0]), dense(&[0.0, 10.0]), dense(&[1.0]));
    /// layer.backward(q, 1, k, v, 2, d_out, &mut dq, &mut dk, &mut dv, &Pool::single())?;
    /// assert_eq!((dq, dk, dv), ([-5.0], [0.0, 0.0], [0.5, 0.5]));
    /// # Ok::<(), foveate_kernels::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Attention::run`].
    #[expect(
        clippy::too_many_arguments,
        reason = "four tensors with two lengths, three outputs and the threads"
    )]
    pub fn backward(
        &self,
        q: Strided<'_>,
        queries: usize,
        k: Strided<'_>,
        v: Strided<'_>,
        keys: usize,
        d_out: Strided<'_>,
        dq: &mut [f32],
        dk: &mut [f32],
        dv: &mut [f32],
        pool: &Pool,
    ) -> Result<()> {
        self.backward_on(Path::best(), q, queries, k, v, keys, d_out, dq, dk, dv, pool)
    }

    /// [`Attention::backward`] on a path of the caller's choice.
    ///
    /// # Errors
    /// Also [`Error::Unavailable`](crate::Error::Unavailable) if this machine does not have the path.
    #[expect(clippy::too_many_arguments, reason = "as for `backward`")]
    pub fn backward_on(
        &self,
        path: Path,
        q: Strided<'_>,
        queries: usize,
        k: Strided<'_>,
        v: Strided<'_>,
        keys: usize,
        d_out: Strided<'_>,
        dq: &mut [f32],
        dk: &mut [f32],
        dv: &mut [f32],
        pool: &Pool,
    ) -> Result<()> {
        path.check()?;
        let &Self { heads, key_heads, head_size: size, .. } = self;
        self.check(queries, keys)?;
        q.check("the queries", queries, heads, size)?;
        k.check("the keys", keys, key_heads, size)?;
        v.check("the values", keys, key_heads, size)?;
        d_out.check("the output's gradient", queries, heads, size)?;
        for (what, rows, heads, out) in [
            ("the queries' gradient", queries, heads, &*dq),
            ("the keys' gradient", keys, key_heads, &*dk),
            ("the values' gradient", keys, key_heads, &*dv),
        ] {
            let length = rows.saturating_mul(heads).saturating_mul(size);
            check_length(what, out.len(), length, || format!("[{rows}, heads {heads}, {size}]"))?;
        }
        if queries == 0 {
            dk.fill(0.0);
            dv.fill(0.0);
            return Ok(());
        }

        let (mut packed, mut partial) = SHARED.take().unwrap_or_default();
        let layout = Sizes { size, columns: size.div_ceil(PANEL), panels: keys.div_ceil(PANEL) };
        let keys_of = layout.pack(self, [k, v], keys, &mut packed, pool);
        let rows = queries * (heads / key_heads);
        let parts = TASKS.div_ceil(key_heads).min(rows.div_ceil(ROWS));
        let sums = layout.sums();
        partial.reserve(4 * key_heads * parts * 2 * sums);
        let partial_sums = &mut partial.view_mut::<f32>()[..key_heads * parts * 2 * sums];
        {
            let dq = Chunks::new(dq, size);
            pool.chunks(partial_sums, 2 * sums, |task, sums_here| {
                let group = Group {
                    layer: self,
                    sizes: layout,
                    width: Width::of(path),
                    tiles: tiles(path, Layout::F32).by_rows,
                    q,
                    d_out,
                    keys,
                    key_head: task / parts,
                    packed: keys_of(task / parts),
                };
                sums_here.fill(0.0);
                let (dk, dv) = sums_here.split_at_mut(sums);
                let rows = part(rows, parts, task % parts);
                SCRATCH.with_borrow_mut(|scratch| {
                    for first in rows.clone().step_by(ROWS) {
                        group.strip(first..rows.end.min(first + ROWS), scratch, &dq, dk, dv);
                    }
                });
            });
        }

        let partial_sums = &*partial_sums;
        let (dk, dv) = (Chunks::new(dk, size), Chunks::new(dv, size));
        pool.run(layout.panels, |panel| {
            for key in panel * PANEL..keys.min((panel + 1) * PANEL) {
                for head in 0..key_heads {
                    for (which, out) in [(0, &dk), (1, &dv)] {
                        let out = out.take(key * key_heads + head);
                        for (column, out) in out.chunks_mut(PANEL).enumerate() {
                            out.fill(0.0);
                            let at = which * sums + (column * layout.panels * PANEL + key) * PANEL;
                            for part in partial_sums[2 * sums * parts * head..].chunks(2 * sums).take(parts) {
                                out.iter_mut().zip(&part[at..]).for_each(|(out, part)| *out += part);
                            }
                        }
                    }
                }
            }
        });
        drop(keys_of);
        SHARED.set(Some((packed, partial)));
        Ok(())
    }
}

/// How many panels there are.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Numbers in a head.
    size: usize,
    /// Panels of 32 of them.
    columns: usize,
    /// Panels of 32 keys.
    panels: usize,
}

/// Keys and values of one head as the tiles read them.
#[derive(Clone, Copy)]
struct Packed<'a> {
    /// Transposed: `[panel of keys][number][32]`; keys, then values.
    transposed: [&'a [f32]; 2],
    /// Keys as they are: `[column][key][32]`.
    rows: &'a [f32],
}

impl Sizes {
    /// Numbers of a sum over queries of one head: `[column][key][32]`.
    fn sums(self) -> usize {
        self.columns * self.panels * PANEL * PANEL
    }

    /// Packs keys and values; the result hands out those of one head.
    fn pack<'a>(
        self,
        layer: &Attention,
        [k, v]: [Strided<'_>; 2],
        keys: usize,
        buffer: &'a mut Buffer,
        pool: &Pool,
    ) -> impl Fn(usize) -> Packed<'a> + Sync + use<'a> {
        let Self { size, columns, panels } = self;
        let heads = layer.key_heads;
        let (transposed, rows) = (panels * size * PANEL, self.sums());
        buffer.reserve(4 * heads * (2 * transposed + rows));
        {
            let all = buffer.view_mut::<f32>();
            let (k_to, all) = all.split_at_mut(heads * transposed);
            let (v_to, all) = all.split_at_mut(heads * transposed);
            let (k_to, v_to) = (Chunks::new(k_to, size * PANEL), Chunks::new(v_to, size * PANEL));
            let rows_to = Chunks::new(&mut all[..heads * rows], PANEL * PANEL);
            pool.run(heads * panels, |task| {
                let (head, panel) = (task / panels, task % panels);
                let keys = panel * PANEL..keys;
                transposed_panel(k, head, size, keys.clone(), k_to.take(task));
                transposed_panel(v, head, size, keys.clone(), v_to.take(task));
                for column in 0..columns {
                    let numbers = column * PANEL..size.min((column + 1) * PANEL);
                    let to = rows_to.take((head * columns + column) * panels + panel);
                    for (i, to) in to.chunks_exact_mut(PANEL).enumerate() {
                        match keys.clone().nth(i) {
                            Some(key) => padded(&k.get(key, head, size)[numbers.clone()], to),
                            None => to.fill(0.0),
                        }
                    }
                }
            });
        }
        let all = buffer.view::<f32>();
        move |head| {
            let piece = |start: usize, length: usize| &all[start + head * length..][..length];
            Packed {
                transposed: [piece(0, transposed), piece(heads * transposed, transposed)],
                rows: piece(2 * heads * transposed, rows),
            }
        }
    }
}

/// Memory that a thread keeps for its tasks. A strip holds scores of rows and keys: panel p of row r lies at
/// ((p / 8) · [`ROWS`] + r) · [`STRIDE`] + 32 · (p mod 8), counted from the first panel that any row sees.
#[derive(Default)]
struct Scratch {
    /// Scaled queries and output gradients as rows at [`STRIDE`].
    rows: [Buffer; 2],
    /// The same as `[column][row][32]`.
    columns: [Buffer; 2],
    /// The strips: scores and then P; g · vᵀ and then dS.
    strips: [Buffer; 2],
    /// A few columns of either strip, as rows at [`STRIDE`].
    across: [Buffer; 2],
    sums: Buffer,
    /// The keys that each row sees.
    visible: Vec<Range<usize>>,
}

/// The query heads that share a key head. Their rows are (query, head) pairs, query by query.
struct Group<'a> {
    layer: &'a Attention,
    sizes: Sizes,
    width: Width,
    tiles: &'static [Tile],
    q: Strided<'a>,
    d_out: Strided<'a>,
    keys: usize,
    key_head: usize,
    packed: Packed<'a>,
}

impl Group<'_> {
    /// Query and head of a row.
    fn place(&self, row: usize) -> (usize, usize) {
        let sharing = self.layer.heads / self.layer.key_heads;
        (row / sharing, self.key_head * sharing + row % sharing)
    }

    /// All that some rows add to the gradients: `dq` is written, `dk` and `dv` `[column][key][32]` are added to.
    fn strip(
        &self,
        rows: Range<usize>,
        scratch: &mut Scratch,
        dq: &Chunks<'_, f32>,
        dk: &mut [f32],
        dv: &mut [f32],
    ) {
        let Sizes { columns, .. } = self.sizes;
        scratch.visible.clear();
        let visible = rows.clone().map(|row| self.layer.mask.visible(self.place(row).0, self.keys));
        scratch.visible.extend(visible);
        // Both ends of what a row sees only grow with the row.
        let seen = panels(&scratch.visible);
        let pieces = seen.len().div_ceil(PIECE);
        for i in 0..2 {
            scratch.rows[i].reserve(4 * ROWS * STRIDE);
            scratch.columns[i].reserve(4 * columns * ROWS * PANEL);
            scratch.strips[i].reserve(4 * pieces * ROWS * STRIDE);
            scratch.across[i].reserve(4 * self.tiles.len() * STRIDE);
        }
        scratch.sums.reserve(4 * columns * self.tiles.len() * PANEL);
        self.load(rows.clone(), scratch);

        let count = rows.len().div_ceil(self.tiles.len());
        for tile in (0..count).map(|i| part(rows.len(), count, i)) {
            self.scores(tile.clone(), &seen, scratch);
            self.queries(rows.start, tile, &seen, scratch, dq);
        }
        // Tiles of keys hold whole groups of four, which never lie in two pieces.
        let height = self.tiles.len() / 4 * 4;
        let end = seen.end * PANEL;
        for first in (seen.start * PANEL..end).step_by(height) {
            self.keys(first..end.min(first + height), &seen, scratch, dk, dv);
        }
    }

    /// Queries and output gradients, both as rows and as columns.
    fn load(&self, rows: Range<usize>, scratch: &mut Scratch) {
        let size = self.sizes.size;
        for (which, (from, scale)) in [(self.q, self.layer.scale), (self.d_out, 1.0)].into_iter().enumerate()
        {
            let to = scratch.rows[which].view_mut::<f32>();
            let columns = scratch.columns[which].view_mut::<f32>();
            for (i, row) in rows.clone().enumerate() {
                let (query, head) = self.place(row);
                let to = &mut to[i * STRIDE..][..size];
                for (to, from) in to.iter_mut().zip(from.get(query, head, size)) {
                    *to = from * scale;
                }
                for (column, numbers) in to.chunks(PANEL).enumerate() {
                    padded(numbers, &mut columns[(column * ROWS + i) * PANEL..][..PANEL]);
                }
            }
        }
    }

    /// P and dS of a tile of rows.
    fn scores(&self, tile: Range<usize>, seen: &Range<usize>, scratch: &mut Scratch) {
        let size = self.sizes.size;
        let own = panels(&scratch.visible[tile.clone()]);
        let sums = &mut scratch.sums.view_mut::<f32>()[..tile.len() * PANEL];
        for panel in seen.clone() {
            for which in 0..2 {
                sums.fill(0.0);
                if own.contains(&panel) {
                    let rows = scratch.rows[which].view::<u32>()[tile.start * STRIDE..].as_ptr();
                    let weights = self.packed.transposed[which][panel * size * PANEL..].as_ptr().cast();
                    // SAFETY: the path was checked; `tile` rows of `size` words lie at `STRIDE`, the panel has `size`
                    // units of 32 keys, and there are 32 sums for each row.
                    unsafe { self.tiles[tile.len() - 1](rows, weights, size, sums.as_mut_ptr(), weights) };
                }
                let strip = scratch.strips[which].view_mut::<f32>();
                for (row, sums) in tile.clone().zip(sums.chunks_exact(PANEL)) {
                    strip[at(row, (panel - seen.start) * PANEL)..][..PANEL].copy_from_slice(sums);
                }
            }
        }
        let [weights, slopes] = &mut scratch.strips;
        let (weights, slopes) = (weights.view_mut::<f32>(), slopes.view_mut::<f32>());
        let start = seen.start * PANEL;
        let all = own.start * PANEL - start..own.end * PANEL - start;
        for row in tile {
            let visible = &scratch.visible[row];
            let hidden = [all.start..visible.start - start, visible.end - start..all.end];
            for range in hidden.iter().cloned().flat_map(|range| pieces(row, range)) {
                weights[range].fill(f32::NEG_INFINITY);
            }
            let most = pieces(row, all.clone())
                .map(|range| largest(self.width, &weights[range]))
                .fold(f32::NEG_INFINITY, |most, here| if here > most { here } else { most });
            // All −∞: there is nothing to subtract.
            let base = if most == f32::NEG_INFINITY { 0.0 } else { most };
            let mut sums = [[0.0; PANEL]; 2];
            for range in pieces(row, all.clone()) {
                exponentials(self.width, &mut weights[range.clone()], &slopes[range], base, &mut sums);
            }
            let total = sum_of(sums[0]);
            let mean = sum_of(sums[1]) / total;
            for range in pieces(row, all.clone()) {
                gradients(self.width, &mut weights[range.clone()], &mut slopes[range], total, mean);
            }
            // Zeros already, unless the row has met a NaN: that must not reach keys it does not see.
            for range in hidden.into_iter().flat_map(|range| pieces(row, range)) {
                weights[range.clone()].fill(0.0);
                slopes[range].fill(0.0);
            }
        }
    }

    /// dq of a tile of rows; `first` is the row that the strip begins with.
    fn queries(
        &self,
        first: usize,
        tile: Range<usize>,
        seen: &Range<usize>,
        scratch: &mut Scratch,
        dq: &Chunks<'_, f32>,
    ) {
        let Sizes { columns, panels: all, .. } = self.sizes;
        let own = panels(&scratch.visible[tile.clone()]);
        let rows = tile.len();
        let sums = &mut scratch.sums.view_mut::<f32>()[..columns * rows * PANEL];
        sums.fill(0.0);
        let slopes = scratch.strips[1].view::<u32>();
        let start = seen.start * PANEL;
        for range in pieces(tile.start, own.start * PANEL - start..own.end * PANEL - start) {
            // The keys of a piece, from the place of its first number.
            let key = start + range.start / (ROWS * STRIDE) * CHUNK + range.start % STRIDE;
            for column in 0..columns {
                let keys = self.packed.rows[(column * all * PANEL + key) * PANEL..].as_ptr().cast();
                let sums = sums[column * rows * PANEL..].as_mut_ptr();
                let x = slopes[range.start..].as_ptr();
                // SAFETY: the path was checked; `tile` rows of a piece lie at `STRIDE`, the packed keys have a unit for
                // each of its numbers, and there are 32 sums for each row.
                unsafe { self.tiles[rows - 1](x, keys, range.len(), sums, keys) };
            }
        }
        for (i, row) in tile.enumerate() {
            let (query, head) = self.place(first + row);
            let to = dq.take(query * self.layer.heads + head);
            for (column, to) in to.chunks_mut(PANEL).enumerate() {
                for (to, sum) in to.iter_mut().zip(&sums[(column * rows + i) * PANEL..]) {
                    *to = self.layer.scale * sum;
                }
            }
        }
    }

    /// What a strip adds to dk and dv of some keys.
    fn keys(
        &self,
        tile: Range<usize>,
        seen: &Range<usize>,
        scratch: &mut Scratch,
        dk: &mut [f32],
        dv: &mut [f32],
    ) {
        let Sizes { columns, panels, .. } = self.sizes;
        // The rows that see any of the keys, and those that fill the first four.
        let first = scratch.visible.partition_point(|visible| visible.end <= tile.start) / 4 * 4;
        let last = scratch.visible.partition_point(|visible| visible.start < tile.end);
        if first >= last {
            return;
        }
        // Pᵀ · g and dSᵀ · (scale · q).
        for (which, sums) in [(0, dv), (1, dk)] {
            let strip = scratch.strips[which].view::<f32>();
            let across = scratch.across[which].view_mut::<f32>();
            for (i, key) in tile.clone().enumerate().step_by(4) {
                let from = &strip[at(first, key - seen.start * PANEL)..];
                turn(from, last - first, &mut across[i * STRIDE..]);
            }
            for column in 0..columns {
                let from = scratch.columns[1 - which].view::<f32>();
                let panel = from[(column * ROWS + first) * PANEL..].as_ptr().cast();
                let sums = &mut sums[(column * panels * PANEL + tile.start) * PANEL..][..tile.len() * PANEL];
                let across = scratch.across[which].view::<u32>().as_ptr();
                // SAFETY: the path was checked; a row for each key lies at `STRIDE`, with a number for each of the rows
                // from `first` to `last`, the panel has a unit for each of them, and there are 32 sums for each key.
                unsafe { self.tiles[tile.len() - 1](across, panel, last - first, sums.as_mut_ptr(), panel) };
            }
        }
    }
}

/// Four columns of a strip, from its rows at [`STRIDE`] to rows at [`STRIDE`]; the number of rows is rounded up to fours.
fn turn(from: &[f32], rows: usize, to: &mut [f32]) {
    for row in (0..rows).step_by(4) {
        let from = &from[row * STRIDE..][..3 * STRIDE + 4];
        let four = |i: usize| std::array::from_fn(|n| from[i * STRIDE + n]);
        let to = &mut to[row..][..3 * STRIDE + 4];
        for (n, four) in transpose_block([four(0), four(1), four(2), four(3)]).into_iter().enumerate() {
            to[n * STRIDE..n * STRIDE + 4].copy_from_slice(&four);
        }
    }
}

/// The panels of keys that some rows see.
fn panels(visible: &[Range<usize>]) -> Range<usize> {
    match visible {
        [first, .., last] => first.start / PANEL..last.end.div_ceil(PANEL),
        [one] => one.start / PANEL..one.end.div_ceil(PANEL),
        [] => 0..0,
    }
}

/// Where number `number` of row `row` lies in a strip.
fn at(row: usize, number: usize) -> usize {
    (number / CHUNK * ROWS + row) * STRIDE + number % CHUNK
}

/// Where some numbers of a row lie in a strip, piece by piece.
fn pieces(row: usize, numbers: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    (numbers.start / CHUNK..numbers.end.div_ceil(CHUNK)).map(move |piece| {
        let from = numbers.start.max(piece * CHUNK);
        let start = at(row, from);
        start..start + numbers.end.min((piece + 1) * CHUNK).saturating_sub(from)
    })
}

crate::tile::by_width! {
    /// [`largest_of`] with the instructions of `width`.
    fn largest(numbers: &[f32]) -> f32 {
        largest_of(numbers)
    }
}

crate::tile::by_width! {
    /// Turns scores into e^(score − base); adds them to the first sums, and their products with `slopes` to the second.
    fn exponentials(scores: &mut [f32], slopes: &[f32], base: f32, sums: &mut [[f32; PANEL]; 2]) {
        let [mut total, mut products] = *sums;
        for (scores, slopes) in scores.as_chunks_mut::<PANEL>().0.iter_mut().zip(slopes.as_chunks::<PANEL>().0) {
            for i in 0..PANEL {
                let weight = exp::<FUSED>(scores[i] - base);
                scores[i] = weight;
                total[i] += weight;
                products[i] += weight * slopes[i];
            }
        }
        *sums = [total, products];
    }
}

crate::tile::by_width! {
    /// Turns unscaled weights into P, and g · vᵀ into dS.
    fn gradients(weights: &mut [f32], slopes: &mut [f32], total: f32, mean: f32) {
        let inverse = 1.0 / total;
        for (weight, slope) in weights.iter_mut().zip(slopes) {
            *weight *= inverse;
            *slope = *weight * (*slope - mean);
        }
    }
}
