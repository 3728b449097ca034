//! Vision-language models: LLaVA-1.5 (Liu et al., arXiv 2310.03744) and LLaVA-NeXT.
//!
//! Encode → compress → project → splice → generate. A checkpoint may carry a [compressor](Vlm::compressor), or be given
//! one without weights; [`Vlm::see`] and its siblings go from pixels to visual tokens stage by stage.
//! Tensors, whatever layout they are stored in: `vision_tower.…`, `compressor.…`, `multi_modal_projector.linear_{1,2}`
//! (not where the compressor ends in a projection), `image_newline` (LLaVA-NeXT only), `language_model.…`.
//!
//! ```
//! # use std::{ops::ControlFlow, path::Path};
//! # use candle_core::{DType, Device, Tensor};
//! use foveate_model::Dtype;
//! use foveate_model::generate::{GenerateOptions, Session};
//! use foveate_model::vlm::{Segment, Vlm};
//!
//! let model = Vlm::open(Path::new("../../fixtures/models/llava-1.5"), None, Dtype::F32)?;
//! let pixels = Tensor::zeros((3, 28, 28), DType::F32, &Device::Cpu)?; // 4 x 4 patches
//! let features = model.encode(&pixels.unsqueeze(0)?, &[], &[])?;
//! assert_eq!(features.rows.dims(), [1, 16, 32]); // a compressor would make fewer of them
//! let rows = model.project(&features.rows)?.squeeze(0)?;
//! assert_eq!(rows.dims(), [16, 48]); // the width of the language model
//!
//! let prompt = [Segment::Tokens(vec![1, 40]), Segment::Image, Segment::Tokens(vec![50, 60])];
//! let prompt = model.prompt(&prompt, &[rows])?;
//! let mut session = Session::new(model.decoder().clone());
//! let options = GenerateOptions { max_tokens: 1, ..GenerateOptions::default() };
//! let answer = session.generate_tokens(&prompt, &options, |_| Ok(ControlFlow::Continue(())))?;
//! assert_eq!(answer.prompt_positions, 2 + 16 + 2);
//! # Ok::<(), foveate_model::ModelError>(())
//! ```

mod apart;
mod carried;
mod choice;
mod compress;
mod config;
mod cost;
mod families;
mod llama_cpp;
mod names;
mod pack;
mod projector;
mod save;
mod viewer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::{D, Tensor};
use foveate_compress::{Compressor, Method, Placement};

pub use apart::{FrozenPart, FrozenParts, PartPaths, language_weights, tower_weights};
pub use carried::CarriedCompressor;
use carried::{carried, without_weights};
pub use compress::Seen;
pub use config::{FeatureSelect, ImageLayout, VlmConfig};
pub use cost::VisualCost;
pub use families::{FAMILIES_FILE, FamilyHead, FittedHead};
pub use names::published_names;
pub use pack::Tiling;
pub use projector::Projector;
pub use save::save_checkpoint;
pub use viewer::{AskedVector, Caches, CachesStatistics, Gaze, PerStage, View, Viewer};

use crate::checkpoint::{harmless_in_decoder, harmless_in_tower, read_config, refuse_unused};
use crate::generate::{Part, Prompt};
use crate::llm::Decoder;
use crate::vision::{
    BlockIndex, Grid, HiddenState, ImageSize, VisionConfig, VisionOutput, VisionTower, Wanted,
};
use crate::weights::Weights;
use crate::{Dtype, ModelError, Result};

/// A stretch of a prompt before images are put in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Token ids.
    Tokens(Vec<u32>),
    /// The place of the next image.
    Image,
}

/// The normalised pixels of one image.
#[derive(Clone, Debug)]
pub enum Image {
    /// One square picture, `[3, side, side]`.
    Single(Tensor),
    /// The whole picture and its tiles row by row, `[1 + rows · columns, 3, side, side]`.
    Tiled {
        /// The pixels.
        tiles: Tensor,
        /// How they lie.
        tiling: Tiling,
    },
}

