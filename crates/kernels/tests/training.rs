//! Gradients through frozen packed weights, and the products of small trainable matrices.
#![allow(clippy::unwrap_used)]

mod common;

use common::{gaussian, paths, taken, weights};
use foveate_kernels::{Epilogue, Format, Path, Pool, Residual, View, product_on};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_input_gradient_is_dy_times_the_stored_weights(
        format in prop::sample::select(Format::ALL.to_vec()),
        rows in 1_usize..60,
        n in 1_usize..500,
        k in 1_usize..150,
        threads in 1_usize..4,
        seed in any::<u64>(),
    ) {
        let (one, pool) = (Pool::single(), Pool::new(threads).unwrap());
        let weights = weights(format, seed, n, k, &pool);
        let k = weights.k;
        let (dy, before) = (gaussian(seed ^ 1, rows * n), gaussian(seed ^ 2, rows * k));
        for path in paths() {
            let mut dx = vec![f32::NAN; rows * k];
            weights.matrix.multiply_transposed_on(path, &dy, rows, &mut dx, Residual::None, &pool).unwrap();
            for row in 0..rows {
                for i in 0..k {
                    let terms = (0..n).map(|j| f64::from(dy[row * n + j]) * weights.values[j * k + i]);
                    let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
                    let value = f64::from(dx[row * k + i]);
                    // The running sum's bound. In blocks of 256, scale · q (up to 0.88 here) and the minimum (0.19)
                    // are rounded to f16 each, by 2⁻¹¹ of themselves, and may then cancel.
                    let dy: f64 = dy[row * n..(row + 1) * n].iter().map(|v| f64::from(v.abs())).sum();
                    let rounding = if format.block_length() == Some(256) { 1.07 / 2048.0 * dy } else { 0.0 };
                    let bound = (n as f64 + 4.0) * 6e-8 * size + rounding + 1e-7;
                    prop_assert!((value - sum).abs() <= bound, "{} {} [{}, {}]: {} not {}", format, path, row, i, value, sum);
                }
            }
            let last = rows - 1;
            let mut alone = vec![f32::NAN; k];
            weights.matrix.multiply_transposed_on(path, &dy[last * n..], 1, &mut alone, Residual::None, &one).unwrap();
            prop_assert_eq!(&alone[..], &dx[last * k..]);
            let mut added = before.clone();
            weights.matrix.multiply_transposed_on(path, &dy, rows, &mut added, Residual::InPlace, &pool).unwrap();
            let expected: Vec<f32> = dx.iter().zip(&before).map(|(dx, before)| dx + before).collect();
            prop_assert_eq!(added, expected);
        }
    }

    #[test]
    fn dense_products_of_all_transpositions(
        rows in 1_usize..70,
        inner in 1_usize..500,
        columns in 1_usize..90,
        left in any::<bool>(),
        right in any::<bool>(),
        threads in 1_usize..4,
        seed in any::<u64>(),
    ) {
        let pool = Pool::new(threads).unwrap();
        let (a, b) = (gaussian(seed, rows * inner), gaussian(seed ^ 1, inner * columns));
        let a = if left { View::rows(&a, rows).transposed() } else { View::rows(&a, inner) };
        let b = if right { View::rows(&b, inner).transposed() } else { View::rows(&b, columns) };
        let at = |view: &View<'_>, i: usize, j: usize| f64::from(view.numbers[i * view.row_stride + j * view.column_stride]);
        for path in paths() {
            let mut out = vec![f32::NAN; rows * columns];
            product_on(path, a, b, [rows, inner, columns], &mut out, &Epilogue::default(), &pool).unwrap();
            for i in 0..rows {
                for j in 0..columns {
                    let sum: f64 = (0..inner).map(|l| at(&a, i, l) * at(&b, l, j)).sum();
                    let size: f64 = (0..inner).map(|l| (at(&a, i, l) * at(&b, l, j)).abs()).sum();
                    let value = f64::from(out[i * columns + j]);
                    prop_assert!((value - sum).abs() <= inner as f64 * 6e-8 * size + 1e-7, "{}: {} not {}", path, value, sum);
                }
            }
        }
    }
}

/// ⟨dy, x·Wᵀ⟩ = ⟨dy·W, x⟩ for every x and dy: the forward and the backward product are each other's adjoint.
#[test]
fn forward_and_backward_are_adjoint() {
    let pool = Pool::new(2).unwrap();
    let (rows, n, k) = (40, 96, 224);
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    for format in [Format::F32, Format::Bf16, Format::F16] {
        let weights = weights(format, 40, n, k, &pool);
        let (x, dy) = (gaussian(41, rows * k), gaussian(42, rows * n));
        for path in paths() {
            // Where activations are rounded, the gradient is that of the product with the rounded ones.
            let x = taken(format, path, &x);
            let (mut y, mut dx) = (vec![0.0; rows * n], vec![0.0; rows * k]);
            weights.matrix.multiply_on(path, &x, rows, &mut y, &Epilogue::default(), &pool).unwrap();
            weights.matrix.multiply_transposed_on(path, &dy, rows, &mut dx, Residual::None, &pool).unwrap();
            let (forward, backward) = (dot(&dy, &y), dot(&dx, &x));
            assert!((forward - backward).abs() < 1e-3, "{format} {path}: {forward} and {backward}");
        }
    }
}

#[test]
fn wrong_sizes_are_named() {
    let pool = Pool::single();
    let a = View::rows(&[0.0; 6], 3);
    let run = |a, b, shape, length| {
        let mut out = vec![0.0; length];
        product_on(Path::Portable, a, b, shape, &mut out, &Epilogue::default(), &pool)
            .map_err(|error| error.to_string())
    };
    assert_eq!(run(a, a.transposed(), [2, 3, 2], 4), Ok(()));
    assert_eq!(run(a, a, [0, 0, 0], 0), Ok(()));
    assert_eq!(
        run(a, a, [3, 3, 1], 3).unwrap_err(),
        "the left matrix: 6 numbers where [3, 3] with strides [3, 1] needs 9"
    );
    assert_eq!(
        run(a, a, [2, 3, 3], 6).unwrap_err(),
        "the right matrix: 6 numbers where [3, 3] with strides [3, 1] needs 9"
    );
    assert_eq!(
        run(a, a.transposed(), [2, 3, 2], 5).unwrap_err(),
        "the output: 5 numbers where [2, 2] needs 4"
    );
}
