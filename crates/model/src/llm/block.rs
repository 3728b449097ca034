//! One block of the decoder: grouped attention and a gated MLP, each behind an RMS norm and added to its input.

use candle_core::Tensor;

use super::KeyValueCache;
use super::config::{Architecture, DecoderConfig};
use crate::Result;
use crate::nn::{Activation, Linear, RmsNorm, RotaryTables, attention};
use crate::weights::Weights;

/// `x + attention(norm(x))`, then `x + mlp(norm(x))`.
#[derive(Clone, Debug)]
pub(super) struct Block {
    attention_norm: RmsNorm,
    attention: Attention,
    mlp_norm: RmsNorm,
    mlp: Mlp,
}

#[derive(Clone, Debug)]
struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    heads: usize,
    groups: usize,
    head_width: usize,
}

#[derive(Clone, Debug)]
struct Mlp {
    gate: Linear,
    up: Linear,
    down: Linear,
    activation: Activation,
}

/// What all blocks of one pass share.
pub(super) struct Pass<'a> {
    pub(super) rotary: &'a RotaryTables,
    pub(super) cache: Option<&'a mut KeyValueCache>,
}

impl Block {
    pub(super) fn load(config: &DecoderConfig, weights: &Weights) -> Result<Self> {
        let norm = |name: &str| RmsNorm::load(&weights.pp(name), config.width, config.norm_eps);
        Ok(Self {
            attention_norm: norm("input_layernorm")?,
            attention: Attention::load(config, &weights.pp("self_attn"))?,
            mlp_norm: norm("post_attention_layernorm")?,
            mlp: Mlp::load(config, &weights.pp("mlp"))?,
        })
    }

    /// `[b, t, d] -> [b, t, d]`; `mask` `[b or 1, t, past + t]`, `index` is the block's place in the cache.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        mask: Option<&Tensor>,
        index: usize,
        pass: &mut Pass<'_>,
    ) -> Result<Tensor> {
        let x = (x + self.attention.forward(&self.attention_norm.forward(x)?, mask, index, pass)?)?;
        Ok((&x + self.mlp.forward(&self.mlp_norm.forward(&x)?)?)?)
    }
}

impl Attention {
    fn load(config: &DecoderConfig, weights: &Weights) -> Result<Self> {
        let (width, bias) = (config.width, config.qkv_bias);
        let (queries, keys) = (config.heads * config.head_width, config.groups * config.head_width);
        let [query, key, value] = if config.architecture == Architecture::Phi3 {
            let fused = Linear::load(&weights.pp("qkv_proj"), width, queries + 2 * keys, bias)?;
            fused.split([queries, keys, keys])?
        } else {
            [
                Linear::load(&weights.pp("q_proj"), width, queries, bias)?,
                Linear::load(&weights.pp("k_proj"), width, keys, bias)?,
                Linear::load(&weights.pp("v_proj"), width, keys, bias)?,
            ]
        };
        let output = Linear::load(&weights.pp("o_proj"), queries, width, config.output_bias)?;
        let DecoderConfig { heads, groups, head_width, .. } = *config;
        Ok(Self { query, key, value, output, heads, groups, head_width })
    }

    fn forward(
        &self,
        x: &Tensor,
        mask: Option<&Tensor>,
        index: usize,
        pass: &mut Pass<'_>,
    ) -> Result<Tensor> {
        let (b, t, _) = x.dims3()?;
        let split = |layer: &Linear, heads: usize| -> Result<Tensor> {
            Ok(layer.forward(x)?.reshape((b, t, heads, self.head_width))?.transpose(1, 2)?.contiguous()?)
        };
        let q = pass.rotary.rotate(&split(&self.query, self.heads)?)?; // [b, heads, t, head]
        let k = pass.rotary.rotate(&split(&self.key, self.groups)?)?; // [b, groups, t, head]
        let v = split(&self.value, self.groups)?; // [b, groups, t, head]
        let (k, v) = match &mut pass.cache {
            Some(cache) => cache.write(index, &k, &v)?, // [b, groups, past + t, head]
            None => (k, v),
        };
        let mixed = attention(&q, &k, &v, mask, (self.head_width as f64).powf(-0.5))?; // [b, heads, t, head]
        self.output.forward(&mixed.transpose(1, 2)?.reshape((b, t, self.heads * self.head_width))?)
    }
}

impl Mlp {
    fn load(config: &DecoderConfig, weights: &Weights) -> Result<Self> {
        let (width, hidden, bias) = (config.width, config.hidden, config.mlp_bias);
        let [gate, up] = if config.architecture == Architecture::Phi3 {
            Linear::load(&weights.pp("gate_up_proj"), width, 2 * hidden, bias)?.split([hidden, hidden])?
        } else {
            [
                Linear::load(&weights.pp("gate_proj"), width, hidden, bias)?,
                Linear::load(&weights.pp("up_proj"), width, hidden, bias)?,
            ]
        };
        let down = Linear::load(&weights.pp("down_proj"), hidden, width, bias)?;
        Ok(Self { gate, up, down, activation: config.activation })
    }

    /// `[b, t, d] -> [b, t, d]`
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let gate = self.activation.forward(&self.gate.forward(x)?)?; // [b, t, hidden]
        self.down.forward(&(gate * self.up.forward(x)?)?)
    }
}