/// What the tower gave for an image, before compression.
#[derive(Clone, Debug)]
pub struct Features {
    /// What the projector reads of each tile, `[tiles, n, d]`; n = patches, and the class token where configured.
    pub rows: Tensor,
    /// The states and attention asked for beyond that.
    pub extra: VisionOutput,
}

/// A vision tower, a compressor, a projector and a language model. Clones share their weights.
#[derive(Clone, Debug)]
pub struct Vlm {
    tower: VisionTower,
    /// The compressor in use.
    compressor: Arc<dyn Compressor>,
    /// The checkpoint's own; identity where it carries none.
    carried: Arc<dyn Compressor>,
    /// `None` where the checkpoint's compressor ends in a projection of its own.
    projector: Option<Projector>,
    /// What ends a row of patches, `[D]`.
    newline: Option<Tensor>,
    decoder: Arc<Decoder>,
    /// Guesses what family a question is of, where the checkpoint can.
    families: Option<Arc<FamilyHead>>,
    config: VlmConfig,
    /// Which load it comes from.
    identity: u64,
}

/// Counts the models that were loaded.
static LOADED: AtomicU64 = AtomicU64::new(0);

impl Vlm {
    /// Opens a folder with `config.json` and weights in any of the three layouts. `tower` is the folder of the vision
    /// tower, for checkpoints of the original layout that do not include it; where it is `None`, the name in the
    /// configuration is tried as a folder, seen from `folder`. Matrices are kept as `dtype`.
    ///
    /// # Errors
    /// A file that cannot be read; a configuration that is not LLaVA's; a tensor that is missing, has another shape or
    /// is not part of the model.
    pub fn open(folder: &Path, tower: Option<&Path>, dtype: Dtype) -> Result<Self> {
        Self::open_weights(folder, tower, dtype)?.with_families(FamilyHead::read(folder)?)
    }

    fn open_weights(folder: &Path, tower: Option<&Path>, dtype: Dtype) -> Result<Self> {
        let text = read_config(folder)?;
        let mut config = VlmConfig::from_json(&text)?;
        if text.contains(apart::FIELD) {
            let paths = PartPaths { tower: tower.map(Path::to_owned), language: None };
            return Self::open_on(folder, &paths, dtype);
        }
        let weights = published_names(Weights::open(folder)?).packed(dtype);
        let beside = config.tower_name.as_ref().map(|name| folder.join(name)).filter(|path| path.is_dir());
        let Some(tower) = tower.or(beside.as_deref()).filter(|_| config.vision.is_none()) else {
            return Self::load(config, &weights);
        };
        let vision = VisionConfig::from_json(&read_config(tower)?)?;
        config.vision = Some(vision.clone());
        // Original checkpoints may hold a tower that was trained along; that one counts.
        let included = weights.pp("vision_tower");
        let tower = if included.names().is_empty() {
            VisionTower::open(tower, dtype)?
        } else {
            VisionTower::load(vision, &included)?
        };
        Self::complete(config, tower, &weights)
    }

    /// Builds the model from weights under the published names, see [`published_names`].
    ///
    /// # Errors
    /// A tensor that is missing, has another shape or is not part of the model; a configuration without a tower.
    pub fn load(config: VlmConfig, weights: &Weights) -> Result<Self> {
        let vision = config.vision.clone().ok_or_else(|| no_tower(&config))?;
        let tower = VisionTower::load(vision, &weights.pp("vision_tower"))?;
        Self::complete(config, tower, weights)
    }

