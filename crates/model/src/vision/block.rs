//! The transformer block that CLIP, SigLIP and DINOv2 share, and the walk over the blocks that stops as soon as
//! everything that was asked for is there.

use std::collections::BTreeMap;

use candle_core::{D, Tensor};

use super::{BlockIndex, HiddenState, ImageSize, Queries, VisionStates, Wanted};
use crate::error::{LARGEST_SIZE, MOST_BLOCKS};
use crate::nn::{Activation, Heads, LayerNorm, Linear, Sight, Stacked, softmax};
use crate::weights::Weights;
use crate::{ModelError, Result};

/// What a checkpoint family calls the parts of a block.
pub(super) struct BlockNames {
    pub(super) norm1: &'static str,
    pub(super) query: &'static str,
    pub(super) key: &'static str,
    pub(super) value: &'static str,
    pub(super) output: &'static str,
    /// The per-channel gain on what the attention adds, `[width]` (LayerScale, DINOv2 only).
    pub(super) scale1: Option<&'static str>,
    pub(super) norm2: &'static str,
    pub(super) fc1: &'static str,
    pub(super) fc2: &'static str,
    /// The per-channel gain on what the MLP adds.
    pub(super) scale2: Option<&'static str>,
}

/// Widths of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct BlockShape {
    pub(super) width: usize,
    pub(super) hidden: usize,
    pub(super) heads: usize,
    pub(super) eps: f64,
    pub(super) activation: Activation,
}

/// `x + scale1 · attention(norm1(x))`, then `x + scale2 · mlp(norm2(x))`.
#[derive(Clone, Debug)]
pub(super) struct Block {
    norm1: LayerNorm,
    joined: Stacked,
    /// `scale1` is part of it.
    output: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    /// `scale2` is part of it.
    fc2: Linear,
    shape: BlockShape,
}

/// The attention inputs of one block, for methods that select tokens by them.
#[derive(Clone, Debug)]
pub struct BlockAttention {
    /// Outputs of `q_proj`, bias included, neither scaled nor split into heads, `[b, n, width]`, or `[b, 1, width]` for
    /// [`Queries::ClassToken`].
    pub queries: Tensor,
    /// Outputs of `k_proj`, bias included, not split into heads, `[b, n, width]`.
    pub keys: Tensor,
    /// How many heads the block splits the width into.
    pub heads: usize,
}

impl BlockAttention {
    /// What the class token (row 0) gives to every token in each head, as the block itself computes it:
    /// softmax with scale (width/heads)^-0.5 over all n keys, `[b, heads, n]`. VisionZip sums it over heads.
    ///
    /// # Errors
    /// Only those of the tensor library.
    pub fn class_attention_by_head(&self) -> Result<Tensor> {
        let (b, n, width) = self.keys.dims3()?;
        let head = width / self.heads;
        let class = self.queries.narrow(1, 0, 1)?.reshape((b, self.heads, 1, head))?; // [b, heads, 1, head]
        let keys = self.keys.reshape((b, n, self.heads, head))?.transpose(1, 2)?.contiguous()?;
        let scores = (class.matmul(&keys.t()?)? * (head as f64).powf(-0.5))?; // [b, heads, 1, n]
        Ok(softmax(&scores)?.squeeze(2)?)
    }

    /// The same with the heads left joined and scale width^-0.5, `[b, n]`: PruMerge's class attention.
    ///
    /// # Errors
    /// Only those of the tensor library.
    pub fn class_attention_joined(&self) -> Result<Tensor> {
        let width = self.keys.dim(D::Minus1)?;
        let class = self.queries.narrow(1, 0, 1)?.contiguous()?; // [b, 1, width]
        let scores = (class.matmul(&self.keys.t()?)? * (width as f64).powf(-0.5))?; // [b, 1, n]
        Ok(softmax(&scores)?.squeeze(1)?)
    }
}

impl Block {
    /// All blocks of a tower, numbered from 0 below `layers`.
    pub(super) fn load_all(
        layers: &Weights,
        count: usize,
        shape: BlockShape,
        names: &BlockNames,
    ) -> Result<Vec<Self>> {
        (0..count).map(|block| Self::load(&layers.pp(block), shape, names)).collect()
    }

    fn load(weights: &Weights, shape: BlockShape, names: &BlockNames) -> Result<Self> {
        let BlockShape { width, hidden, eps, .. } = shape;
        let inputs = [names.query, names.key, names.value].map(|name| (weights.pp(name), width));
        let load = |name, input, output, scale: Option<&str>| -> Result<Linear> {
            let gains = scale.map(|name| weights.get(output, name)).transpose()?;
            Linear::load_with_gains(&weights.pp(name), input, output, true, gains.as_ref())
        };
        Ok(Self {
            norm1: LayerNorm::load(&weights.pp(names.norm1), width, eps)?,
            joined: Stacked::load(&inputs, width, true, None)?,
            output: load(names.output, width, width, names.scale1)?,
            norm2: LayerNorm::load(&weights.pp(names.norm2), width, eps)?,
            fc1: load(names.fc1, width, hidden, None)?,
            fc2: load(names.fc2, hidden, width, names.scale2)?,
            shape,
        })
    }

    fn heads(&self) -> Heads {
        let BlockShape { width, heads, .. } = self.shape;
        Heads { heads, groups: heads, width: width / heads }
    }

