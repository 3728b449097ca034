//! Products of every format on every path of this machine, against sums in f64 and against each other.
#![allow(clippy::unwrap_used)]

mod common;

use common::{gaussian, paths, product, reference, relative_error, taken, weights};
use foveate_kernels::{Activation, Epilogue, Error, Format, Matrix, Path, Pool, Residual, Source};
use proptest::prelude::*;

/// Integer sums are exact, and what follows them is done in the same order everywhere.
fn is_exact(format: Format) -> bool {
    !matches!(format, Format::F32 | Format::Bf16 | Format::F16)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_path_agrees_with_sums_in_f64_on_ragged_shapes(
        format in prop::sample::select(Format::ALL.to_vec()),
        // From 100 rows on weights are unpacked first.
        rows in prop_oneof![1_usize..8, 8_usize..71, 100_usize..120],
        n in prop_oneof![Just(1_usize), 2_usize..140],
        k in prop_oneof![1_usize..70, 70_usize..900],
        threads in 1_usize..4,
        offset in 0_usize..4,
        seed in any::<u64>(),
    ) {
        let pool = Pool::new(threads).unwrap();
        let weights = weights(format, seed, n, k, &pool);
        // Misaligned on purpose.
        let storage = gaussian(seed ^ 1, offset + rows * weights.k);
        let x = &storage[offset..];
        let portable = product(&weights, Path::Portable, x, rows, &Epilogue::default(), &pool);
        for path in paths() {
            let exact = reference(&taken(format, path, x), &weights.values, rows, n, weights.k);
            let out = product(&weights, path, x, rows, &Epilogue::default(), &pool);
            for (i, (&value, &(sum, size))) in out.iter().zip(&exact).enumerate() {
                // Floats: the usual bound on a running sum, k · 2⁻²⁴ times the terms' magnitudes. Bytes: activations
                // are within half a step, 1/254 of the row's or block's largest number, which is 5 or so here.
                let bound = if is_exact(format) { 0.025 * size + 1e-3 } else { weights.k as f64 * 6e-8 * size + 1e-6 };
                prop_assert!((f64::from(value) - sum).abs() <= bound, "{format} {path} [{i}]: {value}, not {sum}");
            }
            if is_exact(format) {
                prop_assert_eq!(bits(&out), bits(&portable), "{} {}", format, path);
            }
        }
    }

    #[test]
    fn a_row_is_the_same_whatever_is_beside_it(
        format in prop::sample::select(Format::ALL.to_vec()),
        rows in prop_oneof![2_usize..71, 100_usize..130],
        n in 1_usize..100,
        k in 1_usize..1300,
        threads in 1_usize..4,
        seed in any::<u64>(),
    ) {
        let (one, pool) = (Pool::single(), Pool::new(threads).unwrap());
        let weights = weights(format, seed, n, k, &pool);
        let x = gaussian(seed ^ 2, rows * weights.k);
        for path in paths() {
            let together = product(&weights, path, &x, rows, &Epilogue::default(), &pool);
            for row in [0, rows / 2, rows - 1] {
                let alone = &x[row * weights.k..(row + 1) * weights.k];
                let alone = product(&weights, path, alone, 1, &Epilogue::default(), &one);
                prop_assert_eq!(bits(&alone), bits(&together[row * n..(row + 1) * n]), "{} {}", format, path);
            }
        }
    }

    #[test]
    fn some_outputs_are_the_same_columns_of_the_whole_product(
        format in prop::sample::select(Format::ALL.to_vec()),
        rows in prop_oneof![1_usize..30, 100_usize..120],
        n in 1_usize..200,
        k in 1_usize..600,
        range in any::<(prop::sample::Index, prop::sample::Index)>(),
        threads in 1_usize..4,
        seed in any::<u64>(),
    ) {
        let pool = Pool::new(threads).unwrap();
        let weights = weights(format, seed, n, k, &pool);
        // Any start of a panel, and from there any end, the start itself as well.
        let start = 32 * range.0.index(n.div_ceil(32));
        let outputs = start..start + range.1.index(n - start + 1);
        let (x, bias) = (gaussian(seed ^ 3, rows * weights.k), gaussian(seed ^ 4, n));
        let (gate, residual) = (gaussian(seed ^ 5, rows * n), gaussian(seed ^ 6, rows * n));
        let columns = |all: &[f32]| -> Vec<f32> {
            all.chunks_exact(n).flat_map(|row| &row[outputs.clone()]).copied().collect()
        };
        let (some_gate, some_residual) = (columns(&gate), columns(&residual));
        let whole = Epilogue {
            bias: Some(&bias),
            activation: Activation::Silu,
            gate: Some(&gate),
            residual: Residual::Add(&residual),
        };
        let part = Epilogue {
            bias: Some(&bias[outputs.clone()]),
            gate: Some(&some_gate),
            residual: Residual::Add(&some_residual),
            ..whole
        };
        for path in paths() {
            for (whole, part) in [(Epilogue::default(), Epilogue::default()), (whole, part)] {
                let expected = columns(&product(&weights, path, &x, rows, &whole, &pool));
                let mut out = vec![f32::NAN; rows * outputs.len()];
                weights.matrix.multiply_outputs_on(path, outputs.clone(), &x, rows, &mut out, &part, &pool).unwrap();
                prop_assert_eq!(bits(&out), bits(&expected), "{} {} {:?}", format, path, outputs);
            }
        }
    }
}

fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn float_paths_with_fused_sums_agree_to_the_bit() {
    let pool = Pool::new(2).unwrap();
    for format in [Format::F32, Format::Bf16, Format::F16] {
        let weights = weights(format, 5, 77, 513, &pool);
        let x = gaussian(6, 140 * 513);
        // A path that rounds the activations has sums of its own.
        let fused = paths()
            .into_iter()
            .filter(|&path| path != Path::Portable && (format, path) != (Format::Bf16, Path::Avx512Bf16));
        let outs: Vec<_> =
            fused.map(|path| bits(&product(&weights, path, &x, 140, &Epilogue::default(), &pool))).collect();
        assert!(outs.windows(2).all(|pair| pair[0] == pair[1]), "{format}");
    }
}

/// Whole numbers up to 127 in every block are their own rounding, so what is left is the rounding of f32 sums: a weight
/// in the wrong place, or a wrong bit of one, cannot hide.
#[test]
fn activations_on_the_grid_lose_nothing() {
    let pool = Pool::new(2).unwrap();
    for format in Format::ALL {
        let weights = weights(format, 14, 67, 512, &pool);
        for rows in [1, 2, 5, 31, 101] {
            let mut x: Vec<f32> =
                gaussian(15, rows * 512).iter().map(|v| (40.0 * v).round().clamp(-127.0, 127.0)).collect();
            x.iter_mut().step_by(32).for_each(|v| *v = 127.0);
            let exact = reference(&x, &weights.values, rows, 67, 512);
            for path in paths() {
                let out = product(&weights, path, &x, rows, &Epilogue::default(), &pool);
                for (value, (sum, size)) in out.iter().zip(&exact) {
                    // Blocks of 256 have their scales rounded to f16.
                    let bound = if format.block_length() == Some(256) { 1e-3 } else { 3e-6 } * size;
                    assert!((f64::from(*value) - sum).abs() <= bound, "{format} {path}: {value}, not {sum}");
                }
            }
        }
    }
}

/// Activations like those of language models: a few channels hundreds of times larger than the rest.
#[test]
fn rounding_stays_within_the_goals_with_outliers() {
    let pool = Pool::new(2).unwrap();
    let (rows, n, k) = (17, 200, 768);
    for (format, outlier, goal) in [
        (Format::F32, 3000.0, 1e-6),
        (Format::Bf16, 3000.0, 5e-3),
        (Format::F16, 3000.0, 5e-4),
        (Format::Int8, 8.0, 4e-2),
        (Format::Q8_0, 3000.0, 4e-2),
        (Format::Q4_0, 3000.0, 4e-2),
        (Format::Q4_1, 3000.0, 4e-2),
        (Format::Q5_0, 3000.0, 4e-2),
        (Format::Q5_1, 3000.0, 4e-2),
        (Format::Q4K, 3000.0, 4e-2),
        (Format::Q5K, 3000.0, 4e-2),
    ] {
        let weights = weights(format, 7, n, k, &pool);
        let mut x = gaussian(8, rows * k);
        for row in x.chunks_exact_mut(k) {
            row[5] = outlier;
            row[300] = -0.7 * outlier;
        }
        let exact = reference(&x, &weights.exact, rows, n, k);
        for path in paths() {
            let out = product(&weights, path, &x, rows, &Epilogue::default(), &pool);
            let error = relative_error(&out, exact.iter().map(|(sum, _)| *sum));
            assert!(error <= goal, "{format} on {path}: {error:.2e}");
        }
    }
}

