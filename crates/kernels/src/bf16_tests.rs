//! The parts of the product of bf16 pairs, and the whole with the instruction replaced by a model of it: on any processor.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

use half::bf16;
use proptest::prelude::*;

use super::*;
use crate::activations::{Activations, CHUNK, Cut, Kind};
use crate::buffer::Buffer;
use crate::format::{Layout, PANEL};
use crate::matrix::Loops;
use crate::tile::{Width, model};
use crate::{Epilogue, Format, Matrix, Path, Pool, Source};

/// Numbers of several magnitudes and both signs, which bf16 has to round.
fn numbers(seed: u32, count: usize) -> Vec<f32> {
    let hash = |i: u32| (i ^ seed).wrapping_mul(2_654_435_761).rotate_left(13).wrapping_mul(0x9E37_79B1);
    (0..count as u32).map(|i| hash(i).cast_signed() as f32 / 2.0_f32.powi(31 + (i % 7) as i32)).collect()
}

fn nearest(number: f32) -> bf16 {
    bf16::from_f32(number)
}

#[test]
fn every_width_rounds_to_the_nearest_and_keeps_nan() {
    let lower = [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF];
    let numbers: Vec<f32> =
        (0..=0xFFFF_u32).flat_map(|upper| lower.map(|lower| f32::from_bits(upper << 16 | lower))).collect();
    let mut halves = vec![0; numbers.len()];
    for path in Path::available() {
        halves.fill(0);
        round(Width::of(path), &numbers, &mut halves);
        for (&number, &half) in numbers.iter().zip(&halves) {
            let expected = nearest(number);
            let same = half == expected.to_bits() || number.is_nan() && bf16::from_bits(half).is_nan();
            assert!(same, "{path}: {:#010x} became {half:#06x}", number.to_bits());
        }
    }
}

/// Lane and half of every weight, zeros where there is none.
#[test]
fn two_neighbours_along_k_share_a_lane() {
    for (n, k) in [(1, 1), (32, 2), (33, 7), (70, 129), (31, 64)] {
        let weights = numbers(1, n * k);
        let matrix = Matrix::pack(Source::F32(&weights), Format::Bf16, n, k, &Pool::single()).unwrap();
        let at = |channel: usize, i: usize| {
            let inside = channel < n && i < k;
            u32::from(if inside { nearest(weights[channel * k + i]).to_bits() } else { 0 })
        };
        for panel in 0..n.div_ceil(PANEL) {
            let lanes = matrix.panel(panel).as_chunks::<4>().0;
            assert_eq!(lanes.len(), PANEL * k.div_ceil(2));
            for (i, lane) in lanes.iter().enumerate() {
                let (channel, pair) = (panel * PANEL + i % PANEL, i / PANEL);
                let expected = at(channel, 2 * pair) | at(channel, 2 * pair + 1) << 16;
                assert_eq!(u32::from_le_bytes(*lane), expected, "[{n}, {k}], channel {channel}, {pair}");
            }
        }
    }
}

#[test]
fn activations_lie_as_the_weights_do() {
    // One chunk and several, whole and half pairs at the end.
    for k in [1, 2, 510, 511, 512, 513, 2 * CHUNK + 1, 1535, 4096] {
        let (rows, x) = (3, numbers(2, 3 * k));
        let cut = Cut::of(Layout::Bf16, Kind::Pairs, k);
        let buffer = {
            let mut dirty = Buffer::new(1 << 16);
            dirty.view_mut::<u32>().fill(u32::MAX);
            dirty
        };
        let width = Width::of(Path::best());
        let prepared = Activations::prepare(width, Kind::Pairs, &x, (rows, k), cut, buffer, &Pool::single());
        for row in 0..rows {
            let half = |i: usize| u32::from(if i < k { nearest(x[row * k + i]).to_bits() } else { 0 });
            for chunk in 0..cut.chunks() {
                let units = cut.chunk(chunk);
                // SAFETY: a row has a word for each unit of the chunk.
                let words = unsafe { std::slice::from_raw_parts(prepared.row(chunk, row), units.len()) };
                for (pair, word) in units.zip(words) {
                    assert_eq!(*word, half(2 * pair) | half(2 * pair + 1) << 16, "k {k}, row {row}, {pair}");
                }
            }
        }
    }
}

#[test]
fn the_model_adds_two_exact_products_the_upper_first() {
    let pair = |lower: f32, upper: f32| {
        u32::from(nearest(lower).to_bits()) | u32::from(nearest(upper).to_bits()) << 16
    };
    assert_eq!(model::dot(1.0, pair(2.0, 3.0), pair(5.0, 7.0)), 32.0);
    // 2²⁴ + 1 rounds to 2²⁴, where 2²⁴ + (1 + 1) would not: each product is rounded into the sum by itself.
    assert_eq!(model::dot(16_777_216.0, pair(1.0, 1.0), pair(1.0, 1.0)), 16_777_216.0);
    // The upper product makes room for the lower, which would be lost if it came first.
    assert_eq!(model::dot(16_777_216.0, pair(1.0, -16_777_216.0), pair(1.0, 1.0)), 1.0);
    assert_eq!(model::dot(1e-39, pair(1e-39, 0.0), pair(1.0, 1.0)), 0.0);
    assert!(model::dot(0.0, pair(0.0, f32::INFINITY), pair(1.0, 0.0)).is_nan());
}

