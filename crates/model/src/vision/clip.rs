//! CLIP's vision transformer (Radford et al., arXiv 2103.00020).
//!
//! Tensors: `vision_model.{embeddings.{class_embedding, patch_embedding, position_embedding}, pre_layrnorm,
//! encoder.layers.N.…}`; `post_layernorm` is not read, because no hidden state passes it.
//! Unlike its siblings it has no bias in the patch convolution, a norm *before* the blocks (its misspelt name is the
//! published one), and quick-GELU.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::block::{Block, BlockNames, BlockShape, validate, walk};
use super::patches::{PatchEmbedding, patch_grid, resize_behind};
use super::{ImageSize, VisionOutput, Wanted, expect_grid};
use crate::Result;
use crate::nn::{Activation, LayerNorm};
use crate::weights::Weights;

/// `CLIPVisionConfig`; fields left out have the defaults of transformers (ViT-B/32).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClipConfig {
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

impl Default for ClipConfig {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            image_size: 224.into(),
            patch_size: 32,
            hidden_act: Activation::QuickGelu,
            layer_norm_eps: 1e-5,
        }
    }
}

impl ClipConfig {
    /// ViT-L/14 at 336 pixels, the tower of LLaVA-1.5: 24 × 24 patches of width 1024.
    pub fn large_336() -> Self {
        Self {
            hidden_size: 1024,
            intermediate_size: 4096,
            num_hidden_layers: 24,
            num_attention_heads: 16,
            image_size: 336.into(),
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

/// The names of a block's parts in CLIP and SigLIP checkpoints.
pub(super) const NAMES: BlockNames = BlockNames {
    norm1: "layer_norm1",
    query: "self_attn.q_proj",
    key: "self_attn.k_proj",
    value: "self_attn.v_proj",
    output: "self_attn.out_proj",
    scale1: None,
    norm2: "layer_norm2",
    fc1: "mlp.fc1",
    fc2: "mlp.fc2",
    scale2: None,
};

/// The tower.
#[derive(Clone, Debug)]
pub struct Clip {
    class: Tensor,
    patches: PatchEmbedding,
    positions: Tensor,
    pre_norm: LayerNorm,
    blocks: Vec<Block>,
    config: ClipConfig,
}

impl Clip {
    /// Takes the tensors below `vision_model`.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(config: ClipConfig, weights: &Weights) -> Result<Self> {
        config.validate()?;
        let weights = weights.pp("vision_model");
        let embeddings = weights.pp("embeddings");
        let width = config.hidden_size;
        let patches = patch_grid(config.image_size, config.patch_size).patches();
        let layers = weights.pp("encoder.layers");
        Ok(Self {
            class: embeddings.get(width, "class_embedding")?,
            patches: PatchEmbedding::load(
                &embeddings.pp("patch_embedding"),
                width,
                config.patch_size,
                false,
            )?,
            positions: embeddings.get((patches + 1, width), "position_embedding.weight")?,
            pre_norm: LayerNorm::load(&weights.pp("pre_layrnorm"), width, config.layer_norm_eps)?,
            blocks: Block::load_all(&layers, config.num_hidden_layers, config.shape(), &NAMES)?,
            config,
        })
    }

    /// The configuration that the tower was built from.
    pub fn config(&self) -> &ClipConfig {
        &self.config
    }

    pub(super) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// See [`VisionTower::resized`](super::VisionTower::resized).
    pub(super) fn resized(&self, image_size: ImageSize) -> Result<Self> {
        let config = ClipConfig { image_size, ..self.config.clone() };
        config.validate()?;
        let grid = |config: &ClipConfig| patch_grid(config.image_size, config.patch_size);
        let positions = resize_behind(&self.positions, 1, grid(&self.config), grid(&config))?;
        Ok(Self { positions, config, ..self.clone() })
    }

    /// See [`VisionTower::forward`](super::VisionTower::forward); the image must have the size of the configuration.
    ///
    /// # Errors
    /// Another image size, or a state or block that does not exist.
    pub fn forward(&self, pixels: &Tensor, wanted: &Wanted<'_>) -> Result<VisionOutput> {
        let (patches, grid) = self.patches.forward(pixels)?; // [b, 3, 336, 336] -> [b, 576, d]
        expect_grid(pixels, grid, self.config.image_size, self.config.patch_size)?;
        let (b, _, width) = patches.dims3()?;
        let class = self.class.broadcast_as((b, 1, width))?; // [d] -> [b, 1, d]
        let x = Tensor::cat(&[class, patches], 1)?.broadcast_add(&self.positions)?; // [b, 577, d]
        let start = self.pre_norm.forward(&x)?; // [b, 577, d]
        Ok(VisionOutput::new(walk(&self.blocks, start, wanted)?, grid, true))
    }
}