#[test]
fn nan_and_infinities_come_out_in_the_same_places_on_every_path() {
    let pool = Pool::new(2).unwrap();
    for format in Format::ALL {
        for rows in [3, 130] {
            let weights = weights(format, 9, 70, 256, &pool);
            let mut x = gaussian(10, rows * 256);
            x[7] = f32::NAN;
            x[256 + 40] = f32::INFINITY;
            let portable = product(&weights, Path::Portable, &x, rows, &Epilogue::default(), &pool);
            assert!(portable[..70].iter().all(|v| v.is_nan()), "{format}: NaN was lost");
            assert!(portable[70..140].iter().all(|v| !v.is_finite()), "{format}: infinity was lost");
            assert!(portable[140..].iter().all(|v| v.is_finite()), "{format}: it spread to other rows");
            for path in paths() {
                let out = product(&weights, path, &x, rows, &Epilogue::default(), &pool);
                for (value, expected) in out.iter().zip(&portable) {
                    assert_eq!(value.is_nan(), expected.is_nan(), "{format} {path}");
                    assert!(value.is_finite() || value.is_nan() || value == expected, "{format} {path}");
                }
            }
        }
    }
}

#[test]
fn weights_that_are_not_finite_reach_their_channel_only() {
    let pool = Pool::single();
    for format in Format::ALL.into_iter().filter(|format| format.takes_floats()) {
        let mut numbers = gaussian(11, 40 * 64);
        numbers[3 * 64 + 9] = f32::NAN;
        numbers[33 * 64] = f32::NEG_INFINITY;
        let matrix = Matrix::pack(Source::F32(&numbers), format, 40, 64, &pool).unwrap();
        for path in paths() {
            let mut out = vec![0.0; 2 * 40];
            matrix.multiply_on(path, &gaussian(12, 128), 2, &mut out, &Epilogue::default(), &pool).unwrap();
            for (i, value) in out.iter().enumerate() {
                assert_eq!(value.is_finite(), ![3, 33].contains(&(i % 40)), "{format} {path} [{i}]");
            }
        }
    }
}

#[test]
fn zeros_and_tiny_numbers_give_zero_or_what_they_are() {
    let pool = Pool::single();
    for format in Format::ALL {
        let weights = weights(format, 13, 33, 256, &pool);
        for path in paths() {
            for tiny in [0.0, -0.0, 1e-44, 1e-35] {
                let out = product(&weights, path, &[tiny; 256], 1, &Epilogue::default(), &pool);
                assert!(
                    out.iter().all(|v| v.abs() <= 256.0 * tiny.abs()),
                    "{format} {path}: {tiny} gave {out:?}"
                );
            }
        }
    }
}

#[test]
fn empty_products_are_fine() {
    let pool = Pool::single();
    let none = Matrix::pack(Source::F32(&[]), Format::Bf16, 0, 5, &pool).unwrap();
    none.multiply(&[1.0; 5], 1, &mut [], &Epilogue::default(), &pool).unwrap();
    let some = Matrix::pack(Source::F32(&[1.0; 5]), Format::Bf16, 1, 5, &pool).unwrap();
    some.multiply(&[], 0, &mut [], &Epilogue::default(), &pool).unwrap();
    // No output, whatever the number of rows.
    let nothing = Matrix::pack(Source::F32(&[]), Format::F32, 0, 0, &pool).unwrap();
    nothing.multiply(&[], usize::MAX, &mut [], &Epilogue::default(), &pool).unwrap();
    // A sum over no k is zero; the epilogue still runs.
    let hollow = Matrix::pack(Source::F32(&[]), Format::F32, 2, 0, &pool).unwrap();
    let mut out = [7.0; 2];
    hollow.multiply(&[], 1, &mut out, &Epilogue::bias(&[1.0, 2.0]), &pool).unwrap();
    assert_eq!(out, [1.0, 2.0]);
}

