//! No compression: all patches, in their order.

use candle_core::{Device, Tensor};

use crate::{
    Budget, Compressed, Compressor, Dimensions, Features, Grid, Ladder, Method, Needs, Result, StateDepth,
};

/// The patches as they are.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// The hidden state whose patches are handed on.
    pub state: StateDepth,
}

impl Default for Identity {
    /// LLaVA's feature state, −2.
    fn default() -> Self {
        Self { state: StateDepth::LLAVA }
    }
}

impl Compressor for Identity {
    fn method(&self) -> Method {
        Method::Identity
    }

    fn needs(&self) -> Needs {
        Needs::state(self.state)
    }

    fn ladder(&self, grid: Grid) -> Ladder {
        Ladder::Rungs(vec![grid.patches()])
    }

    fn token_grid(&self, grid: Grid, visual_tokens: usize) -> Option<Grid> {
        (visual_tokens == grid.patches()).then_some(grid)
    }

    fn compress(&self, features: &Features, budget: Budget) -> Result<Compressed> {
        self.check(features.grid(), budget)?;
        Ok(Compressed::merged(features.state(self.method(), self.state)?.clone()))
    }

    fn look(&self, features: &Features, budget: Budget) -> Result<Tensor> {
        self.check(features.grid(), budget)?;
        let state = features.state(self.method(), self.state)?;
        let patches = features.grid().patches();
        let one_each = Tensor::eye(patches, candle_core::DType::F32, &Device::Cpu)?.unsqueeze(0)?;
        Ok(one_each.broadcast_as((state.dim(0)?, patches, patches))?.contiguous()?)
    }

    fn flops(&self, dimensions: &Dimensions, visual_tokens: usize) -> Result<f64> {
        self.check(dimensions.grid, Budget::Tokens(visual_tokens))?;
        Ok(0.0)
    }
}
