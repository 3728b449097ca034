//! Exponential and error function in arithmetic alone, so that the compiler can do 4, 8 or 16 at a time.
//!
//! Every function is generic over `FUSED`: with it `a · b + c` is one instruction (where the processor has it; elsewhere
//! it would be a slow call), without it two. NaN goes in and comes out: comparisons are written so that it falls through.

use std::f32::consts::LOG2_E;

/// a · b + c.
#[inline(always)]
pub(crate) fn multiply_add<const FUSED: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FUSED { a.mul_add(b, c) } else { a * b + c }
}

/// Σ `coefficients[i]` · xⁱ.
#[inline(always)]
fn polynomial<const FUSED: bool, const N: usize>(x: f32, coefficients: [f32; N]) -> f32 {
    let mut sum = coefficients[N - 1];
    for i in (0..N - 1).rev() {
        sum = multiply_add::<FUSED>(sum, x, coefficients[i]);
    }
    sum
}

/// eˣ to 2.5e-7 relative; 0 below −87.33, where the result would be subnormal, and +∞ above 88.37.
#[inline(always)]
pub(crate) fn exp<const FUSED: bool>(x: f32) -> f32 {
    const LOW: f32 = -87.33;
    const HIGH: f32 = 88.37;
    // Adding 1.5 · 2²³ leaves the rounded number in the low bits.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts: the first has few enough bits for exact products.
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let shifted = multiply_add::<FUSED>(x, LOG2_E, ROUND);
    let power = shifted - ROUND;
    let rest = multiply_add::<FUSED>(power, -LN_2_LOW, multiply_add::<FUSED>(power, -LN_2_HIGH, x));
    // Chebyshev interpolation on |rest| ≤ ln 2 / 2; 3e-9 relative before rounding.
    let value = polynomial::<FUSED, 7>(
        rest,
        [1.0, 1.0, 0.5, 0.166_664_15, 0.041_666_35, 0.008_375_168, 0.001_394_116_1],
    );
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3F80_0000));
    let value = value * scale;
    let value = if x < LOW { 0.0 } else { value };
    if x > HIGH { f32::INFINITY } else { value }
}

/// x · Φ(x) = x/2 · (1 + erf(x/√2)), the exact GELU, to 4e-7 · max(1, |x|) absolute.
///
/// Written as max(x, 0) − |x| · Φ(−|x|), whose second term shrinks as e^(−x²/2): nothing cancels in the left tail.
/// Φ(−a) · e^(a²/2) is a polynomial of degree 7 in 1 / (1 + 0.32 a), interpolated at Chebyshev nodes for a ≤ 9.5;
/// 2e-8 absolute in the result before rounding.
#[inline(always)]
pub(crate) fn gelu<const FUSED: bool>(x: f32) -> f32 {
    let magnitude = x.abs();
    // Beyond 9.5 the term is below 1e-19; the bound keeps ∞ · 0 away.
    let a = if magnitude > 9.5 { 9.5 } else { magnitude };
    let t = 1.0 / multiply_add::<FUSED>(a, 0.32, 1.0);
    let tail = polynomial::<FUSED, 8>(
        t,
        [
            -2.708_496_4e-4,
            0.132_118_69,
            0.096_709_99,
            0.232_613_08,
            -0.179_266_77,
            0.413_428_93,
            -0.240_568_31,
            0.045_235_22,
        ],
    );
    let term = a * tail * exp::<FUSED>(-0.5 * a * a);
    (if x > 0.0 { x } else { 0.0 }) - term
}

/// x / (1 + e^(−slope · x)): SiLU for slope 1, quick-GELU for 1.702. 1e-6 relative; −∞ gives NaN, as in IEEE arithmetic.
#[inline(always)]
pub(crate) fn sigmoid_unit<const FUSED: bool>(x: f32, slope: f32) -> f32 {
    x / (1.0 + exp::<FUSED>(-slope * x))
}

