//! SigLIP's vision transformer (Zhai et al., arXiv 2303.15343).
//!
//! Tensors: `vision_model.{embeddings.{patch_embedding, position_embedding}, encoder.layers.N.…}`; `post_layernorm` and
//! the pooling `head` are not read, because no hidden state passes them.
//! Unlike CLIP it has no class token, no norm before the blocks, a bias in the patch convolution and tanh-GELU.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::block::{Block, BlockShape, validate, walk};
use super::clip::NAMES;
use super::patches::{PatchEmbedding, patch_grid, resize_positions};
use super::{ImageSize, VisionOutput, Wanted, expect_grid};
use crate::Result;
use crate::nn::Activation;
use crate::weights::Weights;

/// `SiglipVisionConfig`; fields left out have the defaults of transformers (base, patch 16).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SiglipConfig {
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width inside the MLP.
    pub intermediate_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// The input image, in pixels: a side, or height and width.
    pub image_size: ImageSize,
    /// Side of a patch, in pixels.
    pub patch_size: usize,
    /// Activation of the MLP.
    pub hidden_act: Activation,
    /// Epsilon of the norms.
    pub layer_norm_eps: f64,
}

impl Default for SiglipConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            image_size: 224.into(),
            patch_size: 16,
            hidden_act: Activation::GeluTanh,
            layer_norm_eps: 1e-6,
        }
    }
}

impl SiglipConfig {
    /// SO400M/14 at 384 pixels: 27 × 27 patches of width 1152.
    pub fn so400m_384() -> Self {
        Self {
            hidden_size: 1152,
            intermediate_size: 4304,
            num_hidden_layers: 27,
            num_attention_heads: 16,
            image_size: 384.into(),
            patch_size: 14,
            ..Self::default()
        }
    }

    fn shape(&self) -> BlockShape {
        BlockShape {
            width: self.hidden_size,
            hidden: self.intermediate_size,
            heads: self.num_attention_heads,
            eps: self.layer_norm_eps,
            activation: self.hidden_act,
        }
    }

    pub(super) fn validate(&self) -> Result<()> {
        validate(&self.shape(), self.num_hidden_layers, self.image_size, self.patch_size)
    }
}

/// The tower.
#[derive(Clone, Debug)]
pub struct Siglip {
    patches: PatchEmbedding,
    positions: Tensor,
    blocks: Vec<Block>,
    config: SiglipConfig,
}

impl Siglip {
    /// Takes the tensors below `vision_model`.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(config: SiglipConfig, weights: &Weights) -> Result<Self> {
        config.validate()?;
        let weights = weights.pp("vision_model");
        let embeddings = weights.pp("embeddings");
        let width = config.hidden_size;
        let patches = patch_grid(config.image_size, config.patch_size).patches();
        let layers = weights.pp("encoder.layers");
        Ok(Self {
            patches: PatchEmbedding::load(&embeddings.pp("patch_embedding"), width, config.patch_size, true)?,
            positions: embeddings.get((patches, width), "position_embedding.weight")?,
            blocks: Block::load_all(&layers, config.num_hidden_layers, config.shape(), &NAMES)?,
            config,
        })
    }

    /// The configuration that the tower was built from.
    pub fn config(&self) -> &SiglipConfig {
        &self.config
    }

    pub(super) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// See [`VisionTower::resized`](super::VisionTower::resized).
    pub(super) fn resized(&self, image_size: ImageSize) -> Result<Self> {
        let config = SiglipConfig { image_size, ..self.config.clone() };
        config.validate()?;
        let grid = |config: &SiglipConfig| patch_grid(config.image_size, config.patch_size);
        let positions = resize_positions(&self.positions, grid(&self.config), grid(&config))?;
        Ok(Self { positions, config, ..self.clone() })
    }

    /// See [`VisionTower::forward`](super::VisionTower::forward); the image must have the size of the configuration.
    ///
    /// # Errors
    /// Another image size, or a state or block that does not exist.
    pub fn forward(&self, pixels: &Tensor, wanted: &Wanted<'_>) -> Result<VisionOutput> {
        let (patches, grid) = self.patches.forward(pixels)?; // [b, 3, 384, 384] -> [b, 729, d]
        expect_grid(pixels, grid, self.config.image_size, self.config.patch_size)?;
        let start = patches.broadcast_add(&self.positions)?; // [b, 729, d]
        Ok(VisionOutput::new(walk(&self.blocks, start, wanted)?, grid, false))
    }
}
