//! DINOv2 (Oquab et al., arXiv 2304.07193).
//!
//! Tensors: `embeddings.{cls_token, position_embeddings, patch_embeddings.projection}`, `encoder.layer.N.{norm1,
//! attention.attention.{query, key, value}, attention.output.dense, layer_scale1.lambda1, norm2, mlp.{fc1, fc2},
//! layer_scale2.lambda1}`; `mask_token` and the final `layernorm` are not read.
//! Unlike its siblings it scales each branch per channel (LayerScale) and reads images of any size: the position table
//! is resized to their grid. The giant's SwiGLU and registers are not supported.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use super::block::{Block, BlockNames, BlockShape, validate, walk};
use super::patches::{Grid, PatchEmbedding, patch_grid, resize_behind};
use super::{ImageSize, VisionOutput, Wanted};
use crate::nn::Activation;
use crate::weights::Weights;
use crate::{ModelError, Result};

/// `Dinov2Config`; fields left out have the defaults of transformers (base).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Dinov2Config {
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width inside the MLP, as a multiple of `hidden_size`.
    pub mlp_ratio: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// The images that the position table is for, in pixels: a side, or height and width.
    pub image_size: ImageSize,
    /// Side of a patch, in pixels.
    pub patch_size: usize,
    /// Activation of the MLP.
    pub hidden_act: Activation,
    /// Epsilon of the norms.
    pub layer_norm_eps: f64,
    /// Whether the query, key and value projections have a bias; all published models do.
    pub qkv_bias: bool,
    /// Whether the MLP is a SwiGLU, which is not supported.
    pub use_swiglu_ffn: bool,
}

impl Default for Dinov2Config {
    fn default() -> Self {
        Self {
            hidden_size: 768,
            mlp_ratio: 4,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            image_size: 224.into(),
            patch_size: 14,
            hidden_act: Activation::Gelu,
            layer_norm_eps: 1e-6,
            qkv_bias: true,
            use_swiglu_ffn: false,
        }
    }
}

impl Dinov2Config {
    /// DINOv2-S/14 with the position table of 518 pixels: 37 × 37 patches of width 384.
    pub fn small() -> Self {
        Self { hidden_size: 384, num_attention_heads: 6, image_size: 518.into(), ..Self::default() }
    }

    /// Reads the dimensions off the tensors, for files without a configuration (ONNX). What shapes cannot tell is as
    /// published: heads of width 64, patches of 14 pixels unless the convolution says otherwise.
    ///
    /// # Errors
    /// [`ModelError::Config`] naming a tensor that is missing or has a shape that no DINOv2 has.
    pub fn from_shapes(weights: &Weights) -> Result<Self> {
        let dims = |name: &'static str| match weights.shape(name) {
            Some(shape) if shape.dims().iter().all(|size| *size > 0) => Ok(shape.into_dims()),
            Some(shape) => Err(ModelError::config(name, format!("{shape:?}"), "must not be empty")),
            None => Err(ModelError::config(name, "missing", "must be there to tell the dimensions")),
        };
        let unexpected = |name, found: &[usize], expected: &str| {
            Err(ModelError::config(name, format!("of shape {found:?}"), format!("must be {expected}")))
        };
        let convolution = "embeddings.patch_embeddings.projection.weight";
        let (width, patch) = match dims(convolution)?[..] {
            [width, 3, patch, other] if patch == other => (width, patch),
            ref found => return unexpected(convolution, found, "[width, 3, patch, patch]"),
        };
        let table = "embeddings.position_embeddings";
        let side = match dims(table)?[..] {
            [1, count, other] if other == width && (count - 1).isqrt().pow(2) == count - 1 => {
                (count - 1).isqrt()
            }
            ref found => return unexpected(table, found, "[1, 1 + side², width]"),
        };
        let widening = "encoder.layer.0.mlp.fc1.weight";
        let mlp_ratio = match dims(widening)?[..] {
            [hidden, other] if other == width && hidden.is_multiple_of(width) => hidden / width,
            ref found => return unexpected(widening, found, "[a multiple of width, width]"),
        };
        let blocks =
            (0..).take_while(|block| weights.contains(&format!("encoder.layer.{block}.norm1.weight")));
        let config = Self {
            hidden_size: width,
            mlp_ratio,
            num_hidden_layers: blocks.count(),
            num_attention_heads: width / 64,
            image_size: (side * patch).into(),
            patch_size: patch,
            ..Self::default()
        };
        config.validate()?;
        Ok(config)
    }

    fn shape(&self) -> BlockShape {
        BlockShape {
            width: self.hidden_size,
            hidden: self.hidden_size.saturating_mul(self.mlp_ratio),
            heads: self.num_attention_heads,
            eps: self.layer_norm_eps,
            activation: self.hidden_act,
        }
    }

    pub(super) fn validate(&self) -> Result<()> {
        if self.use_swiglu_ffn {
            return Err(ModelError::config("use_swiglu_ffn", true, "only false is supported"));
        }
        if !self.qkv_bias {
            return Err(ModelError::config("qkv_bias", false, "only true is supported"));
        }
        validate(&self.shape(), self.num_hidden_layers, self.image_size, self.patch_size)
    }
}

