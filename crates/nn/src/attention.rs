//! Scaled dot-product attention with grouped heads: the one entry point for vision towers and language models.

use std::sync::Arc;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, D, Device, Layout, Result, Shape, Tensor};
use foveate_kernels as kernels;
use kernels::{Mask, Strided};

use crate::cpu::{result, slice, with_slice, wrap};
use crate::threads::pool;

/// A score that no softmax lets through. Finite, so that a row without any allowed key (a padding position) does not
/// turn into NaN.
const FORBIDDEN: f32 = -1e30;

/// How the rows of an attention layer are cut into heads. A row holds the queries of all heads, then the keys of all
/// groups, then their values; the scores are multiplied by 1 / √width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Heads of the queries and of the output.
    pub heads: usize,
    /// Heads of keys and values; divides `heads`, and head `h` reads group `h / (heads / groups)`.
    pub groups: usize,
    /// Numbers in a head.
    pub width: usize,
}

/// Which keys a query may read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// All of them.
    Full,
    /// Those not behind it, not padding, and within the last `window` positions, its own included.
    Causal {
        /// Positions before the first query's.
        start: usize,
        /// How many keys a query reads at most.
        window: Option<usize>,
        /// How many positions of padding each row of the batch starts with. What padding itself reads is not defined.
        padding: Arc<[usize]>,
    },
}

impl Heads {
    /// The width of the queries, and of the output.
    pub fn queries(&self) -> usize {
        self.heads * self.width
    }

    /// The width of the keys, and of the values.
    pub fn keys(&self) -> usize {
        self.groups * self.width
    }

    /// The width of a row: queries, keys, values.
    pub fn joined(&self) -> usize {
        self.queries() + 2 * self.keys()
    }

    fn scale(&self) -> f64 {
        (self.width as f64).powf(-0.5)
    }

    fn check(&self, joined: &Tensor) -> Result<()> {
        if self.groups == 0 || !self.heads.is_multiple_of(self.groups) {
            return Err(crate::shape("attention heads over key groups", &[self.groups], &[self.heads]));
        }
        let found = joined.dim(D::Minus1)?;
        if found == self.joined() {
            return Ok(());
        }
        Err(crate::shape("joined queries, keys and values", &[self.joined()], &[found]))
    }

    /// Attention of positions to each other: joined rows `[b, t, joined] -> [b, t, queries]`.
    ///
    /// # Errors
    /// Another last dimension, or heads that are no multiple of the groups.
    pub fn attend(&self, joined: &Tensor, sight: &Sight) -> Result<Tensor> {
        self.check(joined)?;
        let (_, t, _) = joined.dims3()?;
        crate::count::attention(self, joined, t, sight)?;
        if self.has_kernel(joined) {
            return joined.contiguous()?.apply_op1(Attend { heads: *self, sight: sight.clone() });
        }
        let keys_values = joined.narrow(2, self.queries(), 2 * self.keys())?;
        self.composed(joined, &keys_values, t, sight)
    }

    /// Attention of new positions to all that are kept: joined rows `[b, t, joined]`, of which the queries count, and
    /// keys with values `[b, capacity, 2 · keys]` whose first `n` positions count; `-> [b, t, queries]`.
    ///
    /// # Errors
    /// As [`attend`](Self::attend).
    pub fn attend_kept(&self, joined: &Tensor, kept: &Tensor, n: usize, sight: &Sight) -> Result<Tensor> {
        self.check(joined)?;
        crate::count::attention(self, joined, n, sight)?;
        // The kernel with a cache has no backward pass.
        if self.has_kernel(joined) && !joined.track_op() {
            let op = AttendKept { heads: *self, sight: sight.clone(), n };
            return joined.contiguous()?.apply_op2_no_bwd(kept, &op);
        }
        self.composed(joined, &kept.narrow(1, 0, n)?, n, sight)
    }

    /// Whether the kernels can take it: on the CPU, heads of up to 256 numbers.
    fn has_kernel(&self, joined: &Tensor) -> bool {
        const WIDEST: usize = 256;
        joined.device().is_cpu() && self.width <= WIDEST
    }

