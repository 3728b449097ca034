//! Weights into panels: once, when a model is loaded.

use std::ops::Range;

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};

use crate::bf16::to_bf16;
use crate::buffer::Buffer;
use crate::chunks::Chunks;
use crate::error::{Error, Result, check_length};
use crate::format::{BLOCK, Format, PANEL};
use crate::pack_k::k_blocks;
use crate::pool::Pool;

/// Weights as they come, `[n, k]` row-major: one row per output channel.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Source<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// bfloat16.
    Bf16(&'a [bf16]),
    /// IEEE half precision; [`Format::F16`] keeps it as it is.
    F16(&'a [f16]),
    /// The bytes of a GGUF tensor whose type is the format asked for: n · k numbers in blocks.
    Blocks(&'a [u8]),
}

impl Source<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::F32(_) => "f32",
            Self::Bf16(_) => "bf16",
            Self::F16(_) => "f16",
            Self::Blocks(_) => "blocks",
        }
    }

    fn length(&self) -> usize {
        match self {
            Self::F32(numbers) => numbers.len(),
            Self::Bf16(numbers) => numbers.len(),
            Self::F16(numbers) => numbers.len(),
            Self::Blocks(bytes) => bytes.len(),
        }
    }

    /// Numbers from `at` on; zeros for blocks, which are never read this way.
    fn read(&self, at: usize, out: &mut [f32]) {
        let range = at..at + out.len();
        match self {
            Self::F32(numbers) => out.copy_from_slice(&numbers[range]),
            Self::Bf16(numbers) => {
                out.iter_mut()
                    .zip(&numbers[range])
                    .for_each(|(o, v)| *o = f32::from_bits(u32::from(v.to_bits()) << 16));
            }
            Self::F16(numbers) => numbers[range].convert_to_f32_slice(out),
            Self::Blocks(_) => out.fill(0.0),
        }
    }

    /// [`Source::read`] as f16: the same bits where they are f16 already, else rounded to nearest even.
    fn read_halves(&self, at: usize, out: &mut [f16]) {
        if let Self::F16(numbers) = self {
            return out.copy_from_slice(&numbers[at..at + out.len()]);
        }
        let mut numbers = [0.0; SPAN];
        for (i, out) in out.chunks_mut(SPAN).enumerate() {
            let numbers = &mut numbers[..out.len()];
            self.read(at + SPAN * i, numbers);
            out.convert_from_f32_slice(numbers);
        }
    }
}

/// Packs `[n, k]` weights; returns the panels and, for [`Format::Int8`], the scales of the channels.
pub(crate) fn pack(
    source: Source<'_>,
    format: Format,
    n: usize,
    k: usize,
    pool: &Pool,
) -> Result<(Buffer, Vec<f32>)> {
    check(&source, format, n, k)?;
    let panels = n.div_ceil(PANEL);
    let panel_bytes = format.units(k) * format.unit_bytes();
    let mut buffer = Buffer::new(panels * panel_bytes);
    let mut scales = vec![0.0; if format == Format::Int8 { panels * PANEL } else { 0 }];
    if panel_bytes == 0 {
        return Ok((buffer, scales));
    }
    {
        let chunks = Chunks::new(buffer.view_mut::<u8>(), panel_bytes);
        let scale_chunks = Chunks::new(&mut scales, PANEL);
        pool.run(panels, |panel| {
            let out = chunks.take(panel);
            let channels = panel * PANEL..n.min((panel + 1) * PANEL);
            match (source, format) {
                (Source::Blocks(bytes), Format::Q4K | Format::Q5K) => {
                    k_blocks(bytes, format, k, channels, out)
                }
                (Source::Blocks(bytes), _) => blocks(bytes, format, k, channels, out),
                (_, Format::F32) => floats(&source, k, &channels, out),
                (_, Format::Bf16) => bf16_pairs(&source, k, &channels, out),
                (_, Format::F16) => halves(&source, k, &channels, out),
                (_, Format::Int8) => int8(&source, k, &channels, out, scale_chunks.take(panel)),
                (_, _) => q8_0(&source, k, &channels, out),
            }
        });
    }
    Ok((buffer, scales))
}

