//! The loops in plain Rust. Slow and simple: everything else is tested against them.
//!
//! The floats multiply and add in two steps, because a fused step would be a call on processors without it. The blocks
//! add to their sums in one fused step, once in 32 products, which makes them equal to the other paths to the bit.

use super::{ColumnTile, Tile, table};
use crate::activations::{BLOCK_WORDS, SCALE, START, STRIDE, SUM};
use crate::format::{Layout, PANEL};

/// Loops by the number of rows, 1 to 4.
pub(super) fn tiles(layout: Layout) -> &'static [Tile] {
    match layout {
        Layout::F32 => table!(float, [1 2 3 4]),
        Layout::Bf16 => table!(bf16, [1 2 3 4]),
        Layout::F16 => table!(f16, [1 2 3 4]),
        Layout::Int8 => table!(int8, [1 2 3 4]),
        Layout::Bytes => table!(blocks, [1 2 3 4], Bytes),
        Layout::BytesMinimum => table!(blocks, [1 2 3 4], BytesMinimum),
        Layout::Nibbles => table!(blocks, [1 2 3 4], Nibbles),
        Layout::NibblesMinimum => table!(blocks, [1 2 3 4], NibblesMinimum),
        Layout::Fives => table!(blocks, [1 2 3 4], Fives),
        Layout::FivesMinimum => table!(blocks, [1 2 3 4], FivesMinimum),
    }
}

/// Loops over f32 weights and activations that lie by columns.
pub(super) fn columns() -> &'static [ColumnTile] {
    table!(floats, [1 2 3 4], ColumnTile)
}

/// The three slices that the pointers of a [`Tile`] stand for, for row `row`.
///
/// # Safety
/// As for [`Tile`].
pub(super) unsafe fn slices<'a>(
    (x, panel, c): (*const u32, *const u8, *mut f32),
    row: usize,
    (words, bytes): (usize, usize),
) -> (&'a [u32], &'a [u8], &'a mut [f32; PANEL]) {
    // SAFETY: the caller's promise: `words` words of the row, `bytes` of the panel and 32 sums are there, and the sums
    // are not reached by anything else meanwhile.
    unsafe {
        (
            std::slice::from_raw_parts(x.add(row * STRIDE), words),
            std::slice::from_raw_parts(panel, bytes),
            &mut *c.add(row * PANEL).cast(),
        )
    }
}

fn float_at(bytes: &[u8], high_half_of: bool) -> f32 {
    let word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    f32::from_bits(if high_half_of { word & 0xFFFF_0000 } else { word })
}

/// The sums of `ROWS` rows whose numbers lie `step` apart, the rows `ROW` apart.
///
/// # Safety
/// As for [`Tile`] and [`ColumnTile`].
unsafe fn floats<const ROWS: usize, const ROW: usize>(
    x: *const f32,
    step: usize,
    panel: *const u8,
    units: usize,
    c: *mut f32,
    _: *const u8,
) {
    for row in 0..ROWS {
        // SAFETY: the caller's promise: `units` units of the panel and 32 sums are there, and nothing else reaches the sums.
        let (panel, c): (&[u8], &mut [f32; PANEL]) = unsafe {
            (std::slice::from_raw_parts(panel, units * 4 * PANEL), &mut *c.add(row * PANEL).cast())
        };
        let mut sums = *c;
        for (i, weights) in panel.chunks_exact(4 * PANEL).enumerate() {
            // SAFETY: the caller's promise: there is a number for each unit.
            let x = unsafe { *x.add(row * ROW + i * step) };
            for (sum, weight) in sums.iter_mut().zip(weights.chunks_exact(4)) {
                *sum += x * float_at(weight, false);
            }
        }
        *c = sums;
    }
}

/// # Safety
/// As for [`Tile`].
unsafe fn float<const ROWS: usize>(
    x: *const u32,
    panel: *const u8,
    units: usize,
    c: *mut f32,
    ahead: *const u8,
) {
    // SAFETY: the caller's promise.
    unsafe { floats::<ROWS, STRIDE>(x.cast(), 1, panel, units, c, ahead) }
}

/// # Safety
/// As for [`Tile`].
unsafe fn bf16<const ROWS: usize>(x: *const u32, panel: *const u8, units: usize, c: *mut f32, _: *const u8) {
    for row in 0..ROWS {
        // SAFETY: the caller's promise.
        let (x, panel, c) = unsafe { slices((x, panel, c), row, (2 * units, units * 4 * PANEL)) };
        let mut sums = *c;
        for (x, weights) in x.chunks_exact(2).zip(panel.chunks_exact(4 * PANEL)) {
            let (even, odd) = (f32::from_bits(x[0]), f32::from_bits(x[1]));
            for (sum, weight) in sums.iter_mut().zip(weights.chunks_exact(4)) {
                *sum += even * f32::from_bits(float_at(weight, false).to_bits() << 16);
                *sum += odd * float_at(weight, true);
            }
        }
        *c = sums;
    }
}