    /// In operations that every device has.
    pub(crate) fn composed(
        &self,
        joined: &Tensor,
        keys_values: &Tensor,
        n: usize,
        sight: &Sight,
    ) -> Result<Tensor> {
        let (b, t, _) = joined.dims3()?;
        let split = |rows: &Tensor, at: usize, heads: usize, length: usize| -> Result<Tensor> {
            let part = rows.narrow(2, at, heads * self.width)?.reshape((b, length, heads, self.width))?;
            part.transpose(1, 2)?.contiguous()
        };
        let q = split(joined, 0, self.heads, t)?; // [b, heads, t, width]
        let k = split(keys_values, 0, self.groups, n)?; // [b, groups, n, width]
        let v = split(keys_values, self.keys(), self.groups, n)?; // [b, groups, n, width]
        let mask = sight.mask(b, t, n, joined.device())?; // [b or 1, t, n]
        let mixed = attention(&q, &k, &v, mask.as_ref(), self.scale())?; // [b, heads, t, width]
        mixed.transpose(1, 2)?.reshape((b, t, self.queries()))
    }

    fn kernel(&self, mask: Mask) -> kernels::Attention {
        let (heads, key_heads, head_size) = (self.heads, self.groups, self.width);
        kernels::Attention { heads, key_heads, head_size, scale: self.scale() as f32, mask }
    }
}

impl Sight {
    /// Whether `query` (counted from the first new one) of batch row `row` may read `key`.
    fn sees(&self, row: usize, query: usize, key: usize) -> bool {
        match self {
            Self::Full => true,
            Self::Causal { start, window, padding } => {
                let own = start + query;
                let nearest = window.map_or(0, |window| (own + 1).saturating_sub(window));
                (nearest.max(padding.get(row).copied().unwrap_or(0))..=own).contains(&key)
            }
        }
    }

    /// The pairs of query and key in a batch of `b` that are allowed.
    #[cfg(feature = "count")]
    pub(crate) fn pairs(&self, b: usize, t: usize, n: usize) -> usize {
        let of_row =
            |row| (0..t).map(|query| (0..n).filter(|&key| self.sees(row, query, key)).count()).sum::<usize>();
        (0..b).map(of_row).sum()
    }

    /// What is added to the scores, `[b or 1, t, n]`; `None` where all is allowed.
    fn mask(&self, b: usize, t: usize, n: usize, device: &Device) -> Result<Option<Tensor>> {
        let rows = match self {
            Self::Full => return Ok(None),
            Self::Causal { padding, .. } if padding.iter().all(|&pad| pad == 0) => 1,
            Self::Causal { .. } => b,
        };
        let places = (0..rows).flat_map(|row| (0..t).map(move |query| (row, query)));
        let score = |row, query, key| if self.sees(row, query, key) { 0.0 } else { FORBIDDEN };
        let scores: Vec<f32> =
            places.flat_map(|(row, query)| (0..n).map(move |key| score(row, query, key))).collect();
        Ok(Some(Tensor::from_vec(scores, (rows, t, n), device)?))
    }

    /// For row `row` of a batch of `t` queries: the first query that is not padding, the first key that is not, and the
    /// mask from there on.
    fn of_row(&self, row: usize) -> (usize, usize, Mask) {
        match self {
            Self::Full => (0, 0, Mask::Full),
            Self::Causal { start, window, padding } => {
                let pad = padding.get(row).copied().unwrap_or(0);
                let first = pad.saturating_sub(*start);
                (first, pad, Mask::Causal { offset: start + first - pad, window: *window })
            }
        }
    }
}

/// Rows `first..` of heads that start at column `at` of rows `width` wide.
fn strided(rows: &[f32], first: usize, at: usize, width: usize, head: usize) -> Strided<'_> {
    Strided {
        numbers: rows.get(first * width + at..).unwrap_or_default(),
        row_stride: width,
        head_stride: head,
    }
}

/// The keys and values that queries meet: of each batch row `length` rows `width` wide, keys from column `at` on and values
/// behind them. The first `n` count.
struct KeysValues<'a> {
    numbers: &'a [f32],
    length: usize,
    width: usize,
    at: usize,
    n: usize,
}

