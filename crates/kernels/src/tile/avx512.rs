//! The loops for AVX-512; those on integers need VNNI, that on pairs of bf16 needs BF16.
//!
//! A register holds 16 channels, so a panel is two registers wide and every activation is broadcast from memory once
//! for both. With 12 rows the sums take 24 of the 32 registers: enough independent chains to hide the latency of the
//! multiply-adds, and 14 loads for 24 of them, which two load ports can feed.

use std::arch::x86_64::*;

// No `map` on arrays of registers here: its own function lacks the instructions, is not inlined, and the registers go
// through memory.

use super::{ColumnTile, Tile, table};
use crate::activations::{BLOCK_WORDS, SCALE, START, STRIDE, SUM};
use crate::format::{Layout, PANEL};

/// Loops by the number of rows. Integer blocks keep two sets of sums, so their tiles have half as many rows.
pub(super) fn tiles(layout: Layout) -> &'static [Tile] {
    match layout {
        Layout::F32 => table!(float, [1 2 3 4 5 6 7 8 9 10 11 12]),
        Layout::Bf16 => table!(bf16, [1 2 3 4 5 6 7 8 9 10 11 12]),
        Layout::F16 => table!(f16, [1 2 3 4 5 6 7 8 9 10 11 12]),
        Layout::Int8 => table!(int8, [1 2 3 4 5 6 7 8 9 10 11 12]),
        Layout::Bytes => table!(blocks, [1 2 3 4 5 6], Bytes),
        Layout::BytesMinimum => table!(blocks, [1 2 3 4 5 6], BytesMinimum),
        Layout::Nibbles => table!(blocks, [1 2 3 4 5 6], Nibbles),
        Layout::NibblesMinimum => table!(blocks, [1 2 3 4 5 6], NibblesMinimum),
        Layout::Fives => table!(blocks, [1 2 3 4 5 6], Fives),
        Layout::FivesMinimum => table!(blocks, [1 2 3 4 5 6], FivesMinimum),
    }
}

/// Loops over f32 weights and activations that lie by columns.
pub(super) fn columns() -> &'static [ColumnTile] {
    table!(floats, [1 2 3 4 5 6 7 8 9 10 11 12], ColumnTile)
}

/// Loops over weights of [`Layout::Bf16`] and activations rounded to bf16.
pub(super) fn pairs_of_bf16() -> &'static [Tile] {
    table!(pairs, [1 2 3 4 5 6 7 8 9 10 11 12])
}

/// Bytes ahead of the loads that weights are asked for: the hardware stops at the ends of pages.
const AHEAD: usize = 1024;

/// # Safety
/// As for [`Tile`].
#[target_feature(enable = "avx512f")]
unsafe fn load<const ROWS: usize>(c: *const f32) -> [[__m512; 2]; ROWS] {
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    for (row, sums) in sums.iter_mut().enumerate() {
        // SAFETY: `c` has 32 numbers for each row.
        unsafe {
            sums[0] = _mm512_loadu_ps(c.add(row * PANEL));
            sums[1] = _mm512_loadu_ps(c.add(row * PANEL + 16));
        }
    }
    sums
}

/// # Safety
/// As for [`Tile`].
#[target_feature(enable = "avx512f")]
unsafe fn store<const ROWS: usize>(c: *mut f32, sums: [[__m512; 2]; ROWS]) {
    for (row, sums) in sums.iter().enumerate() {
        // SAFETY: `c` has 32 numbers for each row.
        unsafe {
            _mm512_storeu_ps(c.add(row * PANEL), sums[0]);
            _mm512_storeu_ps(c.add(row * PANEL + 16), sums[1]);
        }
    }
}

/// The sums of `ROWS` rows whose numbers lie `step` apart, the rows `ROW` apart.
///
/// # Safety
/// As for [`Tile`] and [`ColumnTile`], with AVX-512 F.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn floats<const ROWS: usize, const ROW: usize>(
    x: *const f32,
    step: usize,
    panel: *const u8,
    units: usize,
    c: *mut f32,
    ahead: *const u8,
) {
    // SAFETY: `x` has `units` numbers in each row, `panel` 128 bytes a unit, `c` 32 numbers a row. Prefetches may point
    // anywhere.
    unsafe {
        let mut sums = load::<ROWS>(c);
        for i in 0..units {
            let weights = panel.add(i * 4 * PANEL);
            _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(AHEAD).cast());
            _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(AHEAD + 64).cast());
            _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(16 * i).cast());
            let w = [_mm512_loadu_ps(weights.cast()), _mm512_loadu_ps(weights.add(64).cast())];
            for row in 0..ROWS {
                let x = _mm512_set1_ps(*x.add(row * ROW + i * step));
                sums[row][0] = _mm512_fmadd_ps(x, w[0], sums[row][0]);
                sums[row][1] = _mm512_fmadd_ps(x, w[1], sums[row][1]);
            }
        }
        store(c, sums);
    }
}

