//! Counts multiply-adds as they run: the one product and the one attention report here.
//!
//! With feature `count` to the counter of `foveate_compress::count`, so that one count spans both crates; otherwise
//! nothing is compiled in. Of attention only the query-key pairs that its mask allows count, as in `law::cost`, whatever
//! an implementation computes and throws away.

#[cfg(feature = "count")]
use candle_core::Tensor;
#[cfg(feature = "count")]
pub use foveate_compress::count::counted;
#[cfg(feature = "count")]
pub(crate) use foveate_compress::count::dots;

/// Scores and weighted values of `q` `[b, heads, t, width]` over `n` keys with an additive `mask` `[b or 1, t, n]`.
#[cfg(feature = "count")]
pub(crate) fn attention(q: &Tensor, n: usize, mask: Option<&Tensor>) -> candle_core::Result<()> {
    if !foveate_compress::count::active() {
        return Ok(());
    }
    let (b, heads, t, width) = q.dims4()?;
    let pairs = match mask {
        None => b * t * n,
        Some(mask) => {
            let allowed = mask.flatten_all()?.to_vec1::<f32>()?.into_iter().filter(|score| *score > -1e4);
            allowed.count() * b / mask.dims()[0]
        }
    };
    dots(2 * pairs * heads, width);
    Ok(())
}

#[cfg(not(feature = "count"))]
pub(crate) fn dots(_count: usize, _width: usize) {}

#[cfg(not(feature = "count"))]
pub(crate) fn attention(
    _q: &candle_core::Tensor,
    _n: usize,
    _mask: Option<&candle_core::Tensor>,
) -> candle_core::Result<()> {
    Ok(())
}