/// The queries at the front of joined rows `[b, t, joined]` over `keys_values`: `[b, t, queries]`. Padding gives zeros.
fn run(
    heads: &Heads,
    sight: &Sight,
    joined: &[f32],
    (b, t): (usize, usize),
    keys_values: &KeysValues<'_>,
) -> Result<(CpuStorage, Shape)> {
    let &KeysValues { numbers, length, width, at, n } = keys_values;
    let (head, queries) = (heads.width, heads.queries());
    let inputs = |row: usize, first: usize, pad: usize| {
        let joined = &joined[row * t * heads.joined()..][..t * heads.joined()];
        let kept = &numbers[row * length * width..][..length * width];
        let part = |at| strided(kept, pad, at, width, head);
        (strided(joined, first, 0, heads.joined(), head), part(at), part(at + heads.keys()))
    };
    if let (1, (0, 0, mask)) = (b, sight.of_row(0)) {
        let (q, k, v) = inputs(0, 0, 0);
        let out = heads.kernel(mask).run_new(q, t, k, v, n, &pool()).map_err(wrap)?;
        return Ok(result(out, (b, t, queries)));
    }
    let mut out = vec![0.0; b * t * queries];
    for row in 0..b {
        let (first, pad, mask) = sight.of_row(row);
        let count = t.saturating_sub(first);
        if count == 0 {
            continue;
        }
        let (q, k, v) = inputs(row, first, pad);
        let out = &mut out[(row * t + first) * queries..(row + 1) * t * queries];
        heads.kernel(mask).run(q, count, k, v, n - pad, out, &pool()).map_err(wrap)?;
    }
    Ok(result(out, (b, t, queries)))
}

struct Attend {
    heads: Heads,
    sight: Sight,
}

impl CustomOp1 for Attend {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, joined: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (b, t, width) = layout.shape().dims3()?;
        let joined = slice(joined, layout)?;
        let keys_values = KeysValues { numbers: joined, length: t, width, at: self.heads.queries(), n: t };
        run(&self.heads, &self.sight, joined, (b, t), &keys_values)
    }

    fn bwd(&self, joined: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let (b, t, width) = joined.dims3()?;
        let Heads { width: head, .. } = self.heads;
        let (queries, keys) = (self.heads.queries(), self.heads.keys());
        let mut gradient = vec![0.0; b * t * width];
        with_slice(joined, |joined| {
            with_slice(dy, |dy| {
                for row in 0..b {
                    let joined = &joined[row * t * width..][..t * width];
                    let (first, pad, mask) = self.sight.of_row(row);
                    let count = t.saturating_sub(first);
                    if count == 0 {
                        continue;
                    }
                    let part = |first, at| strided(joined, first, at, width, head);
                    let (q, k, v) = (part(first, 0), part(pad, queries), part(pad, queries + keys));
                    let dy = strided(&dy[row * t * queries..][..t * queries], first, 0, queries, head);
                    let mut dq = vec![0.0; count * queries];
                    let (mut dk, mut dv) = (vec![0.0; (t - pad) * keys], vec![0.0; (t - pad) * keys]);
                    let layer = self.heads.kernel(mask);
                    layer
                        .backward(q, count, k, v, t - pad, dy, &mut dq, &mut dk, &mut dv, &pool())
                        .map_err(wrap)?;
                    let rows = gradient[row * t * width..][..t * width].chunks_exact_mut(width);
                    for (at, joined) in rows.enumerate() {
                        if let Some(query) = at.checked_sub(first) {
                            joined[..queries].copy_from_slice(&dq[query * queries..][..queries]);
                        }
                        if let Some(key) = at.checked_sub(pad) {
                            let (to_k, to_v) = joined[queries..].split_at_mut(keys);
                            to_k.copy_from_slice(&dk[key * keys..][..keys]);
                            to_v.copy_from_slice(&dv[key * keys..][..keys]);
                        }
                    }
                }
                Ok(())
            })
        })?;
        Ok(Some(Tensor::from_vec(gradient, (b, t, width), joined.device())?))
    }
}

struct AttendKept {
    heads: Heads,
    sight: Sight,
    n: usize,
}

impl CustomOp2 for AttendKept {
    fn name(&self) -> &'static str {
        "attention-with-cache"
    }

    fn cpu_fwd(
        &self,
        joined: &CpuStorage,
        layout: &Layout,
        kept: &CpuStorage,
        of_kept: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (b, t, _) = layout.shape().dims3()?;
        let (_, length, width) = of_kept.shape().dims3()?;
        let keys_values = KeysValues { numbers: slice(kept, of_kept)?, length, width, at: 0, n: self.n };
        run(&self.heads, &self.sight, slice(joined, layout)?, (b, t), &keys_values)
    }
}

