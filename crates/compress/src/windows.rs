//! Square windows that tile a grid: means, convolution, and attention inside each.

use candle_core::{D, Tensor};
use foveate_nn::{window_attention, window_convolution, window_weights};

use crate::nn::MultiHead;
use crate::{CompressError, Grid, Result};

/// The tiling of a grid by windows of `side` × `side` patches, in row-major order.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Windows {
    pub(crate) grid: Grid,
    pub(crate) side: usize,
}

impl Windows {
    pub(crate) fn new(grid: Grid, side: usize) -> Result<Self> {
        if grid.tiles(side) {
            return Ok(Self { grid, side });
        }
        Err(CompressError::Window { window: side, grid, allowed: grid.window_sides() })
    }

    pub(crate) fn count(self) -> usize {
        self.grid.windows(self.side)
    }

    /// A view `[b, rows / side, side, columns / side, side, d]` of `[b, patches, d]`.
    fn split(self, x: &Tensor) -> Result<Tensor> {
        let (b, _, d) = x.dims3()?;
        let Self { grid, side } = self;
        Ok(x.reshape(vec![b, grid.rows / side, side, grid.columns / side, side, d])?)
    }

    /// The mean of each window: `[b, patches, d] -> [b, windows, d]`.
    pub(crate) fn mean(self, x: &Tensor) -> Result<Tensor> {
        let (b, patches, d) = x.dims3()?;
        foveate_nn::count::dots(b * patches, d);
        let sum = self.split(x)?.sum((2, 4))?; // [b, rows / side, columns / side, d]
        Ok((sum / (self.side * self.side) as f64)?.reshape((b, self.count(), d))?)
    }

    /// What bilinear interpolation with half-pixel centres takes from each window: for even sides the mean of the four
    /// central patches, for odd ones the centre. `[b, patches, d] -> [b, windows, d]`.
    pub(crate) fn centre(self, x: &Tensor) -> Result<Tensor> {
        let (b, _, d) = x.dims3()?;
        let split = self.split(x)?;
        let (first, taken) =
            if self.side.is_multiple_of(2) { (self.side / 2 - 1, 2) } else { (self.side / 2, 1) };
        let central = split.narrow(2, first, taken)?.narrow(4, first, taken)?;
        if taken > 1 {
            foveate_nn::count::dots(b * self.count(), taken * taken * d);
        }
        Ok(central.mean((2, 4))?.reshape((b, self.count(), d))?)
    }

    /// A depthwise convolution whose stride is its side: in each window a weighted sum of its patches, channel by channel.
    /// `filter` `[d, 1, side, side]`, `bias` `[d]`; `[b, patches, d] -> [b, windows, d]`.
    pub(crate) fn convolve(self, x: &Tensor, filter: &Tensor, bias: &Tensor) -> Result<Tensor> {
        Ok(window_convolution(self.tiling(), x, filter, bias)?)
    }

    /// Attention weights of each window's queries over the window's own patches, `[b · q, windows, heads, side²]`: queries
    /// `[b · q, windows, d]`, those of one image one after the other, keys `[b, patches, d]`.
    pub(crate) fn weights(self, layer: &MultiHead, queries: &Tensor, keys: &Tensor) -> Result<Tensor> {
        let (queries, keys) = (layer.queries(queries)?, layer.keys(keys)?);
        Ok(window_weights(self.tiling(), layer.heads, &queries, &keys)?)
    }

    /// The queries of each window attend to the window's own patches: queries `[b · q, windows, d]`, those of one image
    /// one after the other, keys and values `[b, patches, d]`, all before the attention's own projections, to
    /// `[b · q, windows, d]` after its output projection.
    pub(crate) fn attend(
        self,
        layer: &MultiHead,
        queries: &Tensor,
        keys: &Tensor,
        values: &Tensor,
    ) -> Result<Tensor> {
        let (queries, keys, values) = (layer.queries(queries)?, layer.keys(keys)?, layer.values(values)?);
        layer.output(&window_attention(self.tiling(), layer.heads, &queries, &keys, &values)?)
    }

