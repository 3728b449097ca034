//! What a tower (and, for QueCC, a language model) gives to a compressor.

use candle_core::{D, DType, Device, Tensor};

use crate::{BlockDepth, CompressError, Grid, Method, Result, StateDepth};

/// The attention inputs of one block of the tower.
#[derive(Clone, Debug)]
pub struct BlockAttention {
    block: BlockDepth,
    class_query: Tensor,
    keys: Tensor,
    heads: usize,
}

impl BlockAttention {
    /// `queries` and `keys` `[b, 1 + patches, d]` are the outputs of the block's `q_proj` and `k_proj` on its normalised
    /// input, bias included, neither scaled nor split into `heads`; row 0 is the class token. Only that row of `queries`
    /// is read, so it alone may be given, `[b, 1, d]`.
    ///
    /// # Errors
    /// [`CompressError::Shape`]; [`CompressError::Config`] for heads that do not divide the width.
    pub fn new(block: BlockDepth, queries: &Tensor, keys: &Tensor, heads: usize) -> Result<Self> {
        let (b, n, d) = keys.dims3()?;
        let (query_batch, rows, query_width) = queries.dims3()?;
        if query_batch != b || query_width != d || rows == 0 {
            return Err(CompressError::shape(
                format!("queries of {block}"),
                &[b, n, d],
                &[query_batch, rows, query_width],
            ));
        }
        if heads == 0 || !d.is_multiple_of(heads) {
            return Err(CompressError::config("heads", heads, format!("a divisor of the tower's width {d}")));
        }
        Ok(Self {
            block,
            class_query: queries.narrow(1, 0, 1)?.contiguous()?,
            keys: keys.contiguous()?,
            heads,
        })
    }

    /// The keys of the patches, heads joined, `[b, patches, d]`.
    pub(crate) fn patch_keys(&self) -> Result<Tensor> {
        let n = self.keys.dim(1)?;
        Ok(self.keys.narrow(1, 1, n - 1)?)
    }

    pub(crate) fn heads(&self) -> usize {
        self.heads
    }

    /// The class token's attention to the patches, softmax over all keys, summed over `heads` heads: one row an image. The
    /// class token's own share is dropped and the rest is not renormalised. The softmax runs in f64: patches are ranked
    /// by it, and PruMerge multiplies sums of hundreds of patches by it.
    pub(crate) fn class_attention(&self, heads: usize) -> Result<Vec<Vec<f32>>> {
        let (b, n, d) = self.keys.dims3()?;
        let head = d / heads;
        foveate_nn::count::dots(b * n, d);
        let keys = self.keys.reshape((b, n, heads, head))?.transpose(1, 2)?.contiguous()?; // [b, heads, n, head]
        let query = self.class_query.reshape((b, heads, 1, head))?;
        let scores = (query.matmul(&keys.t()?)? * (head as f64).powf(-0.5))?.reshape((b * heads, n))?;
        let image = |rows: &[Vec<f32>]| {
            let mut attention = vec![0.0_f64; n];
            for row in rows {
                let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let exp: Vec<f64> = row.iter().map(|score| f64::from(score - largest).exp()).collect();
                let sum: f64 = exp.iter().sum();
                attention.iter_mut().zip(exp).for_each(|(total, exp)| *total += exp / sum);
            }
            attention[1..].iter().map(|share| *share as f32).collect()
        };
        Ok(to_rows(&scores)?.chunks(heads).map(image).collect())
    }

    fn rows(&self, rows: &Tensor) -> Result<Self> {
        Ok(Self {
            class_query: self.class_query.index_select(rows, 0)?,
            keys: self.keys.index_select(rows, 0)?,
            ..*self
        })
    }
}

/// Everything that a compressor may read, for a batch of images with one grid. Give what its
/// [`needs`](crate::Compressor::needs) list; more does no harm.
#[derive(Clone, Debug)]
pub struct Features {
    grid: Grid,
    batch: Option<usize>,
    states: Vec<(StateDepth, Tensor)>,
    class_token: Option<Tensor>,
    attention: Option<BlockAttention>,
    question: Option<Tensor>,
}

impl Features {
    /// No features yet.
    pub fn new(grid: Grid) -> Self {
        Self { grid, batch: None, states: Vec::new(), class_token: None, attention: None, question: None }
    }

