//! The loops for AVX2, FMA and F16C.
//!
//! With 16 registers of 8 channels a panel is done in two halves of 16. Bytes are multiplied by `vpmaddubsw`, which adds
//! two products in 16 bits: full bytes are made signed first (|w| · sign(x, w), at most 2 · 128 · 127), nibbles and
//! five-bit numbers are small enough as they are.

use std::arch::x86_64::*;

use super::{ColumnTile, Tile, table};
use crate::activations::{BLOCK_WORDS, SCALE, START, STRIDE, SUM};
use crate::format::{Layout, PANEL};

/// Loops by the number of rows: as many as leave registers for the weights.
pub(super) fn tiles(layout: Layout) -> &'static [Tile] {
    match layout {
        Layout::F32 => table!(float, [1 2 3 4 5 6]),
        Layout::Bf16 => table!(bf16, [1 2 3 4 5]),
        Layout::F16 => table!(f16, [1 2 3 4 5 6]),
        Layout::Int8 => table!(int8, [1 2 3 4]),
        Layout::Bytes => table!(blocks, [1 2 3], Bytes),
        Layout::BytesMinimum => table!(blocks, [1 2 3], BytesMinimum),
        Layout::Nibbles => table!(blocks, [1 2 3], Nibbles),
        Layout::NibblesMinimum => table!(blocks, [1 2 3], NibblesMinimum),
        Layout::Fives => table!(blocks, [1 2 3], Fives),
        Layout::FivesMinimum => table!(blocks, [1 2 3], FivesMinimum),
    }
}

/// Loops over f32 weights and activations that lie by columns.
pub(super) fn columns() -> &'static [ColumnTile] {
    table!(floats, [1 2 3 4 5 6], ColumnTile)
}

/// Bytes ahead of the loads that weights are asked for.
const AHEAD: usize = 1024;

/// The sums of 16 channels for each row, at `c`.
///
/// # Safety
/// As for [`Tile`].
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn load<const ROWS: usize>(c: *const f32) -> [[__m256; 2]; ROWS] {
    let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
    for (row, sums) in sums.iter_mut().enumerate() {
        // SAFETY: `c` has 32 numbers for each row, of which it points at the first or at the 16th.
        unsafe { *sums = [_mm256_loadu_ps(c.add(row * PANEL)), _mm256_loadu_ps(c.add(row * PANEL + 8))] };
    }
    sums
}

/// # Safety
/// As for [`load`].
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn store<const ROWS: usize>(c: *mut f32, sums: [[__m256; 2]; ROWS]) {
    for (row, sums) in sums.iter().enumerate() {
        // SAFETY: as in `load`.
        unsafe {
            _mm256_storeu_ps(c.add(row * PANEL), sums[0]);
            _mm256_storeu_ps(c.add(row * PANEL + 8), sums[1]);
        }
    }
}

/// The sums of `ROWS` rows whose numbers lie `step` apart, the rows `ROW` apart.
///
/// # Safety
/// As for [`Tile`] and [`ColumnTile`], with AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
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
        for half in 0..2 {
            let c = c.add(16 * half);
            let mut sums = load::<ROWS>(c);
            for i in 0..units {
                let weights = panel.add(i * 4 * PANEL + 64 * half);
                _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(AHEAD).cast());
                _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(16 * i).cast());
                let w = [_mm256_loadu_ps(weights.cast()), _mm256_loadu_ps(weights.add(32).cast())];
                for row in 0..ROWS {
                    let x = _mm256_set1_ps(*x.add(row * ROW + i * step));
                    sums[row][0] = _mm256_fmadd_ps(x, w[0], sums[row][0]);
                    sums[row][1] = _mm256_fmadd_ps(x, w[1], sums[row][1]);
                }
            }
            store(c, sums);
        }
    }
}

