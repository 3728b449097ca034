//! A language model as a list of dimensions: Llama, Vicuna, SmolLM2, Qwen1.5, Qwen2.5 and Phi-3 are one decoder
//! with options. RMSNorm before attention and feed-forward layer and after the last block; no bias but q, k and v.

use serde::{Deserialize, Serialize};

use super::{
    dimensions::check_name,
    dtype::Dtype,
    error::{CostError, within},
    work::Work,
};

/// A decoder-only language model. Values from outside are checked by [`LlmDimensions::validate`]; a
/// [`Catalogue`](super::Catalogue) holds checked ones only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LlmDimensions {
    /// Name to look it up by.
    pub name: String,
    /// Other names it answers to, such as its repository.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// The family it belongs to, such as `Qwen1.5`: models of one family are comparable along N.
    #[serde(default)]
    pub family: String,
    /// The size in its name (0.5e9 for a "0.5B"), which published tables use as N; without one the true count is.
    #[serde(default)]
    pub nominal: Option<f64>,
    /// Rows of the embedding table.
    pub vocab: usize,
    /// Width D of a token.
    pub hidden: usize,
    /// Width of the feed-forward layer.
    pub intermediate: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; they divide the query heads.
    pub kv_heads: usize,
    /// Channels of one head.
    pub head_dim: usize,
    /// The output head is the embedding table.
    #[serde(default)]
    pub tied_embeddings: bool,
    /// q, k and v have biases.
    #[serde(default)]
    pub qkv_bias: bool,
    /// The feed-forward layer is gated (SwiGLU): three matrices instead of two.
    #[serde(default = "yes")]
    pub gated: bool,
    /// Most tokens that a token attends to, itself included.
    #[serde(default)]
    pub sliding_window: Option<usize>,
    /// Parameters as published, for comparison with [`LlmDimensions::parameters`].
    #[serde(default)]
    pub published_parameters: Option<u64>,
    /// Where the dimensions and the published count come from.
    #[serde(default)]
    pub source: String,
}

fn yes() -> bool {
    true
}

impl LlmDimensions {
    /// N: all parameters, tied embeddings once.
    ///
    /// ```
    /// use foveate_law::cost::Catalogue;
    /// assert_eq!(Catalogue::builtin().llm("qwen1.5-0.5b")?.parameters(), 463_987_712);
    /// # Ok::<(), foveate_law::cost::CostError>(())
    /// ```
    pub fn parameters(&self) -> u64 {
        let d = self.hidden as f64;
        let bias = if self.qkv_bias { self.query_width() + 2.0 * self.kv_width() } else { 0.0 };
        let tables = if self.tied_embeddings { 1.0 } else { 2.0 };
        let layers = self.layers as f64;
        // The cast saturates; every real model is exact.
        (tables * self.vocab as f64 * d + self.block(1.0).weights * layers + layers * (bias + 2.0 * d) + d)
            as u64
    }

    /// The size in the model's name, or the true count where it has none.
    pub fn nominal_parameters(&self) -> f64 {
        self.nominal.unwrap_or(self.parameters() as f64)
    }

    /// Bytes that one token takes in the KV cache.
    pub fn kv_bytes_per_token(&self, dtype: Dtype) -> f64 {
        2.0 * self.layers as f64 * self.kv_width() * dtype.bytes()
    }

    /// Refuses dimensions that no model can have.
    ///
    /// # Errors
    /// [`CostError::Dimension`] with the field, its value and what is allowed.
    pub fn validate(&self) -> Result<(), CostError> {
        let name = self.name.as_str();
        check_name(name)?;
        within(name, "vocab", self.vocab, 1..=1 << 26)?;
        within(name, "hidden", self.hidden, 1..=1 << 20)?;
        within(name, "intermediate", self.intermediate, 1..=1 << 22)?;
        within(name, "layers", self.layers, 1..=4096)?;
        within(name, "heads", self.heads, 1..=1 << 16)?;
        within(name, "kv_heads", self.kv_heads, 1..=self.heads)?;
        within(name, "head_dim", self.head_dim, 1..=1 << 16)?;
        if let Some(window) = self.sliding_window {
            within(name, "sliding_window", window, 1..=1 << 30)?;
        }
        let refused = |field, value: String, allowed: String| {
            Err(CostError::Dimension { name: self.name.clone(), field, value, allowed })
        };
        if !self.heads.is_multiple_of(self.kv_heads) {
            let allowed = format!("it must divide heads = {}", self.heads);
            return refused("kv_heads", self.kv_heads.to_string(), allowed);
        }
        match self.nominal {
            Some(nominal) if !(nominal.is_finite() && (1.0..=1e15).contains(&nominal)) => {
                refused("nominal", nominal.to_string(), "it must lie in 1..=1e15 parameters".to_owned())
            }
            _ => Ok(()),
        }
    }

    fn query_width(&self) -> f64 {
        self.heads as f64 * self.head_dim as f64
    }

