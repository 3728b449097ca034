//! PruMerge and PruMerge+ (LLaVA-PruMerge, arXiv 2403.15388): outlying patches are kept, the others merged into them.
//!
//! Training-free. The class token's attention in the last block (queries and keys of its input, hidden state −2, heads
//! joined) ranks the patches. Each kept patch gains the attention-weighted sum of the 32 patches with the most similar
//! keys; one more token, the last, sums what was not kept. PruMerge+ also keeps evenly spaced patches.
//!
//! Two cases that the reference leaves undefined are defined here. An image without outliers keeps its one most attended
//! patch (n = 1). A spacing below one patch becomes one, so that PruMerge+ then keeps every patch but the last.

use candle_core::{DType, Tensor};

use crate::features::{to_rows, weights_over_patches};
use crate::selection::{descending, outliers, select, unit_rows};
use crate::{
    BlockDepth, Budget, CompressError, Compressed, Compressor, Dimensions, Features, Grid, Ladder, Method,
    Needs, Result, StateDepth,
};

/// Patches merged into each kept one.
const NEIGHBOURS: usize = 32;

/// Keeps outlying patches, or a given number of the most attended.
#[derive(Clone, Copy, Debug)]
pub struct PruMerge {
    /// The hidden state that tokens are made of, the input of the last block.
    pub state: StateDepth,
}

impl Default for PruMerge {
    /// LLaVA's feature state, −2.
    fn default() -> Self {
        Self { state: StateDepth::LLAVA }
    }
}

/// Keeps outlying patches and evenly spaced ones. Only adaptive: their union has no number that could be asked for.
#[derive(Clone, Copy, Debug)]
pub struct PruMergePlus {
    /// The hidden state that tokens are made of, the input of the last block.
    pub state: StateDepth,
}

impl Default for PruMergePlus {
    /// LLaVA's feature state, −2.
    fn default() -> Self {
        Self { state: StateDepth::LLAVA }
    }
}

/// What becomes of one image's patches.
struct Merge {
    /// Patches kept, in the order of the tokens.
    kept: Vec<usize>,
    /// For each kept patch those merged into it.
    neighbours: Vec<Vec<usize>>,
    /// The other patches, whose sum is the last token.
    rest: Vec<usize>,
    /// The class token's attention to each patch.
    attention: Vec<f32>,
}

impl Merge {
    /// `keys` `[patches, d]`, `kept` in the order of the tokens.
    fn plan(keys: &Tensor, attention: Vec<f32>, kept: Vec<usize>) -> Result<Self> {
        let patches = attention.len();
        let keys = unit_rows(keys)?;
        foveate_nn::count::dots(kept.len() * patches, keys.dim(1)?);
        let similarity = to_rows(&select(&keys, &kept)?.matmul(&keys.t()?)?)?; // [kept, patches]
        let nearest = |(patch, row): (&usize, &Vec<f32>)| {
            descending(row).into_iter().filter(|other| other != patch).take(NEIGHBOURS).collect()
        };
        let neighbours = kept.iter().zip(&similarity).map(nearest).collect();
        let mut is_kept = vec![false; patches];
        kept.iter().for_each(|patch| is_kept[*patch] = true);
        let rest = (0..patches).filter(|patch| !is_kept[*patch]).collect();
        Ok(Self { kept, neighbours, rest, attention })
    }

