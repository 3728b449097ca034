//! Counts multiply-adds as they run, to hold the cost formulae to what the code does.
//!
//! Whoever multiplies reports here: the layers of the models, the compressors, attention. Element-wise work (norms,
//! activations, biases) does not count, as in `law::cost`, and of attention only the query-key pairs that its mask allows,
//! whatever an implementation computes and throws away. The counter belongs to the calling thread and runs only inside of
//! `counted`; without the feature `count` nothing of it is compiled in.

#[cfg(feature = "count")]
use std::cell::Cell;

use candle_core::Tensor;

use crate::attention::{Heads, Sight};

#[cfg(feature = "count")]
thread_local! {
    static MULTIPLY_ADDS: Cell<Option<u64>> = const { Cell::new(None) };
}

/// `count` sums of `width` products each.
#[cfg(feature = "count")]
pub fn dots(count: usize, width: usize) {
    MULTIPLY_ADDS.with(|total| total.set(total.get().map(|sum| sum + (count * width) as u64)));
}

/// `count` sums of `width` products each: not counted in this build.
#[cfg(not(feature = "count"))]
pub fn dots(_count: usize, _width: usize) {}

/// What `run` returns, and the FLOPs (2 × multiply-adds) that were reported in it on this thread. Counts may be nested: the
/// outer one includes the inner one.
#[cfg(feature = "count")]
pub fn counted<T>(run: impl FnOnce() -> T) -> (T, f64) {
    let outer = MULTIPLY_ADDS.replace(Some(0));
    let result = run();
    let sum = MULTIPLY_ADDS.with(Cell::get).unwrap_or(0);
    MULTIPLY_ADDS.set(outer.map(|outer| outer + sum));
    (result, 2.0 * sum as f64)
}

/// Scores and weighted values of the queries in `joined` `[b, t, _]` over `n` keys.
#[cfg(feature = "count")]
pub(crate) fn attention(heads: &Heads, joined: &Tensor, n: usize, sight: &Sight) -> candle_core::Result<()> {
    // Pairs are dear to count.
    if MULTIPLY_ADDS.with(Cell::get).is_some() {
        let (b, t, _) = joined.dims3()?;
        dots(2 * sight.pairs(b, t, n) * heads.heads, heads.width);
    }
    Ok(())
}

#[cfg(not(feature = "count"))]
pub(crate) fn attention(
    _heads: &Heads,
    _joined: &Tensor,
    _n: usize,
    _sight: &Sight,
) -> candle_core::Result<()> {
    Ok(())
}
