//! The gradients of attention against the textbook formulas in f64, and against differences of its outputs.
#![allow(clippy::unwrap_used)]

mod common;

use common::attention::{Case, cases, numbers, reference, strided};
use common::{gaussian, paths};
use foveate_kernels::{Attention, Mask, Path, Pool, Strided};
use proptest::prelude::*;

/// A layer's inputs.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    q: Strided<'a>,
    queries: usize,
    k: Strided<'a>,
    v: Strided<'a>,
    keys: usize,
    d_out: Strided<'a>,
}

/// dq, dk and dv.
type Gradients = [Vec<f32>; 3];

fn gradients(layer: &Attention, path: Path, inputs: &Inputs<'_>, pool: &Pool) -> Gradients {
    let Inputs { q, queries, k, v, keys, d_out } = *inputs;
    let length = keys * layer.key_heads * layer.head_size;
    let mut dq = vec![f32::NAN; queries * layer.heads * layer.head_size];
    let (mut dk, mut dv) = (vec![f32::NAN; length], vec![f32::NAN; length]);
    layer.backward_on(path, q, queries, k, v, keys, d_out, &mut dq, &mut dk, &mut dv, pool).unwrap();
    [dq, dk, dv]
}

/// The same from the full matrix of scores in f64.
fn exact_gradients(layer: &Attention, inputs: &Inputs<'_>) -> [Vec<f64>; 3] {
    let Inputs { q, queries, k, v, keys, d_out } = *inputs;
    let (size, sharing) = (layer.head_size, layer.heads / layer.key_heads);
    let row = |s: &Strided<'_>, row: usize, head: usize| -> Vec<f64> {
        let at = row * s.row_stride + head * s.head_stride;
        s.numbers[at..at + size].iter().map(|&number| f64::from(number)).collect()
    };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut dq = vec![0.0; queries * layer.heads * size];
    let mut dk = vec![0.0; keys * layer.key_heads * size];
    let mut dv = dk.clone();
    let scale = f64::from(layer.scale);
    for query in 0..queries {
        for head in 0..layer.heads {
            let shared = head / sharing;
            let (q, g) = (row(&q, query, head), row(&d_out, query, head));
            let seen = match layer.mask {
                Mask::Causal { offset, window } => {
                    let end = offset + query + 1;
                    window.map_or(0, |window| end.saturating_sub(window))..end
                }
                _ => 0..keys,
            };
            let scores: Vec<f64> = seen.clone().map(|key| scale * dot(&q, &row(&k, key, shared))).collect();
            let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = scores.iter().map(|score| (score - most).exp()).sum();
            let weights: Vec<f64> = scores.iter().map(|score| (score - most).exp() / total).collect();
            let slopes: Vec<f64> = seen.clone().map(|key| dot(&g, &row(&v, key, shared))).collect();
            let mean = dot(&weights, &slopes);
            for (key, (weight, slope)) in seen.zip(weights.iter().zip(&slopes)) {
                let k = row(&k, key, shared);
                let slope = scale * weight * (slope - mean);
                for i in 0..size {
                    dq[(query * layer.heads + head) * size + i] += slope * k[i];
                    dk[(key * layer.key_heads + shared) * size + i] += slope * q[i];
                    dv[(key * layer.key_heads + shared) * size + i] += weight * g[i];
                }
            }
        }
    }
    [dq, dk, dv]
}

fn inputs(case: &Case) -> Inputs<'static> {
    let &Case { layer, queries, keys, .. } = case;
    let make = |salt, rows, heads| strided(case, numbers(case, salt, rows, heads), rows, heads);
    Inputs {
        q: make(1, queries, layer.heads),
        queries,
        k: make(2, keys, layer.key_heads),
        v: make(3, keys, layer.key_heads),
        keys,
        d_out: make(4, queries, layer.heads),
    }
}

