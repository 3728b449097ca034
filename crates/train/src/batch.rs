//! Examples of unequal length as few rectangles, with the image's rows spliced in.
//!
//! Rows are filled up on the right: a causal model never looks there from a position that counts, so no mask is needed and
//! a row is the same as run alone. A caption is ten times as long as an answer of one word, so rows of like length go
//! together. Rectangles are gathered from a *bank*: the embeddings of all tokens, below them the visual tokens of all
//! rows. One gather, whose gradient is one scatter.

use candle_core::{Device, Tensor};

use crate::Result;
use crate::encode::{Example, Slot};

/// Filled-up positions that one rectangle less is worth.
const RECTANGLE: usize = 256;

/// Examples, arranged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Examples.
    pub rows: usize,
    /// All tokens one after the other: the upper part of the bank.
    pub tokens: Vec<u32>,
    /// What runs together.
    pub rectangles: Vec<Rectangle>,
    /// Rows that show a picture, in the order of their visual tokens in the bank, and the picture.
    pub pictures: Vec<(usize, usize)>,
    /// Positions whose output is judged, with the token that it must give, in the order of the examples.
    pub targets: Vec<Target>,
}

/// Some of the examples, each a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rectangle {
    /// Rows.
    pub rows: usize,
    /// The longest of them, in positions.
    pub columns: usize,
    /// For each position, row by row, its row of the bank.
    pub gather: Vec<u32>,
}

/// A judged position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its number among the positions of all rectangles, one after the other, row by row.
    pub position: u32,
    /// The token that follows there.
    pub token: u32,
    /// The example.
    pub row: usize,
}

impl Batch {
    /// Arranges `examples`, every image of which becomes `visual_tokens` positions.
    pub fn new(examples: &[Example], visual_tokens: usize) -> Batch {
        let width = |example: &Example| -> usize {
            example.slots.iter().map(|slot| if *slot == Slot::Image { visual_tokens } else { 1 }).sum()
        };
        let widths: Vec<usize> = examples.iter().map(width).collect();
        let tokens: Vec<u32> = examples.iter().flat_map(|example| &example.slots).filter_map(token).collect();
        let groups = together(&widths);
        let mut starts = vec![0; examples.len()];
        let (mut positions, mut rectangles) = (0, Vec::with_capacity(groups.len()));
        for group in &groups {
            let columns = group.iter().map(|row| widths[*row]).max().unwrap_or(0);
            for row in group {
                starts[*row] = positions;
                positions += columns;
            }
            rectangles.push(Rectangle { rows: group.len(), columns, gather: Vec::new() });
        }
        let mut batch =
            Batch { rows: examples.len(), tokens, rectangles, pictures: Vec::new(), targets: Vec::new() };
        // Nothing that counts looks at the filling: any row of the bank will do.
        let mut gather = vec![0; positions];
        let mut next_token = 0;
        for (row, example) in examples.iter().enumerate() {
            let mut at = starts[row];
            for slot in &example.slots {
                if let Slot::Answer(token) = *slot {
                    // The position before says it. (A prompt is never empty.)
                    batch.targets.push(Target { position: (at - 1) as u32, token, row });
                }
                match (slot, example.picture) {
                    (Slot::Image, Some(picture)) => {
                        let first = batch.tokens.len() + batch.pictures.len() * visual_tokens;
                        for (nth, to) in gather[at..at + visual_tokens].iter_mut().enumerate() {
                            *to = (first + nth) as u32;
                        }
                        at += visual_tokens;
                        batch.pictures.push((row, picture));
                    }
                    (Slot::Image, None) => {}
                    _ => {
                        gather[at] = next_token;
                        next_token += 1;
                        at += 1;
                    }
                }
            }
        }
        for rectangle in &mut batch.rectangles {
            let rest = gather.split_off(rectangle.rows * rectangle.columns);
            rectangle.gather = std::mem::replace(&mut gather, rest);
        }
        batch
    }

    /// What rectangles are gathered from: embedded tokens `[tokens, D]` and visual tokens `[pictures, V, D]`, to
    /// `[tokens + pictures · V, D]`.
    ///
    /// # Errors
    /// Only those of the tensor library.
    pub fn bank(tokens: &Tensor, visual: Option<&Tensor>) -> Result<Tensor> {
        Ok(match visual {
            Some(visual) => Tensor::cat(&[tokens.clone(), visual.flatten_to(1)?], 0)?,
            None => tokens.clone(),
        })
    }
}

