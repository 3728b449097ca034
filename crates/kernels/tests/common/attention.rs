//! Attention layers with their inputs, and the textbook formulas in f64.

use super::gaussian;
use foveate_kernels::{Attention, Mask, Strided};
use proptest::prelude::*;

/// softmax(scale · q · kᵀ) · v with the whole row of scores, in f64.
pub(crate) fn reference(
    layer: &Attention,
    q: Strided<'_>,
    queries: usize,
    k: Strided<'_>,
    v: Strided<'_>,
    keys: usize,
) -> Vec<f64> {
    let at = |s: &Strided<'_>, row: usize, head: usize, i: usize| {
        f64::from(s.numbers[row * s.row_stride + head * s.head_stride + i])
    };
    let mut out = Vec::new();
    for query in 0..queries {
        for head in 0..layer.heads {
            let shared = head / (layer.heads / layer.key_heads);
            let sees = |key: usize| match layer.mask {
                Mask::Causal { offset, window } => {
                    key <= offset + query && window.is_none_or(|window| key + window > offset + query)
                }
                _ => true,
            };
            let scores: Vec<(usize, f64)> = (0..keys)
                .filter(|&key| sees(key))
                .map(|key| {
                    let dot: f64 =
                        (0..layer.head_size).map(|i| at(&q, query, head, i) * at(&k, key, shared, i)).sum();
                    (key, dot * f64::from(layer.scale))
                })
                .collect();
            let most = scores.iter().fold(f64::NEG_INFINITY, |most, (_, score)| most.max(*score));
            let total: f64 = scores.iter().map(|(_, score)| (score - most).exp()).sum();
            out.extend((0..layer.head_size).map(|i| {
                scores.iter().map(|(key, score)| (score - most).exp() * at(&v, *key, shared, i)).sum::<f64>()
                    / total
            }));
        }
    }
    out
}

#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) layer: Attention,
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    /// Numbers between rows beyond the heads, and whether heads come before rows.
    pub(crate) gap: usize,
    pub(crate) heads_first: bool,
    pub(crate) seed: u64,
}

pub(crate) fn cases() -> impl Strategy<Value = Case> {
    let sizes =
        (1_usize..4, 1_usize..4, prop_oneof![Just(64_usize), 1_usize..100], 1_usize..40, 0_usize..300);
    let options = (any::<bool>(), prop::option::of(1_usize..200), 0_usize..5, any::<bool>(), any::<u64>());
    (sizes, options).prop_map(
        |((key_heads, sharing, head_size, queries, offset), (full, window, gap, heads_first, seed))| {
            let mask = if full { Mask::Full } else { Mask::Causal { offset, window } };
            let scale = 1.0 / (head_size as f32).sqrt();
            let layer = Attention { heads: key_heads * sharing, key_heads, head_size, scale, mask };
            // Sometimes more keys than the last query sees.
            Case { layer, queries, keys: offset + queries + gap, gap, heads_first, seed }
        },
    )
}

/// A slice for `rows` rows, and how it is strided.
pub(crate) fn strided(case: &Case, numbers: &'static [f32], rows: usize, heads: usize) -> Strided<'static> {
    let size = case.layer.head_size;
    if case.heads_first {
        Strided { numbers, row_stride: size + case.gap, head_stride: rows * (size + case.gap) }
    } else {
        Strided { numbers, row_stride: heads * size + case.gap, head_stride: size }
    }
}

pub(crate) fn numbers(case: &Case, salt: u64, rows: usize, heads: usize) -> &'static [f32] {
    let count = rows * heads * (case.layer.head_size + case.gap) + case.gap;
    Box::leak(gaussian(case.seed ^ salt, count).into_boxed_slice())
}
