//! TokenPacker (arXiv 2407.02392): interpolated patches query the patches of their own window.
//!
//! Bilinear interpolation with half-pixel centres shrinks the grid; each interpolated patch attends to its window's keys
//! and values, made from several hidden states, and an MLP takes the result to the language model's width. No question,
//! and no other projector.
//!
//! Names, below `mm_projector`: `q_proj_1` (no bias), `ln_{q,k,v}_1`, `{k,v}_proj_1.{0,2}`,
//! `clip_attn.{in_proj_weight,in_proj_bias,out_proj.*}`, `mlp.{0,2}`. None depends on the window, so that one set of weights
//! can be run at any; the published ones were trained at one.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::nn::{LayerNorm, Linear, MultiHead, TwoLayers};
use crate::quecc::{multi_level_needs, window_attention};
use crate::windows::{Windows, concatenate};
use crate::{
    Budget, CompressError, Compressed, Compressor, Dimensions, Features, Grid, Ladder, Method, Needs,
    Parameters, Placement, Result, StateDepth,
};

/// The shape of a TokenPacker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenPackerConfig {
    /// The tower's width d.
    pub width: usize,
    /// The width of the language model.
    pub output_width: usize,
    /// Heads of the attention; d / 128 as published.
    pub heads: usize,
    /// Window sides (the paper's scale factor s); published checkpoints have one.
    pub sides: Vec<usize>,
    /// The hidden state that queries are made of.
    pub query_state: StateDepth,
    /// The hidden states that keys and values are made of.
    pub states: Vec<StateDepth>,
}

impl TokenPackerConfig {
    /// The published shape: d / 128 heads, one window side.
    pub fn published(width: usize, output_width: usize, side: usize) -> Self {
        Self {
            width,
            output_width,
            heads: (width / 128).max(1),
            sides: vec![side],
            query_state: StateDepth::LLAVA,
            states: StateDepth::MULTI_LEVEL.to_vec(),
        }
    }
}

/// TokenPacker with its weights.
#[derive(Clone, Debug)]
pub struct TokenPacker {
    config: TokenPackerConfig,
    query: Linear,
    query_norm: LayerNorm,
    key: (TwoLayers, LayerNorm),
    value: (TwoLayers, LayerNorm),
    attention: MultiHead,
    mlp: TwoLayers,
}

impl TokenPacker {
    /// Takes its parameters from `from`, which starts where `q_proj_1` is.
    ///
    /// # Errors
    /// A configuration that cannot be, or a parameter that is missing or has another shape.
    pub fn load(config: &TokenPackerConfig, from: &Parameters<'_>) -> Result<Self> {
        if config.sides.is_empty() || config.sides.contains(&0) {
            let found = format!("{:?}", config.sides);
            return Err(CompressError::config("sides", found, "window sides from 1 up"));
        }
        if config.states.is_empty() {
            return Err(CompressError::config("states", "[]", "at least one hidden state"));
        }
        let d = config.width;
        let attention = MultiHead::load(&from.below("clip_attn"), d, config.heads)?;
        let norm = |name: &str| LayerNorm::load(&from.below(name), d);
        let layers = |name: &str| TwoLayers::load(&from.below(name), config.states.len() * d, d);
        Ok(Self {
            query: Linear::without_bias(&from.below("q_proj_1"), d, d)?,
            query_norm: norm("ln_q_1")?,
            key: (layers("k_proj_1")?, norm("ln_k_1")?),
            value: (layers("v_proj_1")?, norm("ln_v_1")?),
            attention,
            mlp: TwoLayers::load(&from.below("mlp"), d, config.output_width)?,
            config: config.clone(),
        })
    }

    /// The configuration that it was built from.
    pub fn config(&self) -> &TokenPackerConfig {
        &self.config
    }