impl Rectangle {
    /// Its rows `[rows, columns, D]` of a bank.
    ///
    /// # Errors
    /// Only those of the tensor library.
    pub fn splice(&self, bank: &Tensor) -> Result<Tensor> {
        let gather = Tensor::new(self.gather.as_slice(), &Device::Cpu)?;
        Ok(bank.index_select(&gather, 0)?.reshape((self.rows, self.columns, bank.dim(1)?))?)
    }
}

/// Rows of these widths in groups, so that rectangles around the groups have the least area, [`RECTANGLE`] for each
/// included. Rows of a group are in ascending order.
fn together(widths: &[usize]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..widths.len()).collect();
    order.sort_by_key(|row| widths[*row]);
    // The least area of the first `end` rows, and where the last of their groups begins.
    let mut best = vec![(0, 0)];
    for end in 1..=order.len() {
        let columns = widths[order[end - 1]];
        let area = |begin: usize| (best[begin].0 + (end - begin) * columns + RECTANGLE, begin);
        best.push((0..end).map(area).min().unwrap_or_default());
    }
    let (mut groups, mut end) = (Vec::new(), order.len());
    while end > 0 {
        let begin = best[end].1;
        let mut group = order[begin..end].to_vec();
        group.sort_unstable();
        groups.push(group);
        end = begin;
    }
    groups
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
        assert_eq!((batch.rows, batch.rectangles.len(), batch.rectangles[0].columns), (3, 1, 6));
        assert_eq!(batch.tokens, [7, 8, 9, 0, 5, 6, 3]);
        assert_eq!(batch.pictures, [(0, 0), (2, 4)]);
        // The bank's value is the token's id, or 100 + the visual token's number.
        let tokens: Vec<f32> = batch.tokens.iter().map(|id| *id as f32).collect();
        let tokens = Tensor::from_vec(tokens, (7, 1), &Device::Cpu).unwrap();
        let visual = Tensor::new(&[[[100_f32], [101.0]], [[102.0], [103.0]]], &Device::Cpu).unwrap();
        let bank = Batch::bank(&tokens, Some(&visual)).unwrap();
        let rows = batch.rectangles[0].splice(&bank).unwrap().squeeze(2).unwrap().to_vec2::<f32>().unwrap();
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

    #[test]
    fn rows_of_like_length_go_together() {
        let long = |picture| {
            let given = [Slot::Given(1), Slot::Image].into_iter();
            let answer = (0..300).map(|nth| Slot::Answer(nth % 7));
            Example { picture: Some(picture), question: vec![1], slots: given.chain(answer).collect() }
        };
        let short = |picture| {
            example(Some(picture), &[Slot::Given(2), Slot::Image, Slot::Answer(3), Slot::Answer(4)])
        };
        let batch = Batch::new(&[short(0), long(0), short(1), short(2), long(1)], 2);
        let shapes: Vec<(usize, usize)> =
            batch.rectangles.iter().map(|rectangle| (rectangle.rows, rectangle.columns)).collect();
        assert_eq!(shapes, [(2, 303), (3, 5)]);
        assert!(batch.rectangles.iter().all(|one| one.gather.len() == one.rows * one.columns));
        // Every judged position holds what stands before the token in its example.
        let all: Vec<u32> = batch.rectangles.iter().flat_map(|one| one.gather.clone()).collect();
        let of_row = |row: usize| batch.targets.iter().filter(move |target| target.row == row);
        assert_eq!(batch.targets.iter().map(|target| target.row).collect::<Vec<_>>().first(), Some(&0));
        assert_eq!([0, 1, 2, 3, 4].map(|row| of_row(row).count()), [2, 300, 2, 2, 300]);
        let bank = batch.tokens.len() as u32;
        for row in 0..5 {
            let picture = batch.pictures.iter().position(|(shown, _)| *shown == row).unwrap() as u32;
            // The first token of an answer stands behind the last visual token of its row.
            let first = of_row(row).next().unwrap();
            assert_eq!(all[first.position as usize], bank + 2 * picture + 1);
            // Each later one stands behind the token before it.
            for pair in of_row(row).collect::<Vec<_>>().windows(2) {
                assert_eq!(batch.tokens[all[pair[1].position as usize] as usize], pair[0].token);
            }
        }
    }
}
