//! The words that compressors, models and tools share: the trait, what a method needs, where it stands, what it gives.

use std::collections::BTreeMap;
use std::fmt;

use candle_core::Tensor;

use crate::{BlockDepth, Budget, CompressError, Features, Grid, Ladder, Method, Result, StateDepth};

/// What a method reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// Hidden states, each once; the first is the one that tokens are made of.
    pub states: Vec<StateDepth>,
    /// The class token of the first of `states`.
    pub class_token: bool,
    /// The block whose queries and keys rank the patches.
    pub attention: Option<BlockDepth>,
    /// The question's vector: then tokens cannot be shared between questions.
    pub question: bool,
}

impl Needs {
    /// One hidden state and nothing else.
    pub fn state(depth: StateDepth) -> Self {
        Self { states: vec![depth], class_token: false, attention: None, question: false }
    }
}

/// Where a method stands relative to the projector (Linear, GELU, Linear) that follows the tower in LLaVA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Placement {
    /// Its tokens pass the projector.
    BeforeProjector,
    /// It reads projected patches: the caller projects the state and then hands it in.
    AfterProjector,
    /// It ends in a projection of its own.
    InsteadOfProjector,
}

/// The sizes that a cost depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dimensions {
    /// The patch grid.
    pub grid: Grid,
    /// The width of the patches that the method reads: the tower's, or the language model's after the projector.
    pub width: usize,
    /// The heads of the tower's attention.
    pub heads: usize,
}

/// What a method gave for a batch of images.
#[derive(Clone, Debug)]
pub struct Compressed {
    /// `[b, V, width]`, see [`Compressor::output_width`].
    pub tokens: Tensor,
    /// For methods that select: the patch that each token of each image grew from, in the order of the tokens. `None`
    /// inside for tokens that stand for no single patch: the class token, PruMerge's last one.
    pub kept: Option<Vec<Vec<Option<usize>>>>,
}

impl Compressed {
    pub(crate) fn merged(tokens: Tensor) -> Self {
        Self { tokens, kept: None }
    }
}

/// A method that turns the patch tokens of a vision tower into fewer visual tokens.
pub trait Compressor: fmt::Debug + Send + Sync {
    /// Which method it is.
    fn method(&self) -> Method;

    /// What must be among the features.
    fn needs(&self) -> Needs;

    /// The numbers of visual tokens on offer for this grid.
    fn ladder(&self, grid: Grid) -> Ladder;

    /// Where it stands relative to the projector.
    fn placement(&self) -> Placement {
        Placement::BeforeProjector
    }

    /// The width of the tokens when the patches have `input_width`.
    fn output_width(&self, input_width: usize) -> usize {
        input_width
    }

    /// How the tokens lie, row-major, for methods whose tokens stand for a grid of equal windows. `None` for methods that
    /// select or query, and for numbers that are not on offer.
    fn token_grid(&self, _grid: Grid, _visual_tokens: usize) -> Option<Grid> {
        None
    }

    /// Compresses a batch, every image to the same number of tokens.
    ///
    /// # Errors
    /// [`CompressError::OffLadder`]; features that lack what [`needs`](Self::needs) lists or have another width; an
    /// adaptive budget with more than one image, see [`compress_rows`](Self::compress_rows).
    fn compress(&self, features: &Features, budget: Budget) -> Result<Compressed>;

    /// Where each token looks: `[b, V, patches]`, weights over the patches that sum to 1 for each token. Attention
    /// weights (mean over heads) for methods that attend, mixing weights for methods that pool or merge.
    ///
    /// # Errors
    /// As [`compress`](Self::compress).
    fn look(&self, features: &Features, budget: Budget) -> Result<Tensor>;

    /// Parameters, biases, norms and tables included; the stock projector is not.
    fn parameters(&self) -> u64 {
        0
    }

    /// FLOPs for one image, 2 × multiply-adds of products, attention and weighted sums; the same count as `law::cost`.
    ///
    /// # Errors
    /// [`CompressError::OffLadder`].
    fn flops(&self, dimensions: &Dimensions, visual_tokens: usize) -> Result<f64>;

    /// Whether the tokens depend on the question.
    fn reads_question(&self) -> bool {
        self.needs().question
    }

    /// Refuses a budget that is not on offer.
    ///
    /// # Errors
    /// [`CompressError::OffLadder`], which lists the ladder.
    fn check(&self, grid: Grid, budget: Budget) -> Result<()> {
        let ladder = self.ladder(grid);
        if ladder.contains(budget) {
            return Ok(());
        }
        Err(CompressError::OffLadder { method: self.method(), budget, grid, ladder })
    }

    /// Compresses a batch in which every image has its own budget. Images of one budget run together; each entry of the
    /// result holds one image, in the order given.
    ///
    /// # Errors
    /// As [`compress`](Self::compress), and [`CompressError::BudgetCount`].
    fn compress_rows(&self, features: &Features, budgets: &[Budget]) -> Result<Vec<Compressed>> {
        let images = features.batch();
        if budgets.len() != images {
            return Err(CompressError::BudgetCount { budgets: budgets.len(), images });
        }
        let mut groups: BTreeMap<(Budget, usize), Vec<usize>> = BTreeMap::new();
        for (row, budget) in budgets.iter().enumerate() {
            // Adaptive images differ in their number of tokens, so each is a group of its own.
            let alone = if *budget == Budget::Adaptive { row } else { 0 };
            groups.entry((*budget, alone)).or_default().push(row);
        }
        let mut results = Vec::with_capacity(images);
        for ((budget, _), rows) in groups {
            let together = self.compress(&features.rows(&rows)?, budget)?;
            for (nth, row) in rows.into_iter().enumerate() {
                let tokens = together.tokens.narrow(0, nth, 1)?;
                let kept = together.kept.as_ref().map(|kept| vec![kept[nth].clone()]);
                results.push((row, Compressed { tokens, kept }));
            }
        }
        results.sort_by_key(|(row, _)| *row);
        Ok(results.into_iter().map(|(_, compressed)| compressed).collect())
    }
}