    fn windows(&self, grid: Grid, budget: Budget) -> Result<Windows> {
        if let [side] = self.config.sides[..] {
            Windows::new(grid, side)?;
        }
        self.check(grid, budget)?;
        match budget {
            Budget::Tokens(tokens) => grid.window_for(tokens, &self.config.sides),
            Budget::Adaptive => None,
        }
        .map_or_else(
            || {
                Err(CompressError::OffLadder {
                    method: self.method(),
                    budget,
                    grid,
                    ladder: self.ladder(grid),
                })
            },
            |side| Windows::new(grid, side),
        )
    }

    /// One query for each window, `[b, windows, d]`.
    fn window_queries(&self, features: &Features, windows: Windows) -> Result<Tensor> {
        let x = features.state_of_width(Method::TokenPacker, self.config.query_state, self.config.width)?;
        self.query_norm.forward(&self.query.forward(&windows.centre(x)?)?)
    }

    fn levels(&self, features: &Features) -> Result<Tensor> {
        let state =
            |depth: &StateDepth| features.state_of_width(Method::TokenPacker, *depth, self.config.width);
        concatenate(&self.config.states.iter().map(state).collect::<Result<Vec<_>>>()?)
    }
}

impl Compressor for TokenPacker {
    fn method(&self) -> Method {
        Method::TokenPacker
    }

    fn needs(&self) -> Needs {
        multi_level_needs(self.config.query_state, &self.config.states)
    }

    fn ladder(&self, grid: Grid) -> Ladder {
        Ladder::of_windows(grid, &self.config.sides)
    }

    fn placement(&self) -> Placement {
        Placement::InsteadOfProjector
    }

    fn output_width(&self, _input_width: usize) -> usize {
        self.config.output_width
    }

    fn token_grid(&self, grid: Grid, visual_tokens: usize) -> Option<Grid> {
        grid.window_for(visual_tokens, &self.config.sides).map(|side| grid.shrunk(side))
    }

    fn compress(&self, features: &Features, budget: Budget) -> Result<Compressed> {
        let windows = self.windows(features.grid(), budget)?;
        let queries = self.window_queries(features, windows)?; // [b, V, d]
        let levels = self.levels(features)?; // [b, patches, states · d]
        let branch = |(layers, norm): &(TwoLayers, LayerNorm)| norm.forward(&layers.forward(&levels)?);
        let (keys, values) = (branch(&self.key)?, branch(&self.value)?); // [b, patches, d]
        let tokens = windows.attend(&self.attention, &queries, &keys, &values)?; // [b, V, d]
        Ok(Compressed::merged(self.mlp.forward(&tokens)?)) // [b, V, D]
    }

    fn look(&self, features: &Features, budget: Budget) -> Result<Tensor> {
        let windows = self.windows(features.grid(), budget)?;
        let queries = self.window_queries(features, windows)?;
        let (layers, norm) = &self.key;
        let keys = norm.forward(&layers.forward(&self.levels(features)?)?)?;
        windows.spread(&windows.weights(&self.attention, &queries, &keys)?)
    }

    fn parameters(&self) -> u64 {
        let branches = [&self.key, &self.value].map(|(layers, norm)| layers.parameters() + norm.parameters());
        let query = self.query.parameters() + self.query_norm.parameters();
        (query + branches.iter().sum::<usize>() + self.attention.parameters() + self.mlp.parameters()) as u64
    }

    fn flops(&self, dimensions: &Dimensions, visual_tokens: usize) -> Result<f64> {
        let windows = self.windows(dimensions.grid, Budget::Tokens(visual_tokens))?;
        let (patches, v) = (dimensions.grid.patches() as f64, visual_tokens as f64);
        let (d, width) = (self.config.width as f64, self.config.output_width as f64);
        // Interpolation: the mean of four patches for even windows, a plain copy for odd ones.
        let interpolation = if windows.side.is_multiple_of(2) { 4.0 * v * d } else { 0.0 };
        let around = interpolation + v * (d * d + d * width + width * width);
        Ok(2.0 * around + window_attention(patches, v, d, self.config.states.len()))
    }
}
