//! Weights in bf16: that every path reads every number of them, what becomes of the activations, and every number of rows
//! that a tile may have. On a processor with `vdpbf16ps` this is where that instruction is put to the test.
#![allow(clippy::unwrap_used)]

mod common;

use common::{gaussian, paths, product, reference, relative_error, taken, weights};
use foveate_kernels::{Epilogue, Format, Matrix, Path, Pool, Residual, Source};
use half::bf16;

/// All 65,536, those that are not finite replaced by zero: `[256, 256]`.
fn every_finite_number() -> Vec<bf16> {
    let all = (0..=u16::MAX).map(bf16::from_bits);
    all.map(|number| if number.is_finite() { number } else { bf16::ZERO }).collect()
}

/// Subnormal numbers may count as zero.
fn same(path: Path, value: f32, expected: f32) -> bool {
    value == expected || path == Path::Avx512Bf16 && expected.is_subnormal() && value == 0.0
}

fn identity() -> Vec<f32> {
    (0..65_536).map(|at| if at / 256 == at % 256 { 1.0 } else { 0.0 }).collect()
}

/// Row i of the identity picks column i of the weights: a number in the wrong half, lane or panel cannot hide.
#[test]
fn every_path_reads_every_finite_weight() {
    let pool = Pool::new(2).unwrap();
    let numbers = every_finite_number();
    let matrix = Matrix::pack(Source::Bf16(&numbers), Format::Bf16, 256, 256, &pool).unwrap();
    let identity = identity();
    for path in paths() {
        for together in [1, 7, 256] {
            for (first, x) in (0..).step_by(together).zip(identity.chunks(together * 256)) {
                let mut out = vec![f32::NAN; x.len()];
                matrix.multiply_on(path, x, x.len() / 256, &mut out, &Epilogue::default(), &pool).unwrap();
                for (i, value) in out.iter().enumerate() {
                    let expected = numbers[i % 256 * 256 + first + i / 256].to_f32();
                    assert!(same(path, *value, expected), "{path}, {together} rows: {value:e}, {expected:e}");
                }
            }
        }
        // The gradient is taken in f32 on every path: it has the subnormal numbers as well.
        let mut out = vec![f32::NAN; 65_536];
        matrix.multiply_transposed_on(path, &identity, 256, &mut out, Residual::None, &pool).unwrap();
        assert!(out.iter().zip(&numbers).all(|(value, number)| *value == number.to_f32()), "{path}");
    }
}

/// Weights that are the identity show the activations: as they are, or the nearest bf16 with ties to even.
#[test]
fn activations_are_kept_or_rounded_to_the_nearest_bf16() {
    let pool = Pool::new(2).unwrap();
    let matrix = Matrix::pack(Source::F32(&identity()), Format::Bf16, 256, 256, &pool).unwrap();
    for path in paths() {
        // Lower halves below, at and above the middle between two bf16 numbers, after upper halves that are even and odd.
        for lower in [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF] {
            let x: Vec<f32> = every_finite_number()
                .iter()
                .map(|upper| f32::from_bits(u32::from(upper.to_bits()) << 16 | lower))
                // What rounds up to infinity would make its row NaN by the zeros beside the one.
                .filter(|x| bf16::from_f32(*x).is_finite())
                .collect();
            let rows = x.len() / 256;
            let x = &x[..rows * 256];
            let mut out = vec![f32::NAN; x.len()];
            matrix.multiply_on(path, x, rows, &mut out, &Epilogue::default(), &pool).unwrap();
            for (value, expected) in out.iter().zip(taken(Format::Bf16, path, x)) {
                assert!(same(path, *value, expected), "{path}: {value:e}, {expected:e}");
            }
        }
    }
}

/// Tiles of every size, k odd and even, of one chunk and several, and a last panel that is not full.
#[test]
fn every_number_of_rows_stays_within_the_bound_of_its_sums() {
    let pool = Pool::new(2).unwrap();
    for k in [1, 2, 3, 255, 511, 513, 1026, 1537] {
        let weights = weights(Format::Bf16, k as u64, 70, k, &pool);
        for rows in (1..=13).chain([24, 101]) {
            let x = gaussian(rows as u64, rows * k);
            for path in paths() {
                let exact = reference(&taken(Format::Bf16, path, &x), &weights.values, rows, 70, k);
                let out = product(&weights, path, &x, rows, &Epilogue::default(), &pool);
                for (value, (sum, size)) in out.iter().zip(&exact) {
                    let bound = k as f64 * 6e-8 * size + 1e-30;
                    assert!(
                        (f64::from(*value) - sum).abs() <= bound,
                        "{path}, [{rows}, {k}]: {value}, not {sum}"
                    );
                }
            }
        }
    }
}

/// The goal for a layer is 5e-3. The weights alone make 1.7e-3, with activations rounded as well 2.4e-3: what
/// [`Path::Avx512Bf16`] says of itself.
#[test]
fn rounding_both_sides_stays_well_within_the_goal() {
    let pool = Pool::new(2).unwrap();
    let weights = weights(Format::Bf16, 60, 300, 1000, &pool);
    let x = gaussian(61, 20 * 1000);
    let exact = reference(&x, &weights.exact, 20, 300, 1000);
    let rounded: Vec<f32> = x.iter().map(|&x| bf16::from_f32(x).to_f32()).collect();
    for path in paths() {
        let error = |x: &[f32]| {
            let out = product(&weights, path, x, 20, &Epilogue::default(), &pool);
            relative_error(&out, exact.iter().map(|(sum, _)| *sum))
        };
        let (as_given, both) = (error(&x), error(&rounded));
        let expected = if path == Path::Avx512Bf16 { 2.4e-3 } else { 1.7e-3 };
        assert!((as_given / expected - 1.0).abs() < 0.05, "{path}: {as_given:.2e}");
        assert!((both / 2.4e-3 - 1.0).abs() < 0.05, "{path}: {both:.2e}");
    }
}
