//! What a vision-language checkpoint says about itself, in the layout of Hugging Face or of the original LLaVA.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::CarriedCompressor;
use crate::llm::{Architecture, DecoderConfig};
use crate::nn::Activation;
use crate::vision::{HiddenState, VisionConfig};
use crate::{ModelError, Result};

/// Which rows of a hidden state the projector reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FeatureSelect {
    /// The patches; a class token is dropped.
    #[serde(rename = "default", alias = "patch")]
    Patches,
    /// The class token and the patches.
    #[serde(rename = "full", alias = "cls_patch")]
    WithClass,
}

/// How an image becomes rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageLayout {
    /// LLaVA-1.5: one square picture.
    Single,
    /// LLaVA-NeXT: the whole picture and tiles of it, unpadded, each row of patches ended by a newline embedding.
    Tiles {
        /// The resolutions that an image may be fitted into, height and width in pixels.
        resolutions: Vec<(usize, usize)>,
    },
}

/// The configuration of a LLaVA-1.5 or LLaVA-NeXT checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct VlmConfig {
    /// The tower; `None` where the checkpoint names one that lies elsewhere (original LLaVA layout).
    pub vision: Option<VisionConfig>,
    /// The name of that tower, such as `openai/clip-vit-large-patch14-336`.
    pub tower_name: Option<String>,
    /// The language model.
    pub text: DecoderConfig,
    /// The hidden states that the projector reads, joined on channels.
    pub feature_states: Vec<HiddenState>,
    /// Which of their rows.
    pub select: FeatureSelect,
    /// Whether images are tiled.
    pub layout: ImageLayout,
    /// Whether a single picture is padded to a square before it is resized, rather than cropped; `None` where
    /// `preprocessor_config.json` says it.
    pub pad_to_square: Option<bool>,
    /// The activation between the projector's layers.
    pub projector_activation: Activation,
    /// Whether the projector's layers have a bias.
    pub projector_bias: bool,
    /// The token that stands for an image in a prompt, where the checkpoint has one.
    pub image_token: Option<u32>,
    /// The compressor that the checkpoint carries, if any.
    pub compressor: Option<CarriedCompressor>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum States {
    One(HiddenState),
    Many(Vec<HiddenState>),
}

impl From<States> for Vec<HiddenState> {
    fn from(states: States) -> Self {
        match states {
            States::One(state) => vec![state],
            States::Many(states) => states,
        }
    }
}

#[derive(Deserialize)]
struct HuggingFace {
    vision_feature_layer: Option<States>,
    vision_feature_select_strategy: Option<FeatureSelect>,
    projector_hidden_act: Option<Activation>,
    multimodal_projector_bias: Option<bool>,
    #[serde(alias = "image_token_id")]
    image_token_index: Option<u32>,
    image_grid_pinpoints: Option<Vec<(usize, usize)>>,
}

#[derive(Deserialize)]
struct Original {
    #[serde(alias = "vision_tower")]
    mm_vision_tower: Option<String>,
    mm_projector_type: Option<String>,
    mm_vision_select_layer: Option<States>,
    mm_vision_select_feature: Option<FeatureSelect>,
    mm_patch_merge_type: Option<String>,
    image_aspect_ratio: Option<String>,
    image_grid_pinpoints: Option<Vec<(usize, usize)>>,
}

const KINDS: &str = "must be llava, llava_next, llava_llama, llava_mistral or llava_qwen";

impl VlmConfig {
    /// LLaVA-1.5's way of joining a tower to a language model: the patches of hidden state −2 through two layers with GELU,
    /// single pictures padded to squares, no compressor.
    pub fn plain(vision: VisionConfig, text: DecoderConfig) -> Self {
        Self {
            vision: Some(vision),
            tower_name: None,
            text,
            feature_states: vec![HiddenState::from_end(2)],
            select: FeatureSelect::Patches,
            layout: ImageLayout::Single,
            pad_to_square: Some(true),
            projector_activation: Activation::Gelu,
            projector_bias: true,
            image_token: None,
            compressor: None,
        }
    }

