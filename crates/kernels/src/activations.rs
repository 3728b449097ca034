//! Activations as the inner loops read them: cut into chunks that stay in the cache, quantised where weights are integers,
//! rounded where pairs of bf16 are multiplied.
//!
//! Row r of chunk c lies at word (c · rows + r) · [`STRIDE`]. The stride is fixed, so that the loops address all rows of a
//! tile from one pointer, and odd in cache lines, so that the rows do not fall into the same sets of the first-level
//! cache, as rows of 1024 floats would.

use std::ops::Range;

use crate::bf16;
use crate::buffer::{Buffer, Plain};
use crate::chunks::Chunks;
use crate::driver::{divided, part};
use crate::format::{BLOCK, Layout};
use crate::pool::Pool;
use crate::quantise::{most, quantise, quantise_block, scale};
use crate::tile::Width;

/// Words of a row in a chunk: with 12 rows, a third of a first-level cache.
pub(crate) const CHUNK: usize = 256;

/// Words from a row to the next; 17 cache lines.
pub(crate) const STRIDE: usize = 272;

/// Words that a quantised block of 32 takes: 8 of bytes, then the four below.
pub(crate) const BLOCK_WORDS: usize = 12;
/// The scale of the block, f32.
pub(crate) const SCALE: usize = 8;
/// −bias · Σ of the bytes, i32: what the sums of products start from.
pub(crate) const START: usize = 9;
/// scale · Σ of the bytes, f32, which the minima of the weights are multiplied by.
pub(crate) const SUM: usize = 10;

/// How activations are prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Floats; a unit takes as many words as it has k.
    Float,
    /// Pairs of bf16, the first of two k in the lower half of a word.
    Pairs,
    /// Four signed bytes a word, one scale a row. `bias` as for blocks.
    Row { bias: i32 },
    /// [`BLOCK_WORDS`] words a block. `bias` is what the weights are stored above their values, as far as the inner
    /// loop does not take it off itself.
    Block { bias: i32 },
}

impl Kind {
    /// For weights of `layout`, which are stored `bias` too high; floats stay what they are.
    pub(crate) fn of(layout: Layout, bias: i32) -> Self {
        match layout {
            Layout::F32 | Layout::Bf16 | Layout::F16 => Self::Float,
            Layout::Int8 => Self::Row { bias },
            _ => Self::Block { bias },
        }
    }

    /// Words that go with a unit of `step` neighbouring k.
    fn words(self, step: usize) -> usize {
        match self {
            Self::Float => step,
            Self::Pairs => step / 2,
            Self::Row { .. } => step / 4,
            Self::Block { .. } => BLOCK_WORDS,
        }
    }
}

/// How k is cut into chunks of whole units.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut {
    /// Units of a row.
    pub(crate) units: usize,
    /// Words of a unit.
    pub(crate) words: usize,
}

impl Cut {
    /// For weights that are stored as in `layout`.
    pub(crate) fn of(layout: Layout, kind: Kind, k: usize) -> Self {
        Self { units: k.div_ceil(layout.step()), words: kind.words(layout.step()) }
    }

    pub(crate) fn chunks(self) -> usize {
        let words = self.units * self.words;
        if words + self.words <= CHUNK {
            return usize::from(words > 0);
        }
        let longest = CHUNK - CHUNK % self.words;
        divided(words + longest - 1, longest)
    }

    /// The units of chunk `i`: chunks are of even size, which no result depends on.
    pub(crate) fn chunk(self, i: usize) -> Range<usize> {
        part(self.units, self.chunks(), i)
    }

    /// Units of the longest chunk.
    pub(crate) fn longest(self) -> usize {
        self.units.div_ceil(self.chunks().max(1))
    }
}

/// Prepared rows.
#[derive(Debug)]
pub(crate) struct Activations {
    words: Buffer,
    pub(crate) rows: usize,
    pub(crate) cut: Cut,
    /// Per row, for [`Kind::Row`]: the scale, and −bias · Σ of the bytes.
    pub(crate) scales: Vec<(f32, i32)>,
}