/// # Safety
/// As for [`Tile`].
unsafe fn f16<const ROWS: usize>(x: *const u32, panel: *const u8, units: usize, c: *mut f32, _: *const u8) {
    for row in 0..ROWS {
        // SAFETY: the caller's promise.
        let (x, panel, c) = unsafe { slices((x, panel, c), row, (units, units * 2 * PANEL)) };
        let mut sums = *c;
        for (x, weights) in x.iter().zip(panel.chunks_exact(2 * PANEL)) {
            let x = f32::from_bits(*x);
            for (channel, sum) in sums.iter_mut().enumerate() {
                *sum += x * half_at(weights, 2 * channel);
            }
        }
        *c = sums;
    }
}

/// Adds the products of four stored bytes with the four signed bytes of `x`.
fn four(sum: &mut i32, x: [u8; 4], weights: [i32; 4]) {
    for (x, weight) in x.into_iter().zip(weights) {
        *sum += i32::from(x.cast_signed()) * weight;
    }
}

/// # Safety
/// As for [`Tile`].
unsafe fn int8<const ROWS: usize>(x: *const u32, panel: *const u8, units: usize, c: *mut f32, _: *const u8) {
    for row in 0..ROWS {
        // SAFETY: the caller's promise.
        let (x, panel, c) = unsafe { slices((x, panel, c), row, (units, units * 4 * PANEL)) };
        let mut sums = c.map(|sum| sum.to_bits().cast_signed());
        for (x, weights) in x.iter().zip(panel.chunks_exact(4 * PANEL)) {
            for (sum, weight) in sums.iter_mut().zip(weights.chunks_exact(4)) {
                four(sum, x.to_ne_bytes(), std::array::from_fn(|j| i32::from(weight[j])));
            }
        }
        *c = sums.map(|sum| f32::from_bits(sum.cast_unsigned()));
    }
}

/// The stored integers of group `g` and channel `c`: four neighbouring k.
pub(crate) fn quants(layout: Layout, unit: &[u8], g: usize, c: usize) -> [i32; 4] {
    let quants = &unit[layout.quants_at()..];
    std::array::from_fn(|j| match layout.has_bytes() {
        true => i32::from(quants[4 * (g * PANEL + c) + j]),
        false => {
            let nibble = quants[4 * (g % 4 * PANEL + c) + j] >> (g / 4 * 4) & 15;
            let fifth = if layout.has_fifth_bit() {
                unit[layout.fifth_at() + 16 * g + c / 2] >> (4 * (c % 2) + j) & 1
            } else {
                0
            };
            i32::from(nibble | fifth << 4)
        }
    })
}

/// The f16 number at byte `at` of a unit.
pub(crate) fn half_at(unit: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([unit[at], unit[at + 1]]).to_f32()
}

/// # Safety
/// As for [`Tile`].
unsafe fn blocks<const ROWS: usize, const LAYOUT: u8>(
    x: *const u32,
    panel: *const u8,
    units: usize,
    c: *mut f32,
    _: *const u8,
) {
    let layout = const { Layout::of(LAYOUT) };
    let bytes = layout.unit_bytes();
    for row in 0..ROWS {
        // SAFETY: the caller's promise.
        let (x, panel, c) = unsafe { slices((x, panel, c), row, (units * BLOCK_WORDS, units * bytes)) };
        for (x, unit) in x.chunks_exact(BLOCK_WORDS).zip(panel.chunks_exact(bytes)) {
            let scale = f32::from_bits(x[SCALE]);
            let mut sums = [x[START].cast_signed(); PANEL];
            for (g, x) in x[..8].iter().enumerate() {
                for (channel, sum) in sums.iter_mut().enumerate() {
                    four(sum, x.to_ne_bytes(), quants(layout, unit, g, channel));
                }
            }
            for (channel, (c, sum)) in c.iter_mut().zip(sums).enumerate() {
                *c = (sum as f32).mul_add(half_at(unit, 2 * channel) * scale, *c);
                if layout.has_minimum() {
                    *c = half_at(unit, 2 * (PANEL + channel)).mul_add(f32::from_bits(x[SUM]), *c);
                }
            }
        }
    }
}