    /// Reads a `config.json`.
    ///
    /// # Errors
    /// [`ModelError::Config`] naming the field and what is allowed; [`ModelError::Json`] for other text.
    pub fn from_json(text: &str) -> Result<Self> {
        let value: Value =
            serde_json::from_str(text).map_err(|error| ModelError::json("config.json", &error))?;
        let kind = value.get("model_type").and_then(Value::as_str).unwrap_or("missing");
        // The first original checkpoints say `llava` too, but have no `text_config`.
        let nested = value.get("text_config").is_some();
        match kind {
            "llava" if nested => Self::hugging_face(&value, false),
            "llava_next" => Self::hugging_face(&value, true),
            "llava" | "llava_llama" => Self::original(&value, Architecture::Llama),
            "llava_mistral" => Self::original(&value, Architecture::Mistral),
            "llava_qwen" => Self::original(&value, Architecture::Qwen2),
            other => Err(ModelError::config("model_type", other, KINDS)),
        }
    }

    fn hugging_face(value: &Value, tiles: bool) -> Result<Self> {
        let stored: HuggingFace =
            serde_json::from_value(value.clone()).map_err(|error| ModelError::json("config.json", &error))?;
        let empty = Value::Object(serde_json::Map::new());
        let text = value.get("text_config").unwrap_or(&empty);
        let kind = text.get("model_type").cloned().unwrap_or_else(|| "llama".into());
        let architecture = serde_json::from_value(kind.clone()).map_err(|_| {
            ModelError::config("text_config.model_type", kind, "must be llama, mistral, qwen2 or phi3")
        })?;
        let vision = value.get("vision_config");
        let vision =
            vision.ok_or_else(|| ModelError::config("vision_config", "missing", "must be an object"))?;
        let layout = if tiles {
            let resolutions = stored.image_grid_pinpoints.unwrap_or_else(|| next_resolutions(336));
            ImageLayout::Tiles { resolutions }
        } else {
            ImageLayout::Single
        };
        let config = Self {
            vision: Some(VisionConfig::from_value(vision)?),
            tower_name: None,
            text: DecoderConfig::from_value(text, architecture)?,
            feature_states: stored.vision_feature_layer.map_or_else(second_last, Vec::from),
            select: stored.vision_feature_select_strategy.unwrap_or(FeatureSelect::Patches),
            layout,
            pad_to_square: None,
            projector_activation: stored.projector_hidden_act.unwrap_or(Activation::Gelu),
            projector_bias: stored.multimodal_projector_bias.unwrap_or(true),
            image_token: stored.image_token_index.or(Some(32_000)),
            compressor: CarriedCompressor::read(value)?,
        };
        config.validate()?;
        Ok(config)
    }

    fn original(value: &Value, architecture: Architecture) -> Result<Self> {
        let stored: Original =
            serde_json::from_value(value.clone()).map_err(|error| ModelError::json("config.json", &error))?;
        let compressor = CarriedCompressor::read(value)?;
        let projector = stored.mm_projector_type.as_deref().unwrap_or("linear");
        // Compressors that end in a projection of their own leave this field at whatever LLaVA's scripts set.
        let leaves = compressor.as_ref().is_none_or(CarriedCompressor::leaves_projector);
        if leaves && projector != "mlp2x_gelu" {
            let expected = "only mlp2x_gelu and tokenpacker are supported";
            return Err(ModelError::config("mm_projector_type", projector, expected));
        }
        let merge = stored.mm_patch_merge_type.as_deref().unwrap_or("flat");
        let aspect = stored.image_aspect_ratio.as_deref().unwrap_or("square");
        let layout = match (aspect, merge) {
            ("pad" | "square", _) => ImageLayout::Single,
            ("anyres", "spatial_unpad") => {
                // Here the width stands first.
                let stored = stored.image_grid_pinpoints;
                let swapped =
                    stored.map(|list| list.into_iter().map(|(width, height)| (height, width)).collect());
                ImageLayout::Tiles { resolutions: swapped.unwrap_or_else(|| next_resolutions(336)) }
            }
            ("anyres", other) => {
                return Err(ModelError::config(
                    "mm_patch_merge_type",
                    other,
                    "only spatial_unpad goes with anyres",
                ));
            }
            (other, _) => {
                return Err(ModelError::config("image_aspect_ratio", other, "must be pad, square or anyres"));
            }
        };
        let config = Self {
            vision: None,
            tower_name: stored.mm_vision_tower,
            text: DecoderConfig::from_value(value, architecture)?,
            feature_states: stored.mm_vision_select_layer.map_or_else(second_last, Vec::from),
            select: stored.mm_vision_select_feature.unwrap_or(FeatureSelect::Patches),
            layout,
            pad_to_square: Some(aspect == "pad"),
            projector_activation: Activation::Gelu,
            projector_bias: true,
            // The original code splits prompts at the text `<image>`; the vocabulary has no token for it.
            image_token: None,
            compressor,
        };
        config.validate()?;
        Ok(config)
    }

