//! MQT, the Matryoshka query transformer (arXiv 2405.19315): the first m of 256 learnt queries attend to all patches.
//!
//! Queries are `query + pos_embed`, keys are the position table resized to the grid (no image content), values are the
//! patches; one multi-head attention and one matrix take them to the language model's width. Row j is the same for every
//! m, so any number of tokens is a prefix of the whole.
//!
//! Names, below `mm_projector`: `query`, `pos_embed`, `ln_{q,k,v}`, `attn.{in_proj_weight,in_proj_bias,out_proj.*}`, `proj`
//! (`[d, D]`, multiplied as it stands).

use candle_core::{D, Tensor};
use foveate_nn::{linear, softmax};
use half::f16;
use serde::{Deserialize, Serialize};

use crate::bicubic::resize;
use crate::nn::{LayerNorm, MultiHead};
use crate::{
    Budget, CompressError, Compressed, Compressor, Dimensions, Features, Grid, Ladder, Method, Needs,
    Parameters, Placement, Result, Start, StateDepth,
};

/// The shape of an MQT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MqtConfig {
    /// The tower's width d.
    pub width: usize,
    /// The width of the language model.
    pub output_width: usize,
    /// Heads of the attention; 16 as published.
    pub heads: usize,
    /// The side of the square of queries; 16 as published, for 256 queries.
    pub query_side: usize,
    /// The hidden state that values are made of.
    pub state: StateDepth,
}

impl MqtConfig {
    /// The published shape: 256 queries, 16 heads.
    pub fn published(width: usize, output_width: usize) -> Self {
        Self { width, output_width, heads: 16, query_side: 16, state: StateDepth::LLAVA }
    }

    fn queries(&self) -> usize {
        self.query_side.saturating_mul(self.query_side)
    }
}

/// MQT with its weights.
#[derive(Clone, Debug)]
pub struct Mqt {
    config: MqtConfig,
    query: Tensor,
    positions: Tensor,
    query_norm: LayerNorm,
    key_norm: LayerNorm,
    value_norm: LayerNorm,
    attention: MultiHead,
    projection: Tensor,
}

impl Mqt {
    /// Takes its parameters from `from`, which starts where `query` is.
    ///
    /// # Errors
    /// A configuration that cannot be, or a parameter that is missing or has another shape.
    pub fn load(config: &MqtConfig, from: &Parameters<'_>) -> Result<Self> {
        let (d, queries) = (config.width, config.queries());
        if queries == 0 || queries > 1 << 16 {
            return Err(CompressError::config("query_side", config.query_side, "from 1 to 256"));
        }
        if !d.is_multiple_of(4) {
            return Err(CompressError::config("width", d, "a multiple of 4, for the position table"));
        }
        let attention = MultiHead::load(&from.below("attn"), d, config.heads)?;
        let table = position_table(config.query_side, d);
        let scale = (d as f64).powf(-0.5);
        Ok(Self {
            query: from.get(&[queries, d], "query", Start::Normal(0.02))?,
            positions: from.get(&[queries, d], "pos_embed", Start::Table(table))?,
            query_norm: LayerNorm::load(&from.below("ln_q"), d)?,
            key_norm: LayerNorm::load(&from.below("ln_k"), d)?,
            value_norm: LayerNorm::load(&from.below("ln_v"), d)?,
            attention,
            projection: from.get(&[d, config.output_width], "proj", Start::Normal(scale))?,
            config: config.clone(),
        })
    }

    /// The configuration that it was built from.
    pub fn config(&self) -> &MqtConfig {
        &self.config
    }

    fn tokens(&self, grid: Grid, budget: Budget) -> Result<usize> {
        self.check(grid, budget)?;
        match budget {
            Budget::Tokens(tokens) => Ok(tokens),
            Budget::Adaptive => Err(CompressError::OffLadder {
                method: self.method(),
                budget,
                grid,
                ladder: self.ladder(grid),
            }),
        }
    }

    /// Attention weights `[heads, m, patches]`: they are the same for every image.
    fn weights(&self, grid: Grid, m: usize) -> Result<Tensor> {
        let (heads, d) = (self.config.heads, self.config.width);
        let split = |x: Tensor, rows: usize| -> Result<Tensor> {
            Ok(x.reshape((rows, heads, d / heads))?.transpose(0, 1)?.contiguous()?)
        };
        let queries = (self.query.narrow(0, 0, m)? + self.positions.narrow(0, 0, m)?)?;
        let q = self.attention.queries(&self.query_norm.forward(&queries)?)?;
        let q = split((q * ((d / heads) as f64).powf(-0.5))?, m)?; // [heads, m, d / heads]
        let table: Vec<f32> = self.positions.flatten_all()?.to_dtype(candle_core::DType::F32)?.to_vec1()?;
        let resized = resize(&table, Grid::square(self.config.query_side), grid, d);
        let places = Tensor::from_vec(resized, (grid.patches(), d), self.positions.device())?
            .to_dtype(self.positions.dtype())?;
        let k = split(self.attention.keys(&self.key_norm.forward(&places)?)?, grid.patches())?;
        foveate_nn::count::dots(m * grid.patches(), d);
        Ok(softmax(&q.matmul(&k.t()?)?)?)
    }
}

