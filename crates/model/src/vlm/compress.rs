//! From pixels to visual tokens in stages, so that each can be timed, cached and tested alone:
//!
//! | stage | method | |
//! |---|---|---|
//! | tower | [`Vlm::see`] | only the blocks that the compressor's inputs need |
//! | query | [`Vlm::question_vector`] | only for a compressor that reads the question |
//! | project | [`Vlm::project_before`] | only for a compressor that reads projected patches (M3) |
//! | compress | [`Vlm::compress`] | |
//! | project | [`Vlm::project_after`] | for all others, unless they end in a projection of their own |
//! | – | [`Vlm::arrange_tokens`] | rows as the language model reads them, `[positions, D]` |
//!
//! ```
//! # use std::path::Path;
//! # use candle_core::{DType, Device, Tensor};
//! use foveate_compress::{Budget, Method};
//! use foveate_model::Dtype;
//! use foveate_model::vlm::{Image, Vlm};
//!
//! let model = Vlm::open(Path::new("../../fixtures/models/llava-1.5"), None, Dtype::F32)?;
//! let model = model.with_compressor(Method::AveragePooling)?;
//! let image = Image::Single(Tensor::zeros((3, 28, 28), DType::F32, &Device::Cpu)?); // 4 x 4 patches
//! model.check(&image, Budget::Tokens(4))?; // before anything runs
//! let seen = model.see(&image)?;
//! let compressed = model.compress(&seen, None, &[Budget::Tokens(4)])?;
//! let rows = model.arrange_tokens(&image, &model.project_after(&compressed)?)?;
//! assert_eq!(rows.dims(), [4, 48]); // four visual tokens of the language model's width
//!
//! let refused = model.check(&image, Budget::Tokens(5)).unwrap_err().to_string();
//! assert!(refused.contains("it offers 16, 4, 1"));
//! # Ok::<(), foveate_model::ModelError>(())
//! ```

use candle_core::{Device, Tensor};
use foveate_compress::{
    BlockAttention, Budget, CompressError, Compressed, Features, Method, Placement, StateDepth,
};

use super::{Image, Vlm};
use crate::llm::{Input, Padding};
use crate::vision::{BlockIndex, HiddenState, Queries, Wanted};
use crate::{ModelError, Result};

/// What the tower gave for the pictures of an image: the image itself, or its overview and tiles.
#[derive(Clone, Debug)]
pub struct Seen {
    content: Content,
    /// Blocks of the tower that ran in full.
    pub blocks_run: usize,
}

#[derive(Clone, Debug)]
enum Content {
    /// What the compressor reads.
    Features(Features),
    /// The rows of a projector that reads several states or the class token as well, `[pictures, n, d]`: no compressor
    /// goes with it.
    Rows(Tensor),
}

impl Seen {
    /// How many pictures.
    pub fn pictures(&self) -> usize {
        match &self.content {
            Content::Features(features) => features.batch(),
            Content::Rows(rows) => rows.dims()[0],
        }
    }

    /// The bytes of all tensors.
    pub fn bytes(&self) -> usize {
        match &self.content {
            Content::Features(features) => features.bytes(),
            Content::Rows(rows) => rows.elem_count() * rows.dtype().size_in_bytes(),
        }
    }

    fn features(&self) -> Option<&Features> {
        match &self.content {
            Content::Features(features) => Some(features),
            Content::Rows(_) => None,
        }
    }
}

impl Vlm {
    /// Stage *tower*: the hidden states and attention inputs that the compressor reads.
    ///
    /// # Errors
    /// Pixels of another size; a compressor that reads what this tower does not have.
    pub fn see(&self, image: &Image) -> Result<Seen> {
        match image {
            Image::Single(pixels) => self.see_pixels(&pixels.unsqueeze(0)?),
            Image::Tiled { tiles, .. } => self.see_pixels(tiles),
        }
    }

