//! Between a model's configuration and the plain dimensions that [`foveate_law::cost`] counts with.

use foveate_law::cost::{LlmDimensions, TowerDimensions};

use crate::llm::{Architecture, DecoderConfig};
use crate::nn::{Activation, RotaryScaling};
use crate::vision::{ClipConfig, SiglipConfig, VisionConfig};
use crate::{ModelError, Result};

impl DecoderConfig {
    /// A Llama of these dimensions, for measurements without a checkpoint.
    ///
    /// # Errors
    /// [`ModelError::Config`] for dimensions that it cannot have.
    pub fn of_dimensions(dimensions: &LlmDimensions) -> Result<Self> {
        if !dimensions.gated {
            return Err(ModelError::config("gated", false, "only gated feed-forward layers are supported"));
        }
        let config = Self {
            architecture: Architecture::Llama,
            vocabulary: dimensions.vocab,
            width: dimensions.hidden,
            hidden: dimensions.intermediate,
            blocks: dimensions.layers,
            heads: dimensions.heads,
            groups: dimensions.kv_heads,
            head_width: dimensions.head_dim,
            activation: Activation::Silu,
            norm_eps: 1e-5,
            rotary_width: dimensions.head_dim,
            rotary_theta: 10_000.0,
            rotary_scaling: RotaryScaling::None,
            context: 8192,
            windows: vec![dimensions.sliding_window; dimensions.layers],
            tied: dimensions.tied_embeddings,
            qkv_bias: dimensions.qkv_bias,
            output_bias: false,
            mlp_bias: false,
            start_token: None,
            end_tokens: Vec::new(),
        };
        config.validate()?;
        Ok(config)
    }

    /// The dimensions of this decoder, called `name`. A window that only some blocks have is left out, so that the cost
    /// is an upper estimate.
    pub fn dimensions(&self, name: &str) -> LlmDimensions {
        let window = self.windows.first().copied().flatten();
        LlmDimensions {
            name: name.to_owned(),
            aliases: Vec::new(),
            family: match self.architecture {
                Architecture::Llama => "Llama",
                Architecture::Mistral => "Mistral",
                Architecture::Qwen2 => "Qwen2",
                Architecture::Phi3 => "Phi-3",
            }
            .to_owned(),
            nominal: None,
            vocab: self.vocabulary,
            hidden: self.width,
            intermediate: self.hidden,
            layers: self.blocks,
            heads: self.heads,
            kv_heads: self.groups,
            head_dim: self.head_width,
            tied_embeddings: self.tied,
            qkv_bias: self.qkv_bias,
            gated: true,
            sliding_window: window.filter(|_| self.windows.iter().all(|other| *other == window)),
            published_parameters: None,
            source: String::new(),
        }
    }
}

impl VisionConfig {
    /// A tower of these dimensions, for measurements without a checkpoint: CLIP's layout with a class token, SigLIP's
    /// without.
    ///
    /// # Errors
    /// [`ModelError::Config`] for dimensions that it cannot have.
    pub fn of_dimensions(dimensions: &TowerDimensions) -> Result<Self> {
        let config = if dimensions.class_token {
            Self::Clip(ClipConfig {
                hidden_size: dimensions.hidden,
                intermediate_size: dimensions.intermediate,
                num_hidden_layers: dimensions.layers,
                num_attention_heads: dimensions.heads,
                image_size: dimensions.image_size,
                patch_size: dimensions.patch,
                ..ClipConfig::default()
            })
        } else {
            Self::Siglip(SiglipConfig {
                hidden_size: dimensions.hidden,
                intermediate_size: dimensions.intermediate,
                num_hidden_layers: dimensions.layers,
                num_attention_heads: dimensions.heads,
                image_size: dimensions.image_size,
                patch_size: dimensions.patch,
                ..SiglipConfig::default()
            })
        };
        config.validate()?;
        Ok(config)
    }

    /// The dimensions of this tower, called `name`, on images of its own size.
    pub fn dimensions(&self, name: &str) -> TowerDimensions {
        let (intermediate, heads) = match self {
            Self::Clip(config) => (config.intermediate_size, config.num_attention_heads),
            Self::Siglip(config) => (config.intermediate_size, config.num_attention_heads),
            Self::Dinov2(config) => {
                (config.hidden_size.saturating_mul(config.mlp_ratio), config.num_attention_heads)
            }
        };
        TowerDimensions {
            name: name.to_owned(),
            aliases: Vec::new(),
            image_size: self.image_size(),
            position_image_size: None,
            patch: self.patch_size(),
            channels: 3,
            hidden: self.width(),
            intermediate,
            layers: self.blocks(),
            heads,
            class_token: self.class_token(),
            register_tokens: 0,
            pre_norm: matches!(self, Self::Clip(_)),
            post_norm: true,
            patch_bias: !matches!(self, Self::Clip(_)),
            biases: true,
            gated: false,
            layer_scale: matches!(self, Self::Dinov2(_)),
            pooling_head: matches!(self, Self::Siglip(_)),
            published_parameters: None,
            source: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use foveate_law::cost::Catalogue;

    use super::*;
    use crate::vision::Dinov2Config;
    use crate::vlm::VlmConfig;

    /// A configuration as published and the catalogue's entry, which others have checked, must cost the same.
    #[test]
    fn published_configurations_have_the_dimensions_of_the_catalogue() {
        let catalogue = Catalogue::builtin();
        let llava = r#"{"model_type": "llava", "text_config": {"model_type": "llama", "vocab_size": 32000},
            "vision_config": {"model_type": "clip_vision_model", "hidden_size": 1024, "image_size": 336,
            "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24, "patch_size": 14}}"#;
        let config = VlmConfig::from_json(llava).unwrap();
        let (found, expected) = (config.text.dimensions("x"), catalogue.llm("vicuna-7b").unwrap());
        assert_eq!(found.parameters(), expected.parameters());
        assert_eq!(found.parameters(), config.text.parameters() as u64);
        let tower = config.vision.unwrap().dimensions("x");
        let expected = catalogue.tower("clip-l-14-336").unwrap();
        assert_eq!(tower.parameters(), expected.parameters());
        assert_eq!((tower.flops(23), tower.ladder()), (expected.flops(23), expected.ladder()));

        let small = VisionConfig::Dinov2(Dinov2Config::small()).dimensions("x");
        let expected = catalogue.tower("dinov2-s-14").unwrap();
        assert_eq!(small.parameters(), expected.parameters());
    }

    #[test]
    fn a_window_counts_where_all_blocks_have_it() {
        let json = r#"{"model_type": "mistral", "num_hidden_layers": 2, "sliding_window": 7}"#;
        let mut config = DecoderConfig::from_json(json).unwrap();
        assert_eq!(config.dimensions("x").sliding_window, Some(7));
        config.windows[1] = None;
        assert_eq!(config.dimensions("x").sliding_window, None);
    }
}
