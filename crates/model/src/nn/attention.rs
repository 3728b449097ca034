//! Scaled dot-product attention with grouped heads: the one entry point for vision towers and language models.

use candle_core::{D, Tensor};

use crate::{ModelError, Result};

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
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>, scale: f64) -> Result<Tensor> {
    let (b, heads, t, width) = q.dims4()?;
    let (_, groups, n, _) = k.dims4()?;
    if groups == 0 || !heads.is_multiple_of(groups) {
        return Err(ModelError::shape("attention heads over key groups", &[groups], &[heads]));
    }
    crate::count::attention(q, n, mask)?;
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
    Ok(mixed.reshape((b, heads, t, width))?)
}

/// Softmax over the last dimension, safe against overflow.
///
/// # Errors
/// Only those of the tensor library.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    // The subtracted maximum cancels in the value and in the gradient.
    let exp = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?.exp()?;
    Ok(exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)?)
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
