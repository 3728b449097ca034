//! Batches of unequal length, padded on the left so that every row ends at the same position.

use candle_core::{Device, Tensor};

use crate::{ModelError, Result};

/// A score that no softmax lets through. Finite, so that a row without any allowed key (a padding position) does not
/// turn into NaN.
const FORBIDDEN: f32 = -1e30;

/// How many padding positions each row of a batch starts with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Padding(Vec<usize>);

impl Padding {
    /// A batch of `rows` rows of equal length.
    pub fn none(rows: usize) -> Self {
        Self(vec![0; rows])
    }

    /// Padding of the given number of positions in each row.
    pub fn left(positions: Vec<usize>) -> Self {
        Self(positions)
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
        Ok((Tensor::from_iter(tokens, device)?.reshape((rows.len(), longest))?, Self(padding)))
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

    /// What queries at slots `start..start + count` may read: keys not behind them, not padding, and within the last
    /// `window` slots, themselves included. `[b or 1, count, start + count]`, or `None` where all is allowed.
    pub(super) fn mask(
        &self,
        start: usize,
        count: usize,
        window: Option<usize>,
        device: &Device,
    ) -> Result<Option<Tensor>> {
        let keys = start + count;
        if count == 1 && self.is_none() && window.is_none_or(|window| keys <= window) {
            return Ok(None);
        }
        let rows: &[usize] = if self.is_none() { &[0] } else { &self.0 };
        let mut mask = Vec::with_capacity(rows.len() * count * keys);
        for &pad in rows {
            for query in start..keys {
                let first = window.map_or(0, |window| (query + 1).saturating_sub(window)).max(pad);
                mask.extend(
                    (0..keys).map(|key| if (first..=query).contains(&key) { 0.0 } else { FORBIDDEN }),
                );
            }
        }
        Ok(Some(Tensor::from_vec(mask, (rows.len(), count, keys), device)?))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn allowed(padding: &Padding, start: usize, count: usize, window: Option<usize>) -> Vec<Vec<Vec<u8>>> {
        let mask =
            padding.mask(start, count, window, &Device::Cpu).unwrap().unwrap().to_vec3::<f32>().unwrap();
        let bit = |row: &Vec<f32>| row.iter().map(|score| u8::from(*score == 0.0)).collect();
        mask.iter().map(|rows| rows.iter().map(bit).collect()).collect()
    }

    #[test]
    fn causal_window_and_padding() {
        let none = Padding::none(3);
        assert_eq!(allowed(&none, 0, 3, None), [[[1, 0, 0], [1, 1, 0], [1, 1, 1]]]);
        assert_eq!(allowed(&none, 0, 3, Some(2)), [[[1, 0, 0], [1, 1, 0], [0, 1, 1]]]);
        assert_eq!(allowed(&none, 2, 2, Some(2)), [[[0, 1, 1, 0], [0, 0, 1, 1]]]);
        let padded = Padding::left(vec![1, 0]);
        assert_eq!(allowed(&padded, 1, 2, None), [[[0, 1, 0], [0, 1, 1]], [[1, 1, 0], [1, 1, 1]]]);
        assert!(none.mask(9, 1, Some(10), &Device::Cpu).unwrap().is_none());
        assert!(none.mask(10, 1, Some(10), &Device::Cpu).unwrap().is_some());
    }

    #[test]
    fn batches_end_together() {
        let (tokens, padding) = Padding::batch(&[&[1, 2, 3], &[4]], 9, &Device::Cpu).unwrap();
        assert_eq!(tokens.to_vec2::<u32>().unwrap(), [[1, 2, 3], [9, 9, 4]]);
        assert_eq!(padding.positions(), [0, 2]);
        assert_eq!(padding.rotary_positions(0, 3), [[0, 1, 2], [0, 0, 0]]);
        assert!(Padding::batch(&[&[1], &[]], 9, &Device::Cpu).is_err());
    }
}