    pub(super) fn validate(&self) -> Result<()> {
        if self.feature_states.is_empty() {
            return Err(ModelError::config(
                "vision_feature_layer",
                "[]",
                "must name at least one hidden state",
            ));
        }
        if let Some(vision) = &self.vision {
            for state in &self.feature_states {
                state.resolve(vision.blocks())?;
            }
        }
        Ok(())
    }
}

fn second_last() -> Vec<HiddenState> {
    vec![HiddenState::from_end(2)]
}

/// LLaVA-NeXT's resolutions for a tower of `side` pixels.
fn next_resolutions(side: usize) -> Vec<(usize, usize)> {
    [(1, 2), (2, 1), (2, 2), (3, 1), (1, 3)].map(|(rows, columns)| (rows * side, columns * side)).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    // As published for llava-hf/llava-1.5-7b-hf: nearly everything of the language model is left to defaults.
    const PUBLISHED: &str = r#"{"model_type": "llava", "image_token_index": 32000, "ignore_index": -100,
        "projector_hidden_act": "gelu", "vision_feature_layer": -2, "vision_feature_select_strategy": "default",
        "text_config": {"model_type": "llama", "max_position_embeddings": 4096, "rms_norm_eps": 1e-05,
            "vocab_size": 32064},
        "vision_config": {"model_type": "clip_vision_model", "hidden_size": 1024, "image_size": 336,
            "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 24, "patch_size": 14,
            "projection_dim": 768, "vocab_size": 32000}}"#;

    #[test]
    fn the_published_file_is_a_seven_billion_model() {
        let config = VlmConfig::from_json(PUBLISHED).unwrap();
        assert_eq!(config.text.parameters(), 6_738_939_904);
        assert_eq!(config.vision.as_ref().unwrap().grid().patches(), 576);
        assert_eq!(config.feature_states[0].resolve(24).unwrap(), 23);
        assert_eq!((config.layout, config.image_token), (ImageLayout::Single, Some(32_000)));
    }

    #[test]
    fn the_original_layout_names_its_tower() {
        let json = r#"{"model_type": "llava_llama", "mm_vision_tower": "openai/clip-vit-large-patch14-336",
            "mm_projector_type": "mlp2x_gelu", "mm_vision_select_layer": -2, "mm_vision_select_feature": "patch",
            "image_aspect_ratio": "anyres", "mm_patch_merge_type": "spatial_unpad", "hidden_size": 4096,
            "image_grid_pinpoints": [[672, 336], [1008, 336]]}"#;
        let config = VlmConfig::from_json(json).unwrap();
        assert_eq!(config.tower_name.as_deref(), Some("openai/clip-vit-large-patch14-336"));
        assert!(matches!(&config.layout, ImageLayout::Tiles { resolutions } if resolutions[0] == (336, 672)));
        let padded = VlmConfig::from_json(&json.replace("anyres", "pad")).unwrap();
        assert_eq!((padded.layout, padded.pad_to_square), (ImageLayout::Single, Some(true)));
        let message = VlmConfig::from_json(&json.replace("anyres", "anyres_max_9")).unwrap_err().to_string();
        assert!(message.contains("anyres_max_9") && message.contains("square"), "{message}");
        let message = VlmConfig::from_json(&json.replace("mlp2x_gelu", "linear")).unwrap_err().to_string();
        assert!(message.contains("mm_projector_type") && message.contains("mlp2x_gelu"), "{message}");
    }

    #[test]
    fn errors_name_the_field() {
        let message =
            VlmConfig::from_json(&PUBLISHED.replace("\"llava\"", "\"bert\"")).unwrap_err().to_string();
        assert!(message.contains("bert") && message.contains("llava_next"), "{message}");
        let message = VlmConfig::from_json(&PUBLISHED.replace("-2", "-26")).unwrap_err().to_string();
        assert!(message.contains("-26") && message.contains("0..=24"), "{message}");
        let message =
            VlmConfig::from_json(&PUBLISHED.replace("\"default\"", "\"cls\"")).unwrap_err().to_string();
        assert!(message.contains("cls"), "{message}");
    }
}