const NAMES: BlockNames = BlockNames {
    norm1: "norm1",
    query: "attention.attention.query",
    key: "attention.attention.key",
    value: "attention.attention.value",
    output: "attention.output.dense",
    scale1: Some("layer_scale1.lambda1"),
    norm2: "norm2",
    fc1: "mlp.fc1",
    fc2: "mlp.fc2",
    scale2: Some("layer_scale2.lambda1"),
};

/// The tower.
#[derive(Clone, Debug)]
pub struct Dinov2 {
    class: Tensor,
    patches: PatchEmbedding,
    positions: Tensor,
    blocks: Vec<Block>,
    config: Dinov2Config,
}

impl Dinov2 {
    /// Takes the tensors below `embeddings` and `encoder.layer`.
    ///
    /// # Errors
    /// A tensor that is missing or has another shape.
    pub fn load(config: Dinov2Config, weights: &Weights) -> Result<Self> {
        config.validate()?;
        let embeddings = weights.pp("embeddings");
        let width = config.hidden_size;
        let patches = patch_grid(config.image_size, config.patch_size).patches();
        let projection = embeddings.pp("patch_embeddings.projection");
        let layers = weights.pp("encoder.layer");
        Ok(Self {
            class: embeddings.get((1, 1, width), "cls_token")?,
            patches: PatchEmbedding::load(&projection, width, config.patch_size, true)?,
            positions: embeddings.get((1, patches + 1, width), "position_embeddings")?,
            blocks: Block::load_all(&layers, config.num_hidden_layers, config.shape(), &NAMES)?,
            config,
        })
    }

    /// The configuration that the tower was built from.
    pub fn config(&self) -> &Dinov2Config {
        &self.config
    }

    pub(super) fn blocks(&self) -> &[Block] {
        &self.blocks
    }

    /// See [`VisionTower::resized`](super::VisionTower::resized).
    pub(super) fn resized(&self, image_size: ImageSize) -> Result<Self> {
        let config = Dinov2Config { image_size, ..self.config.clone() };
        config.validate()?;
        let positions = self.positions_for(patch_grid(image_size, config.patch_size))?;
        Ok(Self { positions, config, ..self.clone() })
    }

    /// See [`VisionTower::forward`](super::VisionTower::forward); any image of at least one patch.
    ///
    /// # Errors
    /// Pixels of another rank, or a state or block that does not exist.
    pub fn forward(&self, pixels: &Tensor, wanted: &Wanted<'_>) -> Result<VisionOutput> {
        let (patches, grid) = self.patches.forward(pixels)?; // [b, 3, h, w] -> [b, patches, d]
        let (b, _, width) = patches.dims3()?;
        let class = self.class.broadcast_as((b, 1, width))?; // [b, 1, d]
        let x = Tensor::cat(&[class, patches], 1)?; // [b, 1 + patches, d]
        let start = x.broadcast_add(&self.positions_for(grid)?)?; // [b, 1 + patches, d]
        Ok(VisionOutput::new(walk(&self.blocks, start, wanted)?, grid, true))
    }

    /// `[1, 1 + patches, d]`: the class token's position is kept, the others are resized.
    fn positions_for(&self, grid: Grid) -> Result<Tensor> {
        let trained = patch_grid(self.config.image_size, self.config.patch_size);
        if grid == trained {
            return Ok(self.positions.clone());
        }
        Ok(resize_behind(&self.positions.squeeze(0)?, 1, trained, grid)?.unsqueeze(0)?)
    }
}