/// # Safety
/// As for [`Tile`], with AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
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
/// As for [`Tile`], with AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
unsafe fn bf16<const ROWS: usize>(
    x: *const u32,
    panel: *const u8,
    units: usize,
    c: *mut f32,
    ahead: *const u8,
) {
    // SAFETY: as in `float`, with two words of `x` for each unit.
    unsafe {
        let upper = _mm256_set1_epi32(0xFFFF_0000_u32.cast_signed());
        for half in 0..2 {
            let c = c.add(16 * half);
            let mut sums = load::<ROWS>(c);
            for i in 0..units {
                let weights = panel.add(i * 4 * PANEL + 64 * half);
                _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(AHEAD).cast());
                _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(16 * i).cast());
                let pairs = [_mm256_loadu_si256(weights.cast()), _mm256_loadu_si256(weights.add(32).cast())];
                // A bf16 number is the upper half of the f32 number of the same value.
                let even = |j: usize| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pairs[j]));
                let even = [even(0), even(1)];
                for row in 0..ROWS {
                    let x = _mm256_set1_ps(f32::from_bits(*x.add(row * STRIDE + 2 * i)));
                    sums[row][0] = _mm256_fmadd_ps(x, even[0], sums[row][0]);
                    sums[row][1] = _mm256_fmadd_ps(x, even[1], sums[row][1]);
                }
                let odd = |j: usize| _mm256_castsi256_ps(_mm256_and_si256(pairs[j], upper));
                let odd = [odd(0), odd(1)];
                for row in 0..ROWS {
                    let x = _mm256_set1_ps(f32::from_bits(*x.add(row * STRIDE + 2 * i + 1)));
                    sums[row][0] = _mm256_fmadd_ps(x, odd[0], sums[row][0]);
                    sums[row][1] = _mm256_fmadd_ps(x, odd[1], sums[row][1]);
                }
            }
            store(c, sums);
        }
    }
}

/// # Safety
/// As for [`Tile`], with AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn f16<const ROWS: usize>(
    x: *const u32,
    panel: *const u8,
    units: usize,
    c: *mut f32,
    ahead: *const u8,
) {
    // SAFETY: as in `float`, with 64 bytes of `panel` for each unit.
    unsafe {
        for half in 0..2 {
            let c = c.add(16 * half);
            let mut sums = load::<ROWS>(c);
            for i in 0..units {
                let weights = panel.add(i * 2 * PANEL + 32 * half);
                _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(AHEAD).cast());
                _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(16 * i).cast());
                let w = [
                    _mm256_cvtph_ps(_mm_loadu_si128(weights.cast())),
                    _mm256_cvtph_ps(_mm_loadu_si128(weights.add(16).cast())),
                ];
                for row in 0..ROWS {
                    let x = _mm256_set1_ps(f32::from_bits(*x.add(row * STRIDE + i)));
                    sums[row][0] = _mm256_fmadd_ps(x, w[0], sums[row][0]);
                    sums[row][1] = _mm256_fmadd_ps(x, w[1], sums[row][1]);
                }
            }
            store(c, sums);
        }
    }
}

/// Adds to each of 8 sums the products of four stored bytes, biased by 128, with four signed bytes.
#[target_feature(enable = "avx2")]
#[inline]
fn dot_biased(sums: __m256i, weights: __m256i, x: __m256i) -> __m256i {
    let signed = _mm256_xor_si256(weights, _mm256_set1_epi8(-128));
    let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(signed), _mm256_sign_epi8(x, signed));
    _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

/// The same with stored numbers below 64, as they are.
#[target_feature(enable = "avx2")]
#[inline]
fn dot_small(sums: __m256i, weights: __m256i, x: __m256i) -> __m256i {
    let pairs = _mm256_maddubs_epi16(weights, x);
    _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
}

/// # Safety
/// As for [`Tile`], with AVX2.
#[target_feature(enable = "avx2")]
unsafe fn int8<const ROWS: usize>(
    x: *const u32,
    panel: *const u8,
    units: usize,
    c: *mut f32,
    ahead: *const u8,
) {
    // SAFETY: as in `float`.
    unsafe {
        for half in 0..2 {
            let c = c.add(16 * half);
            let mut floats = load::<ROWS>(c);
            let mut sums = [[_mm256_setzero_si256(); 2]; ROWS];
            for row in 0..ROWS {
                sums[row] = [_mm256_castps_si256(floats[row][0]), _mm256_castps_si256(floats[row][1])];
            }
            for i in 0..units {
                let weights = panel.add(i * 4 * PANEL + 64 * half);
                _mm_prefetch::<_MM_HINT_T0>(weights.wrapping_add(AHEAD).cast());
                _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(16 * i).cast());
                let w = [_mm256_loadu_si256(weights.cast()), _mm256_loadu_si256(weights.add(32).cast())];
                for row in 0..ROWS {
                    let x = _mm256_set1_epi32((*x.add(row * STRIDE + i)).cast_signed());
                    sums[row][0] = dot_biased(sums[row][0], w[0], x);
                    sums[row][1] = dot_biased(sums[row][1], w[1], x);
                }
            }
            for row in 0..ROWS {
                floats[row] = [_mm256_castsi256_ps(sums[row][0]), _mm256_castsi256_ps(sums[row][1])];
            }
            store(c, floats);
        }
    }
}

