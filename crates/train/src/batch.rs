//! Examples of unequal length as one rectangle, with the image's rows spliced in.
//!
//! Rows are filled up on the right: a causal model never looks there from a position that counts, so no mask is needed and
//! a row is the same as run alone. The rectangle is gathered from a *bank*: the embeddings of all tokens, below them the
//! visual tokens of all rows. One gather, whose gradient is one scatter.

use candle_core::{Device, Tensor};

use crate::Result;
use crate::encode::{Example, Slot};

/// A rectangle of `rows` × `columns` positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Examples.
    pub rows: usize,
    /// The longest of them, in positions.
    pub columns: usize,
    /// All tokens one after the other: the upper part of the bank.
    pub tokens: Vec<u32>,
    /// For each position, row by row, its row of the bank.
    pub gather: Vec<u32>,
    /// Rows that show a picture, in the order of their visual tokens in the bank, and the picture.
    pub pictures: Vec<(usize, usize)>,
    /// Positions (row · columns + column) whose output is judged, with the token that it must give.
    pub targets: Vec<Target>,
}

/// A judged position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Row · columns + column.
    pub position: u32,
    /// The token that follows there.
    pub token: u32,
    /// The row.
    pub row: usize,
}

impl Batch {
    /// Arranges `examples`, every image of which becomes `visual_tokens` positions.
    pub fn new(examples: &[Example], visual_tokens: usize) -> Batch {
        let width = |example: &Example| -> usize {
            example.slots.iter().map(|slot| if *slot == Slot::Image { visual_tokens } else { 1 }).sum()
        };
        let columns = examples.iter().map(width).max().unwrap_or(0);
        let tokens: Vec<u32> = examples.iter().flat_map(|example| &example.slots).filter_map(token).collect();
        let mut batch = Batch {
            rows: examples.len(),
            columns,
            gather: Vec::with_capacity(examples.len() * columns),
            pictures: Vec::new(),
            targets: Vec::new(),
            tokens,
        };
        let mut next_token = 0;
        for (row, example) in examples.iter().enumerate() {
            let start = batch.gather.len();
            for slot in &example.slots {
                if let Slot::Answer(token) = *slot {
                    // The position before says it. (A prompt is never empty.)
                    let position = (batch.gather.len() - 1) as u32;
                    batch.targets.push(Target { position, token, row });
                }
                match (slot, example.picture) {
                    (Slot::Image, Some(picture)) => {
                        let first = batch.tokens.len() + batch.pictures.len() * visual_tokens;
                        batch.gather.extend((first..first + visual_tokens).map(|at| at as u32));
                        batch.pictures.push((row, picture));
                    }
                    (Slot::Image, None) => {}
                    _ => {
                        batch.gather.push(next_token);
                        next_token += 1;
                    }
                }
            }
            // Nothing that counts looks at the filling: any row of the bank will do.
            batch.gather.resize(start + columns, 0);
        }
        batch
    }

    /// The rectangle `[rows, columns, D]` from embedded tokens `[tokens, D]` and visual tokens `[pictures, V, D]`.
    ///
    /// # Errors
    /// Only those of the tensor library.
    pub fn splice(&self, tokens: &Tensor, visual: Option<&Tensor>) -> Result<Tensor> {
        let width = tokens.dim(1)?;
        let bank = match visual {
            Some(visual) => Tensor::cat(&[tokens.clone(), visual.flatten_to(1)?], 0)?,
            None => tokens.clone(),
        };
        let gather = Tensor::new(self.gather.as_slice(), &Device::Cpu)?;
        Ok(bank.index_select(&gather, 0)?.reshape((self.rows, self.columns, width))?)
    }
}

fn token(slot: &Slot) -> Option<u32> {
    match slot {
        Slot::Given(token) | Slot::Answer(token) => Some(*token),
        Slot::Image => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn example(picture: Option<usize>, slots: &[Slot]) -> Example {
        Example { picture, question: vec![1], slots: slots.to_vec() }
    }

    #[test]
    fn rows_are_spliced_and_only_positions_before_answers_are_judged() {
        let examples = [
            example(
                Some(0),
                &[Slot::Given(7), Slot::Image, Slot::Given(8), Slot::Answer(9), Slot::Answer(0)],
            ),
            example(None, &[Slot::Given(5), Slot::Answer(6)]),
            example(Some(4), &[Slot::Image, Slot::Answer(3)]),
        ];
        let batch = Batch::new(&examples, 2);
        assert_eq!((batch.rows, batch.columns), (3, 6));
        assert_eq!(batch.tokens, [7, 8, 9, 0, 5, 6, 3]);
        assert_eq!(batch.pictures, [(0, 0), (2, 4)]);
        // The bank's value is the token's id, or 100 + the visual token's number.
        let tokens: Vec<f32> = batch.tokens.iter().map(|id| *id as f32).collect();
        let tokens = Tensor::from_vec(tokens, (7, 1), &Device::Cpu).unwrap();
        let visual = Tensor::new(&[[[100_f32], [101.0]], [[102.0], [103.0]]], &Device::Cpu).unwrap();
        let rows =
            batch.splice(&tokens, Some(&visual)).unwrap().squeeze(2).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(rows[0], [7.0, 100.0, 101.0, 8.0, 9.0, 0.0]);
        assert_eq!(rows[1][..2], [5.0, 6.0]);
        assert_eq!(rows[2][..3], [102.0, 103.0, 3.0]);
        let targets: Vec<(u32, u32)> =
            batch.targets.iter().map(|target| (target.position, target.token)).collect();
        assert_eq!(targets, [(3, 9), (4, 0), (6, 6), (13, 3)]);
        // What a judged position must say stands right behind it in the input, and nowhere before.
        for target in &batch.targets {
            let (row, column) = (target.position as usize / 6, target.position as usize % 6);
            assert_eq!(row, target.row);
            assert_eq!(rows[row][column + 1], target.token as f32);
        }
    }
}