/// # Safety
/// As for [`Tile`], with AVX-512 F.
#[target_feature(enable = "avx512f")]
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
/// As for [`Tile`], with AVX-512 F.
#[target_feature(enable = "avx512f")]
unsafe fn bf16<const ROWS: usize>(
    x: *const u32,
    panel: *const u8,
    units: usize,
    c: *mut f32,
    ahead: *const u8,
) {
    // SAFETY: as in `float`, with two words of `x` for each unit.
    unsafe {
        let mut sums = load::<ROWS>(c);
        let upper = _mm512_set1_epi32(0xFFFF_0000_u32.cast_signed());
        for i in 0..units {
            let weights = panel.add(i * 4 * PANEL);
            _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(AHEAD).cast());
            _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(AHEAD + 64).cast());
            _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(16 * i).cast());
            let pairs = [_mm512_loadu_si512(weights.cast()), _mm512_loadu_si512(weights.add(64).cast())];
            // A bf16 number is the upper half of the f32 number of the same value.
            let even = |half: usize| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(pairs[half]));
            let even = [even(0), even(1)];
            for row in 0..ROWS {
                let x = _mm512_set1_ps(f32::from_bits(*x.add(row * STRIDE + 2 * i)));
                sums[row][0] = _mm512_fmadd_ps(x, even[0], sums[row][0]);
                sums[row][1] = _mm512_fmadd_ps(x, even[1], sums[row][1]);
            }
            let odd = |half: usize| _mm512_castsi512_ps(_mm512_and_si512(pairs[half], upper));
            let odd = [odd(0), odd(1)];
            for row in 0..ROWS {
                let x = _mm512_set1_ps(f32::from_bits(*x.add(row * STRIDE + 2 * i + 1)));
                sums[row][0] = _mm512_fmadd_ps(x, odd[0], sums[row][0]);
                sums[row][1] = _mm512_fmadd_ps(x, odd[1], sums[row][1]);
            }
        }
        store(c, sums);
    }
}

/// Sixteen pairs of bf16 in the 32-bit lanes of a register.
#[target_feature(enable = "avx512f")]
#[inline]
fn as_pairs(register: __m512i) -> __m512bh {
    // SAFETY: both are 512 bits, any of which are values.
    unsafe { std::mem::transmute::<__m512i, __m512bh>(register) }
}

/// Lane by lane, with the upper halves first: sum = fma(w₁, x₁, sum), then sum = fma(w₀, x₀, sum).
///
/// # Safety
/// As for [`Tile`], with AVX-512 F and BF16.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn pairs<const ROWS: usize>(
    x: *const u32,
    panel: *const u8,
    units: usize,
    c: *mut f32,
    ahead: *const u8,
) {
    // SAFETY: as in `float`: a word of `x` and 128 bytes of `panel` hold the same two k.
    unsafe {
        let mut sums = load::<ROWS>(c);
        for i in 0..units {
            let weights = panel.add(i * 4 * PANEL);
            _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(AHEAD).cast());
            _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(AHEAD + 64).cast());
            _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(16 * i).cast());
            let w = [
                as_pairs(_mm512_loadu_si512(weights.cast())),
                as_pairs(_mm512_loadu_si512(weights.add(64).cast())),
            ];
            for row in 0..ROWS {
                let x = as_pairs(_mm512_set1_epi32((*x.add(row * STRIDE + i)).cast_signed()));
                sums[row][0] = _mm512_dpbf16_ps(sums[row][0], w[0], x);
                sums[row][1] = _mm512_dpbf16_ps(sums[row][1], w[1], x);
            }
        }
        store(c, sums);
    }
}

/// # Safety
/// As for [`Tile`], with AVX-512 F.
#[target_feature(enable = "avx512f")]
unsafe fn f16<const ROWS: usize>(
    x: *const u32,
    panel: *const u8,
    units: usize,
    c: *mut f32,
    ahead: *const u8,
) {
    // SAFETY: as in `float`, with 64 bytes of `panel` for each unit.
    unsafe {
        let mut sums = load::<ROWS>(c);
        for i in 0..units {
            let weights = panel.add(i * 2 * PANEL);
            _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(AHEAD).cast());
            _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(16 * i).cast());
            let w = [
                _mm512_cvtph_ps(_mm256_loadu_si256(weights.cast())),
                _mm512_cvtph_ps(_mm256_loadu_si256(weights.add(PANEL).cast())),
            ];
            for row in 0..ROWS {
                let x = _mm512_set1_ps(f32::from_bits(*x.add(row * STRIDE + i)));
                sums[row][0] = _mm512_fmadd_ps(x, w[0], sums[row][0]);
                sums[row][1] = _mm512_fmadd_ps(x, w[1], sums[row][1]);
            }
        }
        store(c, sums);
    }
}

