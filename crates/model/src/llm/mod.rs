//! Language models: one decoder for Llama, Mistral, Qwen2, Phi-3 and SmolLM2, told apart by configuration alone.
//!
//! Tensors: `model.{embed_tokens, layers.N.{input_layernorm, self_attn.{q,k,v,o}_proj, post_attention_layernorm,
//! mlp.{gate,up,down}_proj}, norm}` and `lm_head`, which is absent where it is tied to the embedding; Phi-3 stores
//! `qkv_proj` and `gate_up_proj` fused. Left out on purpose: mixtures of experts, dynamic RoPE scalings.

mod block;
mod cache;
mod config;
mod gguf;
mod hugging_face;
mod padding;
mod stack;
#[cfg(test)]
pub(crate) mod tests;

use std::path::Path;

use candle_core::{DType, Tensor};

use block::{Block, Pass, Past};
pub use cache::KeyValueCache;
pub use config::{Architecture, DecoderConfig};
pub use padding::Padding;
pub use stack::Stretch;

use crate::checkpoint::{harmless_in_decoder, read_config, refuse_unused};
use crate::nn::{Linear, RmsNorm, Rotary};
use crate::weights::Weights;
use crate::weights::gguf::GgufFile;
use crate::{Dtype, ModelError, Result};

/// What a pass reads.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Token ids, u32 `[b, t]`.
    Tokens(&'a Tensor),
    /// Embedded positions, `[b, t, d]`.
    Embeddings(&'a Tensor),
}

/// A decoder with its weights.
#[derive(Clone, Debug)]
pub struct Decoder {
    embedding: Linear,
    blocks: Vec<Block>,
    norm: RmsNorm,
    head: Linear,
    rotary: Rotary,
    config: DecoderConfig,
}

impl Decoder {
    /// Opens a folder with `config.json` and weights, or a GGUF file, and keeps its matrices as `dtype`.
    ///
    /// # Errors
    /// A file that cannot be read, a configuration that is not a decoder's, a tensor that is missing, has another shape
    /// or is not part of the model.
    pub fn open(path: &Path, dtype: Dtype) -> Result<Self> {
        let (config, weights) = if path.is_dir() {
            (DecoderConfig::from_json(&read_config(path)?)?, Weights::open(path)?)
        } else {
            let file = GgufFile::open(path)?;
            (DecoderConfig::from_gguf(&file)?, file.weights()?)
        };
        let weights = weights.packed(dtype);
        let decoder = Self::load(config, &weights)?;
        refuse_unused(&weights, |name| harmless_in_decoder(name, decoder.config.tied))?;
        Ok(decoder)
    }

    /// Takes the tensors of [`DecoderConfig::tensors`] from `weights`.
    ///
    /// # Errors
    /// A configuration that no decoder can have, or a tensor that is missing or has another shape.
    pub fn load(config: DecoderConfig, weights: &Weights) -> Result<Self> {
        config.validate()?;
        let model = weights.pp("model");
        let embedding = Linear::load(&model.pp("embed_tokens"), config.width, config.vocabulary, false)?;
        let head = if config.tied {
            embedding.clone()
        } else {
            Linear::load(&weights.pp("lm_head"), config.width, config.vocabulary, false)?
        };
        let layers = model.pp("layers");
        Ok(Self {
            embedding,
            blocks: (0..config.blocks)
                .map(|block| Block::load(&config, &layers.pp(block)))
                .collect::<Result<_>>()?,
            norm: RmsNorm::load(&model.pp("norm"), config.width, config.norm_eps)?,
            head,
            rotary: Rotary::new(config.rotary_width, config.rotary_theta, &config.rotary_scaling),
            config,
        })
    }

    /// The configuration that the decoder was built from.
    pub fn config(&self) -> &DecoderConfig {
        &self.config
    }

    /// Bytes that the matrices take in memory: one of the embedding and the head where they are tied.
    pub fn bytes(&self) -> usize {
        let head = if self.config.tied { 0 } else { self.head.bytes() };
        self.embedding.bytes() + head + self.blocks.iter().map(Block::bytes).sum::<usize>()
    }

    /// An empty cache for a batch padded as `padding` says.
    pub fn cache(&self, padding: Padding) -> KeyValueCache {
        KeyValueCache::new(&self.config, padding)
    }

    /// Looks tokens up: u32 `[b, t] -> [b, t, d]`.
    ///
    /// # Errors
    /// [`ModelError::Token`] for a token outside the vocabulary.
    pub fn embed(&self, tokens: &Tensor) -> Result<Tensor> {
        let (b, t) = tokens.dims2()?;
        let ids = tokens.to_dtype(DType::U32)?.flatten_all()?;
        let vocabulary = self.config.vocabulary;
        // Checked here, because the tensor library would name neither the token nor the vocabulary.
        if let Some(&token) = ids.to_vec1::<u32>()?.iter().find(|token| **token as usize >= vocabulary) {
            return Err(ModelError::Token { token, vocabulary });
        }
        Ok(self.embedding.rows(&ids)?.reshape((b, t, self.config.width))?)
    }

    /// The hidden states after the final norm, `[b, t, d]`, of positions that follow those in `cache`, which keeps
    /// them.
    ///
    /// # Errors
    /// [`ModelError::Context`] when the cache and the input together pass the context; a batch of another size than the
    /// cache's. The cache is then as before.
    pub fn forward(&self, input: Input<'_>, cache: &mut KeyValueCache) -> Result<Tensor> {
        let padding = cache.padding().clone();
        let x = self.run(input, &padding, Some(cache), |_| ())?;
        self.norm.forward(&x)
    }

    /// The same without a cache, for training: nothing is written in place, so gradients pass.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn forward_uncached(&self, input: Input<'_>, padding: &Padding) -> Result<Tensor> {
        self.norm.forward(&self.run(input, padding, None, |_| ())?)
    }

    /// All hidden states, `[b, t, d]` each: 0 is the embedding, i the output of block i counted from 1, except that
    /// the last one has passed the final norm, as transformers returns them.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn hidden_states(&self, input: Input<'_>, padding: &Padding) -> Result<Vec<Tensor>> {
        let mut states = Vec::with_capacity(self.blocks.len() + 1);
        let last = self.run(input, padding, None, |x| states.push(x.clone()))?;
        states.push(self.norm.forward(&last)?);
        Ok(states)
    }

    /// The hidden state of each row's last token after the final norm, `[b, d]`: what QueCC reads of a question.
    ///
    /// # Errors
    /// As [`forward`](Self::forward).
    pub fn last_hidden(&self, input: Input<'_>, padding: &Padding) -> Result<Tensor> {
        let x = self.run(input, padding, None, |_| ())?; // [b, t, d]
        let last = x.narrow(1, x.dim(1)? - 1, 1)?.squeeze(1)?; // [b, d]
        self.norm.forward(&last)
    }

    /// Scores over the vocabulary: hidden states `[.., d] -> [.., vocabulary]`.
    ///
    /// # Errors
    /// Another last dimension.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        self.head.forward(hidden)
    }

    /// Scores after the last position only: `[b, t, d] -> [b, vocabulary]`.
    ///
    /// # Errors
    /// Another last dimension.
    pub fn last_logits(&self, hidden: &Tensor) -> Result<Tensor> {
        let last = hidden.narrow(1, hidden.dim(1)? - 1, 1)?.squeeze(1)?;
        self.logits(&last)
    }

    /// The output of the last block, before the final norm; `observe` sees the input of each block.
    fn run(
        &self,
        input: Input<'_>,
        padding: &Padding,
        mut cache: Option<&mut KeyValueCache>,
        mut observe: impl FnMut(&Tensor),
    ) -> Result<Tensor> {
        let mut x = match input {
            Input::Tokens(tokens) => self.embed(tokens)?,
            Input::Embeddings(embeddings) => embeddings.clone(),
        };
        let t = x.dim(1)?;
        self.check(&x, padding.rows())?;
        let start = cache.as_ref().map_or(0, |cache| cache.len());
        self.check_context(start + t)?;
        let rotary = self.rotary.tables(&padding.rotary_positions(start, t));
        let past = match cache.as_deref_mut() {
            Some(cache) => Past::Batch(cache),
            None => Past::None(padding),
        };
        x = self.through_blocks(x, Pass { rotary, past }, &mut observe)?;
        if let Some(cache) = cache {
            cache.advance(t);
        }
        Ok(x)
    }

    /// `observe` sees the input of each block.
    fn through_blocks(
        &self,
        mut x: Tensor,
        mut pass: Pass<'_, '_>,
        observe: &mut impl FnMut(&Tensor),
    ) -> Result<Tensor> {
        for (index, (block, &window)) in self.blocks.iter().zip(&self.config.windows).enumerate() {
            observe(&x);
            x = block.forward(&x, window, index, &mut pass)?;
        }
        Ok(x)
    }

    /// Refuses embedded positions of another batch or width, and none at all.
    fn check(&self, x: &Tensor, rows: usize) -> Result<()> {
        let (b, t, width) = x.dims3()?;
        if width != self.config.width || b != rows {
            let expected = [rows, t, self.config.width];
            return Err(ModelError::shape("input of the language model", &expected, x.dims()));
        }
        if t == 0 || b == 0 {
            return Err(ModelError::EmptyInput);
        }
        Ok(())
    }

    fn check_context(&self, needed: usize) -> Result<()> {
        let limit = self.config.context;
        if needed > limit { Err(ModelError::Context { needed, limit }) } else { Ok(()) }
    }
}
