//! What each compressor costs, holds and offers. The methods are those of `foveate-compress`; here they are only
//! dimensions.
//!
//! Sources: QueCC arXiv 2411.03312, TokenPacker arXiv 2407.02392, MQT arXiv 2405.19315, M3 arXiv 2405.17430,
//! LLaVA-PruMerge arXiv 2403.15388, VisionZip arXiv 2412.04467.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{
    dimensions::TowerDimensions,
    error::CostError,
    llm::LlmDimensions,
    names::{Choice, choose, serde_as_string},
    work::Work,
};

/// A method that turns the g² patch tokens of a tower into V visual tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum Compressor {
    /// Query-based convolutional cross-attention; reads the question.
    QueCC,
    /// Interpolated queries that attend inside their window; includes its own projector.
    TokenPacker,
    /// Matryoshka query transformer: any number of learnt queries up to 256; includes its own projection. Counted as
    /// the reference runs it, although its queries and keys hold no image content and could be made once.
    Mqt,
    /// Matryoshka multimodal: nested average pooling of the *projected* tokens.
    M3,
    /// Training-free: keeps the patches with outlying attention and merges the others into them.
    PruMerge,
    /// Training-free: dominant patches by attention plus merged contextual ones.
    VisionZip,
    /// Mean of each window, before the projector.
    AveragePooling,
    /// All patch tokens.
    Identity,
}

const CHOICES: &[Choice<Compressor>] = &[
    (Compressor::QueCC, "quecc", &[]),
    (Compressor::TokenPacker, "token-packer", &[]),
    (Compressor::Mqt, "mqt", &[]),
    (Compressor::M3, "m3", &[]),
    (Compressor::PruMerge, "prumerge", &[]),
    (Compressor::VisionZip, "visionzip", &[]),
    (Compressor::AveragePooling, "average-pooling", &["average", "pooling", "pool"]),
    (Compressor::Identity, "identity", &["none"]),
];

/// Learnt queries of MQT.
const MQT_QUERIES: usize = 256;
/// Hidden states that QueCC and TokenPacker concatenate for their keys and values.
const MULTI_LEVEL_STATES: f64 = 4.0;
/// Neighbours that PruMerge merges into each kept patch.
const PRUMERGE_NEIGHBOURS: usize = 32;

/// The numbers of visual tokens that a compressor offers on a tower.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ladder {
    /// These numbers, largest first.
    Rungs(Vec<usize>),
    /// Every number from the first to the second, both included.
    Range(usize, usize),
}

impl Ladder {
    /// Whether `visual_tokens` is on offer.
    pub fn contains(&self, visual_tokens: usize) -> bool {
        match self {
            Self::Rungs(rungs) => rungs.contains(&visual_tokens),
            Self::Range(first, last) => (*first..=*last).contains(&visual_tokens),
        }
    }

    /// Every number on offer, largest first.
    pub fn values(&self) -> Vec<usize> {
        match self {
            Self::Rungs(rungs) => rungs.clone(),
            Self::Range(first, last) => (*first..=*last).rev().collect(),
        }
    }
}

impl fmt::Display for Ladder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rungs(rungs) if rungs.is_empty() => f.write_str("nothing on this grid"),
            Self::Rungs(rungs) => {
                let list: Vec<String> = rungs.iter().map(usize::to_string).collect();
                f.write_str(&list.join(", "))
            }
            Self::Range(first, last) if first > last => f.write_str("nothing on so small a grid"),
            Self::Range(first, last) => write!(f, "any number from {first} to {last}"),
        }
    }
}

impl Compressor {
    /// Every compressor.
    pub fn all() -> impl Iterator<Item = Self> {
        CHOICES.iter().map(|(compressor, ..)| *compressor)
    }

    /// Whether the visual tokens depend on the question: then they cannot be shared between questions, and the
    /// language model must read the question once more before the image is compressed.
    pub fn reads_question(self) -> bool {
        self == Self::QueCC
    }

