//! QueCC: query-based convolutional cross-attention (arXiv 2411.03312), with one window or elastic.
//!
//! The question's vector is added to every patch; the patches become queries that a depthwise convolution shrinks to one
//! for each window; each query attends to the keys and values of its own window, made from several hidden states. The
//! stock projector follows. Elastic weights hold one depthwise filter for each window size and share everything else.
//!
//! Names: `{q,k,v}_proj.{0,2,3}`, `clip_attn.{in_proj_weight,in_proj_bias,out_proj.*}`, `text_projection.{0,1}` and
//! `q_downsample.*`, below `mm_projector.0` in the published layout; elastic filters are `q_downsample.{side}.*`.

use candle_core::Tensor;
use serde::{Deserialize, Serialize};

use crate::nn::{LayerNorm, Linear, MultiHead, TwoLayers};
use crate::windows::{Windows, concatenate};
use crate::{
    Budget, CompressError, Compressed, Compressor, Dimensions, Features, Grid, Ladder, Method, Needs,
    Parameters, Result, Start, StateDepth,
};

/// The depthwise filters of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filters {
    /// One window side, in the published layout: `q_downsample.{weight,bias}`.
    Single(usize),
    /// A filter for each of these window sides: `q_downsample.{side}.{weight,bias}`.
    Elastic(Vec<usize>),
}

impl Filters {
    /// The window sides.
    pub fn sides(&self) -> &[usize] {
        match self {
            Self::Single(side) => std::slice::from_ref(side),
            Self::Elastic(sides) => sides,
        }
    }
}

/// The shape of a QueCC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueCCConfig {
    /// The tower's width d.
    pub width: usize,
    /// The width of the question's vector, that of the language model.
    pub text_width: usize,
    /// Heads of the attention inside windows; 8 as published.
    pub heads: usize,
    /// The windows that it can compress by.
    pub filters: Filters,
    /// The hidden state that queries are made of.
    pub query_state: StateDepth,
    /// The hidden states that keys and values are made of.
    pub states: Vec<StateDepth>,
}

impl QueCCConfig {
    /// The published shape with one window side.
    pub fn single(width: usize, text_width: usize, side: usize) -> Self {
        Self {
            width,
            text_width,
            heads: 8,
            filters: Filters::Single(side),
            query_state: StateDepth::LLAVA,
            states: StateDepth::MULTI_LEVEL.to_vec(),
        }
    }

    /// The same with a filter for each of `sides`.
    pub fn elastic(width: usize, text_width: usize, sides: &[usize]) -> Self {
        Self { filters: Filters::Elastic(sides.to_vec()), ..Self::single(width, text_width, 1) }
    }

    fn validate(&self) -> Result<()> {
        let sides = self.filters.sides();
        if sides.is_empty() || sides.contains(&0) {
            return Err(CompressError::config("filters", format!("{sides:?}"), "window sides from 1 up"));
        }
        let twice = (1..sides.len()).find(|nth| sides[..*nth].contains(&sides[*nth]));
        if let Some(nth) = twice {
            return Err(CompressError::config(
                "filters",
                format!("{sides:?}"),
                format!("{} once", sides[nth]),
            ));
        }
        if self.states.is_empty() {
            return Err(CompressError::config("states", "[]", "at least one hidden state"));
        }
        Ok(())
    }
}

/// Linear, GELU, Linear, LayerNorm: the branch of queries, keys or values.
#[derive(Clone, Debug)]
struct Branch {
    layers: TwoLayers,
    norm: LayerNorm,
}