    /// The same for the kernels.
    fn tiling(self) -> foveate_nn::Windows {
        let Self { grid: Grid { rows, columns }, side } = self;
        foveate_nn::Windows { rows, columns, side }
    }

    /// The patches of one window, in row-major order.
    pub(crate) fn patches_of(self, window: usize) -> Vec<usize> {
        let Self { grid, side } = self;
        let across = (grid.columns / side).max(1);
        let (top, left) = (window / across * side, window % across * side);
        let patches = (0..side).flat_map(|row| (0..side).map(move |column| (row, column)));
        patches.map(|(row, column)| (top + row) * grid.columns + left + column).collect()
    }

    /// Weights inside the windows, `[b, windows, heads, side²]`, spread over the whole grid and averaged over heads:
    /// `[b, windows, patches]`.
    pub(crate) fn spread(self, weights: &Tensor) -> Result<Tensor> {
        let inside = crate::features::to_rows(&weights.mean(2)?.flatten_to(1)?)?; // [b · windows, side²]
        let rows: Vec<Vec<f32>> = inside
            .iter()
            .enumerate()
            .map(|(row, inside)| {
                let mut over_grid = vec![0.0; self.grid.patches()];
                for (patch, weight) in self.patches_of(row % self.count()).into_iter().zip(inside) {
                    over_grid[patch] = *weight;
                }
                over_grid
            })
            .collect();
        let images = rows.chunks(self.count()).map(<[Vec<f32>]>::to_vec).collect();
        crate::features::weights_over_patches(images, weights.device())
    }

    /// Equal weights inside each window, `[b, windows, patches]`.
    pub(crate) fn equal_weights(self, like: &Tensor) -> Result<Tensor> {
        let (b, _, _) = like.dims3()?;
        let inside = self.side * self.side;
        let weights = Tensor::full(1.0 / inside as f32, (b, self.count(), 1, inside), like.device())?;
        self.spread(&weights)
    }
}

/// States concatenated on channels, `[b, patches, states · d]`.
pub(crate) fn concatenate(states: &[&Tensor]) -> Result<Tensor> {
    Ok(Tensor::cat(states, D::Minus1)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use candle_core::Device;

    fn numbered(grid: Grid) -> Tensor {
        let patches = grid.patches();
        Tensor::arange(0_f32, patches as f32, &Device::Cpu).unwrap().reshape((1, patches, 1)).unwrap()
    }

    #[test]
    fn windows_of_a_rectangle() {
        let windows = Windows::new(Grid::new(2, 6), 2).unwrap();
        assert_eq!(windows.count(), 3);
        assert_eq!(windows.patches_of(1), [2, 3, 8, 9]);
        let means = windows.mean(&numbered(windows.grid)).unwrap().flatten_all().unwrap();
        assert_eq!(means.to_vec1::<f32>().unwrap(), [3.5, 5.5, 7.5]);
    }

    #[test]
    fn centres_of_odd_and_even_windows() {
        let centre = |side: usize, window: usize| {
            let windows = Windows::new(Grid::square(side), window).unwrap();
            windows.centre(&numbered(windows.grid)).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        assert_eq!(centre(3, 3), [4.0]);
        assert_eq!(centre(4, 4), [(5.0 + 6.0 + 9.0 + 10.0) / 4.0]);
        assert_eq!(centre(2, 1), [0.0, 1.0, 2.0, 3.0]);
    }

    #[test]
    fn a_window_that_does_not_divide_is_named() {
        let message = Windows::new(Grid::new(24, 16), 6).unwrap_err().to_string();
        assert!(
            message.contains("6 × 6") && message.contains("24 × 16") && message.contains("[1, 2, 4, 8]"),
            "{message}"
        );
    }
}