    /// Whether the method ranks patches by the attention of the tower's class token.
    pub fn needs_class_token(self) -> bool {
        matches!(self, Self::PruMerge | Self::VisionZip)
    }

    /// Whether the stock projector (Linear, GELU, Linear) belongs to it; the others end in a projection of their own.
    pub fn uses_projector(self) -> bool {
        !matches!(self, Self::TokenPacker | Self::Mqt)
    }

    /// The numbers of visual tokens it offers on this tower. M3, which knows squares alone, halves the grid as long as
    /// that is exact, at most three times, and ends with one token: sides 24, 12, 6, 3, 1 for a 24 × 24 grid. PruMerge
    /// keeps V − 1 patches, VisionZip the class token, max(1, ⌊V/6⌋) contextual tokens and at least one dominant patch.
    pub fn ladder(self, tower: &TowerDimensions) -> Ladder {
        let patches = tower.patches();
        match self {
            Self::QueCC | Self::TokenPacker | Self::AveragePooling => Ladder::Rungs(tower.ladder()),
            Self::Mqt => Ladder::Range(1, MQT_QUERIES),
            Self::M3 => {
                let (rows, columns) = tower.grid();
                if rows != columns {
                    return Ladder::Rungs(Vec::new());
                }
                let mut sides: Vec<usize> =
                    (0..4).filter(|k| rows.is_multiple_of(1 << k)).map(|k| rows >> k).collect();
                sides.push(1);
                sides.dedup();
                Ladder::Rungs(sides.into_iter().map(|side| side.saturating_mul(side)).collect())
            }
            Self::PruMerge => Ladder::Range(2, patches),
            Self::VisionZip => Ladder::Range(3, patches),
            Self::Identity => Ladder::Rungs(vec![patches]),
        }
    }

    /// Refuses a number of visual tokens that is not on offer, and a tower that lacks what the method reads.
    ///
    /// # Errors
    /// [`CostError::NeedsClassToken`] or [`CostError::VisualTokens`].
    pub fn check(self, tower: &TowerDimensions, visual_tokens: usize) -> Result<(), CostError> {
        if self.needs_class_token() && !tower.class_token {
            return Err(CostError::NeedsClassToken {
                compressor: self.to_string(),
                tower: tower.name.clone(),
            });
        }
        let ladder = self.ladder(tower);
        if ladder.contains(visual_tokens) {
            return Ok(());
        }
        Err(CostError::VisualTokens {
            compressor: self.to_string(),
            tower: tower.name.clone(),
            visual_tokens,
            offered: ladder.to_string(),
        })
    }

    /// Parameters of the compressor alone, biases, norms and tables included, without the stock projector.
    ///
    /// # Errors
    /// As [`Compressor::check`].
    pub fn parameters(
        self,
        tower: &TowerDimensions,
        llm: &LlmDimensions,
        visual_tokens: usize,
    ) -> Result<u64, CostError> {
        self.check(tower, visual_tokens)?;
        let (d, width) = (tower.hidden as f64, llm.hidden as f64);
        let linear = |inputs: f64, outputs: f64| inputs * outputs + outputs;
        let norm = 2.0 * d;
        let attention = 4.0 * linear(d, d);
        // Keys or values: Linear 4d→d, GELU, Linear d→d, LayerNorm.
        let branch = linear(MULTI_LEVEL_STATES * d, d) + linear(d, d) + norm;
        let parameters = match self {
            Self::QueCC => {
                let filter = tower.patches() as f64 / visual_tokens as f64 * d + d;
                let text = linear(width, d) + norm;
                text + 2.0 * linear(d, d) + norm + filter + 2.0 * branch + attention
            }
            Self::TokenPacker => {
                d * d + norm + 2.0 * branch + attention + linear(d, width) + linear(width, width)
            }
            Self::Mqt => 2.0 * MQT_QUERIES as f64 * d + 3.0 * norm + attention + d * width,
            _ => 0.0,
        };
        Ok(parameters as u64)
    }

