//! Weights into panels: once, when a model is loaded.

use half::{bf16, f16};

use crate::buffer::Buffer;
use crate::error::{Error, Result, check_length};
use crate::format::{BLOCK, Format, PANEL};
use crate::pool::Pool;

/// Weights as they come, `[n, k]` row-major: one row per output channel.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Source<'a> {
    /// 32-bit floats.
    F32(&'a [f32]),
    /// bfloat16.
    Bf16(&'a [bf16]),
    /// IEEE half precision.
    F16(&'a [f16]),
    /// The bytes of a GGUF tensor whose type is the format asked for: n · k / 32 blocks.
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

    /// Row `row` of `out.len()` floats; zeros for blocks, which are never read this way.
    fn row(&self, row: usize, out: &mut [f32]) {
        let range = row * out.len()..(row + 1) * out.len();
        match self {
            Self::F32(numbers) => out.copy_from_slice(&numbers[range]),
            Self::Bf16(numbers) => out.iter_mut().zip(&numbers[range]).for_each(|(o, v)| *o = v.to_f32()),
            Self::F16(numbers) => out.iter_mut().zip(&numbers[range]).for_each(|(o, v)| *o = v.to_f32()),
            Self::Blocks(_) => out.fill(0.0),
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
        let chunks = crate::pool::Chunks::new(buffer.view_mut::<u8>(), panel_bytes);
        let scale_chunks = crate::pool::Chunks::new(&mut scales, PANEL);
        pool.run(panels, |panel| {
            let out = chunks.take(panel);
            let channels = panel * PANEL..n.min((panel + 1) * PANEL);
            match (source, format) {
                (Source::Blocks(bytes), _) => blocks(bytes, format, k, channels, out),
                (_, Format::F32) => {
                    rows(&source, k, channels, |c, i, v| put(out, 4 * (i * PANEL + c), v.to_le_bytes()))
                }
                (_, Format::Bf16) => rows(&source, k, channels, |c, i, v| {
                    put(out, 4 * (i / 2 * PANEL + c) + 2 * (i % 2), bf16::from_f32(v).to_le_bytes());
                }),
                (_, Format::Int8) => int8(&source, k, channels, out, scale_chunks.take(panel)),
                (_, _) => q8_0(&source, k, channels, out),
            }
        });
    }
    Ok((buffer, scales))
}

fn check(source: &Source<'_>, format: Format, n: usize, k: usize) -> Result<()> {
    format.check_k(k)?;
    let numbers = n.checked_mul(k).filter(|&numbers| numbers <= isize::MAX as usize / 8);
    let numbers = numbers.ok_or(Error::Size { what: "n · k", found: n, allowed: "what fits in memory" })?;
    let expected = match (source, format.block_bytes()) {
        (Source::Blocks(_), Some(bytes)) if k.is_multiple_of(BLOCK) => numbers / BLOCK * bytes,
        (Source::Blocks(_), Some(_)) => {
            return Err(Error::Size { what: "k", found: k, allowed: "multiples of 32 for stored blocks" });
        }
        (Source::Blocks(_), None) => return Err(Error::Source { source_kind: source.name(), format }),
        (_, None) | (_, Some(34)) => numbers,
        (_, Some(_)) => return Err(Error::Source { source_kind: source.name(), format }),
    };
    check_length("the weights", source.length(), expected, || format!("[n {n}, k {k}] in {}", source.name()))
}

fn put<const N: usize>(out: &mut [u8], at: usize, bytes: [u8; N]) {
    out[at..at + N].copy_from_slice(&bytes);
}

/// Calls `each(channel in the panel, k, weight)` for every weight of the panel.
fn rows(
    source: &Source<'_>,
    k: usize,
    channels: std::ops::Range<usize>,
    mut each: impl FnMut(usize, usize, f32),
) {
    let mut row = vec![0.0; k];
    for (c, channel) in channels.enumerate() {
        source.row(channel, &mut row);
        for (i, &weight) in row.iter().enumerate() {
            each(c, i, weight);
        }
    }
}

/// The largest magnitude, NaN if any number is: compared as integers, in which NaN comes last.
pub(crate) fn largest(numbers: &[f32]) -> f32 {
    f32::from_bits(numbers.iter().fold(0, |most, v| most.max(v.to_bits() & 0x7FFF_FFFF)))
}

/// Rounds to −127…127; a scale that is not finite is kept, and makes every product NaN or infinite.
fn round(weight: f32, inverse: f32) -> u8 {
    let level = (weight * inverse).round_ties_even().clamp(-127.0, 127.0) as i32;
    (level + 128) as u8
}

fn inverse(scale: f32) -> f32 {
    let inverse = 1.0 / scale;
    if inverse.is_finite() { inverse } else { 0.0 }
}

fn int8(source: &Source<'_>, k: usize, channels: std::ops::Range<usize>, out: &mut [u8], scales: &mut [f32]) {
    out.fill(128);
    let mut row = vec![0.0; k];
    for (c, channel) in channels.enumerate() {
        source.row(channel, &mut row);
        scales[c] = largest(&row) / 127.0;
        let inverse = inverse(scales[c]);
        for (i, &weight) in row.iter().enumerate() {
            out[4 * (i / 4 * PANEL + c) + i % 4] = round(weight, inverse);
        }
    }
}

/// As llama.cpp quantises to `Q8_0`, but rounding with the f16 scale that is stored.
fn q8_0(source: &Source<'_>, k: usize, channels: std::ops::Range<usize>, out: &mut [u8]) {
    let bytes = Format::Q8_0.unit_bytes();
    for unit in out.chunks_exact_mut(bytes) {
        unit[2 * PANEL..].fill(128);
    }
    let mut row = vec![0.0; k];
    for (c, channel) in channels.enumerate() {
        source.row(channel, &mut row);
        for (block, unit) in row.chunks(BLOCK).zip(out.chunks_exact_mut(bytes)) {
            let scale = f16::from_f32(largest(block) / 127.0);
            put(unit, 2 * c, scale.to_le_bytes());
            let inverse = inverse(scale.to_f32());
            for (i, &weight) in block.iter().enumerate() {
                unit[2 * PANEL + 4 * (i / 4 * PANEL + c) + i % 4] = round(weight, inverse);
            }
        }
    }
}

/// Stored blocks: the same bits in another order.
fn blocks(bytes: &[u8], format: Format, k: usize, channels: std::ops::Range<usize>, out: &mut [u8]) {
    let Some(size) = format.block_bytes() else { return };
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