/// `softmax(q kᵀ · scale + mask) v`.
///
/// * `q` `[b, heads, t, width]`, `k` and `v` `[b, groups, n, width]`, where `groups` divides `heads` and head `h` reads
///   group `h / (heads / groups)`.
/// * `mask` `[b or 1, t, n]` is added to the scores of every head. Use a large negative number rather than −∞ to forbid:
///   a row where everything is forbidden then stays finite.
///
/// Returns `[b, heads, t, width]`.
///
/// # Errors
/// Shapes that do not fit together.
fn attention(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>, scale: f64) -> Result<Tensor> {
    let (b, heads, t, width) = q.dims4()?;
    let (_, groups, n, _) = k.dims4()?;
    if groups == 0 || !heads.is_multiple_of(groups) {
        return Err(crate::shape("attention heads over key groups", &[groups], &[heads]));
    }
    let each = heads / groups;
    // The queries of one group stand below each other, so that its keys need no copy per head.
    let q = (q * scale)?.reshape((b, groups, each * t, width))?; // [b, groups, each·t, width]
    let mut scores = q.matmul(&k.t()?)?; // [b, groups, each·t, n]
    if let Some(mask) = mask {
        let mask = mask.unsqueeze(1)?.unsqueeze(1)?; // [b or 1, 1, 1, t, n]
        scores = scores.reshape((b, groups, each, t, n))?.broadcast_add(&mask)?;
        scores = scores.reshape((b, groups, each * t, n))?;
    }
    let mixed = softmax(&scores)?.matmul(v)?; // [b, groups, each·t, width]
    mixed.reshape((b, heads, t, width))
}

/// Softmax over the last dimension, safe against overflow.
///
/// # Errors
/// Only those of the tensor library.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    // The subtracted maximum cancels in the value and in the gradient.
    let exp = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?.exp()?;
    exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::{Device, Var};

    #[test]
    fn softmax_survives_large_scores_and_sums_to_one() {
        let x = Tensor::new(&[[1e4_f32, 1e4, -1e30], [0.0, 2.0_f32.ln(), -1e30]], &Device::Cpu).unwrap();
        let p = softmax(&x).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(p[0], [0.5, 0.5, 0.0]);
        assert!((p[1][0] - 1.0 / 3.0).abs() < 1e-6 && (p[1][1] - 2.0 / 3.0).abs() < 1e-6);
    }

    #[test]
    fn softmax_passes_the_gradient() {
        let x = Var::new(&[0.3_f32, -0.2, 0.9], &Device::Cpu).unwrap();
        let p = softmax(&x).unwrap();
        let loss = p.get(1).unwrap();
        let gradient = loss.backward().unwrap().get(&x).unwrap().to_vec1::<f32>().unwrap();
        let p = p.to_vec1::<f32>().unwrap();
        // d p₁ / d x_j = p₁ (δ₁ⱼ − p_j)
        for j in 0..3 {
            let expected = p[1] * (f32::from(u8::from(j == 1)) - p[j]);
            assert!((gradient[j] - expected).abs() < 1e-6);
        }
    }

    #[test]
    fn grouped_heads_equal_repeated_keys() {
        let device = Device::Cpu;
        let random = |shape: &[usize]| Tensor::randn(0.0_f32, 1.0, shape, &device).unwrap();
        let (q, k, v) = (random(&[2, 6, 3, 4]), random(&[2, 2, 5, 4]), random(&[2, 2, 5, 4]));
        let repeat = |x: &Tensor| {
            let rows: Vec<_> = (0..6).map(|head| x.narrow(1, head / 3, 1).unwrap()).collect();
            Tensor::cat(&rows, 1).unwrap()
        };
        let mask = random(&[1, 3, 5]);
        let grouped = attention(&q, &k, &v, Some(&mask), 0.5).unwrap();
        let repeated = attention(&q, &repeat(&k), &repeat(&v), Some(&mask), 0.5).unwrap();
        let apart =
            (grouped - repeated).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(apart < 1e-6, "{apart}");
    }
}