    /// FLOPs of the compressor alone for one image, 2 × multiply-adds; without the stock projector.
    ///
    /// # Errors
    /// As [`Compressor::check`].
    pub fn flops(
        self,
        tower: &TowerDimensions,
        llm: &LlmDimensions,
        visual_tokens: usize,
    ) -> Result<f64, CostError> {
        self.check(tower, visual_tokens)?;
        Ok(self.work(tower, llm, visual_tokens).flops)
    }

    /// The compressor's own work; the request has been checked.
    pub(crate) fn work(self, tower: &TowerDimensions, llm: &LlmDimensions, visual_tokens: usize) -> Work {
        let (d, width) = (tower.hidden as f64, llm.hidden as f64);
        let (patches, v) = (tower.patches() as f64, visual_tokens as f64);
        let mut work = Work::default();
        match self {
            Self::QueCC => {
                work.product(1.0, width, d);
                work.product(patches, d, d);
                work.product(patches, d, d);
                work.dots(patches, d); // the depthwise filter touches every patch once
                window_attention(&mut work, patches, v, d);
            }
            Self::TokenPacker => {
                // Half-pixel interpolation: the mean of four patches for even windows, a plain copy for odd ones.
                let window = patches / v;
                work.dots(if window % 2.0 == 0.0 { 4.0 * v } else { 0.0 }, d);
                work.product(v, d, d);
                window_attention(&mut work, patches, v, d);
                work.product(v, d, width);
                work.product(v, width, width);
            }
            Self::Mqt => {
                work.product(v, d, d);
                work.product(patches, d, d);
                work.product(patches, d, d);
                work.attention(v, v * patches, d);
                work.product(v, d, d);
                work.product(v, d, width);
            }
            Self::M3 => work.dots(patches, width),
            Self::AveragePooling => work.dots(patches, d),
            Self::PruMerge => {
                let tokens = tower.tokens() as f64;
                let kept = v - 1.0;
                let neighbours = tower.patches().saturating_sub(1).min(PRUMERGE_NEIGHBOURS) as f64;
                work.product(1.0, d, d); // the class token's query …
                work.product(tokens, d, d); // … and every key of the last block
                work.dots(tokens, d);
                work.dots(kept * patches, d); // cosine similarities
                work.dots(kept * neighbours + (patches - kept), d);
            }
            Self::VisionZip => {
                let contextual = (visual_tokens / 6).max(1) as f64;
                let rest = patches - (v - 1.0 - contextual);
                let channels = d / tower.heads as f64;
                work.dots(tower.tokens() as f64, d); // the class row of block −2, which a fused attention discards
                work.dots(rest, d); // keys averaged over the heads
                work.dots(contextual * (rest - contextual), channels);
                work.dots(rest, d);
            }
            Self::Identity => {}
        }
        work
    }
}

/// Keys and values from four hidden states, then attention of each query to the patches of its own window: together
/// as many pairs as there are patches, whatever V is.
fn window_attention(work: &mut Work, patches: f64, queries: f64, d: f64) {
    for _ in 0..2 {
        work.product(patches, MULTI_LEVEL_STATES * d, d);
        work.product(patches, d, d);
        work.product(patches, d, d); // the input projection of the attention
    }
    work.product(queries, d, d);
    work.attention(queries, patches, d);
    work.product(queries, d, d);
}

impl fmt::Display for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(CHOICES.iter().find(|(choice, ..)| choice == self).map_or("", |(_, name, _)| name))
    }
}

impl FromStr for Compressor {
    type Err = CostError;

    fn from_str(text: &str) -> Result<Self, CostError> {
        choose("compressor", text, CHOICES)
    }
}