impl Compressor for Mqt {
    fn method(&self) -> Method {
        Method::Mqt
    }

    fn needs(&self) -> Needs {
        Needs::state(self.config.state)
    }

    fn ladder(&self, _grid: Grid) -> Ladder {
        Ladder::Range(1, self.config.queries())
    }

    fn placement(&self) -> Placement {
        Placement::InsteadOfProjector
    }

    fn output_width(&self, _input_width: usize) -> usize {
        self.config.output_width
    }

    fn compress(&self, features: &Features, budget: Budget) -> Result<Compressed> {
        let grid = features.grid();
        let m = self.tokens(grid, budget)?;
        let x = features.state_of_width(Method::Mqt, self.config.state, self.config.width)?;
        let (b, patches, d) = x.dims3()?;
        let (heads, head) = (self.config.heads, d / self.config.heads);
        let weights = self.weights(grid, m)?; // [heads, m, patches]
        let v = self.attention.values(&self.value_norm.forward(x)?)?; // [b, patches, d]
        // The images stand beside each other, because the weights are the same for all.
        let v = v.reshape((b, patches, heads, head))?.permute((2, 1, 0, 3))?.contiguous()?;
        let v = v.reshape((heads, patches, b * head))?;
        foveate_nn::count::dots(b * m * patches, d);
        let mixed = weights.matmul(&v)?.reshape((heads, m, b, head))?; // [heads, m, b, head]
        let mixed = mixed.permute((2, 1, 0, 3))?.contiguous()?.reshape((b, m, d))?;
        let tokens = self.attention.output(&mixed)?; // [b, m, d]
        Ok(Compressed::merged(linear(&tokens, &self.projection.t()?, None)?)) // [b, m, D]
    }

    fn look(&self, features: &Features, budget: Budget) -> Result<Tensor> {
        let m = self.tokens(features.grid(), budget)?;
        let x = features.state_of_width(Method::Mqt, self.config.state, self.config.width)?;
        let weights = self.weights(features.grid(), m)?.mean_keepdim(0)?; // [1, m, patches]
        Ok(weights.broadcast_as((x.dim(0)?, m, x.dim(D::Minus2)?))?.contiguous()?)
    }

    fn parameters(&self) -> u64 {
        let norms = [&self.query_norm, &self.key_norm, &self.value_norm].map(LayerNorm::parameters);
        let tables = [&self.query, &self.positions, &self.projection].map(Tensor::elem_count);
        (norms.iter().sum::<usize>() + tables.iter().sum::<usize>() + self.attention.parameters()) as u64
    }

    fn flops(&self, dimensions: &Dimensions, visual_tokens: usize) -> Result<f64> {
        let v = self.tokens(dimensions.grid, Budget::Tokens(visual_tokens))? as f64;
        let (patches, d) = (dimensions.grid.patches() as f64, self.config.width as f64);
        let projections = 2.0 * v * d * d + 2.0 * patches * d * d + v * d * self.config.output_width as f64;
        Ok(2.0 * (projections + 2.0 * v * patches * d))
    }
}

/// The position table of a fresh model over a `side` × `side` grid: sines and cosines of the column, then of the row, at
/// d / 4 frequencies 10000^(−4i/d), rounded to half precision as the published code does.
fn position_table(side: usize, d: usize) -> Vec<f32> {
    let quarter = d / 4;
    let angle = |place: usize, nth: usize| place as f64 * 10000_f64.powf(-(nth as f64) / quarter as f64);
    let mut table = Vec::with_capacity(side * side * d);
    for row in 0..side {
        for column in 0..side {
            for place in [column, row] {
                table.extend((0..quarter).map(|nth| angle(place, nth).sin()));
                table.extend((0..quarter).map(|nth| angle(place, nth).cos()));
            }
        }
    }
    table.into_iter().map(|value| f16::from_f64(value).to_f32()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_table_by_hand() {
        let table = position_table(3, 8);
        // Row 2, column 1: sin and cos of 1 and 0.01, then of 2 and 0.02.
        let place = &table[(2 * 3 + 1) * 8..][..8];
        let expected: [f64; 8] = [0.84147, 0.01, 0.54030, 0.99995, 0.90930, 0.02, -0.41615, 0.9998];
        for (got, expected) in place.iter().zip(expected) {
            assert!((f64::from(*got) - expected).abs() < 5e-4, "{place:?}");
            assert_eq!(f16::from_f32(*got).to_f32(), *got);
        }
    }
}
