//! LLaVA-1.5 from a pair of llama.cpp files: the language model, and the tower with the projector (`--mmproj`).
//!
//! The converter leaves out the tower's last block, because LLaVA reads state −2 and nothing behind it: 23 of CLIP-L's
//! 24 blocks are there, and *all* of them run. llama.cpp itself stopped one block earlier for years (its issue 25817); we
//! follow the model.

use std::path::Path;

use super::{Vlm, VlmConfig};
use crate::checkpoint::{harmless_in_decoder, refuse_unused};
use crate::llm::DecoderConfig;
use crate::nn::Activation;
use crate::vision::{ClipConfig, HiddenState, VisionConfig, VisionTower};
use crate::weights::gguf::{self, GgufFile, ImageEncoderConfig};
use crate::{Dtype, Result};

impl Vlm {
    /// Opens a pair of GGUF files and keeps their matrices as `dtype`.
    ///
    /// # Errors
    /// A file that cannot be read or holds another model; a tensor that is missing, has another shape or is not part of
    /// the model, such as LLaVA-NeXT's `image_newline`.
    pub fn open_llama_cpp(language: &Path, projector: &Path, dtype: Dtype) -> Result<Self> {
        Self::from_llama_cpp(&GgufFile::open(language)?, &GgufFile::open(projector)?, dtype)
    }

    /// As [`open_llama_cpp`](Self::open_llama_cpp), from files that are open.
    ///
    /// # Errors
    /// As [`open_llama_cpp`](Self::open_llama_cpp).
    pub fn from_llama_cpp(language: &GgufFile, projector: &GgufFile, dtype: Dtype) -> Result<Self> {
        let config = VlmConfig::from_llama_cpp(language, projector)?;
        let vision = VisionConfig::Clip(ClipConfig::from(&projector.image_encoder()?));
        let (language, projector) = (language.weights()?.packed(dtype), projector.weights()?.packed(dtype));
        let tower = VisionTower::load(vision, &projector.pp("vision_tower"))?;
        let tied = config.text.tied;
        let model = Self::join(config, tower, &projector, &language)?;
        refuse_unused(&projector, |name| name.starts_with("vision_tower.vision_model.post_layernorm."))?;
        refuse_unused(&language, |name| harmless_in_decoder(name, tied))?;
        Ok(model)
    }
}

impl VlmConfig {
    /// The configuration of a pair of GGUF files.
    ///
    /// # Errors
    /// Metadata that is missing or describes another model.
    pub fn from_llama_cpp(language: &GgufFile, projector: &GgufFile) -> Result<Self> {
        let encoder = projector.image_encoder()?;
        let vision = VisionConfig::Clip(ClipConfig::from(&encoder));
        let feature_states = if encoder.feature_layers.is_empty() {
            vec![HiddenState::from_end(1)]
        } else {
            // "Layer n" counts the blocks that have run: hidden state n.
            encoder.feature_layers.into_iter().map(HiddenState::new).collect()
        };
        let config = Self { feature_states, ..Self::plain(vision, DecoderConfig::from_gguf(language)?) };
        config.validate()?;
        Ok(config)
    }
}

impl From<&ImageEncoderConfig> for ClipConfig {
    fn from(stored: &ImageEncoderConfig) -> Self {
        Self {
            hidden_size: stored.width,
            intermediate_size: stored.feed_forward,
            num_hidden_layers: stored.layers,
            num_attention_heads: stored.heads,
            image_size: stored.image.into(),
            patch_size: stored.patch,
            hidden_act: match stored.activation {
                gguf::Activation::QuickGelu => Activation::QuickGelu,
                gguf::Activation::Gelu => Activation::Gelu,
                gguf::Activation::Silu => Activation::Silu,
            },
            layer_norm_eps: stored.norm_epsilon,
        }
    }
}
