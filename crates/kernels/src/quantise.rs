//! Activations rounded to signed bytes: one scale for a row, or one for a block of 32.
//!
//! Every path gives the same bits: nothing here multiplies and adds in one step, and the integer sums are exact.

use crate::activations::{BLOCK_WORDS, SCALE, START, SUM};
use crate::format::BLOCK;
use crate::pack::largest;
use crate::tile::Width;

/// The scale for numbers up to `most`, and its inverse: 0 and 0 for numbers too small to have one, NaN and 0 if one of
/// the numbers was NaN or infinite, so that everything they touch becomes NaN.
#[inline(always)]
pub(crate) fn scale(most: f32) -> (f32, f32) {
    if most < 1e-30 {
        (0.0, 0.0)
    } else if most.is_finite() {
        (most / 127.0, 127.0 / most)
    } else {
        (f32::NAN, 0.0)
    }
}

/// Rounds to nearest even in −127…127: adding 1.5 · 2²³ leaves the integer in the low bits, which vectorises everywhere.
#[inline(always)]
fn round(number: f32, inverse: f32) -> i32 {
    const ROUND: f32 = 12_582_912.0;
    // Only the low byte counts; of NaN, which is 0 · ∞, it may be anything, since the scale is NaN as well.
    (number * inverse + ROUND).to_bits().cast_signed() << 24 >> 24
}

crate::tile::by_width! {
    /// [`largest`] with the instructions of `width`.
    pub(crate) fn most(numbers: &[f32]) -> f32 {
        largest(numbers)
    }
}

crate::tile::by_width! {
    /// Rounds numbers with the inverse of their scale; returns the sum of the bytes.
    pub(crate) fn quantise(numbers: &[f32], inverse: f32, bytes: &mut [u8]) -> i32 {
        let mut sum = 0;
        for (byte, &number) in bytes.iter_mut().zip(numbers) {
            let level = round(number, inverse);
            *byte = level as u8;
            sum += level;
        }
        sum
    }
}

/// Rounds a block with a scale of its own, into the words described in [`crate::activations`].
pub(crate) fn quantise_block(
    width: Width,
    numbers: &[f32; BLOCK],
    bias: i32,
    words: &mut [u32; BLOCK_WORDS],
) {
    #[cfg(target_arch = "x86_64")]
    if width == Width::Avx512 {
        // SAFETY: a `Width` is made only from a path whose instructions were found on this processor.
        return unsafe { avx512_block(numbers, bias, words) };
    }
    plain_block(width, numbers, bias, words);
}

/// The three words after the bytes.
#[inline(always)]
fn finish_block(scale: f32, sum: i32, bias: i32, words: &mut [u32; BLOCK_WORDS]) {
    words[SCALE] = scale.to_bits();
    // Of numbers that were not finite the sum may be anything.
    words[START] = bias.wrapping_neg().wrapping_mul(sum).cast_unsigned();
    words[SUM] = (scale * sum as f32).to_bits();
}

/// By hand, because the compiler takes the two sums apart into scalars.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512_block(numbers: &[f32; BLOCK], bias: i32, words: &mut [u32; BLOCK_WORDS]) {
    use std::arch::x86_64::*;
    let (low, high) = numbers.split_at(16);
    // SAFETY: 16 numbers each.
    let halves = unsafe { [_mm512_loadu_ps(low.as_ptr()), _mm512_loadu_ps(high.as_ptr())] };
    let magnitude = |half| _mm512_and_si512(_mm512_castps_si512(half), _mm512_set1_epi32(0x7FFF_FFFF));
    let most = _mm512_reduce_max_epu32(_mm512_max_epu32(magnitude(halves[0]), magnitude(halves[1])));
    let (scale, inverse) = scale(f32::from_bits(most));
    let inverse = _mm512_set1_ps(inverse);
    // Rounds to nearest even, as everywhere.
    let level = |half| _mm512_cvtps_epi32(_mm512_mul_ps(half, inverse));
    let levels = [level(halves[0]), level(halves[1])];
    let sum = _mm512_reduce_add_epi32(_mm512_add_epi32(levels[0], levels[1]));
    let to = words.as_mut_ptr();
    // SAFETY: the first eight words are 32 bytes.
    unsafe {
        _mm_storeu_si128(to.cast(), _mm512_cvtepi32_epi8(levels[0]));
        _mm_storeu_si128(to.add(4).cast(), _mm512_cvtepi32_epi8(levels[1]));
    }
    finish_block(scale, sum, bias, words);
}

crate::tile::by_width! {
    /// One block at a time: over several, the compiler puts blocks side by side and gathers them.
    fn plain_block(numbers: &[f32; BLOCK], bias: i32, words: &mut [u32; BLOCK_WORDS]) {
        let (scale, inverse) = scale(largest(numbers));
        let mut bytes = [0_u8; BLOCK];
        let mut sum = 0;
        for (byte, &number) in bytes.iter_mut().zip(numbers) {
            let level = round(number, inverse);
            *byte = level as u8;
            sum += level;
        }
        for (word, four) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *word = u32::from_ne_bytes(*four);
        }
        finish_block(scale, sum, bias, words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Path;
    use crate::tile::Width;

    #[test]
    fn every_width_rounds_alike_to_the_nearest_level() {
        let numbers: [f32; BLOCK] = std::array::from_fn(|i| (i as f32 - 11.3) * 1.7);
        let (scale, inverse) = scale(largest(&numbers));
        for path in Path::available() {
            let (mut bytes, mut words) = ([0; BLOCK], [0; BLOCK_WORDS]);
            let sum = quantise(Width::of(path), &numbers, inverse, &mut bytes);
            quantise_block(Width::of(path), &numbers, 7, &mut words);
            let levels = numbers.map(|number| (number / scale).round() as i32);
            assert_eq!(bytes.map(|byte| i32::from(byte.cast_signed())), levels, "{path}");
            assert_eq!(sum, levels.iter().sum::<i32>(), "{path}");
            assert_eq!(words.map(u32::to_ne_bytes).as_flattened()[..BLOCK], bytes, "{path}");
            assert_eq!(f32::from_bits(words[SCALE]), scale, "{path}");
            assert_eq!(words[START].cast_signed(), -7 * sum, "{path}");
            assert_eq!(f32::from_bits(words[SUM]), scale * sum as f32, "{path}");
        }
    }
}