    /// The same for pixels `[pictures, 3, side, side]`, for example a batch of images for training.
    ///
    /// # Errors
    /// As [`see`](Self::see).
    pub fn see_pixels(&self, pixels: &Tensor) -> Result<Seen> {
        if !self.reads_plain_patches() {
            let features = self.encode(pixels, &[], &[])?;
            let blocks_run = features.extra.blocks_run;
            return Ok(Seen { content: Content::Rows(features.rows), blocks_run });
        }
        let depth = self.tower().config().blocks();
        let needs = self.compressor.needs();
        let resolve = |state: &StateDepth| Ok(HiddenState::new(state.resolve(depth)?));
        let states: Vec<HiddenState> = needs.states.iter().map(resolve).collect::<Result<_>>()?;
        let block = needs.attention.map(|block| self.cost().attention_block(block)).transpose()?;
        let attention: Vec<BlockIndex> = block.into_iter().map(BlockIndex::new).collect();
        let wanted = Wanted { states: &states, attention: &attention, queries: Queries::ClassToken };
        let output = self.tower().forward(pixels, &wanted)?;
        let mut features = Features::new(output.grid);
        for (nth, depth) in needs.states.iter().enumerate() {
            // Contiguous, so that what is kept of a state is the patches alone.
            features = features.with_state(*depth, output.patches(nth)?.contiguous()?)?;
        }
        if needs.class_token {
            let class = output.states[0].narrow(1, 0, 1)?.squeeze(1)?;
            features = features.with_class_token(class.force_contiguous()?)?;
        }
        if let (Some(depth), Some(inputs)) = (needs.attention, output.attention.first()) {
            let inputs = BlockAttention::new(depth, &inputs.queries, &inputs.keys, inputs.heads)?;
            features = features.with_attention(inputs)?;
        }
        Ok(Seen { content: Content::Features(features), blocks_run: output.blocks_run })
    }

    /// Stage *query*: the vector of a question, `[1, D]`: one pass of the language model over the question's tokens alone
    /// (with what the tokenizer puts in front, no image, no template), last layer after the final norm, last token.
    ///
    /// # Errors
    /// No tokens, too many, or one outside the vocabulary.
    pub fn question_vector(&self, tokens: &[u32]) -> Result<Tensor> {
        self.question_vectors(&[tokens])
    }

    /// The same for several questions, `[b, D]`.
    ///
    /// # Errors
    /// As [`question_vector`](Self::question_vector).
    pub fn question_vectors(&self, questions: &[&[u32]]) -> Result<Tensor> {
        let (tokens, padding) = Padding::batch(questions, 0, &Device::Cpu)?;
        self.decoder().last_hidden(Input::Tokens(&tokens), &padding)
    }

    /// Stage *project* for compressors that read projected patches; what others read is handed on as it is.
    ///
    /// # Errors
    /// Those of the projector.
    pub fn project_before(&self, seen: Seen) -> Result<Seen> {
        let Some(features) = seen.features() else { return Ok(seen) };
        if self.compressor.placement() != Placement::AfterProjector {
            return Ok(seen);
        }
        let mut projected = Features::new(features.grid());
        for depth in self.compressor.needs().states {
            let Some(patches) = features.patches(depth) else { continue };
            projected = projected.with_state(depth, self.project(patches)?)?;
        }
        Ok(Seen { content: Content::Features(projected), ..seen })
    }

    /// Stage *compress*: for each picture its tokens `[1, V, width]`. `question` is a vector for all pictures, `[1, D]`,
    /// or one for each. `budgets` has one entry for all pictures, or one for each: pictures may differ in V.
    ///
    /// # Errors
    /// [`CompressError`]: a budget off the ladder, a question that is needed and absent.
    pub fn compress(
        &self,
        seen: &Seen,
        question: Option<&Tensor>,
        budgets: &[Budget],
    ) -> Result<Vec<Compressed>> {
        let pictures = seen.pictures();
        let budgets = match budgets {
            [budget] => vec![*budget; pictures],
            budgets => budgets.to_vec(),
        };
        match &seen.content {
            Content::Features(features) => {
                let features = self.with_question(features, question)?;
                Ok(self.compressor.compress_rows(&features, &budgets)?)
            }
            Content::Rows(rows) => {
                for budget in budgets {
                    if !self.ladder().contains(budget) {
                        let (method, grid, ladder) = (Method::Identity, self.grid(), self.ladder());
                        return Err(CompressError::OffLadder { method, budget, grid, ladder }.into());
                    }
                }
                let one = |nth| Ok(Compressed { tokens: rows.narrow(0, nth, 1)?, kept: None });
                (0..pictures).map(one).collect()
            }
        }
    }

