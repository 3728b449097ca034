//! M3, Matryoshka multimodal models (arXiv 2405.17430): nested average pooling of the *projected* patches.
//!
//! A model trained so reads any of its five scales. The projector is not linear, so this is not average pooling before it.

use candle_core::Tensor;

use crate::average_pooling::pooling_windows;
use crate::{
    Budget, CompressError, Compressed, Compressor, Dimensions, Features, Grid, Ladder, Method, Needs,
    Placement, Result, StateDepth,
};

/// The mean of each window of projected patches.
#[derive(Clone, Copy, Debug)]
pub struct M3 {
    /// The hidden state whose *projected* patches the features hold.
    pub state: StateDepth,
}

impl Default for M3 {
    /// LLaVA's feature state, −2.
    fn default() -> Self {
        Self { state: StateDepth::LLAVA }
    }
}

/// The sides of its grids: halved as long as that is exact, at most three times, then one token. 24, 12, 6, 3, 1.
fn sides(grid: usize) -> Vec<usize> {
    let mut sides: Vec<usize> = (0..4).filter(|k| grid.is_multiple_of(1 << k)).map(|k| grid >> k).collect();
    sides.push(1);
    sides.dedup();
    sides
}

impl M3 {
    fn square(self, grid: Grid) -> Result<()> {
        if grid.rows == grid.columns {
            return Ok(());
        }
        Err(CompressError::Grid {
            grid,
            what: self.method().to_string(),
            expected: "its scales are square grids",
        })
    }
}

impl Compressor for M3 {
    fn method(&self) -> Method {
        Method::M3
    }

    fn needs(&self) -> Needs {
        Needs::state(self.state)
    }

    fn ladder(&self, grid: Grid) -> Ladder {
        if self.square(grid).is_err() || grid.rows == 0 {
            return Ladder::Rungs(Vec::new());
        }
        Ladder::Rungs(sides(grid.rows).into_iter().map(|side| side * side).collect())
    }

    fn placement(&self) -> Placement {
        Placement::AfterProjector
    }

    fn token_grid(&self, grid: Grid, visual_tokens: usize) -> Option<Grid> {
        let offered = self.ladder(grid).contains(Budget::Tokens(visual_tokens));
        grid.window_for(visual_tokens, &grid.window_sides()).filter(|_| offered).map(|side| grid.shrunk(side))
    }

    fn compress(&self, features: &Features, budget: Budget) -> Result<Compressed> {
        self.square(features.grid())?;
        let windows = pooling_windows(self, features.grid(), budget)?;
        Ok(Compressed::merged(windows.mean(features.state(self.method(), self.state)?)?))
    }

    fn look(&self, features: &Features, budget: Budget) -> Result<Tensor> {
        self.square(features.grid())?;
        let windows = pooling_windows(self, features.grid(), budget)?;
        windows.equal_weights(features.state(self.method(), self.state)?)
    }

    fn flops(&self, dimensions: &Dimensions, visual_tokens: usize) -> Result<f64> {
        self.square(dimensions.grid)?;
        self.check(dimensions.grid, Budget::Tokens(visual_tokens))?;
        Ok(2.0 * dimensions.grid.patches() as f64 * dimensions.width as f64)
    }
}