    /// Builds the model from parts that lie apart: `tower` and `language` by the names of their own files, `rest` by the
    /// published names with their prefixes (`multi_modal_projector.…`, `compressor.…`, `image_newline`). What they hold
    /// beyond what is asked for is let be.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn of_parts(config: VlmConfig, tower: &Weights, language: &Weights, rest: &Weights) -> Result<Self> {
        let vision = config.vision.clone().ok_or_else(|| no_tower(&config))?;
        Self::join(config, VisionTower::load(vision, tower)?, rest, language)
    }

    /// Adds everything but the tower, and sees that no tensor is left over.
    fn complete(config: VlmConfig, tower: VisionTower, weights: &Weights) -> Result<Self> {
        let tied = config.text.tied;
        let model = Self::join(config, tower, weights, &weights.pp("language_model"))?;
        refuse_unused(weights, |name| match name.split_once('.') {
            Some(("vision_tower", rest)) => harmless_in_tower(rest),
            Some(("language_model", rest)) => harmless_in_decoder(rest, tied),
            _ => false,
        })?;
        Ok(model)
    }

    /// `weights` holds the projector, `language` starts where a language model's own file starts.
    fn join(config: VlmConfig, tower: VisionTower, weights: &Weights, language: &Weights) -> Result<Self> {
        for state in &config.feature_states {
            state.resolve(tower.config().blocks())?;
        }
        let newline = match config.layout {
            ImageLayout::Single => None,
            ImageLayout::Tiles { .. } => Some(weights.get(config.text.width, "image_newline")?),
        };
        let carried = carried(&config, &tower, &weights.pp("compressor"))?;
        let projector = if carried.placement() == Placement::InsteadOfProjector {
            None
        } else {
            let input = tower.config().width() * config.feature_states.len();
            Some(Projector::load(&config, input, &weights.pp("multi_modal_projector"))?)
        };
        let model = Self {
            compressor: carried.clone(),
            carried,
            projector,
            decoder: Arc::new(Decoder::load(config.text.clone(), language)?),
            families: None,
            tower,
            newline,
            config,
            identity: LOADED.fetch_add(1, Ordering::Relaxed),
        };
        model.fits()?;
        Ok(model)
    }

    fn without_weights(&self, method: Method) -> Result<Arc<dyn Compressor>> {
        without_weights(&self.config, method)
    }

    /// A number that this model shares with its clones, whatever their compressor, and with no other model of this
    /// process: what caches tell models apart by.
    pub fn identity(&self) -> u64 {
        self.identity
    }

    /// The configuration that the model was built from.
    pub fn config(&self) -> &VlmConfig {
        &self.config
    }

    /// The same model for images of another size in pixels, see [`VisionTower::resized`]: the baseline that makes visual
    /// tokens fewer by down-scaling the image. A grid of n × n patches is a side of `n * patch_size` pixels.
    ///
    /// # Errors
    /// A size that the tower cannot have; [`ModelError::Compressor`] for a compressor that does not go with the grid.
    pub fn with_image_size(mut self, image_size: impl Into<ImageSize>) -> Result<Self> {
        self.tower = self.tower.resized(image_size)?;
        self.config.vision = Some(self.tower.config());
        // Caches must not take one for the other.
        self.identity = LOADED.fetch_add(1, Ordering::Relaxed);
        self.fits()?;
        Ok(self)
    }

    /// What guesses the family of a question from its vector, where the model has it.
    pub fn families(&self) -> Option<&FamilyHead> {
        self.families.as_deref()
    }

    /// The same model with another guess of the family, or with none.
    ///
    /// # Errors
    /// One that reads vectors of another width than the language model's.
    pub fn with_families(mut self, families: Option<FamilyHead>) -> Result<Self> {
        let width = self.config.text.width;
        if let Some(head) = families.as_ref().filter(|head| head.width() != width) {
            let reason = format!("it reads vectors of {}, the language model's have {width}", head.width());
            return Err(ModelError::Json { file: FAMILIES_FILE, reason });
        }
        self.families = families.map(Arc::new);
        Ok(self)
    }

    /// The vision tower.
    pub fn tower(&self) -> &VisionTower {
        &self.tower
    }

    /// The language model.
    pub fn decoder(&self) -> &Arc<Decoder> {
        &self.decoder
    }

    /// Runs the tower over tiles `[tiles, 3, side, side]`. `states` and `attention` ask for more than the projector
    /// reads: a compressor's.
    ///
    /// # Errors
    /// Pixels of another size, or a state or block that the tower does not have.
    pub fn encode(
        &self,
        pixels: &Tensor,
        states: &[HiddenState],
        attention: &[BlockIndex],
    ) -> Result<Features> {
        let own = &self.config.feature_states;
        let wanted: Vec<HiddenState> = states.iter().chain(own).copied().collect();
        let mut output =
            self.tower.forward(pixels, &Wanted { states: &wanted, attention, ..Wanted::default() })?;
        let select = |nth: usize| match self.config.select {
            FeatureSelect::Patches => output.patches(nth),
            FeatureSelect::WithClass => Ok(output.states[nth].clone()),
        };
        let rows = (states.len()..wanted.len()).map(select).collect::<Result<Vec<_>>>()?;
        let rows = Tensor::cat(&rows, D::Minus1)?; // [tiles, n, d · states]
        output.states.truncate(states.len());
        Ok(Features { rows, extra: output })
    }

    /// `[.., d] -> [.., D]`: tower width to the language model's.
    ///
    /// # Errors
    /// Another last dimension; a checkpoint whose compressor ends in a projection of its own.
    pub fn project(&self, rows: &Tensor) -> Result<Tensor> {
        match &self.projector {
            Some(projector) => projector.forward(rows),
            None => {
                let reason = "its tokens need no projector, and this checkpoint has none";
                Err(ModelError::compressor(self.carried.method(), reason))
            }
        }
    }

    /// The rows `[positions, D]` that stand for an image, without compression.
    ///
    /// # Errors
    /// Pixels of another size, or an image that is tiled for a model that is not, or the other way round.
    pub fn image_rows(&self, image: &Image) -> Result<Tensor> {
        match (image, &self.newline) {
            (Image::Single(pixels), None) => {
                let features = self.encode(&pixels.unsqueeze(0)?, &[], &[])?; // [1, 576, d]
                Ok(self.project(&features.rows)?.squeeze(0)?) // [576, D]
            }
            (Image::Tiled { tiles, tiling }, Some(_)) => {
                let features = self.encode(tiles, &[], &[])?; // [1 + rows · columns, 576, d]
                self.arrange(&self.project(&features.rows)?, tiling, features.extra.grid) // [positions, D]
            }
            (Image::Single(_), Some(_)) => {
                Err(ModelError::option("image", "one picture", "this model reads tiles"))
            }
            (Image::Tiled { .. }, None) => {
                Err(ModelError::option("image", "tiles", "this model reads one picture"))
            }
        }
    }

    /// Arranges projected tiles `[1 + rows · columns, V, D]`, the whole picture first, as LLaVA-NeXT reads them:
    /// `[positions, D]`. `grid` is that of one tile's V rows, after compression where there is one.
    ///
    /// # Errors
    /// Tiles that do not fit `tiling` and `grid`; a model that reads no tiles.
    pub fn arrange(&self, tiles: &Tensor, tiling: &Tiling, grid: Grid) -> Result<Tensor> {
        match &self.newline {
            Some(newline) => pack::pack(tiles, tiling, grid, newline),
            None => Err(ModelError::option("image", "tiles", "this model reads one picture")),
        }
    }

    /// Puts images, `[positions, D]` each, at their places in a prompt.
    ///
    /// # Errors
    /// [`ModelError::ImageCount`] when there are more or fewer images than places.
    pub fn prompt(&self, segments: &[Segment], images: &[Tensor]) -> Result<Prompt> {
        let places = segments.iter().filter(|segment| **segment == Segment::Image).count();
        if places != images.len() {
            return Err(ModelError::ImageCount { places, images: images.len() });
        }
        let mut images = images.iter();
        let parts = segments.iter().filter_map(|segment| match segment {
            Segment::Tokens(tokens) => Some(Part::Tokens(tokens.clone())),
            Segment::Image => images.next().cloned().map(Part::Rows),
        });
        Ok(Prompt { parts: parts.collect() })
    }
}

fn no_tower(config: &VlmConfig) -> ModelError {
    let name = config.tower_name.as_deref().unwrap_or("missing");
    ModelError::config(
        "mm_vision_tower",
        name,
        "its folder must be given, the checkpoint does not include it",
    )
}