#[test]
fn matrices_and_pools_can_be_shared_between_threads() {
    let (pool, n, k) = (Pool::new(2).unwrap(), 70, 130);
    let weights = weights(Format::Q8_0, 16, n, k, &pool);
    let x = gaussian(17, 40 * k);
    let expected = product(&weights, Path::best(), &x, 40, &Epilogue::default(), &pool);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(
                        product(&weights, Path::best(), &x, 40, &Epilogue::default(), &pool),
                        expected
                    );
                }
            });
        }
    });
}

#[test]
fn wrong_sizes_are_named() {
    let pool = Pool::single();
    let pack = |format, n, k, source| Matrix::pack(source, format, n, k, &pool).unwrap_err().to_string();
    assert_eq!(
        pack(Format::F32, 2, 3, Source::F32(&[0.0; 5])),
        "the weights: 5 numbers where [n 2, k 3] in f32 needs 6"
    );
    assert_eq!(
        pack(Format::Q4_1, 1, 33, Source::Blocks(&[0; 20])),
        "k is 33, allowed: multiples of 32 for formats with blocks"
    );
    assert_eq!(
        pack(Format::Q4_0, 1, 32, Source::F32(&[0.0; 32])),
        "weights given as f32 cannot be packed as Q4_0"
    );
    assert_eq!(
        pack(Format::Bf16, 1, 32, Source::Blocks(&[0; 64])),
        "weights given as blocks cannot be packed as bf16"
    );
    assert_eq!(
        pack(Format::Int8, 1, 65_537, Source::F32(&[])),
        "k is 65537, allowed: at most 65,536 for Int8"
    );
    assert!(matches!(
        Matrix::pack(Source::F32(&[]), Format::F32, usize::MAX, 2, &pool),
        Err(Error::Size { found: usize::MAX, .. })
    ));

    let matrix = Matrix::pack(Source::F32(&[0.0; 6]), Format::F32, 2, 3, &pool).unwrap();
    let run = |x: &[f32], rows, out: &mut [f32], epilogue: Epilogue<'_>| {
        matrix.multiply(x, rows, out, &epilogue, &pool).unwrap_err().to_string()
    };
    assert_eq!(
        run(&[0.0; 5], 2, &mut [0.0; 4], Epilogue::default()),
        "the input: 5 numbers where [rows 2, k 3] needs 6"
    );
    assert_eq!(
        run(&[0.0; 6], 2, &mut [0.0; 3], Epilogue::default()),
        "the output: 3 numbers where [rows 2, n 2] needs 4"
    );
    assert_eq!(
        run(&[0.0; 6], 2, &mut [0.0; 4], Epilogue::bias(&[0.0])),
        "the bias: 1 numbers where [n 2] needs 2"
    );
    assert!(matches!(
        matrix.multiply(&[], usize::MAX, &mut [], &Epilogue::default(), &pool),
        Err(Error::Length { .. })
    ));
}

#[test]
fn outputs_that_cannot_be_made_alone_are_named() {
    let pool = Pool::single();
    let matrix = Matrix::pack(Source::F32(&[1.0; 70]), Format::F32, 70, 1, &pool).unwrap();
    let run = |outputs, length, epilogue: Epilogue<'_>| {
        let mut out = vec![0.0; length];
        matrix.multiply_outputs(outputs, &[2.0], 1, &mut out, &epilogue, &pool).map_err(|e| e.to_string())
    };
    let plain = Epilogue::default();
    assert_eq!(run(64..70, 6, plain), Ok(()));
    assert_eq!(run(64..64, 0, plain), Ok(()));
    assert_eq!(
        run(16..48, 32, plain).unwrap_err(),
        "the first of the outputs is 16, allowed: multiples of 32"
    );
    #[expect(clippy::reversed_empty_ranges, reason = "that is the mistake")]
    let reversed = 64..32;
    assert_eq!(
        run(reversed, 0, plain).unwrap_err(),
        "the first of the outputs is 64, allowed: at most their end"
    );
    assert_eq!(run(64..71, 7, plain).unwrap_err(), "the last of the outputs is 70, allowed: less than 70");
    assert_eq!(run(64..70, 70, plain).unwrap_err(), "the output: 70 numbers where [rows 1, n 6] needs 6");
    assert_eq!(
        run(64..70, 6, Epilogue::bias(&[0.0; 70])).unwrap_err(),
        "the bias: 70 numbers where [n 6] needs 6"
    );
}