fn check(source: &Source<'_>, format: Format, n: usize, k: usize) -> Result<()> {
    format.check_k(k)?;
    let numbers = n.checked_mul(k).filter(|&numbers| numbers <= isize::MAX as usize / 8);
    let numbers = numbers.ok_or(Error::Size { what: "n · k", found: n, allowed: "what fits in memory" })?;
    let blocks = matches!(source, Source::Blocks(_));
    let expected = match format.block() {
        Some((length, bytes)) if blocks && k.is_multiple_of(length) => numbers / length * bytes,
        Some(_) if blocks => {
            return Err(Error::Size { what: "k", found: k, allowed: "multiples of 32 for stored blocks" });
        }
        _ if !blocks && format.takes_floats() => numbers,
        _ => return Err(Error::Source { source_kind: source.name(), format }),
    };
    check_length("the weights", source.length(), expected, || format!("[n {n}, k {k}] in {}", source.name()))
}

fn put<const N: usize>(out: &mut [u8], at: usize, bytes: [u8; N]) {
    out[at..at + N].copy_from_slice(&bytes);
}

/// k that are packed together: rows are read in pieces of a few cache lines, units are written whole.
const SPAN: usize = 64;

/// Weights of the 32 channels of a panel; zeros past the last channel and the end of k.
type Span<T = f32> = [[T; SPAN]; PANEL];

/// Calls `each(first k, k, weights)` for one span of the panel after the other.
fn spans(source: &Source<'_>, k: usize, channels: &Range<usize>, each: impl FnMut(usize, usize, &Span)) {
    spans_by(|at, out| source.read(at, out), k, channels, each);
}

/// [`spans`] of numbers that `read(at, out)` gets.
fn spans_by<T: Copy + Default>(
    read: impl Fn(usize, &mut [T]),
    k: usize,
    channels: &Range<usize>,
    mut each: impl FnMut(usize, usize, &Span<T>),
) {
    let mut span = [[T::default(); SPAN]; PANEL];
    for first in (0..k).step_by(SPAN) {
        let length = SPAN.min(k - first);
        for (channel, row) in channels.clone().zip(&mut span) {
            read(channel * k + first, &mut row[..length]);
            row[length..].fill(T::default());
        }
        each(first, length, &span);
    }
}

fn floats(source: &Source<'_>, k: usize, channels: &Range<usize>, out: &mut [u8]) {
    spans(source, k, channels, |first, length, span| {
        let units = out[4 * PANEL * first..][..4 * PANEL * length].chunks_exact_mut(4 * PANEL);
        for (i, unit) in units.enumerate().take(SPAN) {
            for (to, row) in unit.as_chunks_mut::<4>().0.iter_mut().zip(span) {
                *to = row[i].to_le_bytes();
            }
        }
    });
}

fn halves(source: &Source<'_>, k: usize, channels: &Range<usize>, out: &mut [u8]) {
    let read = |at: usize, out: &mut [f16]| source.read_halves(at, out);
    spans_by(read, k, channels, |first, length, span| {
        let units = out[2 * PANEL * first..][..2 * PANEL * length].chunks_exact_mut(2 * PANEL);
        for (i, unit) in units.enumerate().take(SPAN) {
            for (to, row) in unit.as_chunks_mut::<2>().0.iter_mut().zip(span) {
                *to = row[i].to_le_bytes();
            }
        }
    });
}

fn bf16_pairs(source: &Source<'_>, k: usize, channels: &Range<usize>, out: &mut [u8]) {
    spans(source, k, channels, |first, length, span| {
        let units =
            out[4 * PANEL * (first / 2)..][..4 * PANEL * length.div_ceil(2)].chunks_exact_mut(4 * PANEL);
        for (i, unit) in units.enumerate().take(SPAN / 2) {
            for (to, row) in unit.as_chunks_mut::<4>().0.iter_mut().zip(span) {
                let (even, odd) = (to_bf16(row[2 * i]), to_bf16(row[2 * i + 1]));
                *to = (u32::from(even) | u32::from(odd) << 16).to_le_bytes();
            }
        }
    });
}

/// The largest magnitude, NaN if any number is: compared as integers, in which NaN comes last.
#[inline(always)]
pub(crate) fn largest(numbers: &[f32]) -> f32 {
    f32::from_bits(numbers.iter().fold(0, |most, v| most.max(v.to_bits() & 0x7FFF_FFFF)))
}

/// Rounds to −127…127, biased by 128. A scale that is not finite is kept beside it, and makes every product NaN or
/// infinite whatever the byte.
fn round(weight: f32, inverse: f32) -> u8 {
    // Adding 1.5 · 2²³ leaves the rounded integer in the low bits.
    const ROUND: f32 = 12_582_912.0;
    ((weight * inverse).clamp(-127.0, 127.0) + ROUND).to_bits() as u8 ^ 0x80
}