impl Branch {
    fn load(from: &Parameters<'_>, input: usize, width: usize) -> Result<Self> {
        Ok(Self {
            layers: TwoLayers::load(from, input, width)?,
            norm: LayerNorm::load(&from.below("3"), width)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.norm.forward(&self.layers.forward(x)?)
    }

    /// `forward(x + shift)` for each image with each of its shifts, see [`TwoLayers::forward_shifted`].
    fn forward_shifted(&self, x: &Tensor, shifts: &Tensor) -> Result<Tensor> {
        self.norm.forward(&self.layers.forward_shifted(x, shifts)?)
    }

    fn parameters(&self) -> usize {
        self.layers.parameters() + self.norm.parameters()
    }
}

/// The depthwise filter for one window side.
#[derive(Clone, Debug)]
struct Filter {
    side: usize,
    weight: Tensor,
    bias: Tensor,
}

/// QueCC with its weights.
#[derive(Clone, Debug)]
pub struct QueCC {
    config: QueCCConfig,
    text: (Linear, LayerNorm),
    queries: Branch,
    keys: Branch,
    values: Branch,
    filters: Vec<Filter>,
    attention: MultiHead,
}

impl QueCC {
    /// Takes its parameters from `from`, which starts where `q_proj` is.
    ///
    /// # Errors
    /// A configuration that cannot be, or a parameter that is missing or has another shape.
    pub fn load(config: &QueCCConfig, from: &Parameters<'_>) -> Result<Self> {
        config.validate()?;
        let d = config.width;
        let attention = MultiHead::load(&from.below("clip_attn"), d, config.heads)?;
        let filter = |side: usize| -> Result<Filter> {
            let from = from.below("q_downsample");
            let from = match config.filters {
                Filters::Single(_) => from,
                Filters::Elastic(_) => from.below(&side.to_string()),
            };
            // A fresh filter averages its window, so that all sides start from queries of one scale.
            let mean = Start::Constant((side as f64).powi(-2));
            Ok(Filter {
                side,
                weight: from.get(&[d, 1, side, side], "weight", mean)?,
                bias: from.get(&[d], "bias", Start::Constant(0.0))?,
            })
        };
        let text = from.below("text_projection");
        Ok(Self {
            text: (
                Linear::load(&text.below("0"), config.text_width, d)?,
                LayerNorm::load(&text.below("1"), d)?,
            ),
            queries: Branch::load(&from.below("q_proj"), d, d)?,
            keys: Branch::load(&from.below("k_proj"), config.states.len() * d, d)?,
            values: Branch::load(&from.below("v_proj"), config.states.len() * d, d)?,
            filters: config.filters.sides().iter().map(|side| filter(*side)).collect::<Result<_>>()?,
            attention,
            config: config.clone(),
        })
    }

    /// The configuration that it was built from.
    pub fn config(&self) -> &QueCCConfig {
        &self.config
    }

    /// The plain QueCC with the filter for windows of `side`: what an elastic one is at that rung.
    ///
    /// # Errors
    /// [`CompressError::Config`] when there is no such filter.
    pub fn restricted(&self, side: usize) -> Result<Self> {
        let filter = self.filters.iter().find(|filter| filter.side == side).cloned().ok_or_else(|| {
            let sides = self.config.filters.sides();
            CompressError::config("filters", side, format!("one of the window sides {sides:?}"))
        })?;
        let config = QueCCConfig { filters: Filters::Single(side), ..self.config.clone() };
        Ok(Self { config, filters: vec![filter], ..self.clone() })
    }

    fn filter(&self, grid: Grid, budget: Budget) -> Result<(&Filter, Windows)> {
        // A plain QueCC whose only window does not divide the grid deserves the reason, not an empty ladder.
        if let Filters::Single(side) = self.config.filters {
            Windows::new(grid, side)?;
        }
        self.check(grid, budget)?;
        let side = match budget {
            Budget::Tokens(tokens) => grid.window_for(tokens, self.config.filters.sides()),
            Budget::Adaptive => None,
        };
        let filter = self.filters.iter().find(|filter| Some(filter.side) == side).ok_or_else(|| {
            CompressError::OffLadder { method: self.method(), budget, grid, ladder: self.ladder(grid) }
        })?;
        Ok((filter, Windows::new(grid, filter.side)?))
    }

    /// One query for each window and question, `[b · q, windows, d]`.
    fn window_queries(&self, features: &Features, filter: &Filter, windows: Windows) -> Result<Tensor> {
        let x = features.state_of_width(Method::QueCC, self.config.query_state, self.config.width)?;
        let question = features.question(Method::QueCC, self.config.text_width)?;
        let (linear, norm) = &self.text;
        let text = norm.forward(&linear.forward(question)?)?; // [b · q, D] -> [b · q, d]
        let queries = self.queries.forward_shifted(x, &text)?; // [b · q, patches, d]
        windows.convolve(&queries, &filter.weight, &filter.bias) // [b · q, windows, d]
    }

    /// The hidden states that keys and values read, `[b, patches, states · d]`.
    fn levels(&self, features: &Features) -> Result<Tensor> {
        let state = |depth: &StateDepth| features.state_of_width(Method::QueCC, *depth, self.config.width);
        concatenate(&self.config.states.iter().map(state).collect::<Result<Vec<_>>>()?)
    }
}

impl Compressor for QueCC {
    fn method(&self) -> Method {
        Method::QueCC
    }

    fn needs(&self) -> Needs {
        Needs { question: true, ..multi_level_needs(self.config.query_state, &self.config.states) }
    }

    fn ladder(&self, grid: Grid) -> Ladder {
        Ladder::of_windows(grid, self.config.filters.sides())
    }

    fn token_grid(&self, grid: Grid, visual_tokens: usize) -> Option<Grid> {
        grid.window_for(visual_tokens, self.config.filters.sides()).map(|side| grid.shrunk(side))
    }

    fn compress(&self, features: &Features, budget: Budget) -> Result<Compressed> {
        let (filter, windows) = self.filter(features.grid(), budget)?;
        let queries = self.window_queries(features, filter, windows)?; // [b · q, V, d]
        let levels = self.levels(features)?; // [b, patches, states · d]
        let keys = self.keys.forward(&levels)?; // [b, patches, d]
        let values = self.values.forward(&levels)?; // [b, patches, d]
        Ok(Compressed::merged(windows.attend(&self.attention, &queries, &keys, &values)?)) // [b · q, V, d]
    }

    fn look(&self, features: &Features, budget: Budget) -> Result<Tensor> {
        let (filter, windows) = self.filter(features.grid(), budget)?;
        let queries = self.window_queries(features, filter, windows)?;
        let keys = self.keys.forward(&self.levels(features)?)?;
        windows.spread(&windows.weights(&self.attention, &queries, &keys)?)
    }

    fn parameters(&self) -> u64 {
        let filters: usize =
            self.filters.iter().map(|filter| filter.weight.elem_count() + filter.bias.elem_count()).sum();
        let branches = [&self.queries, &self.keys, &self.values].map(Branch::parameters);
        let text = self.text.0.parameters() + self.text.1.parameters();
        (text + branches.iter().sum::<usize>() + filters + self.attention.parameters()) as u64
    }

    fn flops(&self, dimensions: &Dimensions, visual_tokens: usize) -> Result<f64> {
        self.check(dimensions.grid, Budget::Tokens(visual_tokens))?;
        let (patches, d) = (dimensions.grid.patches() as f64, self.config.width as f64);
        // The question's vector passes the first layer of the queries apart from the patches.
        let text = self.config.text_width as f64 * d + d * d;
        let queries = 2.0 * patches * d * d + patches * d; // two layers and the depthwise filter
        Ok(2.0 * (text + queries)
            + window_attention(patches, visual_tokens as f64, d, self.config.states.len()))
    }
}

/// The needs of a method that makes queries of one hidden state and keys of several.
pub(crate) fn multi_level_needs(query_state: StateDepth, states: &[StateDepth]) -> Needs {
    let mut needs = Needs::state(query_state);
    for depth in states {
        if !needs.states.contains(depth) {
            needs.states.push(*depth);
        }
    }
    needs
}

/// FLOPs of keys and values from `states` hidden states and the attention of `queries` to their own windows. Together
/// the windows hold as many query-key pairs as there are patches, whatever the number of queries.
pub(crate) fn window_attention(patches: f64, queries: f64, d: f64, states: usize) -> f64 {
    let each = patches * (states as f64 * d * d + d * d + d * d); // two layers and the attention's own projection
    2.0 * (2.0 * each + 2.0 * queries * d * d + 2.0 * patches * d)
}
