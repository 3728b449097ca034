//! Vision towers: pixels to hidden states.
//!
//! A tower returns the hidden states that are asked for, and the attention inputs of chosen blocks, and runs no block
//! more than these need. No state passes the tower's final norm.

mod block;
mod clip;
mod dinov2;
mod patches;
mod siglip;
mod state;

use std::path::Path;

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use block::Block;
pub use block::BlockAttention;
pub use clip::{Clip, ClipConfig};
pub use dinov2::{Dinov2, Dinov2Config};
pub use foveate_law::cost::ImageSize;
pub use patches::Grid;
use patches::patch_grid;
pub use siglip::{Siglip, SiglipConfig};
pub use state::{BlockIndex, HiddenState};

use crate::checkpoint::{harmless_in_tower, read_config, refuse_unused};
use crate::weights::Weights;
use crate::{Dtype, ModelError, Result};

/// What a call of a tower should return.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'a> {
    /// Hidden states, in any order.
    pub states: &'a [HiddenState],
    /// Blocks whose queries and keys are needed.
    pub attention: &'a [BlockIndex],
    /// Which queries of these blocks.
    pub queries: Queries,
}

/// Which queries of a block are wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Queries {
    /// Those of all tokens.
    #[default]
    All,
    /// That of row 0 alone: enough for methods that rank patches by the class token's attention.
    ClassToken,
}

impl<'a> Wanted<'a> {
    /// Hidden states only.
    pub fn states(states: &'a [HiddenState]) -> Self {
        Self { states, ..Self::default() }
    }
}

/// What the blocks gave.
#[derive(Clone, Debug)]
pub struct VisionStates {
    /// One `[b, class + patches, width]` for each wanted state, in the order asked for.
    pub states: Vec<Tensor>,
    /// One entry for each wanted block, in the order asked for.
    pub attention: Vec<BlockAttention>,
    /// How many blocks ran in full.
    pub blocks_run: usize,
}

/// What a tower gave for a batch of images.
#[derive(Clone, Debug)]
pub struct VisionOutput {
    /// One `[b, class + patches, width]` for each wanted state, in the order asked for; patches are row-major.
    pub states: Vec<Tensor>,
    /// One entry for each wanted block, in the order asked for.
    pub attention: Vec<BlockAttention>,
    /// How many blocks ran in full.
    pub blocks_run: usize,
    /// The grid of the patches.
    pub grid: Grid,
    /// Whether row 0 of every state is a class token.
    pub class_token: bool,
}

impl VisionOutput {
    fn new(states: VisionStates, grid: Grid, class_token: bool) -> Self {
        let VisionStates { states, attention, blocks_run } = states;
        Self { states, attention, blocks_run, grid, class_token }
    }

    /// The patch rows of the `nth` wanted state, `[b, patches, width]`: the class token dropped where there is one.
    ///
    /// # Errors
    /// [`ModelError::Index`] when fewer states were asked for.
    pub fn patches(&self, nth: usize) -> Result<Tensor> {
        let state = self.states.get(nth);
        let state = state.ok_or_else(|| ModelError::index("wanted state", nth as i64, self.states.len()))?;
        Ok(if self.class_token { state.narrow(1, 1, self.grid.patches())? } else { state.clone() })
    }
}

/// A tower's configuration, told apart by `model_type`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "model_type")]
#[non_exhaustive]
pub enum VisionConfig {
    /// CLIP's image half.
    #[serde(rename = "clip_vision_model", alias = "clip")]
    Clip(ClipConfig),
    /// SigLIP's image half.
    #[serde(rename = "siglip_vision_model", alias = "siglip")]
    Siglip(SiglipConfig),
    /// DINOv2.
    #[serde(rename = "dinov2")]
    Dinov2(Dinov2Config),
}

impl VisionConfig {
    /// Reads a Hugging Face `config.json`: that of a tower alone, or one with a `vision_config` inside.
    ///
    /// # Errors
    /// [`ModelError::Config`] naming the field that is missing or has a wrong value.
    pub fn from_json(text: &str) -> Result<Self> {
        let value: serde_json::Value =
            serde_json::from_str(text).map_err(|error| ModelError::json("config.json", &error))?;
        Self::from_value(&value)
    }

    pub(crate) fn from_value(value: &serde_json::Value) -> Result<Self> {
        let outer = value.get("model_type").cloned();
        let mut inner = value.get("vision_config").unwrap_or(value).clone();
        if let (Some(object), Some(outer)) = (inner.as_object_mut(), outer) {
            // Early CLIP configurations name the type only outside.
            object.entry("model_type").or_insert(outer);
        }
        if let Some(channels) = inner.get("num_channels").filter(|channels| **channels != 3) {
            return Err(ModelError::config("num_channels", channels, "only 3 is supported"));
        }
        let config: Self =
            serde_json::from_value(inner).map_err(|error| ModelError::json("vision_config", &error))?;
        config.validate()?;
        Ok(config)
    }