    /// Where each visual token looks, `[V, patches]` for each picture, as [`foveate_compress::Compressor::look`] has it: weights that sum
    /// to 1. Takes what [`compress`](Self::compress) takes.
    ///
    /// # Errors
    /// As [`compress`](Self::compress); [`ModelError::Compressor`] for a projector that does not read plain patches.
    pub fn look(&self, seen: &Seen, question: Option<&Tensor>, budgets: &[Budget]) -> Result<Vec<Tensor>> {
        let Some(features) = seen.features() else {
            return Err(ModelError::compressor(self.compressor.method(), self.no_plain_patches()));
        };
        let features = self.with_question(features, question)?;
        let budget_of = |picture: usize| match budgets {
            [budget] => Ok(*budget),
            _ => budgets
                .get(picture)
                .copied()
                .ok_or(CompressError::BudgetCount { budgets: budgets.len(), images: features.batch() }),
        };
        let one = |picture: usize| {
            let alone = features.rows(&[picture])?;
            Ok(self.compressor.look(&alone, budget_of(picture)?)?.squeeze(0)?)
        };
        (0..features.batch()).map(one).collect()
    }

    /// Stage *project* for compressors that stand in front of the projector: for each picture its tokens `[V, D]`. What
    /// others made is handed on as it is.
    ///
    /// # Errors
    /// Those of the projector.
    pub fn project_after(&self, compressed: &[Compressed]) -> Result<Vec<Tensor>> {
        let tokens: Vec<Tensor> =
            compressed.iter().map(|one| Ok(one.tokens.squeeze(0)?)).collect::<Result<_>>()?; // [V, d] each
        if self.compressor.placement() != Placement::BeforeProjector || tokens.is_empty() {
            return Ok(tokens);
        }
        // All pictures in one product.
        let projected = self.project(&Tensor::cat(&tokens, 0)?)?;
        let mut start = 0;
        let mut rows = Vec::with_capacity(tokens.len());
        for tokens in tokens {
            let count = tokens.dims()[0];
            rows.push(projected.narrow(0, start, count)?);
            start += count;
        }
        Ok(rows)
    }

    /// The rows that stand for an image, `[positions, D]`: its tokens, or those of its overview and tiles arranged as
    /// LLaVA-NeXT reads them, each tile a smaller grid.
    ///
    /// # Errors
    /// Tokens of another number of pictures; [`ModelError::Compressor`] for tokens that lie on no grid.
    pub fn arrange_tokens(&self, image: &Image, tokens: &[Tensor]) -> Result<Tensor> {
        match image {
            Image::Single(_) => match tokens {
                [only] => Ok(only.clone()),
                _ => Err(ModelError::shape("pictures of an image", &[1], &[tokens.len()])),
            },
            Image::Tiled { tiling, .. } => {
                let v = tokens.first().map_or(0, |first| first.dims()[0]);
                let grid = self.tile_grid(Budget::Tokens(v))?;
                self.arrange(&Tensor::stack(tokens, 0)?, tiling, grid)
            }
        }
    }

    fn with_question(&self, features: &Features, question: Option<&Tensor>) -> Result<Features> {
        let Some(question) = question.filter(|_| self.compressor.reads_question()) else {
            return Ok(features.clone());
        };
        let pictures = features.batch();
        let (b, width) = question.dims2()?;
        let question = match b {
            1 => question.broadcast_as((pictures, width))?.contiguous()?,
            _ => question.clone(),
        };
        Ok(features.clone().with_question(question)?)
    }
}
