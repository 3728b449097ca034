//! One block of the decoder: grouped attention and a gated MLP, each behind an RMS norm and added to its input.

use candle_core::Tensor;

use super::KeyValueCache;
use super::config::{Architecture, DecoderConfig};
use crate::Result;
use crate::nn::{Activation, Heads, Linear, RmsNorm, RotaryTables, Sight, Stacked};
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
    joined: Stacked,
    output: Linear,
    heads: Heads,
}

#[derive(Clone, Debug)]
struct Mlp {
    gate_up: Stacked,
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

    /// `[b, t, d] -> [b, t, d]`; `index` is the block's place in the cache.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        sight: &Sight,
        index: usize,
        pass: &mut Pass<'_>,
    ) -> Result<Tensor> {
        let x = self.attention.forward_added(&self.attention_norm.forward(x)?, x, sight, index, pass)?;
        self.mlp.forward_added(&self.mlp_norm.forward(&x)?, &x)
    }

    /// Bytes that the matrices take in memory.
    pub(super) fn bytes(&self) -> usize {
        let Self { attention, mlp, .. } = self;
        attention.joined.bytes() + attention.output.bytes() + mlp.gate_up.bytes() + mlp.down.bytes()
    }
}

/// Layers with one input: one fused tensor of the checkpoint, or one for each.
fn stacked(
    weights: &Weights,
    fused: Option<&str>,
    parts: &[(&str, usize)],
    input: usize,
    bias: bool,
) -> Result<Stacked> {
    let parts: Vec<(Weights, usize)> = match fused {
        Some(name) => vec![(weights.pp(name), parts.iter().map(|(_, output)| output).sum())],
        None => parts.iter().map(|(name, output)| (weights.pp(name), *output)).collect(),
    };
    Stacked::load(&parts, input, bias, None)
}

impl Attention {
    fn load(config: &DecoderConfig, weights: &Weights) -> Result<Self> {
        let heads = Heads { heads: config.heads, groups: config.groups, width: config.head_width };
        let parts = [("q_proj", heads.queries()), ("k_proj", heads.keys()), ("v_proj", heads.keys())];
        let fused = (config.architecture == Architecture::Phi3).then_some("qkv_proj");
        Ok(Self {
            joined: stacked(weights, fused, &parts, config.width, config.qkv_bias)?,
            output: Linear::load(&weights.pp("o_proj"), heads.queries(), config.width, config.output_bias)?,
            heads,
        })
    }

    /// `residual + attention(x)`
    fn forward_added(
        &self,
        x: &Tensor,
        residual: &Tensor,
        sight: &Sight,
        index: usize,
        pass: &mut Pass<'_>,
    ) -> Result<Tensor> {
        let Heads { heads, groups, width } = self.heads;
        let joined = self.joined.forward(x)?; // [b, t, (heads + 2 · groups) · head]
        let joined = pass.rotary.rotate(&joined, heads + groups, width)?;
        let mixed = match &mut pass.cache {
            Some(cache) => {
                let new = joined.narrow(2, self.heads.queries(), 2 * self.heads.keys())?;
                let (kept, n) = cache.write(index, &new)?; // [b, capacity, 2 · groups · head]
                self.heads.attend_kept(&joined, kept, n, sight)?
            }
            None => self.heads.attend(&joined, sight)?,
        }; // [b, t, heads · head]
        self.output.forward_added(&mixed, residual)
    }
}

impl Mlp {
    fn load(config: &DecoderConfig, weights: &Weights) -> Result<Self> {
        let (width, hidden, bias) = (config.width, config.hidden, config.mlp_bias);
        let fused = (config.architecture == Architecture::Phi3).then_some("gate_up_proj");
        Ok(Self {
            gate_up: stacked(weights, fused, &[("gate_proj", hidden), ("up_proj", hidden)], width, bias)?,
            down: Linear::load(&weights.pp("down_proj"), hidden, width, bias)?,
            activation: config.activation,
        })
    }

    /// `residual + mlp(x)`
    fn forward_added(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        let gated = self.activation.gate(&self.gate_up.forward(x)?)?; // [b, t, hidden]
        self.down.forward_added(&gated, residual)
    }
}