/// x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³))), to 4e-7 · max(1, |x|) absolute; −∞ gives NaN, as in IEEE arithmetic.
///
/// (1 + tanh u) / 2 is the sigmoid of 2u, so no tanh is needed and nothing cancels in the left tail.
#[inline(always)]
pub(crate) fn gelu_tanh<const FUSED: bool>(x: f32) -> f32 {
    // 2 · √(2/π), and that times 0.044715.
    const LINEAR: f32 = 1.595_769;
    const CUBIC: f32 = 0.071_354_816;
    x / (1.0 + exp::<FUSED>(-x * multiply_add::<FUSED>(x * x, CUBIC, LINEAR)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Φ(x) in f64: the series of the error function near zero, the continued fraction of its complement far out.
    fn normal(x: f64) -> f64 {
        let z = x.abs() / std::f64::consts::SQRT_2;
        let complement = if z < 3.0 {
            let (mut term, mut sum) = (z, z);
            for i in 1..200 {
                term *= -z * z / f64::from(i);
                sum += term / f64::from(2 * i + 1);
            }
            1.0 - sum * std::f64::consts::FRAC_2_SQRT_PI
        } else {
            let fraction = (1..200).rev().fold(z, |tail, i| z + f64::from(i) / 2.0 / tail);
            (-z * z).exp() / fraction / std::f64::consts::PI.sqrt()
        };
        if x > 0.0 { 1.0 - complement / 2.0 } else { complement / 2.0 }
    }

    fn grid(from: f32, to: f32) -> impl Iterator<Item = f32> {
        (0..=40_000).map(move |i| from + (to - from) * (i as f32 / 40_000.0))
    }

    #[test]
    fn the_reference_is_right_where_tables_say() {
        assert!((normal(1.0) - 0.841_344_746_068_543).abs() < 1e-14);
        assert!((normal(-5.0) / 2.866_515_718_791_94e-7 - 1.0).abs() < 1e-10);
    }

    #[test]
    fn exp_is_within_its_bound_and_saturates() {
        for x in grid(-87.3, 88.3) {
            let exact = f64::from(x).exp();
            for value in [exp::<true>(x), exp::<false>(x)] {
                assert!((f64::from(value) / exact - 1.0).abs() <= 2.5e-7, "e^{x} = {value}");
            }
        }
        for (x, value) in [(0.0, 1.0), (-88.0, 0.0), (f32::NEG_INFINITY, 0.0), (89.0, f32::INFINITY)] {
            assert_eq!(exp::<true>(x), value);
            assert_eq!(exp::<false>(x), value);
        }
        assert!(exp::<true>(f32::NAN).is_nan() && exp::<false>(f32::NAN).is_nan());
    }

    #[test]
    fn gelu_is_within_its_bound_and_keeps_the_ends() {
        for x in grid(-12.0, 12.0) {
            let exact = f64::from(x) * normal(f64::from(x));
            for value in [gelu::<true>(x), gelu::<false>(x)] {
                let error = (f64::from(value) - exact).abs();
                assert!(error <= 4e-7 * f64::from(x.abs().max(1.0)), "gelu({x}) = {value}, not {exact}");
            }
        }
        assert_eq!(gelu::<true>(f32::INFINITY), f32::INFINITY);
        assert!(gelu::<true>(f32::NEG_INFINITY).abs() < 1e-18);
        assert!(gelu::<true>(f32::NAN).is_nan() && gelu::<false>(f32::NAN).is_nan());
    }

    #[test]
    fn tanh_gelu_is_within_its_bound_and_keeps_the_ends() {
        for x in grid(-15.0, 15.0) {
            let wide = f64::from(x);
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (wide + 0.044_715 * wide.powi(3));
            let exact = 0.5 * wide * (1.0 + inner.tanh());
            for value in [gelu_tanh::<true>(x), gelu_tanh::<false>(x)] {
                let error = (f64::from(value) - exact).abs();
                assert!(error <= 4e-7 * wide.abs().max(1.0), "gelu_tanh({x}) = {value}, not {exact}");
            }
        }
        for (x, value) in [(0.0, 0.0), (f32::INFINITY, f32::INFINITY), (f32::MAX, f32::MAX), (f32::MIN, 0.0)]
        {
            assert_eq!(gelu_tanh::<true>(x), value);
            assert_eq!(gelu_tanh::<false>(x), value);
        }
        assert!(gelu_tanh::<true>(f32::NAN).is_nan() && gelu_tanh::<false>(f32::NAN).is_nan());
        // Here the two GELUs differ by 1e-4.
        assert!((gelu_tanh::<true>(2.0) - 1.954_597_7).abs() < 1e-6);
        assert!((gelu::<true>(2.0) - 1.954_499_7).abs() < 1e-6);
    }

    #[test]
    fn sigmoid_units_are_within_their_bound() {
        for slope in [1.0, 1.702_f32] {
            for x in grid(-40.0, 40.0) {
                let exact = f64::from(x) / (1.0 + (-f64::from(slope * x)).exp());
                for value in [sigmoid_unit::<true>(x, slope), sigmoid_unit::<false>(x, slope)] {
                    assert!(
                        (f64::from(value) - exact).abs() <= 1e-6 * exact.abs(),
                        "{x}: {value}, not {exact}"
                    );
                }
            }
        }
    }
}