    /// The queries and keys in joined rows `[b, n, 3 · width]`, copied out.
    fn attention_of(&self, joined: &Tensor, wanted: Queries) -> Result<BlockAttention> {
        let BlockShape { width, heads, .. } = self.shape;
        let queries = joined.narrow(2, 0, width)?;
        let queries = match wanted {
            Queries::All => queries,
            Queries::ClassToken => queries.narrow(1, 0, 1)?,
        };
        let keys = joined.narrow(2, width, width)?.force_contiguous()?;
        Ok(BlockAttention { queries: queries.force_contiguous()?, keys, heads })
    }

    /// The queries and keys of this block for its input `x` `[b, n, width]`. Nothing else of the block runs.
    fn attention_inputs(&self, x: &Tensor, wanted: Queries) -> Result<BlockAttention> {
        let BlockShape { width, heads, .. } = self.shape;
        let normed = self.norm1.forward(x)?;
        let asking = match wanted {
            Queries::All => normed.clone(),
            Queries::ClassToken => normed.narrow(1, 0, 1)?,
        };
        let queries = self.joined.forward_outputs(&asking, 0..width)?;
        Ok(BlockAttention { queries, keys: self.joined.forward_outputs(&normed, width..2 * width)?, heads })
    }

    /// `[b, n, width] -> [b, n, 3 · width]`: queries, keys and values.
    fn join(&self, x: &Tensor) -> Result<Tensor> {
        self.joined.forward(&self.norm1.forward(x)?)
    }

    /// `[b, n, width] -> [b, n, width]`, given the joined rows for `x`.
    fn forward(&self, x: &Tensor, joined: &Tensor) -> Result<Tensor> {
        let mixed = self.heads().attend(joined, &Sight::Full)?; // [b, n, width]
        let x = self.output.forward_added(&mixed, x)?;
        let inner = self.fc1.forward_activated(&self.norm2.forward(&x)?, self.shape.activation)?; // [b, n, hidden]
        self.fc2.forward_added(&inner, &x)
    }

    /// Bytes that the matrices take in memory.
    pub(super) fn bytes(&self) -> usize {
        self.joined.bytes() + self.output.bytes() + self.fc1.bytes() + self.fc2.bytes()
    }
}

/// Runs only the blocks that `wanted` needs, starting from hidden state 0.
pub(super) fn walk(blocks: &[Block], start: Tensor, wanted: &Wanted<'_>) -> Result<VisionStates> {
    let depth = blocks.len();
    let resolve_states =
        |list: &[HiddenState]| list.iter().map(|state| state.resolve(depth)).collect::<Result<Vec<_>>>();
    let resolve_blocks =
        |list: &[BlockIndex]| list.iter().map(|block| block.resolve(depth)).collect::<Result<Vec<_>>>();
    let (states_at, attention_at) = (resolve_states(wanted.states)?, resolve_blocks(wanted.attention)?);
    // The attention of block i needs its input, state i, and two projections more.
    let Some(&last) = states_at.iter().chain(&attention_at).max() else {
        return Ok(VisionStates { states: Vec::new(), attention: Vec::new(), blocks_run: 0 });
    };
    // Only the states that are asked for are kept: all 25 of CLIP-L for five tiles would be 300 MB.
    let mut kept = BTreeMap::new();
    let mut attention = BTreeMap::new();
    let mut x = start;
    for (index, block) in blocks[..last].iter().enumerate() {
        if states_at.contains(&index) {
            kept.insert(index, x.clone());
        }
        let joined = block.join(&x)?;
        if attention_at.contains(&index) {
            attention.insert(index, block.attention_of(&joined, wanted.queries)?);
        }
        x = block.forward(&x, &joined)?;
    }
    // The one block that did not run in full.
    if attention_at.contains(&last) {
        attention.insert(last, blocks[last].attention_inputs(&x, wanted.queries)?);
    }
    kept.insert(last, x);
    Ok(VisionStates {
        states: states_at.iter().map(|at| kept[at].clone()).collect(),
        attention: attention_at.iter().map(|at| attention[at].clone()).collect(),
        blocks_run: last,
    })
}

/// Checks what every tower's configuration must satisfy.
pub(super) fn validate(
    shape: &BlockShape,
    blocks: usize,
    image_size: ImageSize,
    patch_size: usize,
) -> Result<()> {
    let sizes = [
        ("hidden_size", shape.width),
        ("intermediate_size", shape.hidden),
        ("num_attention_heads", shape.heads),
        ("image_size", image_size.height),
        ("image_size", image_size.width),
        ("patch_size", patch_size),
    ];
    for (field, value) in sizes {
        ModelError::check_size(field, value, LARGEST_SIZE)?;
    }
    ModelError::check_size("num_hidden_layers", blocks, MOST_BLOCKS)?;
    if !shape.width.is_multiple_of(shape.heads) {
        let expected = format!("must divide hidden_size = {}", shape.width);
        return Err(ModelError::config("num_attention_heads", shape.heads, expected));
    }
    if image_size.height.min(image_size.width) < patch_size {
        let expected = format!("must be at least patch_size = {patch_size}");
        return Err(ModelError::config("image_size", image_size, expected));
    }
    Ok(())
}