/// The product as [`Path::Avx512Bf16`] takes it but for the instruction.
fn product(matrix: &Matrix, x: &[f32], rows: usize, epilogue: &Epilogue<'_>, pool: &Pool) -> Vec<f32> {
    let loops = Loops { width: Width::of(Path::best()), tiles: model::pairs_of_bf16(), wider: None };
    let mut out = vec![f32::NAN; rows * matrix.n()];
    matrix.multiply_by(loops, 0..matrix.n(), x, rows, &mut out, epilogue, pool).unwrap();
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn with_the_model_a_product_is_the_sum_of_rounded_pairs(
        rows in prop_oneof![1_usize..14, 100_usize..110],
        n in 1_usize..80,
        k in prop_oneof![1_usize..70, 500_usize..1100],
        threads in 1_usize..4,
        seed in any::<u32>(),
    ) {
        let pool = Pool::new(threads).unwrap();
        let (weights, x, bias) = (numbers(seed, n * k), numbers(seed ^ 77, rows * k), numbers(seed ^ 5, n));
        let matrix = Matrix::pack(Source::F32(&weights), Format::Bf16, n, k, &pool).unwrap();
        let epilogue = Epilogue::bias(&bias);
        let out = product(&matrix, &x, rows, &epilogue, &pool);

        let rounded: Vec<f32> = x.iter().map(|&x| nearest(x).to_f32()).collect();
        let mut portable = vec![f32::NAN; rows * n];
        matrix.multiply_on(Path::Portable, &rounded, rows, &mut portable, &epilogue, &pool).unwrap();
        for row in 0..rows {
            // To the bit: pair after pair, in the order of k, from zero.
            for channel in 0..n {
                let half = |number: &f32| u32::from(nearest(*number).to_bits());
                let pairs = |from: &[f32]| -> Vec<u32> {
                    from.chunks(2).map(|two| half(&two[0]) | two.get(1).map_or(0, half) << 16).collect()
                };
                let (w, x) = (pairs(&weights[channel * k..][..k]), pairs(&x[row * k..][..k]));
                let sum = w.iter().zip(&x).fold(0.0, |sum, (&w, &x)| model::dot(sum, w, x));
                prop_assert_eq!(out[row * n + channel], sum + bias[channel], "[{}, {}]", row, channel);
                // And within the roundings of both sums of what the portable path gives for activations rounded before.
                let size: f64 = (0..k)
                    .map(|i| (f64::from(weights[channel * k + i]) * f64::from(rounded[row * k + i])).abs())
                    .sum();
                let apart = f64::from(out[row * n + channel]) - f64::from(portable[row * n + channel]);
                prop_assert!(apart.abs() <= 2.1 * (k + 1) as f64 * 6e-8 * (size + 1.0));
            }
            let alone = product(&matrix, &x[row * k..(row + 1) * k], 1, &epilogue, &Pool::single());
            prop_assert_eq!(&alone[..], &out[row * n..(row + 1) * n]);
        }
    }
}

/// On a processor that has it, the instruction is what the model says, within the roundings of a sum.
#[test]
fn the_path_agrees_with_the_model_where_there_is_one() {
    if !Path::Avx512Bf16.is_available() {
        println!("skipped on this machine: {}", Path::Avx512Bf16);
        return;
    }
    let (pool, rows, n, k) = (Pool::single(), 25, 64, 577);
    let (weights, x) = (numbers(8, n * k), numbers(9, rows * k));
    let matrix = Matrix::pack(Source::F32(&weights), Format::Bf16, n, k, &pool).unwrap();
    let expected = product(&matrix, &x, rows, &Epilogue::default(), &pool);
    let mut out = vec![f32::NAN; rows * n];
    matrix.multiply_on(Path::Avx512Bf16, &x, rows, &mut out, &Epilogue::default(), &pool).unwrap();
    let differing = out.iter().zip(&expected).filter(|(a, b)| a != b).count();
    println!("{differing} of {} sums differ from the model in some bit", out.len());
    for (at, (value, expected)) in out.iter().zip(&expected).enumerate() {
        let (w, x) = (&weights[at % n * k..][..k], &x[at / n * k..][..k]);
        let size: f64 = w.iter().zip(x).map(|(w, x)| (f64::from(*w) * f64::from(*x)).abs()).sum();
        let apart = (f64::from(*value) - f64::from(*expected)).abs();
        assert!(apart <= 2.1 * k as f64 * 6e-8 * size, "{value}, not {expected}");
    }
}