    /// The patch tokens of a hidden state, `[b, patches, d]`, row-major, without class token. It is found again under
    /// this very `depth`, so use the one that [`needs`](crate::Compressor::needs) lists.
    ///
    /// # Errors
    /// [`CompressError::Shape`] when the patches do not fill the grid, or batch or width differ from what is here.
    pub fn with_state(mut self, depth: StateDepth, patches: Tensor) -> Result<Self> {
        let (b, n, d) = patches.dims3()?;
        let width = self.states.first().map_or(Ok(d), |(_, first)| first.dim(D::Minus1))?;
        self.expect(
            format!("hidden {depth} on a grid of {}", self.grid),
            &[b, n, d],
            &[self.batch.unwrap_or(b), self.grid.patches(), width],
        )?;
        self.states.retain(|(held, _)| *held != depth);
        self.states.push((depth, patches));
        Ok(self)
    }

    /// The class token of the first hidden state that the method needs, `[b, d]`.
    ///
    /// # Errors
    /// [`CompressError::Shape`] when the batch differs.
    pub fn with_class_token(mut self, class_token: Tensor) -> Result<Self> {
        let (b, d) = class_token.dims2()?;
        self.expect("class token".to_owned(), &[b, d], &[self.batch.unwrap_or(b), d])?;
        self.class_token = Some(class_token);
        Ok(self)
    }

    /// The attention inputs of a block.
    ///
    /// # Errors
    /// [`CompressError::Shape`] when the keys are not one for the class token and one for each patch, or the batch
    /// differs.
    pub fn with_attention(mut self, attention: BlockAttention) -> Result<Self> {
        let (b, n, d) = attention.keys.dims3()?;
        let expected = [self.batch.unwrap_or(b), 1 + self.grid.patches(), d];
        self.expect(format!("keys of {}", attention.block), &[b, n, d], &expected)?;
        self.attention = Some(attention);
        Ok(self)
    }

    /// The question's vector, `[b, D]`: the language model's last layer after its final norm, at the last token of the
    /// question alone.
    ///
    /// # Errors
    /// [`CompressError::Shape`] when the batch differs.
    pub fn with_question(mut self, question: Tensor) -> Result<Self> {
        let (b, d) = question.dims2()?;
        self.expect("question vector".to_owned(), &[b, d], &[self.batch.unwrap_or(b), d])?;
        self.question = Some(question);
        Ok(self)
    }

    /// Several questions about each image, `[b · q, D]`, those of one image one after the other: what does not depend on the
    /// question is then made once for all of them, and there are q compressed results for each image, in this order.
    ///
    /// # Errors
    /// [`CompressError::Shape`] when the images do not have equally many.
    pub fn with_questions(mut self, questions: Tensor) -> Result<Self> {
        let (rows, d) = questions.dims2()?;
        let b = self.batch();
        if b == 0 || rows == 0 || !rows.is_multiple_of(b) {
            return Err(CompressError::shape("question vectors", &[b.max(1), d], &[rows, d]));
        }
        self.question = Some(questions);
        Ok(self)
    }

    /// The patch grid.
    pub fn grid(&self) -> Grid {
        self.grid
    }

    /// The number of images; 0 as long as nothing is here.
    pub fn batch(&self) -> usize {
        self.batch.unwrap_or(0)
    }

    /// The patches `[b, patches, d]` of a hidden state, if it is here.
    pub fn patches(&self, depth: StateDepth) -> Option<&Tensor> {
        self.states.iter().find(|(held, _)| *held == depth).map(|(_, state)| state)
    }

    /// The bytes of all tensors.
    pub fn bytes(&self) -> usize {
        let attention = self.attention.iter().flat_map(|inputs| [&inputs.class_query, &inputs.keys]);
        let states = self.states.iter().map(|(_, state)| state);
        let tensors = states.chain(&self.class_token).chain(attention).chain(&self.question);
        tensors.map(|tensor| tensor.elem_count() * tensor.dtype().size_in_bytes()).sum()
    }

