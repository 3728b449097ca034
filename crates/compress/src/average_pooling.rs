//! Average pooling of the unprojected patches: the baseline that many methods do not beat.

use candle_core::Tensor;

use crate::windows::Windows;
use crate::{
    Budget, CompressError, Compressed, Compressor, Dimensions, Features, Grid, Ladder, Method, Needs, Result,
    StateDepth,
};

/// The mean of each window, before the projector.
#[derive(Clone, Copy, Debug)]
pub struct AveragePooling {
    /// The hidden state whose patches are pooled.
    pub state: StateDepth,
}

impl Default for AveragePooling {
    /// LLaVA's feature state, −2.
    fn default() -> Self {
        Self { state: StateDepth::LLAVA }
    }
}

impl AveragePooling {
    fn windows(self, grid: Grid, budget: Budget) -> Result<Windows> {
        pooling_windows(&self, grid, budget)
    }
}

/// The windows that leave the budget, for a method that pools.
pub(crate) fn pooling_windows(method: &dyn Compressor, grid: Grid, budget: Budget) -> Result<Windows> {
    let sides = grid.window_sides();
    method.check(grid, budget)?;
    let side = match budget {
        Budget::Tokens(tokens) => grid.window_for(tokens, &sides),
        Budget::Adaptive => None,
    };
    match side {
        Some(side) => Windows::new(grid, side),
        None => Err(CompressError::OffLadder {
            method: method.method(),
            budget,
            grid,
            ladder: method.ladder(grid),
        }),
    }
}

impl Compressor for AveragePooling {
    fn method(&self) -> Method {
        Method::AveragePooling
    }

    fn needs(&self) -> Needs {
        Needs::state(self.state)
    }

    fn ladder(&self, grid: Grid) -> Ladder {
        Ladder::of_windows(grid, &grid.window_sides())
    }

    fn token_grid(&self, grid: Grid, visual_tokens: usize) -> Option<Grid> {
        grid.window_for(visual_tokens, &grid.window_sides()).map(|side| grid.shrunk(side))
    }

    fn compress(&self, features: &Features, budget: Budget) -> Result<Compressed> {
        let windows = self.windows(features.grid(), budget)?;
        Ok(Compressed::merged(windows.mean(features.state(self.method(), self.state)?)?))
    }

    fn look(&self, features: &Features, budget: Budget) -> Result<Tensor> {
        let windows = self.windows(features.grid(), budget)?;
        windows.equal_weights(features.state(self.method(), self.state)?)
    }

    fn flops(&self, dimensions: &Dimensions, visual_tokens: usize) -> Result<f64> {
        self.check(dimensions.grid, Budget::Tokens(visual_tokens))?;
        Ok(2.0 * dimensions.grid.patches() as f64 * dimensions.width as f64)
    }
}
