//! Batches of unequal length, padded on the left so that every row ends at the same position.

use std::sync::Arc;

use candle_core::{Device, Tensor};

use crate::nn::Sight;
use crate::{ModelError, Result};

/// How many padding positions each row of a batch starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Padding(Arc<[usize]>);

impl Padding {
    /// A batch of `rows` rows of equal length.
    pub fn none(rows: usize) -> Self {
        Self(vec![0; rows].into())
    }

    /// Padding of the given number of positions in each row.
    pub fn left(positions: Vec<usize>) -> Self {
        Self(positions.into())
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.0.len()
    }

    /// The padding of each row, in positions.
    pub fn positions(&self) -> &[usize] {
        &self.0
    }

    /// Joins token lists of any lengths to one batch `[b, longest]`, filled on the left with `fill`.
    ///
    /// # Errors
    /// [`ModelError::EmptyInput`] for no rows or an empty one.
    pub fn batch(rows: &[&[u32]], fill: u32, device: &Device) -> Result<(Tensor, Self)> {
        let longest = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        if rows.iter().any(|row| row.is_empty()) || longest == 0 {
            return Err(ModelError::EmptyInput);
        }
        let padding: Vec<usize> = rows.iter().map(|row| longest - row.len()).collect();
        let tokens = rows.iter().zip(&padding);
        let tokens = tokens.flat_map(|(row, &pad)| std::iter::repeat_n(fill, pad).chain(row.iter().copied()));
        Ok((Tensor::from_iter(tokens, device)?.reshape((rows.len(), longest))?, Self(padding.into())))
    }

    fn is_none(&self) -> bool {
        self.0.iter().all(|&pad| pad == 0)
    }

    /// The rotary positions of slots `start..start + count`: they start at 0 behind a row's padding, so that a row
    /// equals the same tokens run alone. One list for all rows where there is no padding.
    pub(super) fn rotary_positions(&self, start: usize, count: usize) -> Vec<Vec<u32>> {
        let row = |pad: usize| (start..start + count).map(|slot| slot.saturating_sub(pad) as u32).collect();
        if self.is_none() { vec![row(0)] } else { self.0.iter().map(|&pad| row(pad)).collect() }
    }

    /// What queries from slot `start` on may read: keys not behind them, not padding, and within the last `window`
    /// slots, themselves included.
    pub(super) fn sight(&self, start: usize, window: Option<usize>) -> Sight {
        Sight::Causal { start, window, padding: Arc::clone(&self.0) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn batches_end_together() {
        let (tokens, padding) = Padding::batch(&[&[1, 2, 3], &[4]], 9, &Device::Cpu).unwrap();
        assert_eq!(tokens.to_vec2::<u32>().unwrap(), [[1, 2, 3], [9, 9, 4]]);
        assert_eq!(padding.positions(), [0, 2]);
        assert_eq!(padding.rotary_positions(0, 3), [[0, 1, 2], [0, 0, 0]]);
        assert!(Padding::batch(&[&[1], &[]], 9, &Device::Cpu).is_err());
    }
}
