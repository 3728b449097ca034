//! Weights in IEEE half precision: what is kept, what is rounded, and that every path reads every number.
#![allow(clippy::unwrap_used)]

mod common;

use common::paths;
use foveate_kernels::{Epilogue, Format, Matrix, Pool, Residual, Source};
use half::{bf16, f16};
use proptest::prelude::*;

/// All 65,536 of them, `[256, 256]`.
fn every_half() -> Vec<f16> {
    (0..=u16::MAX).map(f16::from_bits).collect()
}

fn rows(source: Source<'_>, n: usize, k: usize) -> Vec<f32> {
    let matrix = Matrix::pack(source, Format::F16, n, k, &Pool::single()).unwrap();
    let mut out = vec![0.0; n * k];
    matrix.rows(&(0..n as u32).collect::<Vec<u32>>(), &mut out).unwrap();
    out
}

/// NaN may change its payload on the way to f32, nothing else may change.
fn same(value: f32, expected: f32) -> bool {
    value.to_bits() == expected.to_bits() || value.is_nan() && expected.is_nan()
}

#[test]
fn halves_are_kept_as_they_are() {
    let halves = every_half();
    let out = rows(Source::F16(&halves), 256, 256);
    for (half, value) in halves.iter().zip(out) {
        assert!(same(value, half.to_f32()), "{:#06x} became {value}", half.to_bits());
    }
    // Half the bytes of f32, and not one more.
    let matrix = Matrix::pack(Source::F16(&halves), Format::F16, 256, 256, &Pool::single()).unwrap();
    assert_eq!((matrix.format(), matrix.bytes()), (Format::F16, 2 * 65_536));
}

/// Row i of the identity picks column i of the weights. With few rows the tiles convert, with many the weights are
/// unpacked first.
#[test]
fn every_path_reads_every_finite_half() {
    let pool = Pool::new(2).unwrap();
    let mut halves = every_half();
    halves.iter_mut().filter(|half| !half.is_finite()).for_each(|half| *half = f16::ZERO);
    let matrix = Matrix::pack(Source::F16(&halves), Format::F16, 256, 256, &pool).unwrap();
    let identity: Vec<f32> = (0..65_536).map(|at| if at / 256 == at % 256 { 1.0 } else { 0.0 }).collect();
    for path in paths() {
        for together in [1, 16, 256] {
            for (first, x) in (0..).step_by(together).zip(identity.chunks(together * 256)) {
                let mut out = vec![f32::NAN; x.len()];
                matrix.multiply_on(path, x, together, &mut out, &Epilogue::default(), &pool).unwrap();
                for (i, value) in out.iter().enumerate() {
                    let half = halves[i % 256 * 256 + first + i / 256];
                    assert_eq!(*value, half.to_f32(), "{path}, {together} rows");
                }
            }
        }
        let mut out = vec![f32::NAN; 65_536];
        matrix.multiply_transposed_on(path, &identity, 256, &mut out, Residual::None, &pool).unwrap();
        assert!(out.iter().zip(&halves).all(|(value, half)| *value == half.to_f32()), "{path}");
    }
}

#[test]
fn numbers_are_rounded_to_the_nearest_half_and_past_the_range_to_infinity() {
    let smallest = 2.0_f32.powi(-24);
    for (number, expected) in [
        (1.0 + 2.0_f32.powi(-11), 1.0),
        (1.0 + 3.0 * 2.0_f32.powi(-11), 1.0 + 2.0_f32.powi(-9)),
        (1.0 + 2.0_f32.powi(-11) + 2.0_f32.powi(-20), 1.0 + 2.0_f32.powi(-10)),
        (65_519.0, 65_504.0),
        (65_520.0, f32::INFINITY),
        (-1e30, f32::NEG_INFINITY),
        (smallest, smallest),
        (smallest / 2.0, 0.0),
        (-1.5 * smallest, -2.0 * smallest),
        (-0.0, -0.0),
        (f32::NAN, f32::NAN),
    ] {
        let [value] = rows(Source::F32(&[number]), 1, 1)[..] else { panic!("one number") };
        assert!(same(value, expected), "{number:e} became {value:e}, not {expected:e}");
    }
    // bf16 has the exponents of f32: 2¹²⁷ is far past the range, 1 + 2⁻⁷ is kept.
    let wide = [bf16::from_f32(2.0_f32.powi(127)), bf16::from_f32(1.0 + 2.0_f32.powi(-7))];
    assert_eq!(rows(Source::Bf16(&wide), 2, 1), [f32::INFINITY, 1.0 + 2.0_f32.powi(-7)]);
}

/// Whether no neighbour of `half` is nearer to `number`, and none as near whose last bit is 0 while its own is 1. Infinity
/// counts as the number that would come next.
fn is_nearest(half: f16, number: f32) -> bool {
    let magnitude = |bits: u16| if bits == 0x7C00 { 65_536.0 } else { f16::from_bits(bits).to_f64() };
    let number = f64::from(number.abs()).min(65_536.0);
    let bits = half.to_bits() & 0x7FFF;
    let distance = |bits: u16| (magnitude(bits) - number).abs();
    let mut neighbours = bits.saturating_sub(1)..=(bits + 1).min(0x7C00);
    neighbours.all(|other| (distance(bits), bits % 2) <= (distance(other), other % 2))
}

proptest! {
    #[test]
    fn any_numbers_become_the_halves_nearest_to_them(
        // Exponents that f16 has or nearly has, and any.
        scaled in prop::collection::vec((-30_i32..18, -2.0_f32..2.0), 1..300),
        numbers in prop::collection::vec(any::<u32>().prop_map(f32::from_bits), 1..300),
    ) {
        let scaled = scaled.into_iter().map(|(exponent, mantissa)| mantissa * 2.0_f32.powi(exponent));
        let numbers: Vec<f32> = scaled.chain(numbers).collect();
        let narrow: Vec<bf16> = numbers.iter().map(|&number| bf16::from_f32(number)).collect();
        let narrow_as_f32: Vec<f32> = narrow.iter().map(|number| number.to_f32()).collect();
        let k = numbers.len();
        for (source, numbers) in [(Source::F32(&numbers), &numbers), (Source::Bf16(&narrow), &narrow_as_f32)] {
            for (&number, value) in numbers.iter().zip(rows(source, 1, k)) {
                let half = f16::from_f32(value);
                let near = same(half.to_f32(), value)
                    && value.is_sign_negative() == number.is_sign_negative()
                    && is_nearest(half, number);
                prop_assert!(near || number.is_nan() && value.is_nan(), "{:e} became {:e}", number, value);
            }
        }
    }
}
