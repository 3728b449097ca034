//! One block of the decoder: grouped attention and a gated MLP, each behind an RMS norm and added to its input.

use candle_core::Tensor;

use super::config::{Architecture, DecoderConfig};
use super::{KeyValueCache, Padding, Stretch};
use crate::Result;
use crate::nn::{Activation, Heads, Linear, RmsNorm, RotaryTables, Stacked};
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
pub(super) struct Pass<'a, 'c> {
    pub(super) rotary: RotaryTables,
    pub(super) past: Past<'a, 'c>,
}

/// What the positions of a pass see besides each other.
pub(super) enum Past<'a, 'c> {
    /// Nothing; the batch is padded so.
    None(&'a Padding),
    /// The positions of a cache for the whole batch.
    Batch(&'a mut KeyValueCache),
    /// Each stretch of a stack its own cache.
    Stack(&'a mut [Stretch<'c>]),
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

    /// `[b, t, d] -> [b, t, d]`; `index` is the block's place in the cache, `window` how many positions it sees at most.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        window: Option<usize>,
        index: usize,
        pass: &mut Pass<'_, '_>,
    ) -> Result<Tensor> {
        let x = self.attention.forward_added(&self.attention_norm.forward(x)?, x, window, index, pass)?;
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
        window: Option<usize>,
        index: usize,
        pass: &mut Pass<'_, '_>,
    ) -> Result<Tensor> {
        let Heads { heads, groups, width } = self.heads;
        let joined = self.joined.forward(x)?; // [b, t, (heads + 2 · groups) · head]
        let joined = pass.rotary.rotate(&joined, heads + groups, width)?;
        let mixed = match &mut pass.past {
            Past::None(padding) => self.heads.attend(&joined, &padding.sight(0, window))?,
            Past::Batch(cache) => self.attend_behind(&joined, cache, window, index)?,
            Past::Stack(stretches) => {
                let mut mixed = Vec::with_capacity(stretches.len());
                let mut first = 0;
                for Stretch { rows, cache } in stretches.iter_mut() {
                    let own = joined.narrow(1, first, *rows)?; // [1, rows, …]
                    mixed.push(self.attend_behind(&own, cache, window, index)?);
                    first += *rows;
                }
                Tensor::cat(&mixed, 1)?
            }
        }; // [b, t, heads · head]
        self.output.forward_added(&mixed, residual)
    }

    /// Attention of joined rows to each other and to what `cache` keeps, which gets their keys and values.
    fn attend_behind(
        &self,
        joined: &Tensor,
        cache: &mut KeyValueCache,
        window: Option<usize>,
        index: usize,
    ) -> Result<Tensor> {
        let sight = cache.padding().sight(cache.len(), window);
        let new = joined.narrow(2, self.heads.queries(), 2 * self.heads.keys())?;
        let (kept, n) = cache.write(index, &new)?; // [b, capacity, 2 · groups · head]
        Ok(self.heads.attend_kept(joined, kept, n, &sight)?)
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