impl Activations {
    /// Prepares `rows` rows of `k` numbers; `buffer` is reused memory.
    pub(crate) fn prepare(
        width: Width,
        kind: Kind,
        x: &[f32],
        (rows, k): (usize, usize),
        cut: Cut,
        buffer: Buffer,
        pool: &Pool,
    ) -> Self {
        debug_assert!(cut.longest() * cut.words <= CHUNK);
        let mut words = buffer;
        words.reserve(4 * cut.chunks() * rows * STRIDE);
        let mut scales = vec![(0.0, 0); if matches!(kind, Kind::Row { .. }) { rows } else { 0 }];
        {
            // Rows are written by one task each, in pieces that are `chunks` apart.
            let pieces = Chunks::new(&mut words.view_mut::<u32>()[..cut.chunks() * rows * STRIDE], STRIDE);
            let scales = Chunks::new(&mut scales, 1);
            // A task should be worth its start: some ten thousand numbers.
            let group = (16_384 / k.max(1)).clamp(1, 64);
            pool.run(rows.div_ceil(group), |task| {
                for row in task * group..rows.min((task + 1) * group) {
                    let numbers = &x[row * k..(row + 1) * k];
                    let piece = |chunk: usize| pieces.take(chunk * rows + row);
                    match kind {
                        Kind::Float => floats(numbers, cut, piece),
                        Kind::Pairs => pairs(width, numbers, cut, piece),
                        Kind::Row { bias } => {
                            if let [scale] = scales.take(row) {
                                *scale = quantise_row(width, numbers, cut, bias, piece);
                            }
                        }
                        Kind::Block { bias } => {
                            for chunk in 0..cut.chunks() {
                                let units = cut.chunk(chunk);
                                let part = &numbers[units.start * BLOCK..k.min(units.end * BLOCK)];
                                quantise_blocks(width, part, bias, piece(chunk));
                            }
                        }
                    }
                }
            });
        }
        Self { words, rows, cut, scales }
    }

    /// The first word of row `row` in chunk `chunk`; the rows after it follow at [`STRIDE`].
    pub(crate) fn row(&self, chunk: usize, row: usize) -> *const u32 {
        self.words.view::<u32>()[(chunk * self.rows + row) * STRIDE..].as_ptr()
    }

    pub(crate) fn into_buffer(self) -> Buffer {
        self.words
    }
}

fn floats<'a>(numbers: &[f32], cut: Cut, piece: impl Fn(usize) -> &'a mut [u32]) {
    for chunk in 0..cut.chunks() {
        let units = cut.chunk(chunk);
        let part = &numbers[units.start * cut.words..numbers.len().min(units.end * cut.words)];
        let (words, rest) = piece(chunk)[..units.len() * cut.words].split_at_mut(part.len());
        f32::view_mut(words).copy_from_slice(part);
        // Half a pair at the end of k.
        rest.fill(0);
    }
}

fn pairs<'a>(width: Width, numbers: &[f32], cut: Cut, piece: impl Fn(usize) -> &'a mut [u32]) {
    for chunk in 0..cut.chunks() {
        let units = cut.chunk(chunk);
        let part = &numbers[2 * units.start..numbers.len().min(2 * units.end)];
        // The lower half of a word comes first in memory wherever pairs are multiplied.
        let (halves, rest) = u16::view_mut(&mut piece(chunk)[..units.len()]).split_at_mut(part.len());
        bf16::round(width, part, halves);
        // Half a pair at the end of k.
        rest.fill(0);
    }
}

fn quantise_row<'a>(
    width: Width,
    numbers: &[f32],
    cut: Cut,
    bias: i32,
    piece: impl Fn(usize) -> &'a mut [u32],
) -> (f32, i32) {
    let (scale, inverse) = scale(most(width, numbers));
    let mut sum = 0;
    for chunk in 0..cut.chunks() {
        let units = cut.chunk(chunk);
        let part = &numbers[units.start * 4..numbers.len().min(units.end * 4)];
        let (bytes, rest) = u8::view_mut(&mut piece(chunk)[..units.len()]).split_at_mut(part.len());
        sum += quantise(width, part, inverse, bytes);
        rest.fill(0);
    }
    (scale, -bias * sum)
}

/// Rounds blocks of 32 with a scale each; the last may be short.
fn quantise_blocks(width: Width, numbers: &[f32], bias: i32, words: &mut [u32]) {
    let (blocks, rest) = numbers.as_chunks::<BLOCK>();
    let mut last = [0.0; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    let blocks = blocks.iter().chain((!rest.is_empty()).then_some(&last));
    for (block, words) in blocks.zip(words.as_chunks_mut::<BLOCK_WORDS>().0) {
        quantise_block(width, block, bias, words);
    }
}
