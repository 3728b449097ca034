//! A decoder from a GGUF file of llama.cpp.

use super::{Architecture, DecoderConfig};
use crate::error::MOST_BLOCKS;
use crate::nn::{Activation, RotaryScaling};
use crate::weights::gguf::{self, GgufFile, RopeScaling};
use crate::{ModelError, Result};

impl DecoderConfig {
    /// Reads the metadata of a GGUF language model.
    ///
    /// # Errors
    /// [`ModelError::Weights`] naming the key that is missing or has a wrong value; [`ModelError::Config`] for Phi-3's
    /// "longrope", whose frequencies change in the middle of a long text.
    pub fn from_gguf(file: &GgufFile) -> Result<Self> {
        let stored = file.language_model()?;
        // Before anything is made for each block: the number may be hostile.
        ModelError::check_size("block_count", stored.layers, MOST_BLOCKS)?;
        let token =
            |key: &str| file.metadata().get::<u64>(key).map(|id| id.and_then(|id| u32::try_from(id).ok()));
        let mut end_tokens: Vec<u32> = token("tokenizer.ggml.eos_token_id")?.into_iter().collect();
        end_tokens.extend(file.ends_of_turn()?);
        end_tokens.sort_unstable();
        end_tokens.dedup();
        let config = Self {
            architecture: match stored.architecture {
                gguf::Architecture::Llama => Architecture::Llama,
                gguf::Architecture::Qwen2 => Architecture::Qwen2,
                gguf::Architecture::Phi3 => Architecture::Phi3,
            },
            vocabulary: stored.vocabulary,
            width: stored.width,
            hidden: stored.feed_forward,
            blocks: stored.layers,
            heads: stored.heads,
            groups: stored.key_value_heads,
            head_width: stored.head_width,
            activation: Activation::Silu,
            norm_eps: stored.norm_epsilon,
            rotary_width: stored.rotary_width,
            rotary_theta: stored.rope_base,
            rotary_scaling: match stored.rope_scaling {
                RopeScaling::None => RotaryScaling::None,
                RopeScaling::Linear { factor } => RotaryScaling::Linear { factor },
                RopeScaling::Divisors(divisors) => RotaryScaling::Divisors(divisors),
                RopeScaling::Long { .. } => {
                    let expected = "must be none, linear or a tensor of divisors";
                    return Err(ModelError::config("rope.scaling", "longrope", expected));
                }
            },
            context: stored.context,
            windows: vec![stored.sliding_window; stored.layers],
            tied: stored.tied_embeddings,
            qkv_bias: stored.attention_bias,
            output_bias: false,
            mlp_bias: false,
            start_token: token("tokenizer.ggml.bos_token_id")?,
            end_tokens,
        };
        config.validate()?;
        Ok(config)
    }
}
