//! What an image becomes and costs before the language model reads it, from configurations alone: `foveate inspect` asks
//! without reading a weight, the [`Viewer`](super::Viewer) for what it ran.

use std::sync::Arc;

use candle_core::{Device, Tensor};
use foveate_compress::{BlockDepth, Compressor, Dimensions, Ladder, Method, Placement, Stored};
use foveate_law::cost::{Dtype, Stage, TowerDimensions, Workload, projector_flops};

use super::carried::load_carried;
use super::{FeatureSelect, VlmConfig};
use crate::vision::{Grid, VisionConfig};
use crate::weights::Weights;
use crate::{ModelError, Result};

/// A model's configuration, tower and compressor, as far as visual tokens depend on them.
#[derive(Clone, Debug)]
pub struct VisualCost {
    config: VlmConfig,
    vision: VisionConfig,
    compressor: Arc<dyn Compressor>,
}

impl VisualCost {
    /// Of a checkpoint with the tower `vision`, whose `weights` are looked at for their shapes only.
    ///
    /// # Errors
    /// A compressor that does not fit the model, or whose tensors are missing or have other shapes.
    pub fn described(config: &VlmConfig, vision: &VisionConfig, weights: &Weights) -> Result<Self> {
        let weights = weights.pp("compressor");
        let shapes = Stored::new(|shape: &[usize], name: &str| -> Result<Tensor> {
            match weights.shape(name) {
                Some(stored) if stored.dims() == shape => {
                    let zero = Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu)?;
                    Ok(zero.broadcast_as(shape)?)
                }
                // The reader's own error names what is stored.
                _ => Ok(weights.get(shape, name)?),
            }
        });
        let compressor = load_carried(config, vision, &weights, &shapes)?;
        Ok(Self::new(config.clone(), vision.clone(), compressor))
    }

    pub(super) fn new(config: VlmConfig, vision: VisionConfig, compressor: Arc<dyn Compressor>) -> Self {
        Self { config, vision, compressor }
    }

    /// The compressor.
    pub fn compressor(&self) -> &dyn Compressor {
        &*self.compressor
    }

    /// The patch grid of one picture.
    pub fn grid(&self) -> Grid {
        self.vision.grid()
    }

    /// The numbers of visual tokens on offer for one picture.
    pub fn ladder(&self) -> Ladder {
        if self.reads_plain_patches() {
            self.compressor.ladder(self.grid())
        } else {
            Ladder::Rungs(vec![self.all_rows()])
        }
    }

    /// How many blocks of the tower run for this compressor.
    ///
    /// # Errors
    /// A state or block that the tower does not have.
    pub fn blocks_needed(&self) -> Result<usize> {
        let depth = self.vision.blocks();
        if !self.reads_plain_patches() {
            let states = self.config.feature_states.iter().map(|state| state.resolve(depth));
            return Ok(states.collect::<Result<Vec<_>>>()?.into_iter().max().unwrap_or(0));
        }
        let needs = self.compressor.needs();
        let mut blocks = Vec::new();
        for state in &needs.states {
            blocks.push(state.resolve(depth)?);
        }
        if let Some(block) = needs.attention {
            // The block itself does not run, unless a state needs it.
            blocks.push(self.attention_block(block)?);
        }
        Ok(blocks.into_iter().max().unwrap_or(0))
    }

    /// The dimensions of the tower.
    pub fn tower(&self) -> TowerDimensions {
        self.vision.dimensions("vision tower")
    }

    /// FLOPs of the tower over `pictures`, with the first `blocks` of its blocks.
    pub fn tower_flops(&self, pictures: usize, blocks: usize) -> f64 {
        pictures as f64 * self.tower().flops(blocks)
    }

    /// FLOPs of the pass over a question of so many tokens: a prefill without the output head.
    ///
    /// # Errors
    /// Dimensions or a number of tokens that nothing can be counted for.
    pub fn question_flops(&self, tokens: usize) -> Result<f64> {
        let llm = self.config.text.dimensions("language model");
        let stages = llm.stages(&Workload::new(tokens, 1), 0, Dtype::F32);
        let stages = stages.map_err(|error| ModelError::config("question", tokens, error.to_string()))?;
        let prefill = stages.iter().filter(|stage| stage.stage == Stage::Prefill).map(|stage| stage.flops);
        Ok(prefill.sum::<f64>() - 2.0 * (llm.hidden * llm.vocab) as f64)
    }

    /// FLOPs of the compressor for one picture.
    ///
    /// # Errors
    /// A number of tokens that is not on offer.
    pub fn compressor_flops(&self, visual_tokens: usize) -> Result<f64> {
        if self.compressor.method() == Method::Identity {
            return Ok(0.0);
        }
        let width = match self.compressor.placement() {
            Placement::AfterProjector => self.config.text.width,
            _ => self.vision.width(),
        };
        let heads = self.tower().heads;
        Ok(self.compressor.flops(&Dimensions { grid: self.grid(), width, heads }, visual_tokens)?)
    }

    /// FLOPs of the stock projector for one picture, 0 where the compressor includes its own.
    pub fn projector_flops(&self, visual_tokens: usize) -> f64 {
        let rows = match self.compressor.placement() {
            Placement::BeforeProjector => visual_tokens,
            Placement::AfterProjector => self.grid().patches(),
            _ => return 0.0,
        };
        let input = self.vision.width() * self.config.feature_states.len();
        projector_flops(rows, input, self.config.text.width)
    }

    /// The block of the tower that a compressor calls `depth`. The last block is the one that reads the projector's
    /// state: files of llama.cpp leave out the blocks that no projector reads, and other models read other states.
    pub(super) fn attention_block(&self, depth: BlockDepth) -> Result<usize> {
        let blocks = self.vision.blocks();
        let state = self.feature_state()?;
        let block = (state + 1).checked_sub(depth.from_end());
        block.filter(|block| *block < blocks).ok_or_else(|| {
            let reason = format!(
                "it ranks patches by {depth}, counted from the block that reads hidden state {state}, and this tower \
                 has {blocks} blocks"
            );
            ModelError::compressor(self.compressor.method(), reason)
        })
    }

    /// The index of the hidden state that the projector reads.
    fn feature_state(&self) -> Result<usize> {
        let blocks = self.vision.blocks();
        self.config.feature_states.first().map_or(Ok(blocks.saturating_sub(1)), |state| state.resolve(blocks))
    }

    /// Whether the projector reads the patches of one hidden state, as every compressor assumes.
    pub(super) fn reads_plain_patches(&self) -> bool {
        self.config.feature_states.len() == 1 && !self.reads_class_row()
    }

    fn reads_class_row(&self) -> bool {
        self.config.select == FeatureSelect::WithClass && self.vision.class_token()
    }

    /// Rows of a picture without compression.
    fn all_rows(&self) -> usize {
        self.grid().patches() + usize::from(self.reads_class_row())
    }
}
