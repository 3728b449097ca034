//! `vdpbf16ps` in plain Rust, as Intel's manual defines it (volume 2, "VDPBF16PS"), so that all around it can be tested on
//! processors that lack the instruction.

use super::portable::slices;
use super::{Tile, Tiles, table};
use crate::activations::Kind;
use crate::format::PANEL;

/// What takes the place of `avx512::pairs_of_bf16`.
pub(crate) fn pairs_of_bf16() -> Tiles {
    let by_rows: &[Tile] = table!(pairs, [1 2 3 4 5 6 7 8 9 10 11 12]);
    Tiles { by_rows, kind: Kind::Pairs }
}

/// Subnormal numbers are taken and given as zero.
fn flush(number: f32) -> f32 {
    if number.is_subnormal() { 0.0_f32.copysign(number) } else { number }
}

/// The sum with the products of two pairs added: two fused steps, the upper halves first.
pub(crate) fn dot(sum: f32, w: u32, x: u32) -> f32 {
    let upper = |pair: u32| flush(f32::from_bits(pair & 0xFFFF_0000));
    let lower = |pair: u32| flush(f32::from_bits(pair << 16));
    let sum = flush(upper(w).mul_add(upper(x), flush(sum)));
    flush(lower(w).mul_add(lower(x), sum))
}

/// # Safety
/// As for [`Tile`].
unsafe fn pairs<const ROWS: usize>(x: *const u32, panel: *const u8, units: usize, c: *mut f32, _: *const u8) {
    for row in 0..ROWS {
        // SAFETY: the caller's promise: a word of the row and 32 pairs of weights for each unit.
        let (x, panel, c) = unsafe { slices((x, panel, c), row, (units, units * 4 * PANEL)) };
        for (x, weights) in x.iter().zip(panel.as_chunks::<{ 4 * PANEL }>().0) {
            for (sum, weight) in c.iter_mut().zip(weights.as_chunks::<4>().0) {
                *sum = dot(*sum, u32::from_le_bytes(*weight), *x);
            }
        }
    }
}
