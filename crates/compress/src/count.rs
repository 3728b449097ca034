//! Counts multiply-adds as they run, to hold the cost formulae to what the code does.
//!
//! Every product, attention and weighted sum of the crate reports here. Element-wise work (norms, activations, biases)
//! does not count, as in `law::cost`. The counter belongs to the calling thread.

use std::cell::Cell;

thread_local! {
    static MULTIPLY_ADDS: Cell<u64> = const { Cell::new(0) };
}

/// `count` sums of `width` products each.
pub(crate) fn dots(count: usize, width: usize) {
    MULTIPLY_ADDS.with(|total| total.set(total.get() + (count * width) as u64));
}

/// What `run` returns, and the FLOPs (2 × multiply-adds) that this crate's code did in it on this thread.
pub fn counted<T>(run: impl FnOnce() -> T) -> (T, f64) {
    let before = MULTIPLY_ADDS.with(Cell::get);
    let result = run();
    (result, 2.0 * (MULTIPLY_ADDS.with(Cell::get) - before) as f64)
}
