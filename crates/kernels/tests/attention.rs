//! Attention against the textbook formula in f64, and against itself with other neighbours.
#![allow(clippy::unwrap_used)]

mod common;

use common::attention::{Case, cases, numbers, reference, strided};
use common::{gaussian, paths};
use foveate_kernels::{Attention, Error, Mask, Path, Pool, Strided};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn it_is_softmax_of_scores_times_values(case in cases(), threads in 1_usize..4) {
        let pool = Pool::new(threads).unwrap();
        let Case { layer, queries, keys, .. } = case;
        let q = strided(&case, numbers(&case, 1, queries, layer.heads), queries, layer.heads);
        let k = strided(&case, numbers(&case, 2, keys, layer.key_heads), keys, layer.key_heads);
        let v = strided(&case, numbers(&case, 3, keys, layer.key_heads), keys, layer.key_heads);
        let exact = reference(&layer, q, queries, k, v, keys);
        for path in paths() {
            let mut out = vec![f32::NAN; exact.len()];
            layer.run_on(path, q, queries, k, v, keys, &mut out, &pool).unwrap();
            for (i, (value, exact)) in out.iter().zip(&exact).enumerate() {
                prop_assert!((f64::from(*value) - exact).abs() < 5e-6, "{} [{}]: {} not {}", path, i, value, exact);
            }
        }
    }

    #[test]
    fn a_query_is_the_same_alone_and_among_others(case in cases(), threads in 1_usize..4) {
        let (one, pool) = (Pool::single(), Pool::new(threads).unwrap());
        let Case { layer, queries, keys, .. } = case;
        let width = layer.heads * layer.head_size;
        let rows = gaussian(case.seed, queries * width);
        let k = strided(&case, numbers(&case, 2, keys, layer.key_heads), keys, layer.key_heads);
        let v = strided(&case, numbers(&case, 3, keys, layer.key_heads), keys, layer.key_heads);
        for path in paths() {
            let dense = |numbers| Strided::dense(numbers, layer.heads, layer.head_size);
            let mut together = vec![0.0; queries * width];
            layer.run_on(path, dense(&rows), queries, k, v, keys, &mut together, &pool).unwrap();
            for query in [0, queries / 2, queries - 1] {
                let mask = match layer.mask {
                    Mask::Causal { offset, window } => Mask::Causal { offset: offset + query, window },
                    other => other,
                };
                let mut alone = vec![0.0; width];
                let row = dense(&rows[query * width..(query + 1) * width]);
                Attention { mask, ..layer }.run_on(path, row, 1, k, v, keys, &mut alone, &one).unwrap();
                prop_assert_eq!(&alone[..], &together[query * width..(query + 1) * width], "{}", path);
            }
        }
    }
}

#[test]
fn large_scores_do_not_overflow_and_nan_stays_in_its_row() {
    let layer = Attention { heads: 1, key_heads: 1, head_size: 4, scale: 1.0, mask: Mask::Full };
    let pool = Pool::single();
    let dense = |numbers| Strided::dense(numbers, 1, 4);
    // Scores of 300 × 300 × 4 and their negatives: all weight goes to the first and third keys.
    let (keys, values) = ([[300.0; 4], [-300.0; 4], [300.0; 4]].concat(), gaussian(31, 12));
    let queries = [[300.0; 4], [f32::NAN; 4], [0.0; 4]].concat();
    for path in paths() {
        let mut out = [0.0; 12];
        layer.run_on(path, dense(&queries), 3, dense(&keys), dense(&values), 3, &mut out, &pool).unwrap();
        for i in 0..4 {
            assert!((out[i] - (values[i] + values[8 + i]) / 2.0).abs() < 1e-6, "{path}");
            assert!(out[4 + i].is_nan(), "{path}");
            assert!((out[8 + i] - (values[i] + values[4 + i] + values[8 + i]) / 3.0).abs() < 1e-6, "{path}");
        }
    }
}

#[test]
fn wrong_sizes_are_named() {
    let good = Attention { heads: 2, key_heads: 1, head_size: 4, scale: 0.5, mask: Mask::Full };
    let numbers = [0.0; 64];
    let run = |layer: Attention, queries, keys, out: &mut [f32]| {
        let (q, k) = (Strided::dense(&numbers, 2, 4), Strided::dense(&numbers[..12], 1, 4));
        layer.run(q, queries, k, k, keys, out, &Pool::single()).map_err(|error| error.to_string())
    };
    assert_eq!(run(good, 2, 3, &mut [0.0; 16]), Ok(()));
    assert_eq!(run(good, 0, 0, &mut []), Ok(()));
    let message =
        |layer, queries, keys, length| run(layer, queries, keys, &mut vec![0.0; length]).unwrap_err();
    assert_eq!(message(good, 2, 3, 15), "the output: 15 numbers where [2, heads 2, 4] needs 16");
    assert_eq!(
        message(good, 2, 4, 16),
        "the keys: 12 numbers where [rows 4, heads 1, 4] with strides [4, 4, 1] needs 16"
    );
    assert_eq!(message(good, 2, 0, 16), "the number of keys is 0, allowed: at least 1");
    assert_eq!(
        message(Attention { key_heads: 3, ..good }, 2, 3, 16),
        "the number of heads is 2, allowed: multiples of the number of key heads, which is not 0"
    );
    assert_eq!(
        message(Attention { head_size: 257, ..good }, 2, 3, 16),
        "the head size is 257, allowed: 1 to 256"
    );
    let causal = |offset, window| Attention { mask: Mask::Causal { offset, window }, ..good };
    assert_eq!(
        message(causal(2, None), 2, 3, 16),
        "the position after the last query is 4, allowed: the number of keys at most"
    );
    assert_eq!(message(causal(1, Some(0)), 2, 3, 16), "the window is 0, allowed: at least 1");
    for missing in Path::ALL.into_iter().filter(|path| !path.is_available()) {
        let layer = good.run_on(
            missing,
            Strided::dense(&numbers, 2, 4),
            2,
            Strided::dense(&numbers, 1, 4),
            Strided::dense(&numbers, 1, 4),
            3,
            &mut [0.0; 16],
            &Pool::single(),
        );
        assert!(matches!(layer, Err(Error::Unavailable { .. })));
    }
}