serde_as_string!(Compressor);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cost::Catalogue;

    fn clip() -> TowerDimensions {
        Catalogue::builtin().tower("clip-l-14-336").unwrap().clone()
    }

    fn vicuna() -> LlmDimensions {
        Catalogue::builtin().llm("vicuna-7b").unwrap().clone()
    }

    /// A tower and a language model of the given widths on a 24 × 24 grid.
    fn toy(hidden: usize, width: usize) -> (TowerDimensions, LlmDimensions) {
        let tower = TowerDimensions { hidden, heads: 1, ..clip() };
        let llm = LlmDimensions { hidden: width, ..vicuna() };
        (tower, llm)
    }

    #[test]
    fn parameters_equal_the_tensors_of_the_reference_implementations() {
        // Element counts of the weights in the reference's checkpoints at toy widths (fixtures `quecc_k3`,
        // `quecc_k12`, `tokenpacker_s2`, `mqt`).
        let (tower, llm) = toy(32, 40);
        assert_eq!(Compressor::QueCC.parameters(&tower, &llm, 64).unwrap(), 18_592);
        assert_eq!(Compressor::QueCC.parameters(&tower, &llm, 4).unwrap(), 22_912);
        let (tower, llm) = toy(64, 96);
        assert_eq!(Compressor::TokenPacker.parameters(&tower, &llm, 144).unwrap(), 77_888);
        let (tower, llm) = toy(64, 48);
        for v in [1, 100, 256] {
            assert_eq!(Compressor::Mqt.parameters(&tower, &llm, v).unwrap(), 52_864);
        }
    }

    #[test]
    fn quecc_has_its_published_size_and_cost() {
        let (tower, llm) = (clip(), vicuna());
        let millions = Compressor::QueCC.parameters(&tower, &llm, 36).unwrap() as f64 / 1e6;
        assert!((20.5..21.5).contains(&millions), "{millions}");
        let whole = tower.work(tower.feature_blocks()).flops;
        for v in tower.ladder() {
            let flops = Compressor::QueCC.flops(&tower, &llm, v).unwrap();
            assert!((17.0..=19.0).contains(&(flops / 1e9).round()), "{v}: {flops:e}");
            assert!(flops / whole < 0.06);
        }
    }

    #[test]
    fn quecc_by_hand() {
        let (tower, llm) = toy(2, 3);
        // Text 3·2; q twice 576·4; filter 576·2; k and v: 576·(16 + 4 + 4) each; q and output of 4 tokens 4·4 each;
        // 576 pairs of 2 channels for scores and values.
        let multiply_adds = 6 + 2 * 2304 + 1152 + 2 * 576 * 24 + 2 * 16 + 2 * 1152;
        assert_eq!(Compressor::QueCC.flops(&tower, &llm, 4).unwrap(), 2.0 * f64::from(multiply_adds));
    }

    #[test]
    fn mqt_by_hand() {
        let (tower, llm) = toy(2, 3);
        // q, k, v and output projections of 2 × 2, 7 · 576 pairs of 2 channels twice, 7 tokens through 2 × 3.
        let multiply_adds = 7 * 4 + 2 * 576 * 4 + 2 * 7 * 576 * 2 + 7 * 4 + 7 * 6;
        assert_eq!(Compressor::Mqt.flops(&tower, &llm, 7).unwrap(), 2.0 * f64::from(multiply_adds));
    }

    #[test]
    fn token_packer_by_hand() {
        let (tower, llm) = toy(2, 3);
        // Windows of two: the mean of four patches of 2 channels; queries, their input and the output projection; keys
        // and values as in QueCC; 576 pairs; 144 tokens through 2 × 3 and 3 × 3. Windows of three copy their centre.
        let even = 4 * 144 * 2 + 3 * 144 * 4 + 2 * 576 * 24 + 2 * 1152 + 144 * (6 + 9);
        let odd = 3 * 64 * 4 + 2 * 576 * 24 + 2 * 1152 + 64 * (6 + 9);
        assert_eq!(Compressor::TokenPacker.flops(&tower, &llm, 144).unwrap(), 2.0 * f64::from(even));
        assert_eq!(Compressor::TokenPacker.flops(&tower, &llm, 64).unwrap(), 2.0 * f64::from(odd));
    }

    #[test]
    fn training_free_methods_by_hand() {
        let (tower, llm) = toy(2, 3);
        // Four kept of five: class query, 577 keys, 577 scores; four rows of 576 similarities; four times 32
        // neighbours and once the 572 others.
        let prumerge = 4 + 577 * 4 + 577 * 2 + 4 * 576 * 2 + (4 * 32 + 572) * 2;
        assert_eq!(Compressor::PruMerge.flops(&tower, &llm, 5).unwrap(), 2.0 * f64::from(prumerge));
        // Twelve: class token, nine dominant, two contextual among the 567 others.
        let visionzip = 577 * 2 + 567 * 2 + 2 * 565 * 2 + 567 * 2;
        assert_eq!(Compressor::VisionZip.flops(&tower, &llm, 12).unwrap(), 2.0 * f64::from(visionzip));
    }

    #[test]
    fn training_free_methods_and_pooling_are_near_zero_but_counted() {
        let (tower, llm) = (clip(), vicuna());
        let whole = tower.work(tower.feature_blocks()).flops;
        for compressor in [
            Compressor::PruMerge,
            Compressor::VisionZip,
            Compressor::AveragePooling,
            Compressor::M3,
            Compressor::Identity,
        ] {
            let v = compressor.ladder(&tower).values()[0];
            assert_eq!(compressor.parameters(&tower, &llm, v).unwrap(), 0);
            let flops = compressor.flops(&tower, &llm, v).unwrap();
            assert_eq!(flops > 0.0, compressor != Compressor::Identity);
            assert!(flops < 0.01 * whole, "{compressor}: {flops:e}");
        }
    }

    #[test]
    fn ladders_are_the_methods_own() {
        let tower = clip();
        assert_eq!(Compressor::M3.ladder(&tower).values(), [576, 144, 36, 9, 1]);
        let sixteen = tower.with_image_size(224).unwrap();
        assert_eq!(Compressor::M3.ladder(&sixteen).values(), [256, 64, 16, 4, 1]);
        assert_eq!(Compressor::QueCC.ladder(&sixteen).values(), [256, 64, 16, 4, 1]);
        assert_eq!(Compressor::Mqt.ladder(&tower).values().len(), 256);
        assert!(!Compressor::Mqt.ladder(&tower).contains(257));
        assert!(!Compressor::PruMerge.ladder(&tower).contains(1));
        assert_eq!(Compressor::Identity.ladder(&tower).values(), [576]);
        for compressor in Compressor::all() {
            for v in compressor.ladder(&tower).values() {
                assert!(compressor.flops(&tower, &vicuna(), v).unwrap() >= 0.0);
            }
            assert!(compressor.check(&tower, 0).is_err());
        }
    }

    #[test]
    fn refusals_say_what_is_offered() {
        let message = Compressor::QueCC.check(&clip(), 50).unwrap_err().to_string();
        assert!(
            message.contains("50 visual tokens") && message.contains("576, 144, 64, 36, 16, 9, 4, 1"),
            "{message}"
        );
        let siglip = Catalogue::builtin().tower("siglip-so400m-14-384").unwrap().clone();
        let message = Compressor::PruMerge.check(&siglip, 32).unwrap_err().to_string();
        assert!(message.contains("class token") && message.contains("siglip"), "{message}");
    }

    #[test]
    fn names_are_forgiving_and_misses_list_the_choices() {
        for (text, expected) in [
            ("QueCC", Compressor::QueCC),
            ("TokenPacker", Compressor::TokenPacker),
            ("token_packer", Compressor::TokenPacker),
            ("VISION-ZIP", Compressor::VisionZip),
            ("average pooling", Compressor::AveragePooling),
            ("none", Compressor::Identity),
        ] {
            assert_eq!(text.parse::<Compressor>().unwrap(), expected);
        }
        let message = "quec".parse::<Compressor>().unwrap_err().to_string();
        assert!(
            message.contains("did you mean `quecc`?") && message.contains("average-pooling"),
            "{message}"
        );
    }
}