    fn kv_width(&self) -> f64 {
        self.kv_heads as f64 * self.head_dim as f64
    }

    /// The products of one block over `tokens` tokens, without attention.
    fn block(&self, tokens: f64) -> Work {
        let (d, i) = (self.hidden as f64, self.intermediate as f64);
        let mut work = Work::default();
        work.product(tokens, d, self.query_width());
        work.product(tokens, d, self.kv_width());
        work.product(tokens, d, self.kv_width());
        work.product(tokens, self.query_width(), d);
        for _ in 0..if self.gated { 2 } else { 1 } {
            work.product(tokens, d, i);
        }
        work.product(tokens, i, d);
        work
    }

    /// One pass of all blocks over `tokens` new tokens that attend along `pairs` query-key pairs; no output head.
    pub(crate) fn pass(&self, tokens: f64, pairs: f64) -> Work {
        let mut block = self.block(tokens);
        block.attention(tokens, pairs, self.query_width());
        block.times(self.layers as f64)
    }

    /// The output head for one token.
    pub(crate) fn head(&self) -> Work {
        let mut work = Work::default();
        work.product(1.0, self.hidden as f64, self.vocab as f64);
        work
    }

    /// Query-key pairs of `new` tokens behind `cached` ones: each sees all before it and itself, at most a window.
    pub(crate) fn pairs(&self, cached: f64, new: f64) -> f64 {
        let window = self.sliding_window.map_or(f64::INFINITY, |window| window as f64);
        // The first tokens see one more each, the others a full window.
        let growing = (window - cached).clamp(0.0, new);
        let full = new - growing;
        growing * cached + growing * (growing + 1.0) / 2.0 + if full > 0.0 { full * window } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn tiny() -> LlmDimensions {
        LlmDimensions {
            name: "tiny".to_owned(),
            aliases: Vec::new(),
            family: String::new(),
            nominal: None,
            vocab: 10,
            hidden: 4,
            intermediate: 8,
            layers: 1,
            heads: 2,
            kv_heads: 1,
            head_dim: 2,
            tied_embeddings: false,
            qkv_bias: false,
            gated: true,
            sliding_window: None,
            published_parameters: None,
            source: String::new(),
        }
    }

    #[test]
    fn tiny_model_by_hand() {
        // q 16, k 8, v 8, o 16, feed-forward 3 · 32; two tables of 40; three norms of 4.
        assert_eq!(tiny().parameters(), 144 + 80 + 12);
        assert_eq!(LlmDimensions { tied_embeddings: true, ..tiny() }.parameters(), 144 + 40 + 12);
        assert_eq!(LlmDimensions { qkv_bias: true, ..tiny() }.parameters(), 144 + 80 + 12 + 8);
        assert_eq!(LlmDimensions { gated: false, ..tiny() }.parameters(), 112 + 80 + 12);
        assert_eq!(tiny().nominal_parameters(), 236.0);
        assert_eq!(tiny().kv_bytes_per_token(Dtype::F16), 2.0 * 2.0 * 2.0);
        // Three tokens through 144 weights, and 1 + 2 + 3 pairs of 4 channels for scores and values.
        assert_eq!(tiny().pass(3.0, tiny().pairs(0.0, 3.0)).flops, 2.0 * 3.0 * 144.0 + 4.0 * 6.0 * 4.0);
        assert_eq!(tiny().head().flops, 80.0);
    }

    proptest! {
        #[test]
        fn pairs_equal_the_sum_over_tokens(cached in 0_usize..50, new in 0_usize..50, window in 1_usize..120) {
            let model = LlmDimensions { sliding_window: Some(window), ..tiny() };
            let expected: usize = (1..=new).map(|i| (cached + i).min(window)).sum();
            prop_assert_eq!(model.pairs(cached as f64, new as f64), expected as f64);
            let all: usize = (1..=new).map(|i| cached + i).sum();
            prop_assert_eq!(tiny().pairs(cached as f64, new as f64), all as f64);
        }
    }

    #[test]
    fn absurd_dimensions_are_refused_with_the_field_and_the_limit() {
        let refused = |change: fn(&mut LlmDimensions), expected: &str| {
            let mut model = tiny();
            change(&mut model);
            let message = model.validate().unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        };
        refused(|m| m.vocab = 0, "`tiny`: vocab = 0 is not allowed; it must lie in 1..=67108864");
        refused(|m| m.kv_heads = 3, "kv_heads = 3 is not allowed; it must lie in 1..=2");
        refused(|m| (m.heads, m.kv_heads) = (5, 2), "kv_heads = 2 is not allowed; it must divide heads = 5");
        refused(|m| m.nominal = Some(f64::NAN), "nominal = NaN");
        refused(|m| m.sliding_window = Some(0), "sliding_window = 0");
        assert!(tiny().validate().is_ok());
        let extreme = LlmDimensions { hidden: usize::MAX, layers: usize::MAX, ..tiny() };
        assert_eq!(extreme.parameters(), u64::MAX);
    }
}
