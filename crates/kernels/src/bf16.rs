//! Numbers rounded to bfloat16: the upper half of an f32 number, with 8 significant bits and f32's exponents.
//!
//! Weights are rounded once, when they are packed. On [`Path::Avx512Bf16`](crate::Path::Avx512Bf16) activations are
//! rounded as well, once for a call, because `vdpbf16ps` multiplies pairs of bf16 with pairs of bf16.

/// The bf16 number nearest to `number`, of two the even one; NaN stays NaN.
///
/// Off by 2⁻⁸ of the number at most, 2⁻¹³⁴ where it is subnormal. From 2¹²⁷ · (2 − 2⁻⁸) on the nearest is infinity.
#[inline(always)]
pub(crate) fn to_bf16(number: f32) -> u16 {
    let bits = number.to_bits();
    let rounded = (bits.wrapping_add(0x7FFF + (bits >> 16 & 1)) >> 16) as u16;
    if number.is_nan() { (bits >> 16) as u16 | 0x40 } else { rounded }
}

crate::tile::by_width! {
    /// [`to_bf16`] of every number. Half words and not whole pairs are written, which the compiler makes vectors of.
    pub(crate) fn round(numbers: &[f32], halves: &mut [u16]) {
        for (half, &number) in halves.iter_mut().zip(numbers) {
            *half = to_bf16(number);
        }
    }
}

#[cfg(test)]
#[path = "bf16_tests.rs"]
mod tests;