/// The stored integers of group `g` of a unit, for half `half` of the panel.
///
/// # Safety
/// `unit` is readable for a unit of the layout; AVX2.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn group<const LAYOUT: u8>(unit: *const u8, g: usize, half: usize) -> [__m256i; 2] {
    let layout = const { Layout::of(LAYOUT) };
    let mut w = [_mm256_setzero_si256(); 2];
    for (j, w) in w.iter_mut().enumerate() {
        // SAFETY: a unit has 8 groups of 128 bytes, or 4 of nibbles, after its head, and 16 bytes of fifth bits for
        // each of 8 groups.
        unsafe {
            let quants = unit.add(layout.quants_at() + 64 * half + 32 * j);
            if layout.has_bytes() {
                *w = _mm256_loadu_si256(quants.add(128 * g).cast());
                continue;
            }
            let bytes = _mm256_loadu_si256(quants.add(128 * (g % 4)).cast());
            let bytes = if g < 4 { bytes } else { _mm256_srli_epi16::<4>(bytes) };
            *w = _mm256_and_si256(bytes, _mm256_set1_epi8(15));
            if layout.has_fifth_bit() {
                let bits =
                    unit.add(layout.fifth_at() + 16 * g + 8 * half + 4 * j).cast::<i32>().read_unaligned();
                // Byte i of the register gets byte i / 8 of the bits, then keeps bit i % 8 of it.
                let spread = _mm256_setr_epi64x(
                    0,
                    0x0101_0101_0101_0101,
                    0x0202_0202_0202_0202,
                    0x0303_0303_0303_0303,
                );
                let mask = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64.cast_signed());
                let bits = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(bits), spread), mask);
                let fifth = _mm256_and_si256(_mm256_cmpeq_epi8(bits, mask), _mm256_set1_epi8(16));
                *w = _mm256_or_si256(*w, fifth);
            }
        }
    }
    w
}

/// # Safety
/// As for [`Tile`], with AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
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
        for half in 0..2 {
            let c = c.add(16 * half);
            let halves = |at: *const u8| {
                let at = at.add(32 * half);
                [
                    _mm256_cvtph_ps(_mm_loadu_si128(at.cast())),
                    _mm256_cvtph_ps(_mm_loadu_si128(at.add(16).cast())),
                ]
            };
            let mut sums = load::<ROWS>(c);
            for i in 0..units {
                let unit = panel.add(i * layout.unit_bytes());
                let x = x.add(i * BLOCK_WORDS);
                let word = |row: usize, at: usize| *x.add(row * STRIDE + at);
                let mut integers = [[_mm256_setzero_si256(); 2]; ROWS];
                for row in 0..ROWS {
                    integers[row] = [_mm256_set1_epi32(word(row, START).cast_signed()); 2];
                }
                for g in 0..8 {
                    _mm_prefetch::<_MM_HINT_T0>(unit.wrapping_add(AHEAD + 128 * g + 64 * half).cast());
                    _mm_prefetch::<_MM_HINT_T1>(ahead.wrapping_add(24 * (8 * i + g)).cast());
                    let w = group::<LAYOUT>(unit, g, half);
                    for row in 0..ROWS {
                        let x = _mm256_set1_epi32(word(row, g).cast_signed());
                        for j in 0..2 {
                            integers[row][j] = if layout.has_bytes() {
                                dot_biased(integers[row][j], w[j], x)
                            } else {
                                dot_small(integers[row][j], w[j], x)
                            };
                        }
                    }
                }
                let scales = halves(unit);
                for row in 0..ROWS {
                    let x = _mm256_set1_ps(f32::from_bits(word(row, SCALE)));
                    for j in 0..2 {
                        let integers = _mm256_cvtepi32_ps(integers[row][j]);
                        sums[row][j] = _mm256_fmadd_ps(integers, _mm256_mul_ps(scales[j], x), sums[row][j]);
                    }
                }
                if layout.has_minimum() {
                    let minima = halves(unit.add(2 * PANEL));
                    for row in 0..ROWS {
                        let x = _mm256_set1_ps(f32::from_bits(word(row, SUM)));
                        for j in 0..2 {
                            sums[row][j] = _mm256_fmadd_ps(minima[j], x, sums[row][j]);
                        }
                    }
                }
            }
            store(c, sums);
        }
    }
}