/// # Safety
/// As for [`Tile`], with AVX-512 F and VNNI.
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn int8<const ROWS: usize>(
    x: *const u32,
    panel: *const u8,
    units: usize,
    c: *mut f32,
    ahead: *const u8,
) {
    // SAFETY: as in `float`.
    unsafe {
        let floats = load::<ROWS>(c);
        let mut sums = [[_mm512_setzero_si512(); 2]; ROWS];
        for row in 0..ROWS {
            sums[row] = [_mm512_castps_si512(floats[row][0]), _mm512_castps_si512(floats[row][1])];
        }
        for i in 0..units {
            let weights = panel.add(i * 4 * PANEL);
            _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(AHEAD).cast());
            _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(AHEAD + 64).cast());
            _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(16 * i).cast());
            let w = [_mm512_loadu_si512(weights.cast()), _mm512_loadu_si512(weights.add(64).cast())];
            for row in 0..ROWS {
                let x = _mm512_set1_epi32((*x.add(row * STRIDE + i)).cast_signed());
                sums[row][0] = _mm512_dpbusd_epi32(sums[row][0], w[0], x);
                sums[row][1] = _mm512_dpbusd_epi32(sums[row][1], w[1], x);
            }
        }
        let mut floats = floats;
        for row in 0..ROWS {
            floats[row] = [_mm512_castsi512_ps(sums[row][0]), _mm512_castsi512_ps(sums[row][1])];
        }
        store(c, floats);
    }
}

/// The stored integers of group `g` of a unit, for both halves of the panel.
///
/// # Safety
/// `unit` is readable for a unit of the layout; AVX-512 F and BW.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
unsafe fn group<const LAYOUT: u8>(unit: *const u8, g: usize) -> [__m512i; 2] {
    let layout = const { Layout::of(LAYOUT) };
    let mut w = [_mm512_setzero_si512(); 2];
    for (half, w) in w.iter_mut().enumerate() {
        // SAFETY: a unit has 8 groups of 128 bytes, or 4 of nibbles, after its head, and 16 bytes of fifth bits for
        // each of 8 groups.
        unsafe {
            let quants = unit.add(layout.quants_at() + 64 * half);
            if layout.has_bytes() {
                *w = _mm512_loadu_si512(quants.add(128 * g).cast());
                continue;
            }
            let bytes = _mm512_loadu_si512(quants.add(128 * (g % 4)).cast());
            let bytes = if g < 4 { bytes } else { _mm512_srli_epi16::<4>(bytes) };
            *w = _mm512_and_si512(bytes, _mm512_set1_epi8(15));
            if layout.has_fifth_bit() {
                let bits = unit.add(layout.fifth_at() + 16 * g + 8 * half).cast::<u64>().read_unaligned();
                *w = _mm512_mask_add_epi8(*w, bits, *w, _mm512_set1_epi8(16));
            }
        }
    }
    w
}

/// # Safety
/// As for [`Tile`], with AVX-512 F, BW and VNNI.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
unsafe fn blocks<const ROWS: usize, const LAYOUT: u8>(
    x: *const u32,
    panel: *const u8,
    units: usize,
    c: *mut f32,
    ahead: *const u8,
) {
    let layout = const { Layout::of(LAYOUT) };
    // SAFETY: as in `float`, with 12 words of `x` and the layout's bytes for each unit.
    unsafe {
        let halves = |at: *const u8| {
            [
                _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())),
                _mm512_cvtph_ps(_mm256_loadu_si256(at.add(32).cast())),
            ]
        };
        let mut sums = load::<ROWS>(c);
        for i in 0..units {
            let unit = panel.add(i * layout.unit_bytes());
            let x = x.add(i * BLOCK_WORDS);
            let word = |row: usize, at: usize| *x.add(row * STRIDE + at);
            let mut integers = [[_mm512_setzero_si512(); 2]; ROWS];
            for row in 0..ROWS {
                integers[row] = [_mm512_set1_epi32(word(row, START).cast_signed()); 2];
            }
            // Written out by the compiler: 8 rounds.
            for g in 0..8 {
                for line in [128 * g, 128 * g + 64] {
                    // A unit of nibbles is shorter than eight groups of bytes.
                    if line < layout.unit_bytes() {
                        _mm_prefetch::<_MM_HINT_T0>(unit.wrapping_add(AHEAD + line).cast());
                    }
                }
                // A single row has no next tile.
                if ROWS > 1 {
                    _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(24 * (8 * i + g)).cast());
                }
                let w = group::<LAYOUT>(unit, g);
                for row in 0..ROWS {
                    let x = _mm512_set1_epi32(word(row, g).cast_signed());
                    integers[row][0] = _mm512_dpbusd_epi32(integers[row][0], w[0], x);
                    integers[row][1] = _mm512_dpbusd_epi32(integers[row][1], w[1], x);
                }
            }
            let scales = halves(unit);
            for row in 0..ROWS {
                let x = _mm512_set1_ps(f32::from_bits(word(row, SCALE)));
                for half in 0..2 {
                    let integers = _mm512_cvtepi32_ps(integers[row][half]);
                    sums[row][half] =
                        _mm512_fmadd_ps(integers, _mm512_mul_ps(scales[half], x), sums[row][half]);
                }
            }
            if layout.has_minimum() {
                let minima = halves(unit.add(2 * PANEL));
                for row in 0..ROWS {
                    let x = _mm512_set1_ps(f32::from_bits(word(row, SUM)));
                    for half in 0..2 {
                        sums[row][half] = _mm512_fmadd_ps(minima[half], x, sums[row][half]);
                    }
                }
            }
        }
        store(c, sums);
    }
}
