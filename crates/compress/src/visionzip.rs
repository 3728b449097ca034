//! VisionZip (arXiv 2412.04467): dominant patches as they are, contextual tokens merged from the others.
//!
//! Training-free. The class token's attention in block −2, summed over heads, picks the dominant patches; the others are
//! merged into evenly spaced ones among them by the similarity of their block −2 keys, averaged over heads. All values
//! come from hidden state −2. Rows: class token, dominant patches by position, contextual tokens.

use std::num::NonZeroUsize;

use candle_core::Tensor;

use crate::features::{to_rows, weights_over_patches};
use crate::selection::{descending, select, unit_rows};
use crate::{
    BlockDepth, Budget, CompressError, Compressed, Compressor, Dimensions, Features, Grid, Ladder, Method,
    Needs, Result, StateDepth,
};

/// How many of the tokens are contextual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Contextual {
    /// One in six, rounded down, at least one: about the published proportion.
    Sixth,
    /// Exactly so many.
    Exactly(NonZeroUsize),
}

/// The class token, dominant patches and contextual tokens.
#[derive(Clone, Copy, Debug)]
pub struct VisionZip {
    /// The hidden state that tokens are made of.
    pub state: StateDepth,
    /// How many of the tokens are contextual.
    pub contextual: Contextual,
}

impl Default for VisionZip {
    /// LLaVA's feature state, −2, and one contextual token in six.
    fn default() -> Self {
        Self { state: StateDepth::LLAVA, contextual: Contextual::Sixth }
    }
}

/// What becomes of one image's patches.
struct Zip {
    /// Dominant patches by position.
    dominant: Vec<usize>,
    /// Patches that contextual tokens grow from.
    targets: Vec<usize>,
    /// The other patches …
    others: Vec<usize>,
    /// … and for each the target that it joins.
    joins: Vec<usize>,
}

impl Zip {
    /// `keys` `[patches, d]`; D dominant patches and C contextual tokens.
    fn plan(keys: &Tensor, heads: usize, scores: &[f32], dominant: usize, contextual: usize) -> Result<Self> {
        let (patches, d) = keys.dims2()?;
        let mut is_dominant = vec![false; patches];
        descending(scores).into_iter().take(dominant).for_each(|patch| is_dominant[patch] = true);
        let (dominant, rest): (Vec<usize>, Vec<usize>) = (0..patches).partition(|patch| is_dominant[*patch]);

        let step = (rest.len() / contextual).max(1);
        let is_target = |place: usize| place.is_multiple_of(step) && place / step < contextual;
        let (target_places, other_places): (Vec<usize>, Vec<usize>) =
            (0..rest.len()).partition(|place| is_target(*place));

        foveate_nn::count::dots(rest.len(), d);
        let metric = select(keys, &rest)?.reshape((rest.len(), heads, d / heads))?.mean(1)?;
        let metric = unit_rows(&metric)?; // [rest, d / heads]
        let joins = if other_places.is_empty() {
            Vec::new()
        } else {
            foveate_nn::count::dots(other_places.len() * target_places.len(), d / heads);
            let others = select(&metric, &other_places)?;
            let similarity = to_rows(&others.matmul(&select(&metric, &target_places)?.t()?)?)?; // [others, C]
            // `descending` is stable, so that the first of equal targets wins.
            similarity.iter().map(|row| descending(row).first().copied().unwrap_or(0)).collect()
        };
        let patches_at = |places: &[usize]| places.iter().map(|place| rest[*place]).collect();
        Ok(Self { targets: patches_at(&target_places), others: patches_at(&other_places), dominant, joins })
    }

    /// How many patches join each target.
    fn joined(&self) -> Vec<f32> {
        let mut joined = vec![0.0; self.targets.len()];
        self.joins.iter().for_each(|target| joined[*target] += 1.0);
        joined
    }

    /// `x` `[patches, d]`, `class_token` `[1, d]` to `[1 + D + C, d]`.
    fn apply(&self, x: &Tensor, class_token: &Tensor) -> Result<Tensor> {
        let d = x.dim(1)?;
        let mut contextual = select(x, &self.targets)?;
        foveate_nn::count::dots(self.targets.len() + self.others.len(), d);
        if !self.others.is_empty() {
            let count = self.targets.len();
            let joins: Vec<u32> = self.joins.iter().map(|target| *target as u32).collect();
            let joins = Tensor::new(joins, x.device())?;
            let sums = Tensor::zeros((count, d), x.dtype(), x.device())?;
            let sums = sums.index_add(&joins, &select(x, &self.others)?, 0)?;
            // A target that nothing joins gains nothing.
            let joined: Vec<f32> = self.joined().into_iter().map(|count| count.max(1.0)).collect();
            let joined = Tensor::from_vec(joined, (count, 1), x.device())?.to_dtype(x.dtype())?;
            contextual = (contextual + sums.broadcast_div(&joined)?)?;
        }
        Ok(Tensor::cat(&[class_token, &select(x, &self.dominant)?, &contextual], 0)?)
    }