    /// `[patches, d] -> [kept + 1, d]`
    fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let d = x.dim(1)?;
        let each = self.neighbours.first().map_or(0, Vec::len);
        let mut tokens = select(x, &self.kept)?; // [kept, d]
        if each > 0 {
            let near: Vec<usize> = self.neighbours.iter().flatten().copied().collect();
            let weights = self.weights(&near, x)?.reshape((self.kept.len(), 1, each))?;
            foveate_nn::count::dots(near.len(), d);
            let gathered = select(x, &near)?.reshape((self.kept.len(), each, d))?;
            tokens = (tokens + weights.matmul(&gathered)?.squeeze(1)?)?;
        }
        let last = if self.rest.is_empty() {
            Tensor::zeros((1, d), x.dtype(), x.device())?
        } else {
            foveate_nn::count::dots(self.rest.len(), d);
            // A sum of hundreds of patches: in f32 its rounding would be ten times that of the other tokens.
            let weights = self.weights(&self.rest, x)?.to_dtype(DType::F64)?.unsqueeze(0)?; // [1, rest]
            weights.matmul(&select(x, &self.rest)?.to_dtype(DType::F64)?)?.to_dtype(x.dtype())?
        };
        Ok(Tensor::cat(&[tokens, last], 0)?)
    }

    fn weights(&self, patches: &[usize], like: &Tensor) -> Result<Tensor> {
        let weights: Vec<f32> = patches.iter().map(|patch| self.attention[*patch]).collect();
        Ok(Tensor::new(weights, like.device())?.to_dtype(like.dtype())?)
    }

    /// The mixing weights of each token over the patches, divided by their sum.
    fn look(&self) -> Vec<Vec<f32>> {
        let over_patches = |own: Option<usize>, merged: &[usize]| {
            let mut row = vec![0.0; self.attention.len()];
            merged.iter().for_each(|patch| row[*patch] += self.attention[*patch]);
            own.into_iter().for_each(|patch| row[patch] += 1.0);
            let sum: f32 = row.iter().sum();
            row.iter_mut().for_each(|weight| *weight /= sum.max(f32::MIN_POSITIVE));
            row
        };
        let mut rows: Vec<_> = self
            .kept
            .iter()
            .zip(&self.neighbours)
            .map(|(patch, merged)| over_patches(Some(*patch), merged))
            .collect();
        rows.push(over_patches(None, &self.rest));
        rows
    }

    /// The patch behind each token; none behind the last.
    fn kept(&self) -> Vec<Option<usize>> {
        self.kept.iter().copied().map(Some).chain([None]).collect()
    }
}

/// One plan an image, with `choose` picking the patches to keep from the class token's attention.
fn plan(
    method: Method,
    features: &Features,
    budget: Budget,
    choose: impl Fn(&[f32]) -> Vec<usize>,
) -> Result<Vec<Merge>> {
    let images = features.batch();
    if budget == Budget::Adaptive && images > 1 {
        return Err(CompressError::AdaptiveBatch { images });
    }
    let attention = features.attention(method, BlockDepth::LAST)?;
    let (keys, scores) = (attention.patch_keys()?, attention.class_attention(1)?);
    let image = |(row, scores): (usize, Vec<f32>)| {
        let kept = choose(&scores);
        Merge::plan(&keys.get(row)?, scores, kept)
    };
    scores.into_iter().enumerate().map(image).collect()
}

fn apply(method: Method, state: StateDepth, features: &Features, merges: &[Merge]) -> Result<Compressed> {
    let x = features.state(method, state)?;
    let image = |(row, merge): (usize, &Merge)| merge.apply(&x.get(row)?.contiguous()?);
    let tokens = merges.iter().enumerate().map(image).collect::<Result<Vec<_>>>()?;
    let kept = merges.iter().map(Merge::kept).collect();
    Ok(Compressed { tokens: Tensor::stack(&tokens, 0)?, kept: Some(kept) })
}

fn look(features: &Features, method: Method, state: StateDepth, merges: &[Merge]) -> Result<Tensor> {
    let device = features.state(method, state)?.device();
    weights_over_patches(merges.iter().map(Merge::look).collect(), device)
}

fn needs(state: StateDepth) -> Needs {
    Needs { attention: Some(BlockDepth::LAST), ..Needs::state(state) }
}

/// Query of the class token and keys of the last block (which the tower leaves to the method, as its last block does not
/// run otherwise), class attention, similarities, merging.
fn flops(dimensions: &Dimensions, visual_tokens: usize) -> f64 {
    let patches = dimensions.grid.patches();
    let (n, d, kept) = (patches as f64, dimensions.width as f64, visual_tokens.saturating_sub(1) as f64);
    let neighbours = patches.saturating_sub(1).min(NEIGHBOURS) as f64;
    let scores = d * d + (n + 1.0) * d * d + (n + 1.0) * d;
    2.0 * (scores + kept * n * d + (kept * neighbours + (n - kept)) * d)
}

