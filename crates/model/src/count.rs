//! Counts multiply-adds as they run: the one product and the one attention report here.
//!
//! With feature `count` to the counter of `foveate_compress::count`, so that one count spans both crates; otherwise
//! nothing is compiled in. Of attention only the query-key pairs that its mask allows count, as in `law::cost`, whatever
//! an implementation computes and throws away.

use candle_core::Tensor;
#[cfg(feature = "count")]
pub use foveate_compress::count::counted;
#[cfg(feature = "count")]
pub(crate) use foveate_compress::count::dots;

use crate::nn::{Heads, Sight};

/// Scores and weighted values of the queries in `joined` `[b, t, _]` over `n` keys.
#[cfg(feature = "count")]
pub(crate) fn attention(heads: &Heads, joined: &Tensor, n: usize, sight: &Sight) -> candle_core::Result<()> {
    if foveate_compress::count::active() {
        let (b, t, _) = joined.dims3()?;
        dots(2 * sight.pairs(b, t, n) * heads.heads, heads.width);
    }
    Ok(())
}

#[cfg(not(feature = "count"))]
pub(crate) fn dots(_count: usize, _width: usize) {}

#[cfg(not(feature = "count"))]
pub(crate) fn attention(
    _heads: &Heads,
    _joined: &Tensor,
    _n: usize,
    _sight: &Sight,
) -> candle_core::Result<()> {
    Ok(())
}