fn inverse(scale: f32) -> f32 {
    let inverse = 1.0 / scale;
    if inverse.is_finite() { inverse } else { 0.0 }
}

/// Groups of four k of a span, rounded, as `[group][channel][4]`.
fn groups(span: &Span, from: usize, inverses: &[f32; PANEL], out: &mut [u8]) {
    for (g, group) in out.chunks_exact_mut(4 * PANEL).enumerate().take((SPAN - from) / 4) {
        for ((to, row), &inverse) in group.as_chunks_mut::<4>().0.iter_mut().zip(span).zip(inverses) {
            let at = from + 4 * g;
            *to = [row[at], row[at + 1], row[at + 2], row[at + 3]].map(|weight| round(weight, inverse));
        }
    }
}

fn int8(source: &Source<'_>, k: usize, channels: &Range<usize>, out: &mut [u8], scales: &mut [f32]) {
    let mut most = [0.0; PANEL];
    spans(source, k, channels, |_, _, span| {
        for (most, row) in most.iter_mut().zip(span) {
            *most = largest(&[*most, largest(row)]);
        }
    });
    let most = most.map(|most| most / 127.0);
    scales.copy_from_slice(&most);
    let inverses = most.map(inverse);
    spans(source, k, channels, |first, length, span| {
        groups(span, 0, &inverses, &mut out[PANEL * first..][..4 * PANEL * length.div_ceil(4)]);
    });
}

/// As llama.cpp quantises to `Q8_0`, but rounding with the f16 scale that is stored.
fn q8_0(source: &Source<'_>, k: usize, channels: &Range<usize>, out: &mut [u8]) {
    let bytes = Format::Q8_0.unit_bytes();
    spans(source, k, channels, |first, length, span| {
        let units = out[bytes * (first / BLOCK)..][..bytes * length.div_ceil(BLOCK)].chunks_exact_mut(bytes);
        for (i, unit) in units.enumerate().take(SPAN / BLOCK) {
            let (head, quants) = unit.split_at_mut(2 * PANEL);
            let mut inverses = [0.0; PANEL];
            for ((row, inverse), scale) in span.iter().zip(&mut inverses).zip(head.as_chunks_mut::<2>().0) {
                let rounded = f16::from_f32(largest(&row[BLOCK * i..BLOCK * (i + 1)]) / 127.0);
                *scale = rounded.to_le_bytes();
                *inverse = self::inverse(rounded.to_f32());
            }
            groups(span, BLOCK * i, &inverses, quants);
        }
    });
}

/// Stored blocks: the same bits in another order.
fn blocks(bytes: &[u8], format: Format, k: usize, channels: Range<usize>, out: &mut [u8]) {
    let Some((_, size)) = format.block() else { return };
    let layout = format.layout();
    let row_bytes = k / BLOCK * size;
    for (c, channel) in channels.enumerate() {
        let row = &bytes[channel * row_bytes..(channel + 1) * row_bytes];
        for (block, unit) in row.chunks_exact(size).zip(out.chunks_exact_mut(format.unit_bytes())) {
            unit[2 * c..2 * c + 2].copy_from_slice(&block[..2]);
            let mut rest = &block[2..];
            if layout.has_minimum() {
                unit[2 * (PANEL + c)..2 * (PANEL + c) + 2].copy_from_slice(&rest[..2]);
                rest = &rest[2..];
            }
            if layout.has_fifth_bit() {
                // Four bits of each group of four k go side by side; two channels share a byte.
                for g in 0..8 {
                    let four = rest[g / 2] >> (4 * (g % 2)) & 15;
                    unit[layout.fifth_at() + 16 * g + c / 2] |= four << (4 * (c % 2));
                }
                rest = &rest[4..];
            }
            let quants = &mut unit[layout.quants_at()..];
            if format == Format::Q8_0 {
                for (g, four) in rest.chunks_exact(4).enumerate() {
                    let at = 4 * (g * PANEL + c);
                    for (to, from) in quants[at..at + 4].iter_mut().zip(four) {
                        *to = from ^ 0x80;
                    }
                }
            } else {
                // A stored byte holds k and k + 16, which is what the groups g and g + 4 of a panel share as well.
                for (g, four) in rest.chunks_exact(4).enumerate() {
                    put(quants, 4 * (g * PANEL + c), [four[0], four[1], four[2], four[3]]);
                }
            }
        }
    }
}