    /// The class token looks where it attends, dominant patches at themselves, contextual tokens at what they merge.
    fn look(&self, scores: &[f32]) -> Vec<Vec<f32>> {
        let sum: f32 = scores.iter().sum();
        let mut rows = vec![scores.iter().map(|score| score / sum.max(f32::MIN_POSITIVE)).collect()];
        let one = |patch: &usize| {
            let mut row = vec![0.0; scores.len()];
            row[*patch] = 1.0;
            row
        };
        rows.extend(self.dominant.iter().map(one));
        let first = rows.len();
        rows.extend(self.targets.iter().map(one));
        let joined = self.joined();
        for (patch, target) in self.others.iter().zip(&self.joins) {
            rows[first + target][*patch] = 0.5 / joined[*target];
        }
        for ((target, patch), joined) in self.targets.iter().enumerate().zip(joined) {
            rows[first + target][*patch] = if joined > 0.0 { 0.5 } else { 1.0 };
        }
        rows
    }

    fn kept(&self) -> Vec<Option<usize>> {
        let patches = self.dominant.iter().chain(&self.targets);
        [None].into_iter().chain(patches.copied().map(Some)).collect()
    }
}

impl VisionZip {
    fn contextual_tokens(self, visual_tokens: usize) -> usize {
        match self.contextual {
            Contextual::Sixth => (visual_tokens / 6).max(1),
            Contextual::Exactly(count) => count.get(),
        }
    }

    /// The plan of each image, and the class token's attention that it rests on.
    fn zips(self, features: &Features, budget: Budget) -> Result<Vec<(Zip, Vec<f32>)>> {
        let (grid, method) = (features.grid(), self.method());
        self.check(grid, budget)?;
        let Budget::Tokens(tokens) = budget else {
            return Err(CompressError::OffLadder { method, budget, grid, ladder: self.ladder(grid) });
        };
        let contextual = self.contextual_tokens(tokens);
        let dominant = tokens.saturating_sub(1 + contextual);
        let attention = features.attention(method, BlockDepth::LAST_BUT_ONE)?;
        let heads = attention.heads();
        let (keys, scores) = (attention.patch_keys()?, attention.class_attention(heads)?);
        let image = |(row, scores): (usize, Vec<f32>)| {
            Ok((Zip::plan(&keys.get(row)?.contiguous()?, heads, &scores, dominant, contextual)?, scores))
        };
        scores.into_iter().enumerate().map(image).collect()
    }
}

impl Compressor for VisionZip {
    fn method(&self) -> Method {
        Method::VisionZip
    }

    fn needs(&self) -> Needs {
        Needs { class_token: true, attention: Some(BlockDepth::LAST_BUT_ONE), ..Needs::state(self.state) }
    }

    fn ladder(&self, grid: Grid) -> Ladder {
        match self.contextual {
            Contextual::Sixth => Ladder::Range(3, grid.patches()),
            Contextual::Exactly(count) => Ladder::Range(count.get().saturating_add(2), grid.patches()),
        }
    }

    fn compress(&self, features: &Features, budget: Budget) -> Result<Compressed> {
        let zips = self.zips(features, budget)?;
        let (x, class) = (features.state(self.method(), self.state)?, features.class_token(self.method())?);
        let image = |(row, (zip, _)): (usize, &(Zip, Vec<f32>))| {
            zip.apply(&x.get(row)?.contiguous()?, &class.narrow(0, row, 1)?)
        };
        let tokens = zips.iter().enumerate().map(image).collect::<Result<Vec<_>>>()?;
        let kept = zips.iter().map(|(zip, _)| zip.kept()).collect();
        Ok(Compressed { tokens: Tensor::stack(&tokens, 0)?, kept: Some(kept) })
    }

    fn look(&self, features: &Features, budget: Budget) -> Result<Tensor> {
        let zips = self.zips(features, budget)?;
        let device = features.state(self.method(), self.state)?.device();
        weights_over_patches(zips.iter().map(|(zip, scores)| zip.look(scores)).collect(), device)
    }

    /// Class attention, which a fused attention discards, keys averaged over heads, similarities, merging.
    fn flops(&self, dimensions: &Dimensions, visual_tokens: usize) -> Result<f64> {
        self.check(dimensions.grid, Budget::Tokens(visual_tokens))?;
        let (patches, d) = (dimensions.grid.patches() as f64, dimensions.width as f64);
        let contextual = self.contextual_tokens(visual_tokens) as f64;
        let rest = patches - (visual_tokens as f64 - 1.0 - contextual);
        let channels = d / dimensions.heads.max(1) as f64;
        Ok(2.0 * ((patches + 1.0) * d + 2.0 * rest * d + contextual * (rest - contextual) * channels))
    }
}