fn assert_close(found: &Gradients, exact: &[Vec<f64>; 3], what: &str) {
    for (name, (found, exact)) in ["dq", "dk", "dv"].iter().zip(found.iter().zip(exact)) {
        let most = exact.iter().fold(0.0_f64, |most, number| most.max(number.abs()));
        for (i, (&value, exact)) in found.iter().zip(exact).enumerate() {
            let bound = 5e-6 * most.max(1.0);
            assert!((f64::from(value) - exact).abs() <= bound, "{what} {name}[{i}]: {value} not {exact}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn gradients_are_those_of_the_formulas(case in cases(), threads in 1_usize..4) {
        let inputs = inputs(&case);
        let exact = exact_gradients(&case.layer, &inputs);
        for path in paths() {
            let found = gradients(&case.layer, path, &inputs, &Pool::new(threads).unwrap());
            assert_close(&found, &exact, &format!("{path}"));
        }
    }
}

/// More queries than a strip holds, more keys than a piece, for every kind of mask and grouped heads.
#[test]
fn many_rows_give_the_same_to_the_bit_on_any_number_of_threads() {
    let (queries, keys) = (230, 330);
    for mask in [
        Mask::Full,
        Mask::Causal { offset: 100, window: None },
        Mask::Causal { offset: 90, window: Some(37) },
    ] {
        let layer = Attention { heads: 6, key_heads: 2, head_size: 40, scale: 0.2, mask };
        let case = Case { layer, queries, keys, gap: 3, heads_first: false, seed: 61 };
        let inputs = inputs(&case);
        let exact = exact_gradients(&layer, &inputs);
        for path in paths() {
            let one = gradients(&layer, path, &inputs, &Pool::single());
            assert_close(&one, &exact, &format!("{path} {mask:?}"));
            for threads in [2, 3, 8] {
                assert!(
                    gradients(&layer, path, &inputs, &Pool::new(threads).unwrap()) == one,
                    "{path} {mask:?}"
                );
            }
        }
    }
}

/// Central differences of the f64 forward pass, which knows nothing of the formulas above.
#[test]
fn gradients_are_differences_of_the_outputs() {
    let layer = Attention {
        heads: 2,
        key_heads: 1,
        head_size: 3,
        scale: 0.7,
        mask: Mask::Causal { offset: 1, window: Some(3) },
    };
    let (queries, keys) = (3, 4);
    let mut tensors = [gaussian(71, queries * 6), gaussian(72, keys * 3), gaussian(73, keys * 3)];
    let d_out = gaussian(74, queries * 6);
    let loss = |[q, k, v]: &[Vec<f32>; 3]| {
        let dense = |numbers, heads| Strided::dense(numbers, heads, 3);
        let out = reference(&layer, dense(q, 2), queries, dense(k, 1), dense(v, 1), keys);
        out.iter().zip(&d_out).map(|(out, weight)| out * f64::from(*weight)).sum::<f64>()
    };
    for path in paths() {
        let [q, k, v] = &tensors;
        let inputs = Inputs {
            q: Strided::dense(q, 2, 3),
            queries,
            k: Strided::dense(k, 1, 3),
            v: Strided::dense(v, 1, 3),
            keys,
            d_out: Strided::dense(&d_out, 2, 3),
        };
        let found = gradients(&layer, path, &inputs, &Pool::single());
        for which in 0..3 {
            for i in 0..tensors[which].len() {
                let (number, step) = (tensors[which][i], 1.0 / 256.0);
                tensors[which][i] = number + step;
                let above = loss(&tensors);
                tensors[which][i] = number - step;
                let below = loss(&tensors);
                tensors[which][i] = number;
                let difference = (above - below) / (2.0 * f64::from(step));
                let value = f64::from(found[which][i]);
                assert!((value - difference).abs() < 1e-4, "{path} {which}[{i}]: {value} not {difference}");
            }
        }
    }
}

/// Keys that no query sees have no gradient. A NaN in a query makes its own gradient and those of the keys it sees NaN, and
/// weighs no other values.
#[test]
fn nothing_reaches_keys_that_are_not_seen() {
    let mask = Mask::Causal { offset: 0, window: None };
    let layer = Attention { heads: 1, key_heads: 1, head_size: 5, scale: 1.0, mask };
    let (queries, keys, bad) = (40, 64, 20);
    let (q, k) = (gaussian(81, queries * 5), gaussian(83, keys * 5));
    let mut spoilt = q.clone();
    spoilt[bad * 5] = f32::NAN;
    let dense = |numbers| Strided::dense(numbers, 1, 5);
    for (q, finite) in [(&q, true), (&spoilt, false)] {
        for path in paths() {
            let inputs = Inputs { q: dense(q), queries, k: dense(&k), v: dense(&k), keys, d_out: dense(&k) };
            let [dq, dk, dv] = gradients(&layer, path, &inputs, &Pool::single());
            let nan_rows = |numbers: &[f32]| -> Vec<usize> {
                numbers
                    .chunks(5)
                    .enumerate()
                    .filter(|(_, row)| row.iter().any(|x| x.is_nan()))
                    .map(|(i, _)| i)
                    .collect()
            };
            if finite {
                assert!(
                    dk[queries * 5..].iter().chain(&dv[queries * 5..]).all(|&number| number == 0.0),
                    "{path}"
                );
                assert_eq!(
                    [dq, dk, dv].map(|numbers| nan_rows(&numbers)),
                    [const { Vec::new() }; 3],
                    "{path}"
                );
            } else {
                assert_eq!(nan_rows(&dq), [bad], "{path}");
                assert!(nan_rows(&dk).starts_with(&nan_rows(&dv)), "{path}");
                assert_eq!(nan_rows(&dv), (0..=bad).collect::<Vec<usize>>(), "{path}");
            }
        }
    }
}

#[test]
fn wrong_sizes_are_named_and_no_queries_mean_no_gradient() {
    let layer = Attention { heads: 2, key_heads: 1, head_size: 4, scale: 0.5, mask: Mask::Full };
    let numbers = [0.0; 64];
    let run = |queries, lengths: [usize; 4]| {
        let (q, k) = (Strided::dense(&numbers, 2, 4), Strided::dense(&numbers, 1, 4));
        let d_out = Strided::dense(&numbers[..lengths[0]], 2, 4);
        let [mut dq, mut dk, mut dv] = [lengths[1], lengths[2], lengths[3]].map(|length| vec![7.0; length]);
        let pool = Pool::single();
        let result = layer.backward(q, queries, k, k, 3, d_out, &mut dq, &mut dk, &mut dv, &pool);
        result.map(|()| [dk, dv].concat()).map_err(|error| error.to_string())
    };
    assert_eq!(run(2, [16, 16, 12, 12]), Ok(vec![0.0; 24]));
    assert_eq!(run(0, [0, 0, 12, 12]), Ok(vec![0.0; 24]));
    for (lengths, message) in [
        (
            [15, 16, 12, 12],
            "the output's gradient: 15 numbers where [rows 2, heads 2, 4] with strides [8, 4, 1] needs 16",
        ),
        ([16, 15, 12, 12], "the queries' gradient: 15 numbers where [2, heads 2, 4] needs 16"),
        ([16, 16, 13, 12], "the keys' gradient: 13 numbers where [3, heads 1, 4] needs 12"),
        ([16, 16, 12, 11], "the values' gradient: 11 numbers where [3, heads 1, 4] needs 12"),
    ] {
        assert_eq!(run(2, lengths).unwrap_err(), message);
    }
}