    /// The features of some of the images, in the order of `rows`.
    ///
    /// # Errors
    /// [`CompressError::Tensor`] for a row that is not there.
    pub fn rows(&self, rows: &[usize]) -> Result<Self> {
        if rows.iter().copied().eq(0..self.batch()) {
            return Ok(self.clone());
        }
        let index: Vec<u32> = rows.iter().map(|row| *row as u32).collect();
        let select = |tensor: &Tensor| -> Result<Tensor> {
            let index = Tensor::new(index.as_slice(), tensor.device())?;
            Ok(tensor.contiguous()?.index_select(&index, 0)?)
        };
        let questions = |questions: &Tensor| -> Result<Tensor> {
            let (count, width) = questions.dims2()?;
            let each = count / self.batch().max(1);
            let of_image = questions.reshape((self.batch(), each * width))?;
            Ok(select(&of_image)?.reshape((rows.len() * each, width))?)
        };
        let states = self.states.iter().map(|(depth, state)| Ok((*depth, select(state)?)));
        let attention = self
            .attention
            .as_ref()
            .map(|attention| attention.rows(&Tensor::new(index.as_slice(), attention.keys.device())?));
        Ok(Self {
            grid: self.grid,
            batch: self.batch.map(|_| rows.len()),
            states: states.collect::<Result<_>>()?,
            class_token: self.class_token.as_ref().map(select).transpose()?,
            attention: attention.transpose()?,
            question: self.question.as_ref().map(questions).transpose()?,
        })
    }

    /// The patches `[b, patches, d]` of a hidden state that `method` reads.
    pub(crate) fn state(&self, method: Method, depth: StateDepth) -> Result<&Tensor> {
        self.patches(depth).ok_or_else(|| CompressError::MissingState {
            method,
            depth,
            present: self.states.iter().map(|(held, _)| held.to_string()).collect(),
        })
    }

    /// The same for a method with weights, which reads only one width.
    pub(crate) fn state_of_width(&self, method: Method, depth: StateDepth, width: usize) -> Result<&Tensor> {
        let state = self.state(method, depth)?;
        let found = state.dim(D::Minus1)?;
        if found != width {
            return Err(CompressError::Width { method, what: "hidden states", expected: width, found });
        }
        Ok(state)
    }

    pub(crate) fn class_token(&self, method: Method) -> Result<&Tensor> {
        self.class_token.as_ref().ok_or(CompressError::MissingClassToken(method))
    }

    pub(crate) fn question(&self, method: Method, width: usize) -> Result<&Tensor> {
        let question = self.question.as_ref().ok_or(CompressError::MissingQuestion(method))?;
        let found = question.dim(D::Minus1)?;
        if found != width {
            return Err(CompressError::Width { method, what: "questions", expected: width, found });
        }
        Ok(question)
    }

    pub(crate) fn attention(&self, method: Method, block: BlockDepth) -> Result<&BlockAttention> {
        match &self.attention {
            Some(attention) if attention.block == block => Ok(attention),
            other => {
                let present = match other {
                    Some(attention) => format!("those of {}", attention.block),
                    None => "those of no block".to_owned(),
                };
                Err(CompressError::MissingAttention { method, block, present })
            }
        }
    }

    fn expect(&mut self, what: String, found: &[usize], expected: &[usize]) -> Result<()> {
        if self.grid.patches() == 0 {
            return Err(CompressError::Grid { grid: self.grid, what, expected: "at least one patch" });
        }
        if found != expected {
            return Err(CompressError::shape(what, expected, found));
        }
        self.batch = found.first().copied();
        Ok(())
    }
}

/// Rows of weights over the patches as a tensor `[b, V, patches]`.
pub(crate) fn weights_over_patches(rows: Vec<Vec<Vec<f32>>>, device: &Device) -> Result<Tensor> {
    let b = rows.len();
    let v = rows.first().map_or(0, Vec::len);
    let patches = rows.first().and_then(|image| image.first()).map_or(0, Vec::len);
    let flat: Vec<f32> = rows.into_iter().flatten().flatten().collect();
    Ok(Tensor::from_vec(flat, (b, v, patches), device)?)
}

/// A tensor's rows as numbers.
pub(crate) fn to_rows(tensor: &Tensor) -> Result<Vec<Vec<f32>>> {
    Ok(tensor.to_dtype(DType::F32)?.to_vec2()?)
}