    /// # Errors
    /// [`ModelError::Config`] naming the first field that no tower can be built with.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Clip(config) => config.validate(),
            Self::Siglip(config) => config.validate(),
            Self::Dinov2(config) => config.validate(),
        }
    }

    /// The input image, in pixels.
    pub fn image_size(&self) -> ImageSize {
        match self {
            Self::Clip(config) => config.image_size,
            Self::Siglip(config) => config.image_size,
            Self::Dinov2(config) => config.image_size,
        }
    }

    /// The side of a patch, in pixels.
    pub fn patch_size(&self) -> usize {
        match self {
            Self::Clip(config) => config.patch_size,
            Self::Siglip(config) => config.patch_size,
            Self::Dinov2(config) => config.patch_size,
        }
    }

    /// The width of a hidden state.
    pub fn width(&self) -> usize {
        match self {
            Self::Clip(config) => config.hidden_size,
            Self::Siglip(config) => config.hidden_size,
            Self::Dinov2(config) => config.hidden_size,
        }
    }

    /// The number of blocks; there is one hidden state more.
    pub fn blocks(&self) -> usize {
        match self {
            Self::Clip(config) => config.num_hidden_layers,
            Self::Siglip(config) => config.num_hidden_layers,
            Self::Dinov2(config) => config.num_hidden_layers,
        }
    }

    /// The patch grid of an image of [`image_size`](Self::image_size).
    pub fn grid(&self) -> Grid {
        patch_grid(self.image_size(), self.patch_size())
    }

    /// Whether the states start with a class token.
    pub fn class_token(&self) -> bool {
        !matches!(self, Self::Siglip(_))
    }
}

/// Any of the towers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum VisionTower {
    /// CLIP.
    Clip(Clip),
    /// SigLIP.
    Siglip(Siglip),
    /// DINOv2.
    Dinov2(Dinov2),
}

impl VisionTower {
    /// Opens a folder with `config.json` and weights of a tower alone or of a two-tower model, or an ONNX file of DINOv2,
    /// and keeps its matrices as `dtype`.
    ///
    /// # Errors
    /// A file that cannot be read, a configuration that is not a tower's, a tensor that is missing, has another shape or
    /// is not part of the model. What an ONNX file holds besides the tower (a head, constants) is not looked at.
    pub fn open(path: &Path, dtype: Dtype) -> Result<Self> {
        let mut weights = Weights::open(path)?.packed(dtype);
        // Below these prefixes a classifier's file or an export keeps the tower, beside layers of its own.
        let prefix = ["dinov2", "backbone"].into_iter().find(|prefix| !weights.pp(prefix).names().is_empty());
        if let Some(prefix) = prefix {
            weights = weights.pp(prefix).rename(|_| None);
        }
        if !path.is_dir() {
            return Self::load(VisionConfig::Dinov2(Dinov2Config::from_shapes(&weights)?), &weights);
        }
        let tower = Self::load(VisionConfig::from_json(&read_config(path)?)?, &weights)?;
        refuse_unused(&weights, harmless_in_tower)?;
        Ok(tower)
    }

    /// Builds the tower with its last blocks included.
    ///
    /// `weights` starts where the published file of the tower alone starts: `vision_model.…` for CLIP and SigLIP,
    /// `embeddings.…` for DINOv2.
    ///
    /// # Errors
    /// A configuration that no tower can have, or a tensor that is missing or has another shape.
    pub fn load(config: VisionConfig, weights: &Weights) -> Result<Self> {
        config.validate()?;
        let weights = &weights.by_row();
        Ok(match config {
            VisionConfig::Clip(config) => Self::Clip(Clip::load(config, weights)?),
            VisionConfig::Siglip(config) => Self::Siglip(Siglip::load(config, weights)?),
            VisionConfig::Dinov2(config) => Self::Dinov2(Dinov2::load(config, weights)?),
        })
    }

    /// `[b, 3, height, width]`, normalised pixels, to what is `wanted`.
    ///
    /// # Errors
    /// [`ModelError::Pixels`] for a size that the tower cannot read, [`ModelError::Index`] for a state or block that it
    /// does not have.
    pub fn forward(&self, pixels: &Tensor, wanted: &Wanted<'_>) -> Result<VisionOutput> {
        match self {
            Self::Clip(tower) => tower.forward(pixels, wanted),
            Self::Siglip(tower) => tower.forward(pixels, wanted),
            Self::Dinov2(tower) => tower.forward(pixels, wanted),
        }
    }

    /// The same tower for images of another size in pixels: its position table is resized bicubically, as DINOv2 does
    /// by itself and transformers with `interpolate_pos_encoding`. No tower was trained so; it is what plain down-scaling
    /// of the image costs and gives.
    ///
    /// # Errors
    /// [`ModelError::Config`] for a size below one patch or absurdly large.
    pub fn resized(&self, image_size: impl Into<ImageSize>) -> Result<Self> {
        let image_size = image_size.into();
        Ok(match self {
            Self::Clip(tower) => Self::Clip(tower.resized(image_size)?),
            Self::Siglip(tower) => Self::Siglip(tower.resized(image_size)?),
            Self::Dinov2(tower) => Self::Dinov2(tower.resized(image_size)?),
        })
    }

    /// Bytes that the matrices of the blocks take in memory.
    pub fn bytes(&self) -> usize {
        let blocks = match self {
            Self::Clip(tower) => tower.blocks(),
            Self::Siglip(tower) => tower.blocks(),
            Self::Dinov2(tower) => tower.blocks(),
        };
        blocks.iter().map(Block::bytes).sum()
    }

    /// The configuration that the tower was built from.
    pub fn config(&self) -> VisionConfig {
        match self {
            Self::Clip(tower) => VisionConfig::Clip(tower.config().clone()),
            Self::Siglip(tower) => VisionConfig::Siglip(tower.config().clone()),
            Self::Dinov2(tower) => VisionConfig::Dinov2(tower.config().clone()),
        }
    }
}

/// Refuses a grid other than the trained one, for towers that do not resize their position table.
fn expect_grid(pixels: &Tensor, found: Grid, image_size: ImageSize, patch_size: usize) -> Result<()> {
    if found == patch_grid(image_size, patch_size) {
        return Ok(());
    }
    let ImageSize { height, width } = image_size;
    Err(ModelError::Pixels {
        found: pixels.dims().to_vec(),
        expected: format!("[batch, 3, {height}, {width}]"),
    })
}
