//! What a language model is given: tokens, and rows that stand for images.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::llm::Decoder;
use crate::{ModelError, Result};

/// A stretch of a prompt.
#[derive(Clone, Debug)]
pub enum Part {
    /// Token ids.
    Tokens(Vec<u32>),
    /// Rows that take the place of embedded tokens, `[rows, d]`: an image after the projector.
    Rows(Tensor),
}

/// Tokens and image rows in the order in which the language model reads them.
#[derive(Clone, Debug, Default)]
pub struct Prompt {
    /// The stretches.
    pub parts: Vec<Part>,
}

/// One position of a prompt, comparable with what a cache holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Position {
    Token(u32),
    Row(Arc<[f32]>),
}

impl Position {
    pub(super) fn token(&self) -> Option<u32> {
        match self {
            Self::Token(token) => Some(*token),
            Self::Row(_) => None,
        }
    }

    /// Bytes that it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        let row = if let Self::Row(row) = self { size_of_val(&**row) } else { 0 };
        size_of::<Self>() + row
    }
}

impl Prompt {
    /// A prompt of tokens only.
    pub fn tokens(tokens: impl Into<Vec<u32>>) -> Self {
        Self { parts: vec![Part::Tokens(tokens.into())] }
    }

    /// How many positions the language model will read.
    ///
    /// # Errors
    /// Rows of another rank than 2.
    pub fn len(&self) -> Result<usize> {
        let len = |part: &Part| match part {
            Part::Tokens(tokens) => Ok(tokens.len()),
            Part::Rows(rows) => Ok(rows.dims2()?.0),
        };
        self.parts.iter().map(len).sum()
    }

    /// Whether there is nothing to read.
    ///
    /// # Errors
    /// As [`len`](Self::len).
    pub fn is_empty(&self) -> Result<bool> {
        Ok(self.len()? == 0)
    }

    pub(super) fn positions(&self, width: usize) -> Result<Vec<Position>> {
        let mut positions = Vec::new();
        for part in &self.parts {
            match part {
                Part::Tokens(tokens) => positions.extend(tokens.iter().copied().map(Position::Token)),
                Part::Rows(rows) => {
                    let (count, found) = rows.dims2()?;
                    if found != width {
                        return Err(ModelError::shape(
                            "image rows of a prompt",
                            &[count, width],
                            &[count, found],
                        ));
                    }
                    let values = rows.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
                    positions.extend(values.chunks_exact(width).map(|row| Position::Row(row.into())));
                }
            }
        }
        Ok(positions)
    }
}

/// Positions as the decoder's input, `[1, t, d]`.
pub(super) fn embed(decoder: &Decoder, positions: &[Position], device: &Device) -> Result<Tensor> {
    let mut parts = Vec::new();
    for run in positions.chunk_by(|a, b| std::mem::discriminant(a) == std::mem::discriminant(b)) {
        let tokens: Vec<u32> =
            run.iter().filter_map(|at| if let Position::Token(id) = at { Some(*id) } else { None }).collect();
        parts.push(if tokens.is_empty() {
            let values = run.iter().flat_map(|at| if let Position::Row(row) = at { &row[..] } else { &[] });
            let rows = Tensor::from_iter(values.copied(), device)?;
            rows.reshape((1, run.len(), decoder.config().width))?
        } else {
            decoder.embed(&Tensor::new(tokens, device)?.unsqueeze(0)?)?
        });
    }
    Ok(Tensor::cat(&parts, 1)?)
}