impl PruMerge {
    fn merges(self, features: &Features, budget: Budget) -> Result<Vec<Merge>> {
        self.check(features.grid(), budget)?;
        plan(self.method(), features, budget, |scores| {
            let n = match budget {
                Budget::Tokens(tokens) => tokens.saturating_sub(1),
                Budget::Adaptive => outliers(scores).max(1),
            };
            descending(scores).into_iter().take(n).collect()
        })
    }
}

impl Compressor for PruMerge {
    fn method(&self) -> Method {
        Method::PruMerge
    }

    fn needs(&self) -> Needs {
        needs(self.state)
    }

    fn ladder(&self, grid: Grid) -> Ladder {
        Ladder::RangeOrAdaptive(2, grid.patches())
    }

    fn compress(&self, features: &Features, budget: Budget) -> Result<Compressed> {
        apply(self.method(), self.state, features, &self.merges(features, budget)?)
    }

    fn look(&self, features: &Features, budget: Budget) -> Result<Tensor> {
        look(features, self.method(), self.state, &self.merges(features, budget)?)
    }

    fn flops(&self, dimensions: &Dimensions, visual_tokens: usize) -> Result<f64> {
        self.check(dimensions.grid, Budget::Tokens(visual_tokens))?;
        Ok(flops(dimensions, visual_tokens))
    }
}

impl PruMergePlus {
    fn merges(self, features: &Features, budget: Budget) -> Result<Vec<Merge>> {
        self.check(features.grid(), budget)?;
        plan(self.method(), features, budget, with_spaced)
    }
}

/// The outliers by descending score, then positions 0, step, 2·step, … that are not among them, the last patch excluded.
fn with_spaced(scores: &[f32]) -> Vec<usize> {
    let n = outliers(scores).max(1);
    let step = (scores.len() / n / 3).max(1);
    let mut kept: Vec<usize> = descending(scores).into_iter().take(n).collect();
    let spaced = (0..scores.len().saturating_sub(1)).step_by(step);
    let spaced: Vec<usize> = spaced.filter(|patch| !kept.contains(patch)).collect();
    kept.extend(spaced);
    kept
}

impl Compressor for PruMergePlus {
    fn method(&self) -> Method {
        Method::PruMergePlus
    }

    fn needs(&self) -> Needs {
        needs(self.state)
    }

    fn ladder(&self, _grid: Grid) -> Ladder {
        Ladder::Adaptive
    }

    fn compress(&self, features: &Features, budget: Budget) -> Result<Compressed> {
        apply(self.method(), self.state, features, &self.merges(features, budget)?)
    }

    fn look(&self, features: &Features, budget: Budget) -> Result<Tensor> {
        look(features, self.method(), self.state, &self.merges(features, budget)?)
    }

    /// For the number of tokens that an image came to.
    fn flops(&self, dimensions: &Dimensions, visual_tokens: usize) -> Result<f64> {
        PruMerge { state: self.state }.flops(dimensions, visual_tokens)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_outlier_keeps_the_most_attended_patch_and_its_spacing() {
        let mut scores = vec![1.0; 30];
        scores[7] = 1.0 + 1e-6;
        // The quartiles are equal, so the smallest excess is an outlier; without any, the first patch leads.
        assert_eq!(with_spaced(&scores), [7, 0, 10, 20]);
        assert_eq!(with_spaced(&[1.0; 30]), [0, 10, 20]);
        let even: Vec<f32> = (0..30).map(|score| score as f32).collect();
        assert_eq!(outliers(&even), 0);
        assert_eq!(with_spaced(&even), [29, 0, 10, 20]);
    }

    #[test]
    fn a_spacing_below_one_keeps_all_but_the_last() {
        // Three outliers of eight patches: 8 / 3 / 3 is 0.
        let scores = [0.0, 0.1, 0.0, 0.1, 0.0, 0.1, 0.0, 9.0, 0.1, 9.0, 0.0];
        assert_eq!(outliers(&scores), 2);
        assert_eq!(with_spaced(&scores[..10]), [7, 9, 0, 1, 2, 3, 4, 5, 6, 8]);
        let mut many = vec![0.0; 20];
        many[3..7].fill(5.0);
        assert_eq!(outliers(&many), 4);
        assert_eq!(with_spaced(&many).len(), 19);
        assert!(!with_spaced(&many).contains(&19));
    }
}
