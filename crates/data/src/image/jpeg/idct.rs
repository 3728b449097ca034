//! The inverse cosine transform of libjpeg's `jidctint.c`: 13-bit constants, 2 extra bits between its two passes.

use std::num::Wrapping;

/// Damaged files hold coefficients of any size: their sums wrap.
type Int = Wrapping<i32>;

const CONSTANT_BITS: usize = 13;
const EXTRA_BITS: usize = 2;

/// `constant * 2^13`, rounded.
const fn fix(constant: f64) -> Int {
    Wrapping((constant * 8192.0 + 0.5) as i32)
}

/// One dimension, Loeffler, Ligtenberg and Moschytz' algorithm; the result is 2^13 times too large.
fn transform(input: [Int; 8]) -> [Int; 8] {
    let [i0, i1, i2, i3, i4, i5, i6, i7] = input;
    // Even part.
    let z = (i2 + i6) * fix(0.541196100);
    let (e2, e3) = (z - i6 * fix(1.847759065), z + i2 * fix(0.765366865));
    let (e0, e1) = ((i0 + i4) << CONSTANT_BITS, (i0 - i4) << CONSTANT_BITS);
    let even = [e0 + e3, e1 + e2, e1 - e2, e0 - e3];
    // Odd part.
    let (s71, s53, s73, s51) = (i7 + i1, i5 + i3, i7 + i3, i5 + i1);
    let z5 = (s73 + s51) * fix(1.175875602);
    let (z1, z2) = (-s71 * fix(0.899976223), -s53 * fix(2.562915447));
    let (z3, z4) = (z5 - s73 * fix(1.961570560), z5 - s51 * fix(0.390180644));
    let odd = [
        i1 * fix(1.501321110) + z1 + z4,
        i3 * fix(3.072711026) + z2 + z3,
        i5 * fix(2.053119869) + z2 + z4,
        i7 * fix(0.298631336) + z1 + z3,
    ];
    std::array::from_fn(|k| if k < 4 { even[k] + odd[k] } else { even[7 - k] - odd[7 - k] })
}

fn descale(value: Int, bits: usize) -> Int {
    (value + Wrapping(1 << (bits - 1))) >> bits
}

/// Dequantises one block and transforms it to samples, row by row.
pub(super) fn inverse(coefficients: &[i16; 64], divisors: &[u16; 64]) -> [u8; 64] {
    let mut middle = [Wrapping(0); 64];
    for column in 0..8 {
        let value = |row: usize| {
            let at = 8 * row + column;
            Wrapping(i32::from(coefficients[at])) * Wrapping(i32::from(divisors[at]))
        };
        // A column of nothing but its first coefficient is constant; most are. The result is the same.
        if (1..8).all(|row| coefficients[8 * row + column] == 0) {
            let constant = value(0) << EXTRA_BITS;
            (0..8).for_each(|row| middle[8 * row + column] = constant);
        } else {
            let out = transform(std::array::from_fn(value));
            for (row, value) in out.into_iter().enumerate() {
                middle[8 * row + column] = descale(value, CONSTANT_BITS - EXTRA_BITS);
            }
        }
    }
    let mut samples = [0; 64];
    for (samples, middle) in samples.chunks_exact_mut(8).zip(middle.chunks_exact(8)) {
        let out = transform(std::array::from_fn(|k| middle[k]));
        for (sample, value) in samples.iter_mut().zip(out) {
            let level = descale(value, CONSTANT_BITS + EXTRA_BITS + 3).0;
            *sample = level.saturating_add(128).clamp(0, 255) as u8;
        }
    }
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition of the transform, in floating point.
    fn exact(coefficients: &[i16; 64]) -> [f64; 64] {
        let scale = |k: usize| if k == 0 { 0.5f64.sqrt() } else { 1.0 };
        let wave = |x: usize, k: usize| ((2 * x + 1) as f64 * k as f64 * std::f64::consts::PI / 16.0).cos();
        std::array::from_fn(|at| {
            let (y, x) = (at / 8, at % 8);
            let term = |k: usize| {
                let (v, u) = (k / 8, k % 8);
                scale(u) * scale(v) * f64::from(coefficients[k]) * wave(x, u) * wave(y, v) / 4.0
            };
            (0..64).map(term).sum::<f64>() + 128.0
        })
    }

    #[test]
    fn close_to_the_definition() {
        let mut seed = 7u32;
        for _ in 0..200 {
            let coefficients: [i16; 64] = std::array::from_fn(|k| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let range = 600 / (1 + k as i32);
                ((seed >> 8) as i32 % (2 * range + 1) - range) as i16
            });
            for (sample, exact) in inverse(&coefficients, &[1; 64]).into_iter().zip(exact(&coefficients)) {
                assert!((f64::from(sample) - exact.clamp(0.0, 255.0)).abs() < 0.6, "{sample} {exact}");
            }
        }
    }
}
